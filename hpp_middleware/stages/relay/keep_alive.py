"""
Keep-alive: something said to a client while its provider is silent, from beside the work that waits for the provider.

Under asyncio a stream has a timer, and a task only while something is being said; elsewhere, where no timer is without
a task, it has one for as long as it lasts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import anyio

from hpp_middleware.core import sse
from hpp_middleware.ports import StreamReader
from hpp_middleware.types.streams import KeepAliveKind

__all__ = ["Alive", "alive", "words"]

Say = Callable[[], Awaitable[None]]


class Alive(Protocol):
    """
    Speaks up after a silence.

    Attributes:
        heard: When the client was last told anything, by :func:`time.monotonic`; to be kept by who tells it.
        saying: Whether something is being said now.
    """

    heard: float
    saying: bool

    def beside(self, work: Awaitable[None]) -> Awaitable[None]:
        """The work, to be awaited at once, and :meth:`close` then to be said; it is spoken up beside it."""
        ...

    async def first(self, sending: Coroutine[Any, Any, None]) -> None:
        """Send something behind what is being said."""
        ...

    def end(self) -> None:
        """Say nothing more."""
        ...

    def close(self) -> None:
        """The work has ended: nor is what is being said said to its end."""
        ...


def alive(loop: asyncio.AbstractEventLoop | None, after_s: float, say: Say) -> Alive:
    """
    One for a stream.

    Args:
        loop: The event loop that runs, where it is asyncio's or takes its place.
        after_s: The silence before something is said, in seconds.
        say: Says it; what it raises is dropped, since the next piece of the stream will meet the same.
    """
    return _OnAnyLoop(after_s, say) if loop is None else _OnAsyncio(loop, after_s, say)


def words(reader: StreamReader, kind: KeepAliveKind) -> bytes:
    """What is said, in the words of the stream's own API; a comment where it has none."""
    said = getattr(reader, "alive", None)
    return sse.KEEP_ALIVE if said is None else said(kind)


async def _nothing() -> None:
    """Says nothing."""


class _OnAsyncio:
    __slots__ = ("_after_s", "_loop", "_say", "_task", "_timer", "heard", "saying")

    def __init__(self, loop: asyncio.AbstractEventLoop, after_s: float, say: Say) -> None:
        self.heard = time.monotonic()
        self.saying = False
        self._loop = loop
        self._after_s = after_s
        self._say = say
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def beside(self, work: Awaitable[None]) -> Awaitable[None]:
        """See :class:`Alive`."""
        self._timer = self._loop.call_later(self._after_s, self._ring)
        return work

    async def first(self, sending: Coroutine[Any, Any, None]) -> None:
        """See :class:`Alive`."""
        try:
            if self._task is not None:
                await asyncio.wait([self._task])
        except BaseException:
            sending.close()
            raise
        await sending

    def end(self) -> None:
        """See :class:`Alive`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """See :class:`Alive`."""
        self.end()
        self._say = _nothing  # which knows this object: let neither wait for the garbage collector
        if self._task is not None:
            self._task.cancel()

    def _ring(self) -> None:
        now = time.monotonic()
        if now >= self.heard + self._after_s and not self.saying:
            self.heard = now
            self.saying = True
            self._task = self._loop.create_task(self._said())
        self._timer = self._loop.call_later(max(self.heard + self._after_s - now, 0), self._ring)

    async def _said(self) -> None:
        try:
            with suppress(Exception):
                await self._say()
        finally:
            self.saying = False


class _OnAnyLoop:
    def __init__(self, after_s: float, say: Say) -> None:
        self.heard = time.monotonic()
        self.saying = False
        self._after_s = after_s
        self._say = say
        self._said: anyio.Event | None = None
        self._ended = False

    async def beside(self, work: Awaitable[None]) -> None:
        """See :class:`Alive`."""
        raised: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._speak_up)
            try:
                await work
            except Exception as error:  # noqa: BLE001  # raised again where no task group wraps it
                raised = error
            tasks.cancel_scope.cancel()
        if raised is not None:
            raise raised

    async def first(self, sending: Coroutine[Any, Any, None]) -> None:
        """See :class:`Alive`."""
        try:
            if self._said is not None:
                await self._said.wait()
        except BaseException:
            sending.close()
            raise
        await sending

    def end(self) -> None:
        """See :class:`Alive`."""
        self._ended = True

    def close(self) -> None:
        """See :class:`Alive`: there it has ended with the work."""

    async def _speak_up(self) -> None:
        while True:
            await anyio.sleep(max(self.heard + self._after_s - time.monotonic(), 0))
            if self._ended:
                return
            if time.monotonic() < self.heard + self._after_s:
                continue
            self.heard, self._said, self.saying = time.monotonic(), anyio.Event(), True
            try:
                with suppress(Exception):
                    await self._say()
            finally:
                self._said.set()
                self._said, self.saying = None, False
