"""Windows and places in two unlogged tables: exact for all workers, by the server's clock."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from hpp_middleware.core.windows import MICRO
from hpp_middleware.types.limits import Ask, Standing

if TYPE_CHECKING:
    from asyncpg import Record

__all__ = ["PostgresLimits"]

TAKE = "SELECT admitted, used, busy FROM hpp_take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
CORRECT = "SELECT hpp_correct($1, $2, $3, $4, $5, $6, $7, $8)"
EXTEND = "SELECT hpp_extend($1, $2, $3, $4, $5)"
TIDY = "SELECT hpp_tidy($1)"

TIDY_S = 3600.0
"""How often windows that are full again are forgotten."""


class PostgresLimits:
    """
    What the store asks its functions.

    Args:
        fetch: Carries out a statement; once at most where that is said, since to draw twice is to draw double.
        now: Seconds since the epoch; None for the server's own clock.
    """

    def __init__(self, fetch: "Callable[..., Awaitable[list[Record]]]", now: Callable[[], float | None]) -> None:
        self._fetch = fetch
        self._clock = now
        self._tidied = time.monotonic()

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        if time.monotonic() > self._tidied + TIDY_S:
            self._tidied = time.monotonic()
            await self._fetch(TIDY, self._now())
        (row,) = await self._fetch(
            TAKE,
            *(ask.home, *_windows(ask)),
            [slot.key for slot in ask.slots],
            [slot.most for slot in ask.slots],
            [slot.holder for slot in ask.slots],
            *(_micro(ask.ttl_s), self._now()),
            once=True,
        )
        return Standing(row["admitted"], tuple(row["used"]), tuple(row["busy"]))

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        places, holders = [slot.key for slot in ask.slots], [slot.holder for slot in ask.slots]
        await self._fetch(CORRECT, *(ask.home, *_windows(ask)), *(places, holders, self._now()), once=True)

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        rows = [(ask.home, slot.key, slot.holder, _micro(ask.ttl_s)) for ask in asks for slot in ask.slots]
        if rows:
            await self._fetch(EXTEND, *map(list, zip(*rows, strict=True)), self._now())

    def _now(self) -> int | None:
        now = self._clock()
        return None if now is None else int(now * MICRO)


def _windows(ask: Ask) -> tuple[list[Any], ...]:
    draws = ask.draws
    return (
        [draw.key for draw in draws],
        [draw.amount for draw in draws],
        [draw.refill for draw in draws],
        [draw.room for draw in draws],
    )


def _micro(seconds: float) -> int:
    return round(seconds * MICRO)
