"""
A transport on the bench: a server on loopback that says exactly what it is told to, byte by byte.

It parses no more of a request than it needs to find its end, so that what is sent back can be as wrong as it likes.
"""

import inspect
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
from anyio.streams.tls import TLSStream

from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.types.http import HTTPCall

__all__ = [
    "HELLO",
    "MakeTransport",
    "Peer",
    "Received",
    "Serve",
    "Server",
    "TransportPromise",
    "always",
    "ask",
    "call",
    "patience",
    "pool",
    "refused",
    "server",
    "takes",
    "whole",
]

MakeTransport = Callable[..., Any]
"""Makes a fresh transport, in the event loop where it is used; it takes the settings that it knows by keyword."""

TransportPromise = Callable[[MakeTransport], Awaitable[None]]
"""Holds the transports that a factory makes to one promise; raises AssertionError, whose message is the promise."""

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

PATIENCE_S = 20.0
"""How long something may take that takes no time at all where it works."""

_LINGER_NOT = struct.pack("ii", 1, 0)  # on, for 0 seconds: closing sends RST
_PIECE = 65_536


@dataclass(slots=True)
class Received:
    """
    A request as it came.

    Attributes:
        line: Such as ``POST /v1/x HTTP/1.1``.
        headers: In order, names in lower case.
        connection: The number of its connection, from 1.
    """

    line: str
    headers: list[tuple[str, str]]
    connection: int
    body: bytes = b""


class Peer:
    """The server's end of one connection."""

    def __init__(self, stream: anyio.abc.ByteStream, number: int, log: list[Received]) -> None:
        self.number = number
        self._stream = stream
        self._log = log
        self._ahead = b""

    async def head(self) -> Received | None:
        """The head of the next request; None where the client has closed."""
        while b"\r\n\r\n" not in self._ahead:
            if not await self._receive():
                return None
        text, _, self._ahead = self._ahead.partition(b"\r\n\r\n")
        line, *rest = text.decode("latin-1").split("\r\n")
        headers = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in rest)]
        found = Received(line, headers, self.number)
        self._log.append(found)
        return found

    async def request(self) -> Received | None:
        """The next request, whole; None where the client has closed."""
        found = await self.head()
        if found is None:
            return None
        length = int(dict(found.headers).get("content-length", "0"))
        while len(self._ahead) < length:
            if not await self._receive():
                return None
        found.body, self._ahead = self._ahead[:length], self._ahead[length:]
        return found

    async def send(self, *pieces: bytes) -> None:
        """Write each piece by itself."""
        for piece in pieces:
            await self._stream.send(piece)
            await anyio.lowlevel.checkpoint()  # a client in this event loop reads it by itself, too

    async def gone(self) -> None:
        """Return when the client has closed."""
        while await self._receive():
            pass

    async def pass_on(self, onward: anyio.abc.ByteSendStream) -> None:
        """Send on what comes, as it comes."""
        while self._ahead or await self._receive():
            data, self._ahead = self._ahead, b""
            await onward.send(data)

    def reset(self) -> None:
        """Make the end of this connection a RST."""
        raw: socket.socket = self._stream.extra(anyio.abc.SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)

    async def _receive(self) -> bool:
        try:
            self._ahead += await self._stream.receive(_PIECE)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True


Serve = Callable[[Peer], Awaitable[None]]
"""What a server does with a connection; when it returns, the connection is closed."""


@dataclass(slots=True)
class Server:
    """
    A server on loopback.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        log: The requests so far.
        connections: How many were made so far.
        open: How many stand.
    """

    serve: Serve
    tls: ssl.SSLContext | None = None
    url: str = ""
    port: int = 0
    log: list[Received] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    _changed: anyio.Event = field(default_factory=anyio.Event)

    async def settled(self, *, open_: int, promise: str) -> None:
        """Return when so many connections stand, as is promised."""
        with patience(promise):
            while self.open != open_:
                await self._changed.wait()

    async def handle(self, stream: anyio.abc.SocketStream) -> None:
        """Serve one connection."""
        self.connections += 1
        number = self.connections
        self._count(1)
        try:
            async with stream:
                stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with suppress(
                    anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, ssl.SSLError, OSError
                ):
                    told: anyio.abc.ByteStream = stream
                    if self.tls is not None:
                        told = await TLSStream.wrap(
                            stream, server_side=True, ssl_context=self.tls, standard_compatible=False
                        )
                    await self.serve(Peer(told, number, self.log))
        finally:
            self._count(-1)

    def _count(self, step: int) -> None:
        self.open += step
        self._changed.set()
        self._changed = anyio.Event()


@asynccontextmanager
async def server(serve: Serve, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    """A server, until the block ends; connections that stand are then closed."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    scheme, host = ("http", "127.0.0.1") if tls is None else ("https", "localhost")
    found = Server(serve, tls, f"{scheme}://{host}:{port}", int(port))
    async with listener:
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        tasks.start_soon(listener.serve, found.handle)
        try:
            yield found
        finally:
            tasks.cancel_scope.cancel()
            # Told of no error, the task group wraps none: a promise that is broken is an AssertionError.
            await tasks.__aexit__(None, None, None)


@contextmanager
def patience(promise: str) -> Generator[None]:
    """What takes for ever is an AssertionError, too."""
    with anyio.move_on_after(PATIENCE_S) as waited:
        yield
    assert not waited.cancelled_caught, promise


def always(*pieces: bytes) -> Serve:
    """Answers each request of a connection with the same bytes."""

    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(*pieces)

    return serve


@asynccontextmanager
async def pool(make: MakeTransport, **settings: Any) -> AsyncGenerator[Transport]:
    """A transport, closed when the block ends."""
    async with AsyncExitStack() as stack:
        found: Transport = make(**settings)
        stack.push_async_callback(found.aclose)
        yield found


def takes(make: MakeTransport, setting: str) -> bool:
    """Whether the transports of a factory know a setting."""
    parameters = inspect.signature(make).parameters
    return setting in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def call(url: str, body: bytes = b"{}", *, connect_s: float = 10.0, method: str = "POST") -> HTTPCall:
    """A request as a dialect builds it."""
    headers = [
        ("Content-Type", "application/json"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp"),
        ("Authorization", "Bearer canary"),
    ]
    return HTTPCall(url=f"{url}/v1/x", headers=headers, body=body, connect_s=connect_s, method=method)


async def ask(transport: Transport, url: str, body: bytes = b"{}", *, connect_s: float = 10.0) -> UpstreamResponse:
    """Send a request."""
    return await transport.send(call(url, body, connect_s=connect_s), provider="bench", sent=lambda: None)


async def whole(transport: Transport, url: str, body: bytes = b"{}") -> tuple[int, bytes]:
    """Send a request, and read its answer to the end."""
    response = await ask(transport, url, body)
    try:
        pieces = []
        while piece := await response.read():
            pieces.append(piece)
        return response.status, b"".join(pieces)
    finally:
        await response.aclose()


async def refused(transport: Transport, url: str, *, connect_s: float = 10.0, promise: str) -> UpstreamError:
    """The error that comes of a request, in its head or in its body; there must be one."""
    try:
        response = await ask(transport, url, connect_s=connect_s)
        try:
            while await response.read():
                pass
        finally:
            await response.aclose()
    except UpstreamError as error:
        assert error.provider == "bench", "an error names the provider"
        return error
    raise AssertionError(promise)
