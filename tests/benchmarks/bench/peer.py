"""One client connection of the load generator: raw bytes out, and of the answer only where it begins and ends."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar, cast

__all__ = ["Peer", "connect"]

P = TypeVar("P", bound="Peer")


class Peer(asyncio.Protocol):
    """
    A keep-alive connection with one request at a time.

    Attributes:
        status: The status of the answer, once its head is there.
        asked: When the request went out, by ``time.monotonic_ns()``.
        lost: Whether the connection has gone.
    """

    def __init__(self) -> None:
        self.status = 0
        self.asked = 0
        self.lost = False
        self._busy = False
        self._head: bytes | None = b""
        self._left = 0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone; in the middle of an answer it is a failure."""
        self.lost = True
        if self._busy:
            self._busy = False
            self.ended(ok=False)

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self._busy = True
        self._head, self._tail = b"", b""
        self.asked = time.monotonic_ns()
        self._transport.write(request)

    def close(self) -> None:
        """Leave."""
        self._busy = False
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """A piece of the answer."""
        if not self._busy:
            return
        if self._head is not None:
            data = self._head + data
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = None
            self._read_head(data[: end + 2].lower())
            data = data[end + 4 :]
        if self._left >= 0:
            self._left -= len(data)
            done = self._left <= 0
        else:
            self._tail = (self._tail + data)[-7:]
            done = self._tail == b"\r\n0\r\n\r\n"
        if data:
            self.received(data)
        if done:
            self._busy = False
            self.ended(ok=self.status == 200)

    def _read_head(self, head: bytes) -> None:
        self.status = int(head[9:12])
        start = head.find(b"content-length:")
        self._left = -1 if start < 0 else int(head[start + 15 : head.find(b"\r\n", start)])

    def received(self, data: bytes) -> None:
        """Bytes of the body, framing among them."""

    def ended(self, *, ok: bool) -> None:
        """The answer is complete, or will never be."""


async def connect(make: Callable[[], P], port: int, count: int) -> list[P]:
    """So many connections, a few at a time."""
    loop = asyncio.get_running_loop()
    peers: list[P] = []
    while len(peers) < count:
        some = [loop.create_connection(make, "127.0.0.1", port) for _ in range(min(64, count - len(peers)))]
        peers += [peer for _, peer in await asyncio.gather(*some)]
    return peers
