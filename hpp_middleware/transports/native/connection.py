"""One connection of the pool: an asyncio protocol that carries one exchange at a time."""

import asyncio
import select
from contextlib import suppress
from typing import Any, cast

from hpp_middleware.transports.native.reading import BrokenResponseError, Reading

__all__ = ["Connection"]

MOST_UNREAD = 64 * 1024
"""Bytes that wait for their reader before the peer is told to wait, too."""

_JOINED = 64 * 1024


class Connection(asyncio.Protocol):
    """
    A connection.

    Attributes:
        gone: Whether its socket is closed.
        lost: Whether it can carry nothing any more.
        since: When it became idle, by the event loop's clock.
        reading: The response that is awaited, or read; there once a request was sent.
    """

    __slots__ = ("_is_asked", "_loop", "_paused", "_poll", "_transport", "_waiter", "gone", "lost", "reading", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.gone = False
        self.lost = False
        self.since = 0.0
        self._loop = loop
        self._transport: asyncio.Transport
        self.reading: Reading
        self._is_asked = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._poll: Any = None

    def is_quiet(self) -> bool:
        """
        Whether an idle connection still stands, and nothing has come that nobody asked for.

        What the event loop has not seen yet is asked of the kernel: a peer that has closed would break the next
        request.
        """
        return not self.lost and not (self._poll is not None and self._poll.poll(0))

    def ask(self, head: bytes, body: bytes) -> None:
        """Send a request; its response is in :attr:`reading` from here on."""
        self.reading, self._is_asked = Reading(), True
        if len(body) <= _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    async def head(self) -> None:
        """
        Wait for the head of the response.

        Raises:
            BrokenResponseError: There is none to come.
        """
        reading = self.reading
        while not reading.status:
            await self._more()

    async def read(self) -> bytes:
        """
        What has come of the body; empty at its end.

        Raises:
            BrokenResponseError: It broke off.
        """
        reading = self.reading
        while not reading.pieces:
            if reading.complete:
                return b""
            await self._more()
        data = reading.take()
        if self._paused and reading.size <= MOST_UNREAD:
            self._paused = False
            self._transport.resume_reading()
        return data

    def ended(self) -> bool:
        """End the exchange; whether the connection can carry another one."""
        if self._is_asked:
            self._is_asked = False
            ended = self.reading.complete and self.reading.reusable and not self._paused
            if not ended or self._transport.get_write_buffer_size():
                self.lost = True
        return not self.lost

    def close(self) -> None:
        """Close it at once; what was not sent stays unsent."""
        self.lost = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        found = transport.get_extra_info("socket")
        if found is not None and hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(found.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        if not self._is_asked:
            self.close()  # nobody has asked
            return
        reading = self.reading
        try:
            reading.feed(data)
        except BrokenResponseError:
            self.close()
        else:
            if reading.size > MOST_UNREAD and not self._paused:
                self._paused = True
                self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """See :class:`asyncio.Protocol`; the transport closes itself."""
        self._end()

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.Protocol`."""
        if error is None:
            self._end()
        self.gone = self.lost = True
        self._wake()

    def _end(self) -> None:
        """The peer has ended in order: so does a response that has no other end."""
        if self._is_asked and not self.lost:
            with suppress(BrokenResponseError):  # whoever reads finds it incomplete
                self.reading.end()
        self.lost = True
        self._wake()

    async def _more(self) -> None:
        if self.lost:
            raise BrokenResponseError("the connection ended before the response")
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
