"""``hpp-router doctor``: what is in order, what is not, and what to do; and what it leaves alone."""

import gzip
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from background import BackgroundUpstream
from rig import KEY, MODEL
from rig import gateway as make_gateway
from running import command
from servers import free_port, serve

from hpp_middleware.cli.watched import Watched, judged
from hpp_middleware.testing import Script

ALICE_KEY = "alice-shows-this-key-of-hers"


@contextmanager
def listening() -> Iterator[tuple[int, list[bytes]]]:
    """A provider that takes connections, and what it is sent."""
    sent: list[bytes] = []

    class Taking(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            sent.append(self.request.recv(100))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1], sent
        finally:
            server.shutdown()
            thread.join()


def written(folder: Path, base_url: str, *, store: str = "sqlite:///hpp.db", more: str = "") -> None:
    (folder / "router.toml").write_text(
        f'[store]\nurl = "{store}"\n[providers.near]\nbase_url = "{base_url}"\n{more}'
        '[models."near/one"]\ninput = "1"\noutput = "2"\n',
        "utf-8",
    )


def findings(folder: Path, *arguments: str, code: int = 0) -> dict[str, tuple[str, str]]:
    """Verdict and words, by what they are about."""
    done = command(folder, "doctor", "--json", *arguments)
    assert done.code == code, (done.out, done.err)
    return {each["about"]: (each["verdict"], each["words"]) for each in json.loads(done.out)}


def test_all_in_order_and_no_provider_is_sent_a_byte(tmp_path: Path) -> None:
    with listening() as (port, sent):
        written(tmp_path, f"http://127.0.0.1:{port}/v1")
        found = findings(tmp_path)
        assert found["configuration"] == ("good", "router.toml")
        assert found["folders"][0] == "good"
        assert found["store.url"][0] == "note"
        assert found["providers.near"] == ("good", f"127.0.0.1:{port} takes connections")
        assert not (tmp_path / "hpp.db").exists()
        assert command(tmp_path, "keys", "create", "--consumer", "alice", "--quota", "1").code == 0
        assert findings(tmp_path)["store"] == ("good", "opened and read")
    assert set(sent) == {b""}


def test_lines_are_for_reading(tmp_path: Path) -> None:
    with listening() as (port, _):
        written(tmp_path, f"http://127.0.0.1:{port}/v1", store="memory:")
        done = command(tmp_path, "doctor")
        assert done.code == 0
        lines = {tuple(line.split()[:2]) for line in done.out.splitlines()}
        assert {
            ("good", "versions"),
            ("good", "configuration"),
            ("note", "store.url"),
            ("good", "providers.near"),
        } <= lines


def test_each_problem_of_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "router.toml").write_text('[store]\nurl = "memory:"\nurk = 1\n[providers.a]\nretries = "x"\n', "utf-8")
    done = command(tmp_path, "doctor", "--json")
    wrong = [each["words"] for each in json.loads(done.out) if each["verdict"] == "wrong"]
    assert done.code == 1
    assert any(words.startswith("store.urk:") for words in wrong)
    assert any(words.startswith("providers.a") for words in wrong)


def test_what_shows_only_in_a_router_put_together_is_told_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    written(tmp_path, "http://127.0.0.1:9", more='[fallbacks]\n"near/one" = ["near/none"]\n')
    found = findings(tmp_path, code=1)
    problem = "fallbacks.\"near/one\": 'near/none' is unknown or has no price; did you mean near/one?"
    assert found["configuration"] == ("wrong", problem)
    assert found["folders"][0] == "good"
    assert found["providers.near"][0] == "wrong"


def test_without_a_file_there_is_nothing_to_configure(tmp_path: Path) -> None:
    verdict, words = findings(tmp_path, code=1)["configuration"]
    assert (verdict, "router.toml" in words) == ("wrong", True)


def test_a_provider_that_is_not_there_is_told(tmp_path: Path) -> None:
    port = free_port()
    written(tmp_path, f"http://127.0.0.1:{port}/v1", store="memory:")
    found = findings(tmp_path, code=1)
    assert found["providers.near"] == ("wrong", f"127.0.0.1:{port} cannot be reached: connection refused")


def test_a_provider_that_speaks_no_tls_is_told(tmp_path: Path) -> None:
    with listening() as (port, _):
        written(tmp_path, f"https://127.0.0.1:{port}/v1", store="memory:", more="timeouts = { connect = 2 }\n")
        assert findings(tmp_path, code=1)["providers.near"][0] == "wrong"


def test_a_provider_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing of its certificate
        port = silent.getsockname()[1]
        written(tmp_path, f"https://127.0.0.1:{port}/v1", store="memory:", more="timeouts = { connect = 0.5 }\n")
        words = f"127.0.0.1:{port} did not answer within 0.5 s (timeouts.connect)"
        assert findings(tmp_path, code=1)["providers.near"] == ("wrong", words)


def test_a_store_that_is_not_there_is_told(tmp_path: Path) -> None:
    port = free_port()
    with listening() as (near, _):
        written(tmp_path, f"http://127.0.0.1:{near}/v1", store=f"redis://127.0.0.1:{port}/0")
        done = command(tmp_path, "doctor", "--json", HPP_PEPPER="a pepper of a test's own")
    assert done.code == 1
    (store,) = [each for each in json.loads(done.out) if each["about"] == "store"]
    assert store["verdict"] == "wrong"
    assert "connection refused" in store["words"]


def test_a_database_that_is_none_is_told(tmp_path: Path) -> None:
    with listening() as (port, _):
        (tmp_path / "hpp.db").write_bytes(b"no database at all" * 1000)
        written(tmp_path, f"http://127.0.0.1:{port}/v1")
        verdict, words = findings(tmp_path, code=1)["store"]
    assert (verdict, "not a database" in words) == ("wrong", True)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with listening() as (port, _):
        written(tmp_path, f"http://127.0.0.1:{port}/v1")
        with (tmp_path / "router.toml").open("a", encoding="utf-8") as file:
            file.write('[journal]\ndir = "nowhere/at/all"\n')
        done = command(tmp_path, "doctor", "--json")
    wrong = [each for each in json.loads(done.out) if each["verdict"] == "wrong"]
    assert done.code == 1
    assert any("journal.dir" in f"{each['about']}: {each['words']}" for each in wrong)


# --- through a public URL -------------------------------------------------------------------------


class _Proxy(BaseHTTPRequestHandler):
    """A proxy as it must not be: reads an answer to its end before it passes on a byte; or compresses it."""

    target = ""
    how: Literal["passes on", "collects", "compresses"] = "passes on"
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._forward()

    def do_POST(self) -> None:
        self._forward()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        names = ("apikey", "content-type", "accept")
        headers = {name: self.headers[name] for name in names if name in self.headers}
        with httpx2.stream(
            self.command, self.target + self.path, content=body, headers=headers, trust_env=False, timeout=60
        ) as answer:
            self.send_response(answer.status_code)
            self.send_header("content-type", answer.headers["content-type"])
            self.send_header("cache-control", "no-cache")
            if self.how == "passes on":
                self.send_header("connection", "close")
                self.end_headers()
                for piece in answer.iter_raw():
                    self.wfile.write(piece)
                self.close_connection = True
                return
            whole = answer.read()
            if self.how == "compresses" and b"data:" in whole:
                whole = gzip.compress(whole)
                self.send_header("content-encoding", "gzip")
            self.send_header("content-length", str(len(whole)))
            self.end_headers()
            self.wfile.write(whole)


@contextmanager
def proxied(target: str, how: str) -> Iterator[str]:
    handler = type("Proxy", (_Proxy,), {"target": target, "how": how})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def public(background_upstream: BackgroundUpstream) -> Iterator[str]:
    background_upstream.fake.script = Script(texts=("1\n",) * 12, delay_between_s=0.1)
    with serve(make_gateway(background_upstream.url).app) as url:
        yield url


LOOK = ("--key", KEY, "--model", MODEL)


@pytest.mark.parametrize("how", [None, "passes on"])
def test_a_stream_that_comes_as_it_is_made_is_good(how: str | None, public: str, tmp_path: Path) -> None:
    if how is None:
        found = findings(tmp_path, "--url", f"{public}/llm/v1", *LOOK)
    else:
        with proxied(public, how) as url:
            found = findings(tmp_path, "--url", url, *LOOK)
    assert found["url"][0] == found["url: key"][0] == "good"
    verdict, words = found["url: streams"]
    assert (verdict, "events came as they were made" in words) == ("good", True)


@pytest.mark.parametrize(("how", "words"), [("collects", "they are held back"), ("compresses", "compressed (gzip)")])
def test_a_proxy_that_spoils_streams_is_told_with_what_to_set(
    how: str, words: str, public: str, tmp_path: Path
) -> None:
    with proxied(public, how) as url:
        verdict, told = findings(tmp_path, "--url", url, *LOOK, code=1)["url: streams"]
    assert (verdict, words in told, "proxy_buffering off" in told) == ("wrong", True, True)


def test_without_a_model_nothing_is_charged(
    public: str, background_upstream: BackgroundUpstream, tmp_path: Path
) -> None:
    found = findings(tmp_path, "--url", public, "--key", KEY)
    assert found["url: streams"][0] == "note"
    assert background_upstream.log == []


def test_a_key_that_is_not_known_a_path_that_is_wrong_and_nobody_at_all_are_told(public: str, tmp_path: Path) -> None:
    found = findings(tmp_path, "--url", public, "--key", "no-key-that-anybody-has", code=1)
    assert found["url: key"] == ("wrong", "it was refused with a 401")
    assert "mounted elsewhere" in findings(tmp_path, "--url", f"{public}/ai", code=1)["url"][1]
    assert "cannot be reached" in findings(tmp_path, "--url", f"http://127.0.0.1:{free_port()}", code=1)["url"][1]
    assert command(tmp_path, "doctor", "--url", "nowhere").code == 1


def seen(*pieces: tuple[float, int], whole: bool = True, **headers: str) -> Watched:
    return Watched(200, {"cache-control": "no-cache", **headers}, 0.0, list(pieces), whole)


@pytest.mark.parametrize(
    ("stream", "verdict"),
    [
        (seen((1.0, 1), (1.1, 2), (1.2, 5), (1.4, 9)), "good"),
        (seen((0.8, 1), *((0.8 + n / 1000, n) for n in range(2, 60))), "good"),  # a fast model after a long thought
        (seen((5.0, 60)), "wrong"),
        (seen((5.0, 30), (5.01, 60)), "wrong"),
        (seen((1.0, 17), (1.4, 30), (1.401, 34), (1.8, 51), (2.0, 60)), "wrong"),  # a proxy that fills its buffers
        (seen(*((n / 5, n) for n in range(1, 60))), "good"),  # a slow model
        (seen(*((n / 99, n) for n in range(1, 30)), *((9 + n / 99, n) for n in range(30, 60))), "good"),  # a pause
        (seen((0.05, 60)), "note"),
        (seen((2.0, 3)), "note"),
        (seen(), None),
    ],
)
def test_what_the_times_say(stream: Watched, verdict: str | None) -> None:
    assert [each.verdict for each in judged(stream)] == ([] if verdict is None else [verdict])


def test_an_answer_that_broke_off_or_was_refused_is_told() -> None:
    assert "broke off" in next(judged(seen((1.0, 2), (2.0, 9), whole=False))).words
    assert next(judged(Watched(402, {}, 0.0, [], whole=False))).words == "the answer is a 402"
    assert "Cache-Control" in next(judged(Watched(200, {}, 0.0, [(1.0, 2), (2.0, 9)], whole=True))).words
