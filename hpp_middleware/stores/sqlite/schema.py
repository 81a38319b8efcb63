"""A SQLite connection as this package needs it, and the numbered migrations that bring its tables up to date."""

import sqlite3
import time
from importlib import resources
from pathlib import Path

from hpp_middleware.errors import StoreError

__all__ = ["connect", "migrations", "switch_to_wal"]


def migrations() -> list[tuple[int, str]]:
    """Number and text of each migration, in order."""
    folder = resources.files("hpp_middleware.stores.sqlite") / "migrations"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), (folder / name).read_text("utf-8")) for name in names]


def connect(path: Path, *, busy_s: float) -> sqlite3.Connection:
    """
    An open connection whose tables are up to date.

    Raises:
        StoreError: The file belongs to a newer version of this package.
        sqlite3.Error: It cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        switch_to_wal(connection, busy_s)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def switch_to_wal(connection: sqlite3.Connection, busy_s: float) -> None:
    """A new file is switched once; SQLite does not itself wait for another process that does so at the same moment."""
    give_up = time.monotonic() + busy_s
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() >= give_up:
                raise
            time.sleep(0.005)
        else:
            if mode != "wal":
                raise StoreError("The database can have no write-ahead log where it lies.")
            return


def _migrate(connection: sqlite3.Connection) -> None:
    """Each migration runs once, in a transaction of its own; ``user_version`` is the number of the last one."""
    known = migrations()
    for number, text in known:
        if _version(connection) >= number:
            continue
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) < number:  # another process may have been quicker
                for statement in _statements(text):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number:d}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
    if _version(connection) > known[-1][0]:
        raise StoreError("The database belongs to a newer version of hpp_middleware.")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _statements(text: str) -> list[str]:
    """A script's statements; ``executescript`` would commit our transaction."""
    statements, pending = [], ""
    for line in text.split("\n"):
        pending += line + "\n"
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
