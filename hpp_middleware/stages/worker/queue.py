"""
The way in: a request that a worker does not answer at once waits for its turn, a moment long, or is refused, 503.

It stands between auth and body: what is refused here has read, held and forwarded nothing. Whose turn it is, is
decided by :mod:`hpp_middleware.core.fair`.
"""

import math
import time
from collections.abc import Awaitable

import anyio

from hpp_middleware.core.fair import Fair
from hpp_middleware.errors import OverloadedError
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.load import Load

__all__ = ["Queue", "stopping"]

AGAIN_S = 1
"""When to come again to a router that is about to stop: by then there is another one."""


def stopping() -> OverloadedError:
    """What is told by a worker that takes nothing more on; its connection is not to be used again."""
    return OverloadedError(
        "The router is about to stop; ask again.", headers={"Retry-After": str(AGAIN_S), "Connection": "close"}
    )


class _Waiting:
    """Somebody in the line."""

    __slots__ = ("runs", "told")
    told: anyio.Event  # there once it has its place in the line

    def __init__(self) -> None:
        self.runs = False


class _Place:
    """What is given back at the end, whatever that is."""

    __slots__ = ("_consumer", "_queue")

    def __init__(self, queue: "Queue", consumer: str) -> None:
        self._queue = queue
        self._consumer = consumer

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._queue.leave(self._consumer)


class Queue:
    """
    A worker's places.

    Args:
        load: How many there are.

    Attributes:
        closed: Whether nobody gets one any more.
    """

    def __init__(self, load: Load) -> None:
        self.closed = False
        self._fair: Fair[_Waiting] = Fair(load)
        self._load = load
        self._line: set[_Waiting] = set()
        self._none: anyio.Event | None = None

    @property
    def running(self) -> int:
        """How many have a place."""
        return self._fair.running

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._fair.waiting

    async def place(self, consumer: str, lower: Deadlines | None = None) -> _Place:
        """
        A place, at once or in turn: ``with await queue.place(consumer):``, and nothing between the two.

        Args:
            consumer: Whose.
            lower: What the request asks of the deadlines: it waits for no longer than its whole time.
        Raises:
            OverloadedError: 503; there is none, or none in time.
        """
        if (turn := self.enter(consumer, lower)) is not None:
            await turn
        return _Place(self, consumer)

    def enter(self, consumer: str, lower: Deadlines | None = None) -> Awaitable[None] | None:
        """
        As :meth:`place`, for whoever says :meth:`leave` at the end, whatever that is.

        Returns:
            What is to be awaited for it, and nothing between the two; None where the place is there.
        Raises:
            OverloadedError: 503; there is none, or none in time.
        """
        if self.closed:
            raise stopping()
        now = time.monotonic()
        if self._fair.enter(consumer, now):
            return None
        self._tell(self._fair.turns())
        return None if self._fair.enter(consumer, now) else self._wait(consumer, lower)

    def leave(self, consumer: str) -> None:
        """Give a place back, and wake whoever has it now."""
        if turns := self._fair.leave(consumer):
            self._tell(turns)
        if self._none is not None and not self._fair.running:
            self._none.set()
            self._none = None

    def close(self) -> None:
        """Give out no more, and refuse those who wait."""
        self.closed = True
        for each in self._line:
            each.told.set()

    async def none_is_left(self) -> None:
        """Return when nobody has a place."""
        while self._fair.running:
            self._none = self._none or anyio.Event()
            await self._none.wait()

    def _tell(self, turns: list[_Waiting]) -> None:
        """Wake whoever has a place now."""
        for each in turns:
            each.runs = True
            each.told.set()

    async def _wait(self, consumer: str, lower: Deadlines | None) -> None:
        """Wait for a turn, and take it."""
        most_s = self._load.queue_s
        if lower is not None and lower.total is not None:
            most_s = min(most_s, lower.total)
        waiting = _Waiting()
        lost = self._fair.line_up(consumer, waiting)
        if lost is waiting:
            raise self._overloaded()
        waiting.told = anyio.Event()
        if lost is not None:
            lost.told.set()
        self._line.add(waiting)
        try:
            with anyio.move_on_after(most_s):
                await waiting.told.wait()
        except BaseException:
            if waiting.runs:
                self.leave(consumer)
            else:
                self._fair.give_up(consumer, waiting)
            raise
        finally:
            self._line.discard(waiting)
        if not waiting.runs:  # one whose time was up at the moment of its turn has it
            self._fair.give_up(consumer, waiting)
            raise stopping() if self.closed else self._overloaded()

    def _overloaded(self) -> OverloadedError:
        return OverloadedError(
            "The router answers as much as it can at the moment; nothing was forwarded.",
            headers={"Retry-After": str(max(1, math.ceil(self._load.queue_s)))},
        )
