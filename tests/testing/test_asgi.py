"""``post`` drives an app message by message, and disconnects as uvicorn does."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import pytest

from hpp_middleware.testing import Call, get, post

pytestmark = pytest.mark.anyio

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answers with the request's body, in the pieces in which it came."""
    headers = [
        (b"Content-Type", b"text/plain"),
        (b"x-method", scope["method"].encode()),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
    ]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    more = True
    while more:
        request = await receive()
        more = request["more_body"]
        await send({"type": "http.response.body", "body": request["body"], "more_body": more})


class Streaming:
    """An app that streams events until it is done or its client leaves, and remembers how far it came."""

    def __init__(self, *events: bytes) -> None:
        self.events = events
        self.sent = 0
        self.heard: list[str] = []
        self.settled = False

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def listen() -> None:
            while True:
                message = await receive()
                self.heard.append(message["type"])
                if message["type"] == "http.disconnect":
                    group.cancel_scope.cancel()
                    return

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(listen)
                await send({"type": "http.response.start", "status": 200, "headers": []})
                for event in self.events:
                    await send({"type": "http.response.body", "body": event, "more_body": True})
                    self.sent += 1
                await send({"type": "http.response.body"})
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
                self.settled = True


async def test_a_response_is_read_whole() -> None:
    async with post(echo, "/x", b"hello") as call:
        assert await call.read() == b"hello"
        assert call.status == 201
        assert call.headers == {"content-type": "text/plain", "x-method": "POST", "x-two": "1, 2"}
        assert await call.read() == b""


async def test_a_body_is_bytes_text_a_mapping_or_pieces() -> None:
    async with post(echo, "/x", "é") as call:
        assert await call.read() == "é".encode()
    async with post(echo, "/x", {"a": [1]}) as call:
        assert await call.json() == {"a": [1]}
    async with post(echo, "/x", [b"one", b"two"]) as call:
        assert await call.started() == 201
        messages = [await call.receive_message() for _ in range(2)]
        assert [(message["body"], message["more_body"]) for message in messages] == [(b"one", True), (b"two", False)]
    async with get(echo, "/x") as call:
        assert await call.read() == b""
        assert call.headers["x-method"] == "GET"


async def test_the_scope_is_what_a_server_gives() -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await echo(scope, receive, send)

    headers = {"Authorization": "Bearer x"}
    async with post(app, "/a%20b?c=d", {"e": 1}, headers=headers, scope={"root_path": "/a"}) as call:
        await call.read()
    (scope,) = scopes
    assert (scope["type"], scope["method"], scope["path"]) == ("http", "POST", "/a b")
    assert (scope["raw_path"], scope["query_string"], scope["root_path"]) == (b"/a%20b", b"c=d", "/a")
    assert scope["headers"] == [(b"content-type", b"application/json"), (b"authorization", b"Bearer x")]


async def test_events_come_one_by_one() -> None:
    app = Streaming(b"data: 1\n\ndata:", b" 2\r\n\r\n", b": note\ndata: 3\r\rdata: [DONE]\n\nrest")
    async with post(app, "/x") as call:
        events = []
        while event := await call.event():
            events.append(event)
    assert events == [b"data: 1", b"data: 2", b": note\ndata: 3", b"data: [DONE]", b"rest"]


async def test_the_app_sends_no_further_than_it_is_read() -> None:
    app = Streaming(*(b"data: %d\n\n" % number for number in range(10)))
    async with post(app, "/x") as call:
        for number in range(3):
            assert await call.event() == b"data: %d" % number
        await anyio.wait_all_tasks_blocked()
        assert app.sent == 3


async def test_the_app_may_be_let_ahead() -> None:
    app = Streaming(*(b"data: %d\n\n" % number for number in range(10)))
    async with post(app, "/x", ahead=4) as call:
        await anyio.wait_all_tasks_blocked()
        assert app.sent == 3  # and the head
        assert (await call.read()).count(b"\n\n") == 10


async def test_a_disconnect_is_heard_where_the_app_waits() -> None:
    app = Streaming(b"data: 1\n\n", b"data: 2\n\n")
    async with post(app, "/x") as call:
        assert await call.event() == b"data: 1"
        call.disconnect()
        await call.returned()
        assert app.heard == ["http.request", "http.disconnect"]
        assert app.settled
        with pytest.raises(anyio.EndOfStream):
            await call.event()


async def test_leaving_the_block_is_a_disconnect_and_waits_for_the_app() -> None:
    app = Streaming(b"data: 1\n\n", b"data: 2\n\n")
    async with post(app, "/x") as call:
        await call.event()
    assert app.heard[-1] == "http.disconnect"
    assert app.settled


async def test_after_a_disconnect_what_is_sent_is_dropped() -> None:
    done = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(5):
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await send({"type": "http.response.body"})
        done.append(await receive())

    async with post(app, "/x") as call:
        assert await call.started() == 200
        call.disconnect()
    assert done == [{"type": "http.disconnect"}]


async def test_a_whole_response_is_followed_by_a_disconnect() -> None:
    heard = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        heard.append((await receive())["type"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        heard.append((await receive())["type"])

    async with post(app, "/x") as call:
        assert await call.read() == b""
        await call.returned()
    assert heard == ["http.request", "http.disconnect"]


async def test_a_client_can_leave_in_the_middle_of_its_own_request() -> None:
    heard = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] == "http.request":
            heard.append(message)
        heard.append(message)

    async with post(app, "/x", [b"half"], unfinished=True) as call:
        await anyio.wait_all_tasks_blocked()
        assert heard == [{"type": "http.request", "body": b"half", "more_body": True}]
        call.disconnect()
        await call.returned()
    assert [message["type"] for message in heard] == ["http.request", "http.disconnect"]


async def test_what_the_app_raises_is_raised_where_it_is_waited_for() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("the app's")

    async with post(app, "/x") as call:
        with pytest.raises(KeyError, match="the app's"):
            await call.read()
    with pytest.raises(KeyError, match="the app's"):
        async with post(app, "/x") as call:
            await call.started()


async def test_a_response_that_does_not_end_is_told_from_one_that_does() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    async with post(app, "/x") as call:
        with pytest.raises(anyio.EndOfStream):
            await call.read()


async def test_messages_out_of_turn_are_the_apps_error() -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    body: Message = {"type": "http.response.body"}

    for messages in ([body], [start, start], [start, body, body]):

        async def app(scope: Message, receive: Receive, send: Send, messages: list[Message] = messages) -> None:
            for message in messages:
                await send(message)

        with pytest.raises(RuntimeError, match="out of turn"):
            async with post(app, "/x") as call:
                await call.read()


async def test_what_the_block_raises_is_raised_as_it_is_and_ends_the_app() -> None:
    app = Streaming(b"data: 1\n\n")
    with pytest.raises(KeyError, match="mine"):
        async with post(app, "/x"):
            raise KeyError("mine")
    assert app.settled


async def test_the_head_is_there_once_it_has_been_received() -> None:
    async with Call(echo, "PUT", "/x") as call:
        with pytest.raises(RuntimeError, match="not been received"):
            _ = call.status
        await call.read()
        assert call.headers["x-method"] == "PUT"
