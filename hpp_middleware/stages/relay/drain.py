"""
Drain: read a stream on to its end for a client that has left, where the provider bills the whole of it either way.

A drain is bounded in bytes here, in seconds by the exchange, and in number by the slots of its worker. What is past a
bound, or finds no slot, is closed, and costs the hold.
"""

from collections import Counter
from collections.abc import Callable

__all__ = ["Drain", "Slots"]


class Drain:
    """
    One stream that is read on.

    Args:
        account: Whose slot it has.
        most_bytes: How much of the stream may still come.
        stop: Ends it before its time.

    Attributes:
        exceeded: Whether more has come than may.
    """

    def __init__(self, account: str, most_bytes: int, stop: Callable[[], None]) -> None:
        self.account = account
        self.stop = stop
        self.exceeded = False
        self._left = most_bytes

    def within(self, piece: bytes) -> bytes:
        """What of a piece is within the bound."""
        taken = piece[: self._left]
        self._left -= len(taken)
        self.exceeded = len(taken) < len(piece)
        return taken


class Slots:
    """
    How many drains may run at once, so that clients who come and go cannot pile them up.

    Args:
        most: In this worker.
        most_a_consumer: For one consumer, by the account that pays.
    """

    def __init__(self, most: int, most_a_consumer: int) -> None:
        self._most = most
        self._most_a_consumer = most_a_consumer
        self._drains: set[Drain] = set()
        self._by_account: Counter[str] = Counter()
        self._closed = False

    def begin(self, account: str, *, most_bytes: int, stop: Callable[[], None]) -> Drain | None:
        """A drain in a slot of its own, to be given to :meth:`end`; None where no slot is free."""
        if self._closed or len(self._drains) >= self._most or self._by_account[account] >= self._most_a_consumer:
            return None
        drain = Drain(account, most_bytes, stop)
        self._drains.add(drain)
        self._by_account[account] += 1
        return drain

    def end(self, drain: Drain) -> None:
        """Free the slot."""
        self._drains.discard(drain)
        self._by_account[drain.account] -= 1
        if not self._by_account[drain.account]:
            del self._by_account[drain.account]

    def close(self) -> int:
        """Stop every drain and begin no more, since the worker ends; how many there were."""
        self._closed = True
        for drain in self._drains:
            drain.stop()
        return len(self._drains)
