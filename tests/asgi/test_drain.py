"""A router that is to stop: it takes nothing more on, lets what it has end, and ends what does not; all is settled."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from rig import ALICE, CHAT, KEY, MODEL, USAGE_NANO, Delegate, check_books, chunks, gateway, question, read

from hpp_middleware import Gateway
from hpp_middleware.errors import OverloadedError
from hpp_middleware.testing import FakeUpstream, Script, get, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.load import Load
from hpp_middleware.types.operations import Operation, Reserve

pytestmark = pytest.mark.anyio

STANDS = Script(texts=("some words of an answer",), stall_after_events=2)
APIS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 100, "store": False},
}


def asked(found: Gateway, path: str, **fields: Any) -> Call:
    body = {"model": MODEL, **APIS[path], **fields}
    return post(found.app, path, body, headers={"apikey": KEY}, ahead=100)


async def until(call: Call, word: bytes) -> None:
    """Read on to the event that has this word."""
    while word not in await call.event():
        pass


async def until_closed(found: Gateway) -> None:
    while not found.here().queue.closed:
        await checkpoint()


@pytest.mark.parametrize("path", APIS)
async def test_what_comes_is_refused_and_its_connection_closed(path: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        await found.drain(60)  # nothing is in flight: it is over at once
        async with asked(found, path) as call:
            assert await call.started() == 503
            assert (await call.json())["error"]["code"] == "overloaded"
        assert call.headers["retry-after"] == "1"
        assert call.headers["connection"] == "close"
        async with get(found.app, "/readyz") as ready:
            assert await ready.started() == 503
            assert (await ready.json())["status"] == "stopping"
        assert (await read(found, "/api/quota-check"))["held"] == 0  # who asks what he has spent is told
        assert (await read(found, "/healthz")) == {"status": "ok"}
        with pytest.raises(OverloadedError):
            await found.complete(ALICE, question())
    assert fake_upstream.log == []


async def test_http_2_has_no_connections_to_close_by_a_header(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        await found.drain(60)
        async with post(found.app, CHAT, question(), headers={"apikey": KEY}, scope={"http_version": "2"}) as call:
            assert await call.started() == 503
            assert "connection" not in call.headers
            assert call.headers["retry-after"] == "1"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_in_flight_ends_as_if_nothing_was(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(delay_head_s=0.3)
    async with gateway(fake_upstream) as found:
        async with asked(found, CHAT, stream=stream) as call, anyio.create_task_group() as tasks:
            await fake_upstream.arrived(1)
            tasks.start_soon(found.drain, 60)
            await until_closed(found)
            async with get(found.app, "/readyz") as ready:
                assert await ready.started() == 503  # before the answer has ended
            assert await call.started() == 200
            body = await call.read()
        assert not stream or body.endswith(b"data: [DONE]\n\n")
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount) == ("completed", USAGE_NANO)


@pytest.mark.parametrize("path", APIS)
async def test_a_stream_that_does_not_end_in_time_ends_with_an_error(path: str, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream) as found:
        async with asked(found, path, stream=True) as call:
            assert await call.started() == 200
            await until(call, b"words")
            await found.drain(0)
            body = await call.read()  # it ends
        assert b"The router is about to stop" in body
        assert b"[DONE]" not in body
        assert b"message_stop" not in body
        assert b"response.completed" not in body
        last = body.strip().split(b"\n\n")[-1]
        assert {CHAT: b"data: {", "/v1/messages": b"event: error", "/v1/responses": b"event: "}[path] in last
        assert fake_upstream.log[0].closed_early
        (line,) = await check_books(found)
        assert (line.report.outcome, line.report.estimated) == ("failed", True)
        assert line.amount > 0


async def test_a_json_answer_that_is_not_there_in_time_is_a_503_and_not_free(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=60)
    async with gateway(fake_upstream) as found:
        async with asked(found, CHAT) as call, asked(found, CHAT) as other:
            await fake_upstream.arrived(2)
            await found.drain(0)
            for each in (call, other):
                assert await each.started() == 503
                assert (await each.json())["error"]["code"] == "overloaded"
                assert each.headers["connection"] == "close"
                assert float(each.headers["x-hpp-router-cost"]) > 0
        lines = await check_books(found)
        assert [line.report.outcome for line in lines] == ["failed", "failed"]


async def test_what_has_not_been_sent_is_not_sent_any_more_and_is_free(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    placing, go_on = anyio.Event(), anyio.Event()

    async def hold_up(operations: Sequence[Operation]) -> None:
        if any(isinstance(each, Reserve) for each in operations):
            placing.set()
            await go_on.wait()

    async with gateway(fake_upstream, store=store) as found:
        store.before = hold_up
        async with asked(found, CHAT) as call, anyio.create_task_group() as tasks:
            await placing.wait()
            tasks.start_soon(found.drain, 0)
            while found.here().answering._error is None:
                await checkpoint()
            go_on.set()
            assert await call.started() == 503
            assert (await call.json())["error"]["code"] == "overloaded"
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_an_answer_that_begins_when_time_is_up_is_not_sent(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        worker = await found.worker()
        await found.drain(0)
        worker.queue.closed = False  # as one that had its place before
        async with asked(found, CHAT) as call:
            assert await call.started() == 503
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_who_waits_in_line_is_refused_at_once(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=Load(in_flight=1, queue_s=60)) as found:
        async with asked(found, CHAT, stream=True) as call:
            assert await call.started() == 200
            async with asked(found, CHAT) as waiting, anyio.create_task_group() as tasks:
                while not found.here().queue.waiting:
                    await checkpoint()
                tasks.start_soon(found.drain, 60)
                assert await waiting.started() == 503
                assert waiting.headers["connection"] == "close"
                await found.drain(0)  # a second time, and without patience: both return
            assert b"about to stop" in await call.read()
        assert len(await check_books(found)) == 1


async def test_a_stream_that_is_read_on_for_a_client_that_left_ends_too(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, provider={"on_disconnect": "drain"}) as found:
        async with asked(found, CHAT, stream=True) as call:
            assert await call.started() == 200
            await until(call, b"words")
            call.disconnect()
            await found.drain(0)
        lines = await check_books(found)
        assert [line.report.outcome for line in lines] == ["abandoned"]


async def test_many_of_each_kind_are_all_settled(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, AsyncExitStack() as stack:
        fake_upstream.script = STANDS
        streams = [await stack.enter_async_context(asked(found, path, stream=True)) for path in APIS for _ in range(4)]
        for call in streams:
            assert await call.started() == 200
        fake_upstream.script = Script(delay_head_s=60)
        for _ in range(8):
            await stack.enter_async_context(asked(found, CHAT))
        await fake_upstream.arrived(20)
        await found.drain(0.01)
        assert found.here().queue.running == 0
        lines = await check_books(found)
        assert len(lines) == len(fake_upstream.log) == 20
        assert {line.report.outcome for line in lines} == {"failed"}
        assert found.journal.pending == 0


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("path", APIS)
async def test_a_server_that_cancels_a_stream_has_its_client_told_where_it_takes_that_at_once(
    path: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream) as found:
        sent: list[Any] = []

        async def receive() -> Any:
            if not received:
                await anyio.sleep_forever()
            return received.pop()

        async def send(message: Any) -> None:
            sent.append(message)

        body = json.dumps({"model": MODEL, **APIS[path], "stream": True}).encode()
        received = [{"type": "http.request", "body": body, "more_body": False}]
        headers = [(b"apikey", KEY.encode()), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "http_version": "1.1"}
        task = asyncio.create_task(found.app(scope, receive, send))
        while not any(b"words" in each.get("body", b"") for each in sent):
            await checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert b"The server has given up this answer" in sent[-1]["body"]
        assert sent[-1]["more_body"] is False
        (line,) = await check_books(found)
        assert line.report.outcome == "abandoned"


async def test_a_chat_stream_that_was_ended_says_why_in_its_last_chunk(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream) as found, asked(found, CHAT, stream=True) as call:
        await until(call, b"words")
        await found.drain(0)
        error = chunks(await call.read())[-1]["error"]
    assert (error["code"], error["retryable"]) == ("overloaded", True)


async def test_what_is_about_to_be_asked_again_is_not(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(status=503, headers=(("retry-after", "30"),))
    async with gateway(fake_upstream, provider={"retries": 1}) as found:
        async with asked(found, CHAT) as call:
            await fake_upstream.arrived(1)
            await fake_upstream.idle()
            await found.drain(0)
            assert await call.started() in {502, 503}
        lines = await check_books(found)
        assert [line.amount for line in lines] == [0]
    assert len(fake_upstream.log) == 1
