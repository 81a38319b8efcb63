"""Upstreams that are left alone: a row each, by the host's clock."""

import sqlite3
from collections.abc import Sequence

from hpp_middleware.types.health import Rest

__all__ = ["share"]

_TELL = "INSERT INTO rest VALUES (?, ?, ?) ON CONFLICT (key, model) DO UPDATE SET until = excluded.until"
_ASK = "SELECT key, model, until - ? FROM rest WHERE until > ?"


def share(connection: sqlite3.Connection, rests: Sequence[Rest], now: float) -> list[Rest]:
    """Tell, and be told; where there is nothing to tell, nothing is written."""
    if rests:
        connection.executemany(_TELL, [(each.key, each.model, now + each.for_s) for each in rests])
        connection.execute("DELETE FROM rest WHERE until <= ?", (now,))
    return [Rest(key, model, for_s=left) for key, model, left in connection.execute(_ASK, (now, now))]
