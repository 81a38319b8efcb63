"""
The way in: a request that a worker does not answer at once waits for its turn, a moment long, or is refused, 503.

It stands between auth and body: what is refused here has read, held and forwarded nothing. Whose turn it is, is
decided by :mod:`hpp_middleware.core.fair`.
"""

import math
import time

import anyio

from hpp_middleware.core.fair import Fair
from hpp_middleware.errors import OverloadedError
from hpp_middleware.types.load import Load

__all__ = ["Queue"]


class _Waiting:
    """Somebody in the line."""

    __slots__ = ("runs", "told")

    def __init__(self) -> None:
        self.runs = False
        self.told = anyio.Event()


class _Place:
    """What is given back at the end, whatever that is."""

    __slots__ = ("_consumer", "_queue")

    def __init__(self, queue: "Queue", consumer: str) -> None:
        self._queue = queue
        self._consumer = consumer

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._queue.left(self._consumer)


class Queue:
    """
    A worker's places.

    Args:
        load: How many there are.
    """

    def __init__(self, load: Load) -> None:
        self._fair: Fair[_Waiting] = Fair(load)
        self._load = load

    @property
    def running(self) -> int:
        """How many have a place."""
        return self._fair.running

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return self._fair.waiting

    async def place(self, consumer: str) -> _Place:
        """
        A place, at once or in turn: ``with await queue.place(consumer):``, and nothing between the two.

        Raises:
            OverloadedError: 503; there is none, or none in time.
        """
        if not self._fair.enter(consumer, now=time.monotonic()):
            await self._wait(consumer)
        return _Place(self, consumer)

    def left(self, consumer: str) -> None:
        """Give a place back, and wake whoever has it now."""
        self._wake(self._fair.leave(consumer))

    def _wake(self, found: list[_Waiting]) -> None:
        for each in found:
            each.runs = True
            each.told.set()

    async def _wait(self, consumer: str) -> None:
        waiting = _Waiting()
        lost = self._fair.line_up(consumer, waiting)
        if lost is waiting:
            raise self._overloaded()
        if lost is not None:
            lost.told.set()
        try:
            with anyio.move_on_after(self._load.queue_s):
                await waiting.told.wait()
        except BaseException:
            if waiting.runs:
                self.left(consumer)
            else:
                self._fair.give_up(consumer, waiting)
            raise
        if not waiting.runs:  # though its time was up at the moment of its turn, it has one where it does
            self._fair.give_up(consumer, waiting)
            raise self._overloaded()

    def _overloaded(self) -> OverloadedError:
        return OverloadedError(
            "The router answers as much as it can at the moment; nothing was forwarded.",
            headers={"Retry-After": str(max(1, math.ceil(self._load.queue_s)))},
        )
