"""
An ASGI app in this very process as an upstream: called like a server would call it, and nothing is buffered.

Each piece that the app sends waits until it has been read. When the response is closed before its end, the app is told
as a server tells it: ``http.disconnect`` to whoever receives, ``OSError`` to whoever sends.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
from anyio.abc import TaskGroup

from hpp_middleware.core.raised_at import raised_at
from hpp_middleware.transports.errors import fault
from hpp_middleware.types.http import HTTPCall

__all__ = ["InProcess"]

Message = MutableMapping[str, Any]
App = Callable[[Any, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

GRACE_S = 5.0
"""For so long an app may go on for a response that nobody reads any more, before it is cancelled."""

_logger = logging.getLogger("hpp_middleware")


class InProcess:
    """
    See :class:`hpp_middleware.ports.Transport`.

    Args:
        app: What serves completions.
        scope: Of the request that is answered: its path, query and headers make way for the call's; the rest the app
            sees as it is.
        tasks: Where the app runs: beside the request, and ended with it.
    """

    def __init__(self, app: App, scope: Mapping[str, Any], tasks: TaskGroup) -> None:
        self._app = app
        self._scope = scope
        self._tasks = tasks

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "_Response":
        """Call the app, and wait for the head of its response."""
        sent()
        response = _Response(provider, call.body)
        self._tasks.start_soon(response.run, self._app, self._scope_of(call))
        try:
            await response.head()
        except BaseException:
            await response.aclose()
            raise
        return response

    async def aclose(self) -> None:
        """There is no pool."""

    def _scope_of(self, call: HTTPCall) -> dict[str, Any]:
        parts = urlsplit(call.url)
        root: str = self._scope.get("root_path", "")
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in call.headers]
        return {
            **self._scope,
            "method": call.method,
            "path": root + unquote(parts.path),
            "raw_path": root.encode() + parts.path.encode(),
            "query_string": parts.query.encode(),
            "headers": [*headers, (b"content-length", str(len(call.body)).encode())],
            "extensions": {},
        }


class _Response:
    """The app's response, read as it is sent."""

    def __init__(self, provider: str, body: bytes) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.ended = False
        self._provider = provider
        self._body: bytes | None = body
        self._begun = anyio.Event()
        self._left = anyio.Event()
        self._pieces_in, self._pieces_out = anyio.create_memory_object_stream[bytes](0)
        self._running = anyio.CancelScope(shield=True)

    async def run(self, app: App, scope: dict[str, Any]) -> None:
        """The app, shielded: what becomes of it is up to whoever reads, like behind a server of its own."""
        try:
            with self._running:
                await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001  # the app's own; whoever reads is told that it broke off
            if not self._left.is_set():
                told = type(error).__name__, raised_at(error)
                _logger.error("the app behind the meter raised %s%s", *told)  # noqa: TRY400  # its text may tell
        finally:
            self._begun.set()
            self._pieces_in.close()

    async def head(self) -> None:
        """
        Wait for the head.

        Raises:
            UpstreamError: The app ended without one.
        """
        await self._begun.wait()
        if not self.status:
            raise fault("broken", self._provider)

    async def read(self) -> bytes:
        """The next piece as it is sent; empty at the end."""
        while not self.ended:
            try:
                piece = await self._pieces_out.receive()
            except anyio.EndOfStream:
                raise fault("broken", self._provider) from None
            if piece:
                return piece
        return b""

    async def aclose(self) -> None:
        """Tell the app that the response is over; one that goes on without an end is cancelled."""
        self._left.set()
        self._pieces_in.close()
        self._pieces_out.close()
        if not self.ended:
            self._running.deadline = anyio.current_time() + GRACE_S

    async def _receive(self) -> Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._left.is_set():
            raise OSError("the response is over")
        if message["type"] == "http.response.start":
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.get("headers", [])
            }
            self.status = int(message["status"])  # the ledger's lines can be read with a number alone
            self._begun.set()
        elif message["type"] == "http.response.body":
            more = message.get("more_body", False)
            piece = message.get("body", b"")
            try:
                if piece:
                    await self._pieces_in.send(bytes(piece))
                if not more:
                    self.ended = True
                    await self._pieces_in.send(b"")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                if more:
                    raise OSError("the response is over") from None
