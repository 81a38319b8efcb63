"""
Driving an ASGI app message by message, with no server and no socket.

The app runs in a task of the caller's event loop, and each of its ``send`` calls waits until the test has taken the
message: so a test says exactly how far a response has come when its client leaves. What a server does is done as
uvicorn does it: after a disconnect ``receive`` says so and ``send`` drops what it is given; after the last message of
the response the client counts as gone.
"""

import contextlib
import json
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

import anyio
import anyio.lowlevel

__all__ = ["Call", "get", "post"]

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
Headers = Mapping[str, str] | Sequence[tuple[str, str]]

BLANK_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r")


def post(app: App, path: str, body: bytes | str | Mapping[str, Any] | Sequence[bytes] = b"", **settings: Any) -> "Call":
    """
    A POST request to an app, for ``async with``.

    Args:
        app: Any ASGI app.
        path: The path, with its query.
        body: Bytes, text, a mapping to be sent as JSON, or a list of pieces that arrive as a message each.
        settings: As for :class:`Call`.
    """
    return Call(app, "POST", path, body, **settings)


def get(app: App, path: str, **settings: Any) -> "Call":
    """GET from an app; as :func:`post`."""
    return Call(app, "GET", path, **settings)


class Call:
    """
    A request to an app, and its response as it comes.

    Leaving the block ends the call as a client does, and waits until the app has returned; what the app raised is
    raised there, or by whichever method was waiting for its next message.

    Args:
        app: Any ASGI app.
        method: The HTTP method.
        path: The path, with its query.
        body: As for :func:`post`.
        headers: Request headers.
        unfinished: The body has more to come, and it never does.
        ahead: How many messages the app may send before the first of them is taken.
        scope: What to change in the ASGI scope (``root_path``, ``client``, ``state`` ...).
    """

    def __init__(
        self,
        app: App,
        method: str,
        path: str,
        body: bytes | str | Mapping[str, Any] | Sequence[bytes] = b"",
        *,
        headers: Headers = (),
        unfinished: bool = False,
        ahead: int = 0,
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        self._app = app
        fields = [
            (name.lower(), value) for name, value in (headers.items() if isinstance(headers, Mapping) else headers)
        ]
        if isinstance(body, Mapping):
            body = json.dumps(body).encode()
            fields = [("content-type", "application/json"), *fields]
        pieces = [body.encode()] if isinstance(body, str) else [body] if isinstance(body, bytes) else list(body)
        self._requests = deque(_requests(pieces, unfinished=unfinished))
        self._scope = {**_scope(method, path, fields), **(scope or {})}
        self._ahead = ahead
        self._error: Exception | None = None
        self._start: Message | None = None
        self._buffer = b""
        self._ended = False  # as the test has seen
        self._answering = self._complete = False  # as the app has sent

    async def __aenter__(self) -> Self:
        self._gone = anyio.Event()
        self._returned = anyio.Event()
        self._outgoing, self._messages = anyio.create_memory_object_stream[Message](self._ahead)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()
        if error is not None:
            self._tasks.cancel_scope.cancel()
        # Told of no error, the task group wraps none: what the block raised leaves it as it was.
        await self._tasks.__aexit__(None, None, None)
        if error is None:
            self._raise()

    @property
    def status(self) -> int:
        """The response's status; for once its head has been received."""
        return int(self._head["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, lower-case; for once they have been received."""
        merged: dict[str, str] = {}
        for name, value in self._head["headers"]:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1")
            merged[key] = f"{merged[key]}, {text}" if key in merged else text
        return merged

    async def receive_message(self) -> Message:
        """
        The next message that the app sends.

        Raises:
            anyio.EndOfStream: The app has returned, or the client has left.
        """
        try:
            message = await self._messages.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._raise()
            raise anyio.EndOfStream from None
        if message["type"] == "http.response.start":
            self._start = message
        return message

    async def started(self) -> int:
        """Receive the head, unless that is done; the status."""
        while self._start is None:
            await self.receive_message()
        return self.status

    async def event(self) -> bytes:
        """The next server-sent event, as its lines without the blank one; empty when the response has ended."""
        while (blank := BLANK_LINE.search(self._buffer)) is None:
            piece = await self._piece()
            if piece is None:
                rest, self._buffer = self._buffer, b""
                return rest
            self._buffer += piece
        event, self._buffer = self._buffer[: blank.start()], self._buffer[blank.end() :]
        return event

    async def read(self) -> bytes:
        """The rest of the body."""
        while (piece := await self._piece()) is not None:
            self._buffer += piece
        body, self._buffer = self._buffer, b""
        return body

    async def json(self) -> Any:
        """The body, parsed."""
        return json.loads(await self.read())

    def disconnect(self) -> None:
        """Leave: ``receive`` yields ``http.disconnect``, also where it waits, and what the app sends is dropped."""
        self._gone.set()
        self._messages.close()

    async def returned(self) -> None:
        """Wait until the app has returned."""
        await self._returned.wait()

    @property
    def _head(self) -> Message:
        if self._start is None:
            raise RuntimeError("the head of the response has not been received yet")
        return self._start

    async def _piece(self) -> bytes | None:
        """The next piece of the body, or None at its end."""
        while not self._ended:
            message = await self.receive_message()
            if message["type"] == "http.response.body":
                self._ended = not message.get("more_body", False)
                return bytes(message.get("body", b""))
        return None

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - raised again where the test looks
            self._error = error
        finally:
            self._outgoing.close()
            self._returned.set()

    async def _receive(self) -> Message:
        if self._requests and not self._gone.is_set():
            return self._requests.popleft()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._gone.is_set() and not self._complete:
            await anyio.lowlevel.checkpoint()  # an app that sends on and on can still be cancelled
            return
        if self._complete or (message["type"] == "http.response.start") is self._answering:
            raise RuntimeError(f"the app sent {message['type']!r} out of turn")
        self._answering = True
        self._complete = message["type"] == "http.response.body" and not message.get("more_body", False)
        with contextlib.suppress(anyio.BrokenResourceError):  # the client has left meanwhile
            await self._outgoing.send(message)
        if self._complete:
            self._gone.set()

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


def _requests(pieces: Sequence[bytes], *, unfinished: bool) -> list[Message]:
    last = len(pieces) - 1
    return [
        {"type": "http.request", "body": piece, "more_body": unfinished or number < last}
        for number, piece in enumerate(pieces)
    ]


def _scope(method: str, path: str, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    raw_path, _, query = path.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
