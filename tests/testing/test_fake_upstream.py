"""The fake upstream answers as scripted on a real socket: shapes, usage, and every request in its log."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing

import anyio
import httpx2
import pytest
from faked import ASK, STREAM, Body, broken, client_of, events, leave, post

from hpp_middleware.testing import USAGE, FakeUpstream, Script, TokenCount

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(fake_upstream: FakeUpstream) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_of(fake_upstream) as found:
        yield found


# --- shapes ---------------------------------------------------------------------------------------


async def test_a_completion_has_openais_shape(client: httpx2.AsyncClient) -> None:
    response = await post(client)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert body["id"].startswith("chatcmpl-")
    assert isinstance(body["created"], int)
    assert (body["object"], body["model"], body["usage"]) == ("chat.completion", "fake-1", USAGE)
    (choice,) = body["choices"]
    assert choice["message"]["content"] == "Hello world"
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")


async def test_a_stream_has_openais_shape(client: httpx2.AsyncClient) -> None:
    response = await post(client, STREAM)
    assert response.headers["content-type"] == "text/event-stream"
    *chunks, usage, done = events(response.content)
    assert done == "[DONE]"
    assert usage["choices"] == []
    assert usage["usage"] == USAGE
    assert len({chunk["id"] for chunk in (*chunks, usage)}) == 1
    assert all(chunk["object"] == "chat.completion.chunk" and chunk["usage"] is None for chunk in chunks)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas == [{"role": "assistant", "content": ""}, {"content": "Hello"}, {"content": " world"}, {}]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]


async def test_a_stream_reports_usage_only_if_it_is_asked_to(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    for body in ({**ASK, "stream": True}, {**STREAM, "stream_options": {"include_usage": False}}):
        assert b"usage" not in (await post(client, body)).content
        assert fake_upstream.log[-1].usage is None


async def test_every_choice_that_is_asked_for_comes(client: httpx2.AsyncClient) -> None:
    choices = (await post(client, {**ASK, "n": 3})).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    *chunks, _, _ = events((await post(client, {**STREAM, "n": 3})).content)
    for index in range(3):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == "Hello world"
        assert mine[-1]["finish_reason"] == "stop"


async def test_models_are_listed(client: httpx2.AsyncClient) -> None:
    body = (await client.get("/models")).json()
    assert (body["object"], [model["id"] for model in body["data"]]) == ("list", ["fake-1"])


async def test_another_path_is_a_404(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    assert (await client.post("/embeddings", json={})).status_code == 404
    assert (await client.get("/chat/completions")).status_code == 404
    assert [exchange.path for exchange in fake_upstream.log] == ["/v1/embeddings", "/v1/chat/completions"]


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b"\xff"])
async def test_a_body_that_is_no_object_is_a_400(body: bytes, client: httpx2.AsyncClient) -> None:
    assert (await client.post("/chat/completions", content=body)).status_code == 400


# --- usage ----------------------------------------------------------------------------------------


async def test_usage_comes_as_scripted(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    odd = {"prompt_tokens": -1, "completion_tokens": "2"}
    fake_upstream.next(Script(usage=odd), Script(usage="zero"), Script(usage=None))
    assert (await post(client)).json()["usage"] == odd
    assert (await post(client)).json()["usage"]["total_tokens"] == 0
    assert "usage" not in (await post(client)).json()
    assert [exchange.usage is None for exchange in fake_upstream.log] == [False, False, True]


async def test_usage_in_the_last_chunk_comes_unasked(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(usage_in="last chunk")
    *chunks, last, done = events((await post(client, {**ASK, "stream": True})).content)
    assert done == "[DONE]"
    assert (last["choices"][0]["finish_reason"], last["usage"]) == ("stop", USAGE)
    assert all("usage" not in chunk for chunk in chunks)


async def test_usage_in_every_chunk_grows_to_the_whole(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(usage_in="every chunk", texts=("a", "b", "c"))
    *chunks, done = events((await post(client, {**ASK, "stream": True})).content)
    assert done == "[DONE]"
    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == [0, 1, 2, 2, 2]
    assert chunks[-1]["usage"] == USAGE


async def test_the_log_adds_up_what_was_reported(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(), Script(usage={"prompt_tokens": 100, "completion_tokens": 50}), Script(usage=None))
    for _ in range(3):
        await post(client)
    await post(client, STREAM)
    assert fake_upstream.usage_total() == TokenCount(prompt=118, completion=54, total=172)


async def test_usage_that_was_not_sent_whole_is_not_counted(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    whole = (await post(client, STREAM)).content
    end = whole.index(b"\n\ndata: [DONE]")
    for cut in (end, end + 2):  # its last byte is the second newline
        fake_upstream.next(Script(truncate_at_byte=cut))
        await broken(client)
    assert [exchange.usage for exchange in fake_upstream.log] == [USAGE, None, USAGE]


# --- the witness ----------------------------------------------------------------------------------


async def test_the_log_says_what_was_asked(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    await client.post("/chat/completions?x=1", json=ASK, headers={"Authorization": "Bearer sk-up", "X-Two": "2"})
    (exchange,) = fake_upstream.log
    assert (exchange.method, exchange.path, exchange.json()) == ("POST", "/v1/chat/completions", ASK)
    assert ("authorization", "Bearer sk-up") in exchange.headers
    assert exchange.header("Authorization") == "Bearer sk-up"
    assert exchange.header("absent") is None
    assert (exchange.status, exchange.finished, exchange.closed_early) == (200, True, False)


async def test_requests_wait_while_they_are_held(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.holding = True
    answered: list[int] = []

    async def ask() -> None:
        answered.append((await post(client)).status_code)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await fake_upstream.arrived(3)
        await anyio.sleep(0.05)
        assert answered == []
        fake_upstream.holding = False
    assert answered == [200] * 3


async def test_scripts_are_taken_in_turn_and_then_the_standing_one(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(status=418)
    fake_upstream.next(Script(status=500), Script())
    fake_upstream.next(Script(status=501))
    await client.get("/models")  # takes none
    assert [(await post(client)).status_code for _ in range(5)] == [500, 200, 501, 418, 418]


async def test_a_connection_is_kept_alive_unless_the_response_was_cut(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    await post(client)
    await post(client, STREAM)
    fake_upstream.next(Script(truncate_after_events=1))
    await broken(client)
    await post(client)
    assert [exchange.connection for exchange in fake_upstream.log] == [1, 1, 1, 2]


@pytest.mark.parametrize("script", [Script(stall_after_events=2), Script(stall_after_events=2, chunk_size=5)])
async def test_a_client_that_leaves_a_silent_stream_is_seen_at_once(
    script: Script, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = script
    await leave(client, STREAM, after=1)
    await fake_upstream.idle()
    (exchange,) = fake_upstream.log
    assert (exchange.closed_early, exchange.finished, exchange.usage) == (True, False, None)


@pytest.mark.parametrize("script", [Script(delay_head_s=3600), Script(delay_between_s=3600)])
async def test_a_client_that_leaves_while_it_waits_is_seen_at_once(
    script: Script, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = script
    async with anyio.create_task_group() as group:
        group.start_soon(post, client, STREAM)
        await fake_upstream.arrived()
        group.cancel_scope.cancel()
    await fake_upstream.idle()
    assert fake_upstream.log[0].closed_early


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_an_endless_answer_ends_when_its_client_leaves(
    body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(endless=True)
    read = await leave(client, body, after=20_000)
    await fake_upstream.idle()
    (exchange,) = fake_upstream.log
    assert exchange.closed_early
    assert exchange.bytes_sent >= read


async def test_a_client_that_reads_to_the_end_and_closes_has_not_left_early(fake_upstream: FakeUpstream) -> None:
    for body in (ASK, STREAM):
        async with httpx2.AsyncClient(base_url=fake_upstream.url, trust_env=False) as client:
            await post(client, body)
        await fake_upstream.idle()
    assert [exchange.closed_early for exchange in fake_upstream.log] == [False, False]
    assert [exchange.finished for exchange in fake_upstream.log] == [True, True]


async def test_a_client_that_breaks_off_its_own_request_has_left_early(fake_upstream: FakeUpstream) -> None:
    port = int(fake_upstream.url.split(":")[2].removesuffix("/v1"))
    for rest in (b"content-length: 10\r\n\r\nshort", b"transfer-encoding: chunked\r\n\r\nno size\r\n"):
        arrived = len(fake_upstream.log)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n" + rest)
            await fake_upstream.arrived(arrived + 1)
    await fake_upstream.idle()
    assert [exchange.closed_early for exchange in fake_upstream.log] == [True, True]


async def test_what_is_no_http_is_dropped(fake_upstream: FakeUpstream) -> None:
    port = int(fake_upstream.url.split(":")[2].removesuffix("/v1"))
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
    assert fake_upstream.log == []


async def test_many_clients_are_served_at_once(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_between_s=0.01)
    limits = httpx2.Limits(max_connections=32)
    async with (
        httpx2.AsyncClient(base_url=fake_upstream.url, trust_env=False, limits=limits, timeout=30) as client,
        anyio.create_task_group() as group,
    ):
        for _ in range(32):
            group.start_soon(post, client, STREAM)
    assert [exchange.finished for exchange in fake_upstream.log] == [True] * 32
    assert fake_upstream.usage_total().total == 32 * 11


async def test_what_the_block_raises_is_raised_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with FakeUpstream():
            raise KeyError("mine")


async def test_leaving_the_block_ends_what_still_runs() -> None:
    async with AsyncExitStack() as stack, httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        upstream = await stack.enter_async_context(FakeUpstream())
        upstream.script = Script(stall_after_events=1)
        url = f"{upstream.url}/chat/completions"
        async with client.stream("POST", url, json=STREAM) as response, aclosing(response.aiter_raw()) as pieces:
            await anext(pieces)
            await stack.aclose()
            with pytest.raises(httpx2.TransportError):
                await anext(pieces)
        (exchange,) = upstream.log
        assert (exchange.finished, exchange.closed_early) == (False, False)
        with pytest.raises(httpx2.ConnectError):
            await client.post(url, json=ASK)
