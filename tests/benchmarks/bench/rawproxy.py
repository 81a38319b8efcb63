"""A TCP proxy under uvloop that knows no HTTP: the least that passing bytes on can cost in this language."""

import asyncio
import socket
from typing import cast

__all__ = ["serve"]


class _Side(asyncio.Protocol):
    """One of the two connections; what arrives goes out at the other."""

    def __init__(self, other: "_Side | None" = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other is not None:
            self.other.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # the protocol's signature
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self._early.append(data)
        else:
            self.other.transport.write(data)

    def flush(self) -> None:
        """What came before the other side was connected."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(b"".join(self._early))
            self._early.clear()

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


class _Front(_Side):
    def __init__(self, upstream: int) -> None:
        super().__init__()
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = _Side(self)
        make, other = asyncio.get_running_loop().create_connection, self.other
        self._task = asyncio.ensure_future(make(lambda: other, "127.0.0.1", self._upstream))


async def serve(listener: socket.socket, upstream: int) -> None:
    """Pass everything on, until it is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: _Front(upstream), sock=listener)
    await server.serve_forever()
