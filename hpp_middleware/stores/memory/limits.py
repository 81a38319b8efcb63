"""Windows and places in one process's memory: exact for one worker, and forgotten with it."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from hpp_middleware.core import windows
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.memory.workers import several
from hpp_middleware.types.limits import Ask, Draw, Standing

__all__ = ["MemoryLimits"]

_NOBODY: Mapping[str, int] = {}

LEAST_KEPT = 1024
"""Below this many windows it is not looked which of them are full again."""


class MemoryLimits:
    """
    The pure functions under a lock.

    Args:
        clock: Seconds, from wherever; tests set it.
        several_workers: Whether it is meant that several workers of a server count each by itself, and admit as much
            each.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, several_workers: bool = False) -> None:
        self._clock = clock
        self._several_workers = several_workers
        self._lock = threading.Lock()  # of threads: it is never held across an await, and event loops may share this
        self._levels: dict[tuple[str, str], tuple[windows.Level, int]] = {}
        self._holders: dict[tuple[str, str], dict[str, int]] = {}
        self._look_at = LEAST_KEPT

    async def open(self) -> None:
        """
        Nothing to open.

        Raises:
            ConfigurationError: The server was told to run several workers, each of which would admit as much.
        """
        if not self._several_workers and several():
            raise ConfigurationError(
                "limits in memory are one process's own, and this server runs several workers: give limit_store= a "
                "store that they share, or MemoryLimits(several_workers=True) if each may admit as much",
                param="limit_store",
            )

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        with self._lock:
            now = self._now()
            holders = tuple(self._holders.get((ask.home, slot.key), _NOBODY) for slot in ask.slots)
            standing, after = windows.take(windows.Kept(self._levels_of(ask), holders), ask, now=now)
            if standing.admitted:
                for level, draw in zip(after.levels, ask.draws, strict=True):
                    self._keep(ask.home, draw, level)
                for taken, slot in zip(after.holders, ask.slots, strict=True):
                    self._holders[ask.home, slot.key] = dict(taken)
                self._tidy(now)
            return standing

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        with self._lock:
            now = self._now()
            for draw, level in zip(ask.draws, self._levels_of(ask), strict=True):
                self._keep(ask.home, draw, windows.put(windows.drained(level, draw, now), draw.amount))
            for slot in ask.slots:
                holders = self._holders.get((ask.home, slot.key), {})
                holders.pop(slot.holder, None)
                if not holders:
                    self._holders.pop((ask.home, slot.key), None)

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        with self._lock:
            now = self._now()
            for ask in asks:
                for slot in ask.slots:
                    holders = self._holders.get((ask.home, slot.key), {})
                    if slot.holder in holders:
                        holders[slot.holder] = now + round(ask.ttl_s * windows.MICRO)

    def _levels_of(self, ask: Ask) -> tuple[windows.Level | None, ...]:
        found = (self._levels.get((ask.home, draw.key)) for draw in ask.draws)
        return tuple(None if each is None else each[0] for each in found)

    def _keep(self, home: str, draw: Draw, level: windows.Level | None) -> None:
        if level is not None:
            self._levels[home, draw.key] = level, windows.idle_at(level, draw)

    def _now(self) -> int:
        return int(self._clock() * windows.MICRO)

    def _tidy(self, now: int) -> None:
        """Forget the windows that are full again, and places whose holders have died, once they have become many."""
        if len(self._levels) + len(self._holders) < self._look_at:
            return
        self._levels = {key: found for key, found in self._levels.items() if found[1] > now}
        self._holders = {
            key: there for key, holders in self._holders.items() if (there := windows.live(holders, now=now))
        }
        self._look_at = max(LEAST_KEPT, 2 * (len(self._levels) + len(self._holders)))
