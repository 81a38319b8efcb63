"""``hpp-router demo`` as a process."""

import json
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
from running import Running, command, router

from hpp_middleware.cli.demo import kept_key
from hpp_middleware.errors import ConfigurationError

HELLO = {"model": "demo/echo", "messages": [{"role": "user", "content": "Hello, my friend"}]}


def key_of(served: Running) -> str:
    return next(line for line in served.head if line.startswith("Key:")).split()[1]


def curls(served: Running) -> dict[str, list[str]]:
    """The printed commands, by the line above each."""
    return {
        above.rstrip(":"): shlex.split(line)
        for above, line in zip(served.head, served.head[1:], strict=False)
        if line.startswith("  curl ")
    }


def run(curl: list[str]) -> str:
    done = subprocess.run([*curl, "--noproxy", "*"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def test_the_printed_lines_work_as_they_stand(tmp_path: Path) -> None:
    with router(tmp_path, "demo", last="Stop with") as served:
        lines = curls(served)
        assert list(lines) == ["JSON", "SSE", "Models", "Usage", "Quota"]
        answer = json.loads(run(lines["JSON"]))
        assert answer["model"] == "demo/echo"
        assert answer["choices"][0]["message"]["content"] == "Hello there, how are you?"
        stream = run(lines["SSE"])
        assert stream.endswith("data: [DONE]\n\n")
        assert stream.count("data: {") > 3
        assert json.loads(run(lines["Models"]))["data"][0]["id"] == "demo/echo"
        usage = json.loads(run(lines["Usage"]))
        assert usage["requests"] == 2
        assert usage["total_tokens"] == 2 * answer["usage"]["total_tokens"]
        quota = json.loads(run(lines["Quota"]))
        assert (quota["quota"], quota["held"]) == (5, 0)
        assert quota["used"] == usage["used"] > 0


def test_a_restart_keeps_the_account_and_prints_the_same_key(tmp_path: Path) -> None:
    with router(tmp_path, "demo", last="Stop with") as served:
        key = key_of(served)
        assert served.chat(key, HELLO).status_code == 200
        before = served.get("/api/usage", key).json()
        assert before["used"] > 0
        done = served.stop(signal.SIGINT)
        assert (done.code, done.err) == (0, "")
    with router(tmp_path, "demo", last="Stop with") as served:
        assert key_of(served) == key
        assert served.get("/api/usage", key).json() == before


def test_key_and_pepper_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    with router(tmp_path, "demo", last="Stop with") as served:
        key = key_of(served)
    assert (tmp_path / "hpp-demo.key").read_text("utf-8") == f"{key}\n"
    for name in ("hpp-demo.key", "hpp-demo.db.pepper"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("hpp-demo.key") and path.suffix != ".key"]


def test_data_chooses_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with router(tmp_path, "demo", "--data", "data", last="Stop with"):
        assert (tmp_path / "data" / "hpp-demo.db").exists()
    assert not (tmp_path / "hpp-demo.db").exists()
    done = command(tmp_path, "demo", "--data", "nowhere")
    assert (done.code, done.err) == (1, "hpp-router: --data: there is no directory nowhere\n")


def test_a_port_that_is_taken_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(tmp_path, "demo", "--port", str(port))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"hpp-router: cannot listen on 127.0.0.1 port {port}: Address already in use; --port takes another\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_provider_whose_key_is_in_the_environment_joins(tmp_path: Path) -> None:
    # Azure's key alone does not say where it is used, and is left alone.
    keys = {"GROQ_API_KEY": "gsk-of-a-test", "AZURE_OPENAI_API_KEY": "of-a-test"}
    with router(tmp_path, "demo", last="Stop with", **keys) as served:
        text = "\n".join(served.head)
        assert "GROQ_API_KEY is set" in text
        assert "gsk-of-a-test" not in text
        listed = [model["id"] for model in served.get("/llm/v1/models").json()["data"]]
        assert listed[0] == "demo/echo"
        assert [model for model in listed if model.startswith("groq/")]


def test_a_key_in_the_environment_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    done = command(tmp_path, "demo", "--port", "0", GROQ_API_KEY="two\nlines")
    assert (done.code, done.err) == (2, "hpp-router: GROQ_API_KEY: api_key must be printable ASCII and not empty\n")


def test_a_kept_key_that_was_spoilt_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hpp-demo.key"
    key = kept_key(path)
    assert kept_key(path) == key
    path.write_text(key[:-1] + ("A" if key[-1] != "A" else "B"))
    with pytest.raises(ConfigurationError, match=r"hpp-demo\.key begins with hpp_ but its checksum is wrong"):
        kept_key(path)
    path.write_bytes(b"\xff" * 30)
    with pytest.raises(ConfigurationError, match=r"hpp-demo\.key is no text file"):
        kept_key(path)


def test_the_url_that_is_printed_can_be_reached_when_listening_everywhere(tmp_path: Path) -> None:
    with router(tmp_path, "demo", "--host", "0.0.0.0", last="Stop with") as served:
        assert served.url.startswith("http://127.0.0.1:")
        assert served.get("/healthz").status_code == 200
