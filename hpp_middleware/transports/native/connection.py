"""One connection of the pool: an asyncio protocol that carries one exchange at a time."""

import asyncio
import select
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from hpp_middleware.transports.native.reading import BrokenResponseError, Reading
from hpp_middleware.transports.native.request import Origin

__all__ = ["Connection"]

MOST_UNREAD = 64 * 1024
"""Bytes that wait for their reader before the peer is told to wait, too."""

_JOINED = 64 * 1024


class Connection(asyncio.Protocol):
    """
    A connection.

    Attributes:
        loop: The event loop.
        origin: Where it goes.
        gone: Whether its socket is closed.
        lost: Whether it can carry nothing any more.
        since: When it became idle, by the event loop's clock.
        paused: Whether the peer was told to wait.
    """

    __slots__ = ("_polled", "_reading", "_transport", "_waiter", "gone", "loop", "lost", "origin", "paused", "since")

    def __init__(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> None:
        self.origin = origin
        self.gone = False
        self.lost = False
        self.since = 0.0
        self.paused = False
        self.loop = loop
        self._transport: asyncio.Transport
        self._reading: Reading | None = None  # what was asked for
        self._waiter: asyncio.Future[None] | None = None
        self._polled: Callable[[int], object] = bool  # of no milliseconds: nothing

    def is_quiet(self) -> bool:
        """
        Whether an idle connection still stands, and nothing has come that nobody asked for.

        What the event loop has not seen yet is asked of the kernel: a peer that has closed would break the next
        request.
        """
        return not (self.lost or self._polled(0))

    def ask(self, head: bytes, body: bytes, reading: Reading) -> None:
        """
        Send a request.

        Args:
            head: Its head.
            body: Its body.
            reading: Fed with the response.
        """
        self._reading = reading
        if len(body) <= _JOINED:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    def more(self) -> "asyncio.Future[None]":
        """
        What is done when there is more of the response, or its end.

        Raises:
            BrokenResponseError: There is none to come.
        """
        if self.lost:
            raise BrokenResponseError("the connection ended before the response")
        waiter = self._waiter = self.loop.create_future()
        return waiter

    def go_on(self) -> None:
        """What came has been taken: the peer need wait no more."""
        self.paused = False
        self._transport.resume_reading()

    def ended(self) -> bool:
        """End the exchange; whether the connection can carry another one, else it is to be closed."""
        reading, self._reading = self._reading, None
        if self.lost or reading is None:
            return not self.lost
        whole = reading.complete and reading.reusable and not self.paused
        return whole and not self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close it at once; what was not sent stays unsent."""
        self.lost = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        found = transport.get_extra_info("socket")
        if found is not None and hasattr(select, "poll"):
            poll = select.poll()
            poll.register(found.fileno(), select.POLLIN)
            self._polled = poll.poll

    def data_received(self, data: bytes) -> None:
        """See :class:`asyncio.Protocol`."""
        reading = self._reading
        if reading is None:
            self.close()  # nobody has asked
            return
        try:
            reading.feed(data)
        except BrokenResponseError:
            self.close()
        else:
            if reading.size > MOST_UNREAD and not self.paused:
                self.paused = True
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
        if self._reading is not None and not self.lost:
            with suppress(BrokenResponseError):  # whoever reads finds it incomplete
                self._reading.end()
        self.lost = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
