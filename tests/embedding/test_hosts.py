"""Real servers, each in a process of its own: whichever hosts the app, streams stream, and a departure is settled."""

import http.client
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from servers import COMMANDS, serve_module

from embedding.paced import COMPLETION, DONE, SECONDS, PacedUpstream, paced_upstream, text_event, usage_event

HERE = Path(__file__).parent
KEY = "alice-shows-this-key-of-hers"
CHAT = "/llm/v1/chat/completions"
COST = 9 * 1_000 + 2 * 2_000
"""Nano-dollars of the paced upstream's usage."""


@dataclass
class Host:
    """A served gateway, its upstream, its client, and its database."""

    upstream: PacedUpstream
    client: httpx2.Client
    database: Path

    def usage(self) -> Any:
        return self.client.get("/api/usage").json()

    def quota(self) -> Any:
        return self.client.get("/api/quota-check").json()

    def ledger(self) -> list[tuple[str, int]]:
        """Outcome and amount of every line, as the file has them; some servers make it at the first request."""
        if not self.database.exists():
            return []
        with sqlite3.connect(self.database) as connection:
            rows = connection.execute("SELECT outcome, amount FROM ledger ORDER BY account, seq").fetchall()
        connection.close()
        return rows

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait for what must happen."""
        give_up = time.monotonic() + SECONDS
        while not happened():
            assert time.monotonic() < give_up, "it did not happen"
            time.sleep(0.02)


@contextmanager
def serving(kind: str, folder: Path, upstream: PacedUpstream) -> Iterator[httpx2.Client]:
    """A server with its database in a folder, and a client of it."""
    settings = {"PYTHONPATH": str(HERE), "HPP_DB": str(folder / "hpp.db"), "UPSTREAM_URL": upstream.url}
    with (
        serve_module(kind, "hosted:app", folder, **settings) as url,
        httpx2.Client(base_url=url, headers={"apikey": KEY}, trust_env=False, timeout=SECONDS) as client,
    ):
        yield client
    assert "Traceback" not in (folder / f"{kind}.log").read_text("utf-8")


@pytest.fixture(scope="module", params=list(COMMANDS))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("host")
    with paced_upstream() as upstream, serving(request.param, folder, upstream) as client:
        yield Host(upstream, client, folder / "hpp.db")


@pytest.fixture
def host(served: Host) -> Iterator[Host]:
    """The server; after each test nothing is held, and every reader agrees on what was charged."""
    yield served
    usage, quota = served.usage(), served.quota()  # these wait for settlements; the file itself does not
    assert round(usage["used"] * 10**9) == sum(amount for _, amount in served.ledger())
    assert usage["requests"] == len(served.ledger())
    assert quota["held"] == 0
    assert quota["available"] == quota["remaining"]


def question(**fields: Any) -> dict[str, Any]:
    return {"model": "paced/paced-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **fields}


def events(response: httpx2.Response) -> Iterator[bytes]:
    """Each event as soon as it is whole."""
    rest = b""
    for piece in response.iter_raw():
        *whole, rest = (rest + piece).split(b"\n\n")
        yield from whole
    assert rest == b""


def test_a_json_completion_is_answered_and_settled(host: Host) -> None:
    host.upstream.say(COMPLETION)
    host.upstream.end()
    answer = host.client.post(CHAT, json=question())
    assert answer.status_code == 200
    assert answer.json() == {**json.loads(COMPLETION), "model": "paced/paced-1"}
    assert answer.headers["x-hpp-router-cost"] == "0.000013"
    entry = host.client.get(f"/api/user/audit/{answer.headers['x-request-id']}").json()
    assert (entry["outcome"], entry["estimated"], entry["cost"]) == ("completed", False, 0.000013)


def test_a_request_that_arrives_in_pieces_is_one_request(host: Host) -> None:
    host.upstream.say(COMPLETION)
    host.upstream.end()
    body = json.dumps(question(user="in pieces")).encode()
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    answer = host.client.post(CHAT, content=pieces, headers={"content-type": "application/json"})
    assert answer.status_code == 200
    assert host.upstream.requests[-1]["user"] == "in pieces"


def test_each_event_of_a_stream_arrives_before_the_next_one_is_made(host: Host) -> None:
    before = host.usage()["requests"]
    host.upstream.say(text_event("word 0"))  # with which the head is sent
    with host.client.stream("POST", CHAT, json=question(stream=True)) as response:
        received = events(response)
        assert b'"word 0"' in next(received)
        for number in range(1, 5):
            host.upstream.say(text_event(f"word {number}"))  # only now; the one before has been received
            assert f'"word {number}"'.encode() in next(received)
        host.upstream.say(text_event("", "stop"))
        assert b'"stop"' in next(received)
        host.upstream.say(usage_event(), DONE)
        assert next(received) == b"data: [DONE]"  # the usage was asked for by the router alone
        host.upstream.end()
        assert list(received) == []
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert host.usage()["requests"] > before
    assert host.ledger()[-1] == ("completed", COST)


def test_a_client_that_leaves_in_mid_stream_is_settled_and_the_upstream_closed(host: Host) -> None:
    before = len(host.ledger())
    host.upstream.say(text_event("some words of an answer"))
    with host.client.stream("POST", CHAT, json=question(stream=True)) as response:
        assert b"some words" in next(events(response))
        request_id = response.headers["x-request-id"]
    host.upstream.wait_until_left()
    host.wait_until(lambda: len(host.ledger()) > before)
    entry = host.client.get(f"/api/user/audit/{request_id}").json()
    assert (entry["outcome"], entry["estimated"]) == ("abandoned", True)
    # "some words of an answer" is 23 bytes: 6 tokens at $2 a million; and the prompt besides
    assert entry["usage"]["completion_tokens"] == 6
    assert entry["cost"] > 6 * 2e-6


def test_a_client_that_leaves_before_its_json_answer_is_charged_what_the_answer_reports(host: Host) -> None:
    before, asked = len(host.ledger()), len(host.upstream.requests)
    connection = http.client.HTTPConnection(host.client.base_url.host, host.client.base_url.port, timeout=SECONDS)
    headers = {"apikey": KEY, "content-type": "application/json"}
    connection.request("POST", CHAT, json.dumps(question()), headers)
    host.wait_until(lambda: len(host.upstream.requests) > asked)
    connection.close()
    host.upstream.say(COMPLETION)
    host.upstream.end()
    host.wait_until(lambda: len(host.ledger()) > before)
    assert host.ledger()[-1][1] == COST


def test_unknown_paths_and_wrong_methods_are_json(host: Host) -> None:
    missing, wrong = host.client.get("/nothing/here"), host.client.put(CHAT)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["error"]["code"], wrong.headers["allow"]) == (
        405,
        "method_not_allowed",
        "POST",
    )


@pytest.mark.parametrize("kind", list(COMMANDS))
def test_a_server_that_stops_closes_the_gateway_and_keeps_the_account(kind: str, tmp_path: Path) -> None:
    database = tmp_path / "hpp.db"
    log = tmp_path / "hpp.db-wal"
    for number in (1, 2):
        with paced_upstream() as upstream, serving(kind, tmp_path, upstream) as client:
            upstream.say(COMPLETION)
            upstream.end()
            assert client.post(CHAT, json=question()).status_code == 200
            assert client.get("/api/usage").json()["requests"] == number
            assert log.exists()
        assert not log.exists()  # SQLite takes it away when its last connection is closed in good order
        assert database.exists()
