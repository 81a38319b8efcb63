"""
Windows and places in a file beside the database: exact for all processes of the host.

Nothing in it has to be kept, so that a commit need not reach the disk (``synchronous=NORMAL``): a power cut may give
back what was drawn last, and never damages the file.
"""

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hpp_middleware.core import windows
from hpp_middleware.errors import StoreError
from hpp_middleware.stores.sqlite.page import Pages
from hpp_middleware.stores.sqlite.place import Place
from hpp_middleware.stores.sqlite.schema import switch_to_wal
from hpp_middleware.stores.sqlite.turn import Turn
from hpp_middleware.stores.sqlite.writer import Writer
from hpp_middleware.types.limits import Ask, Draw, Standing

__all__ = ["SQLiteLimits"]

VERSION = 1

TIDY_US = 3_600 * windows.MICRO
"""How often windows that are full again are forgotten."""

_TABLES = (
    """CREATE TABLE IF NOT EXISTS "window" (home TEXT NOT NULL, key TEXT NOT NULL, used INTEGER NOT NULL,
    at INTEGER NOT NULL, idle_at INTEGER NOT NULL, PRIMARY KEY (home, key)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS place (home TEXT NOT NULL, key TEXT NOT NULL, holder TEXT NOT NULL,
    until INTEGER NOT NULL, PRIMARY KEY (home, key, holder)) STRICT, WITHOUT ROWID""",
)
_LEVEL = 'SELECT used, at FROM "window" WHERE home = ? AND key = ?'
_PUT = 'INSERT OR REPLACE INTO "window" VALUES (?, ?, ?, ?, ?)'
_HOLDERS = "SELECT holder, until FROM place WHERE home = ? AND key = ?"
_HOLD = "INSERT OR REPLACE INTO place VALUES (?, ?, ?, ?)"
_LEAVE = "DELETE FROM place WHERE home = ? AND key = ? AND holder = ?"
_EXTEND = "UPDATE place SET until = ? WHERE home = ? AND key = ? AND holder = ?"


class SQLiteLimits:
    """
    Windows and places in a file.

    Args:
        path: The file; its folder must exist.
        clock: Seconds since the epoch.
        busy_s: How long to wait for another process's transaction.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float], busy_s: float) -> None:
        self._clock = clock
        place, turn = Place(path, lasting=False), Turn(path, busy_s=busy_s)
        self._writer = Writer(lambda: _connect(path, busy_s), place, turn, Pages(clock))
        self._is_open = False
        self._tidy_at = 0

    async def aclose(self) -> None:
        """Finish what waits, and close the file, if it was opened; it is opened when it is first asked."""
        if self._is_open:
            self._is_open = False
            await self._writer.aclose()

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._open()
        return await self._writer.run(lambda connection: self._take(connection, ask))

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._open()
        await self._writer.run(lambda connection: self._correct(connection, ask))

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._open()
        rows = [
            (self._now() + round(ask.ttl_s * windows.MICRO), ask.home, slot.key, slot.holder)
            for ask in asks
            for slot in ask.slots
        ]
        await self._writer.run(lambda connection: _many(connection, _EXTEND, rows))

    async def _open(self) -> None:
        if not self._is_open:
            await self._writer.open()
            self._is_open = True

    def _take(self, connection: sqlite3.Connection, ask: Ask) -> Standing:
        now = self._now()
        self._tidy(connection, now)
        levels = tuple(_level(connection, ask.home, draw) for draw in ask.draws)
        holders = tuple(dict(connection.execute(_HOLDERS, (ask.home, slot.key))) for slot in ask.slots)
        standing, after = windows.take(windows.Kept(levels, holders), ask, now=now)
        if standing.admitted:
            for draw, level in zip(ask.draws, after.levels, strict=True):
                _put(connection, ask.home, draw, level or windows.Level(0, now))
            for slot, taken in zip(ask.slots, after.holders, strict=True):
                connection.execute(_HOLD, (ask.home, slot.key, slot.holder, taken[slot.holder]))
        return standing

    def _correct(self, connection: sqlite3.Connection, ask: Ask) -> None:
        now = self._now()
        for draw in ask.draws:
            level = windows.drained(_level(connection, ask.home, draw), draw, now)
            _put(connection, ask.home, draw, windows.put(level, draw.amount))
        _many(connection, _LEAVE, [(ask.home, slot.key, slot.holder) for slot in ask.slots])

    def _now(self) -> int:
        return int(self._clock() * windows.MICRO)

    def _tidy(self, connection: sqlite3.Connection, now: int) -> None:
        if now < self._tidy_at:
            return
        self._tidy_at = now + TIDY_US
        connection.execute('DELETE FROM "window" WHERE idle_at <= ?', (now,))
        connection.execute("DELETE FROM place WHERE until <= ?", (now,))


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        switch_to_wal(connection, busy_s)
        connection.execute("PRAGMA synchronous = NORMAL")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError("The file of limits belongs to a newer version of hpp_middleware.")
        if version < VERSION:
            for table in _TABLES:
                connection.execute(table)
            connection.execute(f"PRAGMA user_version = {VERSION:d}")
    except BaseException:
        connection.close()
        raise
    return connection


def _level(connection: sqlite3.Connection, home: str, draw: Draw) -> windows.Level | None:
    row = connection.execute(_LEVEL, (home, draw.key)).fetchone()
    return windows.Level(*row) if row is not None else None


def _put(connection: sqlite3.Connection, home: str, draw: Draw, level: windows.Level) -> None:
    connection.execute(_PUT, (home, draw.key, level.used, level.at, windows.idle_at(level, draw)))


def _many(connection: sqlite3.Connection, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
    connection.executemany(sql, rows)
