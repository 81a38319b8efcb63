"""Every example runs as its first lines say, against real sockets; with its echo, and with an upstream of one's own."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest
from background import BackgroundUpstream, running_upstream
from servers import free_port, serve_module, stop

from hpp_middleware import Consumer
from hpp_middleware.testing import FakeUpstream, check_ledger, check_quota_store
from hpp_middleware.types.operations import Grant, Operation, Renew
from hpp_middleware.types.quota import Account

EXAMPLES = Path(__file__).parent.parent / "examples"
CHAT = "llm/v1/chat/completions"
ALICE = {"apikey": "made-up-key-of-alice"}
HELLO = {"model": "upstream/echo", "messages": [{"role": "user", "content": "Hello"}]}

sys.path.append(str(EXAMPLES))


@contextmanager
def example(name: str, folder: Path, **environment: str) -> Iterator[httpx2.Client]:
    """An example under uvicorn, in a process and a folder of its own, and a client of it."""
    settings = {"PYTHONPATH": str(EXAMPLES), "PYTHONWARNINGS": "error", **environment}
    with (
        serve_module("uvicorn", f"{name}:app", folder, **settings) as url,
        httpx2.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


def text_of(response: httpx2.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]["message"]["content"]


def test_the_fastapi_mount_serves_the_gateway_and_its_own_route_from_one_account(tmp_path: Path) -> None:
    with example("fastapi_mount", tmp_path) as client:
        assert text_of(client.post(f"/ai/{CHAT}", json=HELLO, headers=ALICE)) == "Hello"
        greeting = client.post("/greetings/alice").json()
        assert greeting["greeting"] == "Good morning, alice!"
        assert greeting["nano_dollars"] > 0
        usage = client.get("/ai/api/usage", headers=ALICE).json()
        entry = client.get(f"/ai/api/user/audit/{greeting['audit_id']}", headers=ALICE).json()
        assert usage["requests"] == 2
        assert entry["cost"] == pytest.approx(greeting["nano_dollars"] / 10**9)
        assert client.get("/docs").status_code == 200
        assert client.post(f"/ai/{CHAT}", json=HELLO).status_code == 401


def test_the_metered_app_is_billed_by_what_it_says_itself(tmp_path: Path) -> None:
    question = {**HELLO, "model": "parrot", "messages": [{"role": "user", "content": "Hello you there"}]}
    with example("metered_app", tmp_path) as client:
        assert text_of(client.post("/v1/chat/completions", json=question, headers=ALICE)) == "Hello you there"
        streamed = client.post("/v1/chat/completions", json={**question, "stream": True}, headers=ALICE)
        assert streamed.content.endswith(b"data: [DONE]\n\n")
        assert b'"usage"' not in streamed.content
        usage = client.get("/billing/api/usage", headers=ALICE).json()
        assert (usage["requests"], usage["total_tokens"]) == (2, 12)
        assert client.post("/v1/chat/completions", json=question).status_code == 401
        assert client.get("/docs").status_code == 200


def test_the_starlette_mount_starts_at_its_first_request_and_knows_the_hosts_own_users(tmp_path: Path) -> None:
    with example("starlette_mount", tmp_path) as client:
        cookie = {"cookie": "session=made-up-session"}
        streamed = client.post(f"/teams/red/ai/{CHAT}", json={**HELLO, "stream": True}, headers=cookie)
        assert streamed.headers["content-type"].startswith("text/event-stream")
        assert streamed.content.endswith(b"data: [DONE]\n\n")
        usage = client.get("/teams/red/ai/api/usage", headers=cookie).json()
        assert (usage["consumer_id"], usage["username"], usage["custom_id"]) == ("alice", "Alice", "user-17")
        assert usage["requests"] == 1
        assert usage["used"] > 0
        assert client.get("/teams/red/ai/api/quota-check", headers=cookie).json()["held"] == 0
        for headers in ({}, {"cookie": "session=another"}, ALICE):
            assert client.get("/teams/red/ai/api/usage", headers=headers).status_code == 401


def test_the_own_quota_backend_is_shared_by_two_processes_and_outlives_them(tmp_path: Path) -> None:
    with example("own_quota_backend", tmp_path) as one, example("own_quota_backend", tmp_path) as other:
        for number, client in enumerate((one, other), start=1):
            assert text_of(client.post(f"/{CHAT}", json=HELLO, headers=ALICE)) == "Hello"
            # asked of the worker that has served it, which alone waits for its settlement
            spent = client.get("/api/usage", headers=ALICE).json()
            assert spent["requests"] == number
        assert spent == one.get("/api/usage", headers=ALICE).json()
    with example("own_quota_backend", tmp_path) as again:
        assert again.get("/api/usage", headers=ALICE).json() == spent
    books = json.loads((tmp_path / "quota.json").read_bytes())
    assert sum(entry["amount"] for entry in books["entries"]["alice"]) == books["accounts"]["alice"]["settled"]


@pytest.mark.anyio
async def test_the_own_quota_backend_keeps_every_promise_of_a_quota_store_and_a_ledger(tmp_path: Path) -> None:
    from own_quota_backend import FileQuota

    async def make(*, clock: Callable[[], float] = time.time) -> FileQuota:
        return FileQuota(tmp_path / f"{uuid4().hex}.json", clock=clock)

    await check_quota_store(make)
    await check_ledger(make)


RACER = """
import sys; from pathlib import Path
import anyio
from own_quota_backend import FileQuota
from hpp_middleware.testing.stores.bench import reserve

async def main():
    store = FileQuota(Path(sys.argv[1]))
    sys.stdin.readline()
    for number in range(20):
        (result,) = await store.apply([reserve(f"{sys.argv[2]}-{number}", 100)])
        print(result.status)

anyio.run(main)
"""


def test_processes_that_race_on_the_own_quota_backend_never_oversell(tmp_path: Path) -> None:
    from own_quota_backend import FileQuota

    store = FileQuota(tmp_path / "quota.json")
    opening: list[Operation] = [Renew(owner="worker", ttl_s=3600), Grant(id="g", account="alice", amount=3000)]
    anyio.run(store.apply, opening)
    command = [sys.executable, "-c", RACER, str(tmp_path / "quota.json")]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    racers = [subprocess.Popen([*command, str(number)], **pipes) for number in range(3)]
    said: list[str] = []

    def race(racer: "subprocess.Popen[str]") -> None:
        said.extend(racer.communicate("go\n", timeout=60)[0].split())

    threads = [threading.Thread(target=race, args=(racer,)) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["done"] * 30 + ["refused"] * 30
    assert anyio.run(store.balance, "alice").available == 0


@contextmanager
def standalone(folder: Path, port: int, **environment: str) -> Iterator[httpx2.Client]:
    """The standalone script, as ``python examples/standalone.py`` runs it; what it prints goes to ``out.txt``."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / "standalone.py")]
    with (folder / "out.txt").open("ab") as out:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PORT": str(port)} | environment,
        )
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            _wait_until_alive(client, process)
            yield client
    finally:
        stop(process)


def _wait_until_alive(client: httpx2.Client, process: "subprocess.Popen[bytes]") -> None:
    while process.poll() is None:
        try:
            if client.get("/healthz").status_code == 200:
                return
        except httpx2.ConnectError:
            time.sleep(0.05)
    raise RuntimeError("the script ended")


def printed_keys(folder: Path) -> list[str]:
    said = (folder / "out.txt").read_text("utf-8").split("\n")
    return [line.rpartition(" ")[2] for line in said if "shown this once" in line]


def test_the_standalone_script_prints_a_key_once_and_keeps_the_account(tmp_path: Path) -> None:
    port = free_port()
    with standalone(tmp_path, port) as client:
        (key,) = printed_keys(tmp_path)
        assert text_of(client.post(f"/{CHAT}", json=HELLO, headers={"apikey": key})) == "Hello"
        spent = client.get("/api/usage", headers={"apikey": key}).json()
        assert spent["quota"] == 5
        assert spent["requests"] == 1
    with standalone(tmp_path, port) as client:
        assert client.get("/api/usage", headers={"authorization": f"Bearer {key}"}).json() == spent
    assert printed_keys(tmp_path) == [key]


def test_the_own_policy_is_served_with_headers_of_its_own(tmp_path: Path) -> None:
    with running_upstream() as upstream, example("own_policy", tmp_path, UPSTREAM_URL=upstream.url) as client:
        answer = client.post(CHAT, json={**HELLO, "model": "hpprouter/auto"}, headers=ALICE)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-hpp-router-basket"] == "hours"
        assert answer.headers["x-hpp-router-rule-id"] in {"day", "night"}


@pytest.mark.anyio
async def test_the_own_policy_goes_by_the_hour_and_keeps_a_conversation() -> None:
    from own_policy import DayAndNight, make

    hours = iter([12, 22, 22])
    talk = [("user", "Hi"), ("assistant", "Yes?"), ("user", "Go on")]
    messages = [{"role": role, "content": content} for role, content in talk]
    asked = [messages[:1], messages, [{"role": "user", "content": "Another"}]]
    chosen = []
    async with FakeUpstream() as upstream, make(DayAndNight(lambda: next(hours)), upstream.url) as gateway:
        for each in asked:
            body = {"model": "hpprouter/auto", "messages": each, "max_tokens": 9}
            reply = await gateway.complete(Consumer(id="alice"), body)
            chosen.append(dict(reply.headers)["X-HPP-Router-Resolved-Model"])
    assert chosen == ["upstream/quick", "upstream/quick", "upstream/cheap"]


def test_the_pure_composition_says_what_each_stage_decides() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "pure_composition.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    said = {line.split()[0]: line for line in done.stdout.split("\n") if line}
    assert list(said) == ["parse", "route", "sent", "reserve", "relay", "settle", "account"]
    # 9 tokens in at $0.50 and 1 out at $1.50 a million
    assert "$0.000006 for 10 tokens" in said["settle"]
    assert "$0.999994 available" in said["account"]
    assert "3 events" in said["relay"]


def test_the_pure_composition_holds_all_that_it_sends_for(capsys: pytest.CaptureFixture[str]) -> None:
    from pure_composition import RECORDED, complete

    without_usage = [RECORDED[0], RECORDED[1], b"\n", RECORDED[3]]
    text = {"type": "text", "text": "Say hello."}
    pdf = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}
    for parts, quota, answer in (([text], 10**7, RECORDED), ([text, pdf], 10**9, without_usage), ([text], 10**5, [])):
        body = {"model": "acme/small", "stream": True, "messages": [{"role": "user", "content": parts}]}
        account = complete(json.dumps(body).encode(), answer, Account(id="alice", quota=quota))
        said = {line.split()[0]: line for line in capsys.readouterr().out.split("\n") if line}
        if not answer:
            assert "refused" in said["reserve"]
            assert account.available == quota
            continue
        held = round(float(said["reserve"].split("$")[1].split()[0]) * 10**9)
        cap = json.loads(said["sent"].removeprefix("sent"))["max_tokens"]
        prompt = 200_000 if pdf in parts else 9
        assert prompt * 500 + cap * 1_500 <= held <= quota
        assert account.held == 0
        assert account.settled <= held


@pytest.mark.parametrize("name", ["litestar_mount", "quart_mount", "django_mount"])
def test_other_frameworks_serve_the_gateway_beside_a_route_of_their_own(name: str, tmp_path: Path) -> None:
    with example(name, tmp_path) as client:
        assert client.get("/").json() == {"models": "/ai/llm/v1/models"}
        assert text_of(client.post(f"/ai/{CHAT}", json=HELLO, headers=ALICE)) == "Hello"
        streamed = client.post(f"/ai/{CHAT}", json={**HELLO, "stream": True}, headers=ALICE)
        assert streamed.content.endswith(b"data: [DONE]\n\n")
        assert client.get("/ai/llm/v1/models").json()["data"][0]["id"] == "upstream/echo"
        assert client.get("/ai/api/usage", headers=ALICE).json()["requests"] == 2
        assert client.post(f"/ai/{CHAT}", json=HELLO).status_code == 401


MOUNTS = {
    "fastapi_mount": "/ai",
    "starlette_mount": "/teams/red/ai",
    "litestar_mount": "/ai",
    "quart_mount": "/ai",
    "django_mount": "/ai",
}


@pytest.mark.parametrize("name", [*MOUNTS, "own_quota_backend", "standalone"])
def test_an_upstream_named_in_the_environment_is_used_in_place_of_the_echo(
    name: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    upstream = {
        "OPENAI_BASE_URL": background_upstream.url,
        "OPENAI_API_KEY": "made-up-operator-key",
        "OPENAI_MODEL": "fake-1",
    }
    started = (
        standalone(tmp_path, free_port(), **upstream) if name == "standalone" else example(name, tmp_path, **upstream)
    )
    with started as client:
        key = printed_keys(tmp_path)[0] if name == "standalone" else "made-up-key-of-alice"
        headers = {"cookie": "session=made-up-session"} if name == "starlette_mount" else {"apikey": key}
        asked = {**HELLO, "model": "upstream/fake-1"}
        response = client.post(f"{MOUNTS.get(name, '')}/{CHAT}", json=asked, headers=headers)
        assert text_of(response) == "Hello world"
    assert background_upstream.last.header("authorization") == "Bearer made-up-operator-key"
    assert background_upstream.last.json()["model"] == "fake-1"
    assert "made-up-key-of-alice" not in str(background_upstream.last.headers)
