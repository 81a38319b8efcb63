"""
Windows and places on the server, one script a request, by the server's clock.

All keys of a consumer share a hash tag of its own, so that a cluster spreads consumers, and one script sees all that a
request asks. They are no part of the books: they expire by themselves, and a server that loses them lets every window
be full once more. Clients send again what they have no reply to; what is asked is done once all the same.
"""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from hpp_middleware.core.windows import MICRO
from hpp_middleware.errors import StoreError
from hpp_middleware.stores.redis.link import Call
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.types.limits import Ask, Standing

__all__ = ["RedisLimits"]


class RedisLimits:
    """
    What the store asks its scripts.

    Args:
        server: Where they run.
        prefix: How all keys begin.
        clock: Seconds since the epoch; None for the server's own clock.
    """

    def __init__(self, server: Server, *, prefix: str, clock: Callable[[], float] | None) -> None:
        self._server = server
        self._prefix = prefix
        self._clock = clock

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        if not (ask.draws or ask.slots):
            return Standing(True, (), ())
        (reply,) = await self._run([self._call("take", ask)])
        admitted, used, busy = reply
        return Standing(bool(admitted), tuple(map(int, used)), tuple(busy))

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        if ask.draws or ask.slots:
            await self._run([self._call("correct", ask)])

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        calls = []
        for ask in asks:
            keys = tuple(self._key(ask.home, slot.key) for slot in ask.slots)
            holders = (slot.holder for slot in ask.slots)
            if keys:
                calls.append(Call("extend", 0, (self._now(), _micro(ask.ttl_s), *holders), keys))
        if calls:
            await self._run(calls)

    async def _run(self, calls: Sequence[Call]) -> list[Any]:
        try:
            return await self._server.safely(self._server.run(calls))
        except UnicodeEncodeError as error:
            raise StoreError("No store can keep such a name.") from error

    def _call(self, script: str, ask: Ask) -> Call:
        draws, slots = ask.draws, ask.slots
        keys = (*(draw.key for draw in draws), *(slot.key for slot in slots))
        counted = (str(number) for draw in draws for number in (draw.amount, draw.refill, draw.room))
        placed = (word for slot in slots for word in (str(slot.most), slot.holder))
        arguments = (self._now(), _micro(ask.ttl_s), str(len(draws)), *counted, *placed)
        question = f"asked:{secrets.token_hex(8)}"
        return Call(script, 0, arguments, tuple(self._key(ask.home, key) for key in (*keys, question)))

    def _key(self, home: str, key: str) -> str:
        # With its length before it, since a name may have a brace in it, where the tag would end.
        return f"{self._prefix}{{{self._prefix}:limits:{len(home)}:{home}}}:{key}"

    def _now(self) -> str:
        return "" if self._clock is None else str(int(self._clock() * MICRO))


def _micro(seconds: float) -> str:
    return str(round(seconds * MICRO))
