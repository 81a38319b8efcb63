"""
Whose turn it is, where more is asked of a worker than it does at once.

A free place goes to the consumer that has the fewest requests running, and among equals to the one whose turn is
longest past; within a consumer's own line, first come is first served. So a tenant that floods the worker waits behind
itself. The line is bounded, and gives its last places to those who have fewest in it.

Nothing here awaits or reads a clock; :mod:`hpp_middleware.stages.worker.queue` does.
"""

import math
from collections import deque
from itertools import islice
from typing import Generic, TypeVar

from hpp_middleware.types.load import Load

__all__ = ["PRESENT_S", "Fair"]

T = TypeVar("T")

PRESENT_S = 30.0
"""
For so long, and at most twice that, a consumer counts as there after it has asked for something: others keep to their
share meanwhile, so that who asks once a second does not find the worker full each time.
"""


class Fair(Generic[T]):
    """
    Places, and the line of those who wait for one.

    Args:
        load: How many there are.

    Attributes:
        running: How many places are taken.
        waiting: How many tickets are in the line.
    """

    def __init__(self, load: Load) -> None:
        self.running = 0
        self.waiting = 0
        self._places = load.in_flight or math.inf
        self._part = load.per_consumer or math.inf
        self._queue = load.queue
        self._half = (load.queue + 1) // 2
        self._running: dict[str, int] = {}
        self._lines: dict[str, deque[T]] = {}  # in the order in which the next turns come
        self._most: float = math.inf  # how many one consumer may run now
        self._seen: set[str] = set()  # who has asked for something lately, two of them at most
        self._before: set[str] = set()
        self._until = -math.inf

    def enter(self, consumer: str, now: float) -> bool:
        """
        Take a place, if one is free for this consumer and nobody of its own waits for it.

        Args:
            consumer: Who asks.
            now: By a clock that does not go backwards, in seconds.
        Returns:
            Whether it has one; to be given back by :meth:`leave`.
        """
        if now >= self._until or (len(self._seen) < 2 and consumer not in self._seen):
            self._notice(consumer, now)
        mine = self._running.get(consumer, 0)
        if self.running >= self._places or mine >= self._most or consumer in self._lines:
            return False
        self.running += 1
        self._running[consumer] = mine + 1
        return True

    def line_up(self, consumer: str, ticket: T) -> T | None:
        """
        Wait for a place.

        Args:
            consumer: Who waits.
            ticket: What :meth:`leave` returns when there is one.
        Returns:
            Whose place in the line is lost: this ticket's own, where the line is full; the last of a consumer who has
            more in it, where that makes room; else nobody's.
        """
        mine = len(self._lines.get(consumer, ()))
        if mine >= self._half:
            return ticket
        lost = None
        if self.waiting >= self._queue:
            longest = max(self._lines, key=lambda each: len(self._lines[each]))
            if len(self._lines[longest]) <= mine + 1:
                return ticket
            lost = self._lines[longest].pop()
            self.waiting -= 1
        self._lines.setdefault(consumer, deque()).append(ticket)
        self.waiting += 1
        return lost

    def give_up(self, consumer: str, ticket: T) -> None:
        """Wait no more; nothing happens where the ticket is not in the line."""
        line = self._lines.get(consumer)
        if line is None or ticket not in line:
            return
        line.remove(ticket)
        self.waiting -= 1
        if not line:
            del self._lines[consumer]

    def leave(self, consumer: str) -> list[T]:
        """
        Give a place back.

        Returns:
            The tickets that have one now, each to be given back in its turn; mostly none, or one.
        """
        self.running -= 1
        mine = self._running[consumer] - 1
        if mine:
            self._running[consumer] = mine
        else:
            del self._running[consumer]
        return self.turns() if self._lines else []

    def turns(self) -> list[T]:
        """
        Hand out what is free; to be asked too where :meth:`enter` says no, since who has become alone may have more.

        Returns:
            As :meth:`leave`.
        """
        found: list[T] = []
        while self._lines and self.running < self._places:
            consumer = min(self._lines, key=lambda each: self._running.get(each, 0))
            running = self._running.get(consumer, 0)
            if running >= self._most:
                break
            line = self._lines.pop(consumer)
            found.append(line.popleft())
            self.waiting -= 1
            if line:
                self._lines[consumer] = line  # behind the others: its turn is past
            self.running += 1
            self._running[consumer] = running + 1
        return found

    def _notice(self, consumer: str, now: float) -> None:
        """Who is there, as far as that decides whether anybody is alone."""
        if now >= self._until:
            self._before = self._seen if now < self._until + PRESENT_S else set()
            self._seen = set()
            self._until = now + PRESENT_S
        self._seen.add(consumer)
        there = {*self._seen, *self._before, *islice(self._running, 2)}
        self._most = self._part if len(there) > 1 else math.inf
