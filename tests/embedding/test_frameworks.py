"""Each framework under each server, in a process of its own: streams stream, and what is left is closed and settled."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from servers import COMMANDS, serve_module

from embedding.paced import COMPLETION, DONE, SECONDS, paced_upstream, text_event, usage_event
from embedding.test_hosts import KEY, Host, events

HERE = Path(__file__).parent
FRAMEWORKS = ("starlette", "fastapi", "litestar", "quart", "django", "blacksheep", "falcon")
SERVERS = ("uvicorn", "granian", "hypercorn")
CHAT, MESSAGES, RESPONSES = "/ai/llm/v1/chat/completions", "/ai/v1/messages", "/ai/v1/responses"
COST = 9 * 1_000 + 2 * 2_000
HELLO = [{"role": "user", "content": "Hi"}]
ASKED: dict[str, Any] = {
    CHAT: {"messages": HELLO, "max_tokens": 100},
    MESSAGES: {"messages": HELLO, "max_tokens": 100},
    RESPONSES: {"input": "Hi", "max_output_tokens": 100, "store": False},
}
LAST = {CHAT: b"data: [DONE]", MESSAGES: b"event: message_stop", RESPONSES: b"event: response.completed"}


class Mounted(Host):
    """A host whose gateway is mounted at ``/ai``."""

    def usage(self) -> Any:
        return self.client.get("/ai/api/usage").json()

    def quota(self) -> Any:
        return self.client.get("/ai/api/quota-check").json()


def test_no_server_is_left_out() -> None:
    assert set(SERVERS) == set(COMMANDS) - {"hypercorn-trio"}  # whose frameworks are of asyncio


@pytest.fixture(scope="module", params=[(server, each) for server in SERVERS for each in FRAMEWORKS], ids="-".join)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    server, framework = request.param
    pytest.importorskip(framework)  # some are no part of an environment that was made before they were tried
    folder = tmp_path_factory.mktemp("framework")
    with paced_upstream() as upstream:
        settings = {
            "PYTHONPATH": str(HERE),
            "FRAMEWORK": framework,
            "HPP_DB": str(folder / "hpp.db"),
            "UPSTREAM_URL": upstream.url,
        }
        with (
            serve_module(server, "frameworks:app", folder, **settings) as url,
            httpx2.Client(base_url=url, headers={"apikey": KEY}, trust_env=False, timeout=SECONDS) as client,
        ):
            assert framework in client.get("/go").text  # the framework's own route, beside the mount
            yield Mounted(upstream, client, folder / "hpp.db")
    told = (folder / f"{server}.log").read_text("utf-8")
    # Hypercorn's dispatcher, which mounts these, ends so under Python 3.12: its task group tells of its cancellation.
    its_own = sys.version_info >= (3, 12) and server == "hypercorn" and framework in {"quart", "falcon"}
    assert told.count("Traceback") == (told.count("middleware/dispatcher.py") > 0 and its_own)
    assert not (folder / "hpp.db-wal").exists()  # its lifespan has closed the gateway


@pytest.fixture
def host(served: Mounted) -> Iterator[Mounted]:
    """The server; after each test nothing is held, and every reader agrees on what was charged."""
    yield served
    served.wait_until(lambda: served.quota()["held"] == 0)
    usage = served.usage()
    assert round(usage["used"] * 10**9) == sum(amount for _, amount in served.ledger())
    assert usage["requests"] == len(served.ledger())


def question(path: str, **fields: Any) -> dict[str, Any]:
    return {"model": "paced/paced-1", **ASKED[path], **fields}


@pytest.mark.parametrize("path", ASKED, ids=["chat", "messages", "responses"])
def test_each_event_of_a_stream_arrives_before_the_next_one_is_made(host: Mounted, path: str) -> None:
    before = len(host.ledger())
    host.upstream.say(text_event("word 0"))  # with which the head is sent
    with host.client.stream("POST", path, json=question(path, stream=True)) as response:
        received = events(response)
        for number in range(3):
            while f'"word {number}"'.encode() not in next(received):
                pass
            if number < 2:
                host.upstream.say(text_event(f"word {number + 1}"))  # only now; the one before has been received
        host.upstream.say(text_event("", "stop"), usage_event(), DONE)
        host.upstream.end()
        *_, last = received
        assert last.startswith(LAST[path])
    assert response.headers["content-type"].startswith("text/event-stream")
    host.wait_until(lambda: len(host.ledger()) > before)
    assert host.ledger()[-1] == ("completed", COST)


def test_a_json_completion_is_answered_and_settled(host: Mounted) -> None:
    host.upstream.say(COMPLETION)
    host.upstream.end()
    answer = host.client.post(CHAT, json=question(CHAT))
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**json.loads(COMPLETION), "model": "paced/paced-1"}
    entry = host.client.get(f"/ai/api/user/audit/{answer.headers['x-request-id']}").json()
    assert (entry["outcome"], entry["cost"]) == ("completed", 0.000013)


def test_a_client_that_leaves_closes_the_upstream_and_is_settled(host: Mounted) -> None:
    before = len(host.ledger())
    host.upstream.say(text_event("some words of an answer"))
    with host.client.stream("POST", CHAT, json=question(CHAT, stream=True)) as response:
        assert b"some words" in next(events(response))
    host.upstream.wait_until_left()
    host.wait_until(lambda: len(host.ledger()) > before)
    assert host.ledger()[-1][0] == "abandoned"


def test_a_key_that_nobody_has_is_refused_in_each_api_and_reaches_no_upstream(host: Mounted) -> None:
    asked = len(host.upstream.requests)
    for path in ASKED:
        refused = host.client.post(path, json=question(path), headers={"apikey": "nobody-shows-this-key-of-his"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["message"] == "Invalid API key"
    assert len(host.upstream.requests) == asked


def test_a_route_of_the_hosts_own_is_metered_word_by_word(host: Mounted) -> None:
    before = host.client.get("/billing/api/usage").json()
    asked = {"model": "own", "messages": HELLO, "max_tokens": 100, "stream": True}
    with host.client.stream("POST", "/v1/chat/completions", json=asked) as response:
        received = events(response)
        assert b'"one"' in next(received)
        host.client.get("/go")  # it has said no more by now
        assert b'"other"' in next(received)
        assert list(received) == [b"data: [DONE]"]  # the usage was asked for by the meter alone
    after = host.client.get("/billing/api/usage").json()
    assert after["requests"] == before["requests"] + 1
    assert round((after["used"] - before["used"]) * 10**9) == COST
    refused = host.client.post("/v1/chat/completions", json=asked, headers={"apikey": "nobody-shows-this-key-of-his"})
    assert refused.status_code == 401
