"""
Delivery: what a client is handed, piece by piece, and how long it may take each.

A piece that the client takes at once costs no deadline. One that it does not take within the send deadline is its last:
it has left. Nothing more is read meanwhile, so that a reader who stands still costs what waits to be sent, and no more.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio

from hpp_middleware.core import sse
from hpp_middleware.ports import Client, StreamReader
from hpp_middleware.stages.relay.keep_alive import Alive, alive, words
from hpp_middleware.stages.settle.replay import Record
from hpp_middleware.stages.tasks.guard import Guard, asyncios, begin
from hpp_middleware.types.http import Headers
from hpp_middleware.types.streams import KeepAlive

__all__ = ["Delivery"]

LAST_WORDS_S = 5.0
LAST_PIECE_S = 60.0
"""
So long, or ``send_s`` if that is less, a client has for the end of an answer, whatever the deadline for the whole was:
it is there, and charged. Behind a middleware that hands on what the client has time for, a ``send`` that is cancelled
has sent nothing. The hold lasts longer.
"""


class Delivery:
    """
    The way to the client.

    Args:
        client: Where the answer goes.
        record: Keeps what is delivered, or would be.

    Attributes:
        left: Whether the client has left; to be set by who hears of it. Nothing goes out to it any more.
        sending: Whether a piece is on its way.
        opened: Whether the head is out.
    """

    left = sending = opened = False
    _around: Guard  # runs the exchange
    _piece: Guard | None = None  # around a piece that a client may not take, while the rest is read on
    _send_s = 0.0
    _alive: Alive | None = None
    _stuck: Callable[[], None] | None = None

    _head: Headers | None = None  # kept back, until there is something to send behind it
    _head_by = 0.0  # from when on that may be anything

    def __init__(self, client: Client, record: Record | None = None) -> None:
        self._client = client
        self.record = record

    def begin(self, around: Guard, piece: Guard | None, send_s: float, stuck: Callable[[], None]) -> None:
        """
        Be ready to deliver.

        Args:
            around: Runs the exchange, and is told how long the next piece may take.
            piece: Runs the sending of each piece, where that can be given up alone, so that the rest is read on.
            send_s: How long a client may take a piece.
            stuck: Called where it has not, if there is a ``piece``; else ``around`` stops.
        """
        self._around, self._piece, self._send_s, self._stuck = around, piece, send_s, stuck

    def start(self, headers: Headers, quiet_s: float | None = None) -> Awaitable[None] | None:
        """
        Send the head of a stream, or keep it back for the first event.

        Args:
            headers: The head.
            quiet_s: After so many seconds it waits for nothing but a sign of life; None to send it at once.
        Returns:
            What is left to be awaited for that, which mostly is nothing.
        """
        if self.record is not None:
            self.record.start(200, headers)
        self._head = headers
        if quiet_s is not None:
            self._head_by = time.monotonic() + quiet_s
            return None
        return None if self.left else self._hand_over(self._open())

    def whole(self, headers: Headers, body: bytes) -> Awaitable[None] | None:
        """Deliver an answer that is there as a whole; what is left to be awaited for that, as of :meth:`start`."""
        if self.record is not None:
            self.record.start(200, headers)
            self.record.add(body)
        self._head = headers
        return None if self.left else self._hand_over(self._open(body, more=False), more=False)

    def kept_up(
        self,
        work: Awaitable[None],
        reader: StreamReader,
        keep_alive: KeepAlive | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> Awaitable[None]:
        """
        Deliver a stream, and say something beside it where there is nothing to deliver, until :meth:`close`.

        Args:
            work: Delivers it.
            reader: Whose words it has.
            keep_alive: What is said, and when; None for nothing.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        Returns:
            What is to be awaited for that, at once.
        """
        if keep_alive is None:
            return work

        async def say() -> None:
            if not (self.left or self.sending):
                await self._open(words(reader, keep_alive.kind))

        self._alive = alive(loop, keep_alive.after, say)
        return self._alive.beside(work)

    def send(self, data: bytes, *, more: bool = True) -> Awaitable[None] | None:
        """
        Pass a piece of a stream on; a comment that comes before the head is dropped.

        Returns:
            What is left to be awaited for that, as of :meth:`start`.
        """
        if self.record is not None:
            self.record.add(data)
        if not more and self._alive is not None:
            self._alive.end()
        if self.left or (more and not data):
            return None
        if self._head is None:
            return self._hand_over(self._client.send(data, more=more), more=more)
        if more and not sse.has_event(data) and time.monotonic() < self._head_by:
            return None
        return self._hand_over(self._open(data, more=more), more=more)

    async def last(self, data: bytes) -> None:
        """Pass on how it broke off, outside of every guard; not to a client whose server has not taken the head."""
        if not self.opened:
            return
        sending = self._client.send(data, more=False)
        with anyio.move_on_after(LAST_WORDS_S):
            await (sending if self._alive is None else self._alive.first(sending))

    def at_once(self, last: Callable[[], bytes]) -> None:
        """Pass on how it broke off, where the client takes that without a wait; there is no time for one."""
        saying = self._alive is not None and self._alive.saying
        if self.left or self.sending or saying or asyncios() is None:
            return
        sending = self._client.send(last(), more=False)
        try:
            sending.send(None)
        except Exception:  # noqa: BLE001  # it is out; or it is not, as if it had never been tried
            return
        sending.close()

    def stop(self) -> None:
        """What is read on is not stopped by a piece that nobody takes."""
        if self._piece is not None:
            self._piece.stop()

    def close(self) -> None:
        """There is nothing more to deliver, but perhaps :meth:`last`."""
        self._stuck = None  # whose object has this one: let neither wait for the garbage collector
        if self._piece is not None:
            self._piece.close()
        if self._alive is not None:
            self._alive.close()

    async def _open(self, data: bytes | None = None, *, more: bool = True) -> None:
        """The head, where the client does not have it, and what comes behind it."""
        head, self._head = self._head, None
        if head is not None:
            await self._client.start(200, head)
            self.opened = True
        if data is not None:
            await self._client.send(data, more=more)

    def _hand_over(self, sending: Coroutine[Any, Any, None], *, more: bool = True) -> Awaitable[None] | None:
        alive = self._alive
        if alive is not None:
            alive.heard = time.monotonic()
            if alive.saying:
                return self._taken(alive.first(sending), more=more)
        if self._piece is None:
            is_taken, rest = begin(sending)
            return None if is_taken else self._taken(rest, more=more)  # type: ignore[arg-type]
        return self._taken(sending, more=more)

    async def _taken(self, sending: Awaitable[None], *, more: bool) -> None:
        """A client that does not take something in time has left."""
        self.sending = True
        if not more:
            self._around.spare(min(self._send_s, LAST_PIECE_S))
        if self._piece is None:
            self._around.wait(self._send_s)
            await sending
        else:
            self._around.wait(2 * self._send_s)
            self._piece.until(time.monotonic() + self._send_s)
            await self._piece.run(sending)
            if self._piece.stopped and self._stuck is not None:
                self._stuck()
        self.sending = False
