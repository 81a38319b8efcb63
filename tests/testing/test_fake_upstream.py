"""The fake upstream answers as scripted on a real socket, and its log is right."""

import json
import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import anyio
import httpx2
import pytest

from hpp_middleware.testing import USAGE, FakeUpstream, Script, TokenCount

pytestmark = pytest.mark.anyio

Body = dict[str, Any]

ASK: Body = {"model": "fake-1", "messages": [{"role": "user", "content": "Hi"}]}
STREAM: Body = {**ASK, "stream": True, "stream_options": {"include_usage": True}}


@pytest.fixture
async def client(fake_upstream: FakeUpstream) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=fake_upstream.url, trust_env=False, timeout=30) as client:
        yield client


def events(text: bytes) -> list[Any]:
    """The data of each event; ``[DONE]`` as it is."""
    assert text.endswith(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in text.removesuffix(b"\n\n").split(b"\n\n")]
    return ["[DONE]" if item == b"[DONE]" else json.loads(item) for item in data]


async def post(client: httpx2.AsyncClient, body: Body = ASK) -> httpx2.Response:
    return await client.post("/chat/completions", json=body)


def nameless(body: bytes) -> bytes:
    """A body without what tells two completions apart: their numbers, and the second they were made in."""
    return re.sub(rb'"created":\d+', b'"created":0', re.sub(rb"fake-\d", b"fake-0", body))


async def broken(client: httpx2.AsyncClient, body: Body = STREAM) -> tuple[bytes, httpx2.TransportError]:
    """What came of a response before it broke off, and how it broke."""
    read = b""
    try:
        async with client.stream("POST", "/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                read += piece
    except httpx2.TransportError as error:
        return read, error
    raise AssertionError("the response came to its end")


async def leave(client: httpx2.AsyncClient, body: Body, *, after: int) -> int:
    """Leave after at least so many bytes: by cancellation, in which httpx2 closes its inner generators too."""
    read = 0
    with anyio.CancelScope() as scope:
        async with client.stream("POST", "/chat/completions", json=body) as response:
            async for piece in response.aiter_raw():
                read += len(piece)
                if read >= after:
                    scope.cancel()
    return read


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


# --- faults ---------------------------------------------------------------------------------------


async def test_an_error_has_openais_shape_or_the_scripts(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    own = {"error": "odd"}
    fake_upstream.next(Script(status=429, headers=[("Retry-After", "7")]), Script(status=500, error=own))
    first, second = await post(client, STREAM), await post(client)
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert set(first.json()["error"]) == {"message", "type", "param", "code"}
    assert (second.status_code, second.json()) == (500, own)
    assert [exchange.status for exchange in fake_upstream.log] == [429, 500]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(
    status: int, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(Script(status=status), Script(status=status))
    for body in (ASK, STREAM):
        response = await post(client, body)
        assert (response.status_code, response.content) == (status, b"")
    assert (await post(client)).status_code == 200


async def test_an_error_event_ends_a_stream(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(error_event={"error": {"message": "overloaded"}})
    *_, last = events((await post(client, STREAM)).content)
    assert last == {"error": {"message": "overloaded"}}


async def test_done_can_be_left_out(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(omit_done=True)
    *_, last = events((await post(client, STREAM)).content)
    assert last["usage"] == USAGE
    assert fake_upstream.log[0].finished


@pytest.mark.parametrize("count", range(7))
async def test_a_stream_is_cut_after_an_event(
    count: int, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(truncate_after_events=count)
    read, _ = await broken(client)
    assert read.count(b"\n\n") == count
    (exchange,) = fake_upstream.log
    assert (exchange.bytes_sent, exchange.finished, exchange.closed_early) == (len(read), False, False)


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_is_cut_at_a_byte(body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    whole = (await post(client, body)).content.replace(b"fake-1", b"fake-0")
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        fake_upstream.script = Script(truncate_at_byte=cut)
        read, _ = await broken(client, {**body, "model": "fake-0"})
        assert len(read) == cut
        assert not fake_upstream.log[-1].finished


async def test_a_cut_beyond_the_end_cuts_nothing(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(truncate_at_byte=10**6, truncate_after_events=100)
    assert (await post(client, STREAM)).content.endswith(b"data: [DONE]\n\n")
    assert fake_upstream.log[0].finished


async def test_a_connection_can_be_reset(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(truncate_after_events=2), Script(truncate_after_events=2, reset=True))
    _, orderly = await broken(client)
    read, reset = await broken(client)
    assert read.count(b"\n\n") == 2
    assert isinstance(orderly, httpx2.RemoteProtocolError)  # told of the end, before its time
    assert isinstance(reset, httpx2.ReadError)  # the socket itself failed


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_can_be_closed_before_the_head(
    reset: bool,  # noqa: FBT001 - a parameter of the test
    client: httpx2.AsyncClient,
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(close_before_head=True, reset=reset)
    with pytest.raises(httpx2.TransportError):
        await post(client)
    (exchange,) = fake_upstream.log
    assert (exchange.status, exchange.bytes_sent, exchange.closed_early) == (None, 0, False)
    assert exchange.json() == ASK


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_cut_into_pieces_is_the_same_body(
    size: int, body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    whole = (await post(client, body)).content
    fake_upstream.script = Script(chunk_size=size)
    again = (await post(client, body)).content
    first, second = fake_upstream.log
    assert nameless(again) == nameless(whole)
    assert (second.bytes_sent, second.usage) == (first.bytes_sent, USAGE)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_can_be_compressed(
    encoding: str, body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    whole = (await post(client, body)).content
    fake_upstream.script = Script(content_encoding=encoding)
    response = await post(client, body)
    assert response.headers["content-encoding"] == encoding
    assert nameless(response.content) == nameless(whole)
    assert fake_upstream.log[1].bytes_sent != len(whole)


async def test_an_encoding_can_be_claimed(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(content_encoding="zstd-of-sorts")
    async with client.stream("POST", "/chat/completions", json=ASK) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert response.headers["content-encoding"] == "zstd-of-sorts"
    assert json.loads(raw)["object"] == "chat.completion"


async def test_a_raw_body_goes_out_as_it_is(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_body=b"<html>", content_type="text/html", status=200)
    for path in ("/chat/completions", "/anything"):
        response = await client.post(path, content=b"no JSON")
        assert (response.status_code, response.content) == (200, b"<html>")
        assert response.headers["content-type"] == "text/html"


async def test_lines_can_end_otherwise(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(newline="\r\n")
    text = (await post(client, STREAM)).content
    assert text.count(b"\r\n\r\n") == text.count(b"\n") / 2 == 6


async def raw(upstream: FakeUpstream, body: Body | bytes = ASK) -> tuple[bytes, bool]:
    """What comes over a connection until it ends, and whether that was in order."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    port = int(upstream.url.removesuffix("/v1").rpartition(":")[2])
    read = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
        try:
            await stream.send(head.encode() + sent)
            while True:
                read += await stream.receive()
        except anyio.EndOfStream:
            return read, True
        except anyio.BrokenResourceError:
            return read, False


async def test_a_head_can_be_cut(fake_upstream: FakeUpstream) -> None:
    for reset in (False, True):
        fake_upstream.next(Script(truncate_head_at=12, reset=reset))
        assert await raw(fake_upstream) == (b"HTTP/1.1 200", not reset)
    assert [(exchange.status, exchange.finished) for exchange in fake_upstream.log] == [(None, False)] * 2


async def test_a_head_can_be_anything(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_head=b"SPAM/0.9 ", raw_body=b"and eggs")
    assert await raw(fake_upstream) == (b"SPAM/0.9 and eggs", True)
    assert fake_upstream.log[0].finished


async def test_interim_responses_come_first(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(interim=3, truncate_at_byte=0)
    read, _ = await raw(fake_upstream)
    assert read.count(b"HTTP/1.1 103") == 3
    assert read.index(b"HTTP/1.1 200") > read.rindex(b"HTTP/1.1 103")


async def test_a_body_is_cut_within_a_character(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(texts=("Gr\u00fc\u00dfe",), truncate_within="\u00fc".encode())
    for body in (ASK, STREAM):
        read, _ = await broken(client, body)
        assert read.endswith(b"Gr\xc3")


async def test_what_is_broken_off_can_stand_open(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    for script in (
        Script(close_before_head=True, stall=True),
        Script(truncate_head_at=5, stall=True),
        Script(truncate_after_events=2, stall=True),
        Script(truncate_at_byte=20, stall=True),
    ):
        fake_upstream.next(script)
        with anyio.move_on_after(0.2) as waited:
            await raw(fake_upstream, STREAM)
        assert waited.cancelled_caught
        await fake_upstream.idle()
        assert fake_upstream.log[-1].closed_early


async def test_events_can_be_put_between_the_others(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    own = b'data: {"own":1}\n\n'
    fake_upstream.script = Script(inserted={0: own, 2: own, 6: own})
    text = (await post(client, STREAM)).content
    assert [b"own" in event for event in text.removesuffix(b"\n\n").split(b"\n\n")] == [
        *(True, False, False, True, False, False, False, False, True)
    ]


async def test_a_raw_body_can_be_events_of_its_own(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_events=(b"one", b"two", b"three"), truncate_after_events=2)
    read, _ = await broken(client)
    assert read == b"onetwo"


async def test_bytes_that_nobody_asked_for_follow_a_response(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(trailing=b"and more", headers=[("Connection", "close")])
    read, _ = await raw(fake_upstream)
    assert read.endswith(b"}and more")


async def test_an_answer_can_come_before_the_request_is_whole(fake_upstream: FakeUpstream) -> None:
    large = json.dumps({**ASK, "padding": "x" * 20_000_000}).encode()
    fake_upstream.script = Script(answer_after=1000, raw_body=b"early", headers=[("Connection", "close")])
    read, _ = await raw(fake_upstream, large)
    assert read == b"" or read.endswith(b"early")  # the rest, unread, resets the connection
    assert 1000 <= len(fake_upstream.log[0].body) < len(large)
    assert fake_upstream.log[0].status == 200


def test_a_script_that_cannot_be_carried_out_is_refused() -> None:
    with pytest.raises(ValueError, match="endless"):
        Script(endless=True, texts=("",))
    with pytest.raises(ValueError, match="chunk_size"):
        Script(chunk_size=0)


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
