"""
Whose turn it is to write, where several processes share one SQLite file.

SQLite lets whoever asks at the right moment write next: a process that writes much comes back before the others have
woken up, and one of four was seen to wait for three seconds. So each first takes its place in a queue, which is a lock
on a file beside the database; then the writers' lock, which it keeps until its checkpoint is done, too. Whoever comes
back finds another one before it, and no checkpoint meets a commit (which is what the WAL-reset bug needs).
"""

import errno
import logging
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["Turn", "has_wal_reset_bug"]

_logger = logging.getLogger("hpp_middleware")

_QUEUE, _WRITER, _USERS = range(3)
"""Bytes of the file. Its locks are a process's, and end with it."""

_PAUSE_S = 0.0005
"""How often it is looked whether a lock is free; a commit takes about as long."""


class Turn:
    """
    One connection's turns.

    Args:
        database: The database file.
        busy_s: How long to wait for a turn.
    """

    def __init__(self, database: Path, *, busy_s: float) -> None:
        self._path = database.with_name(database.name + ".turn")
        self._busy_s = busy_s
        self._file: int | None = None
        self._is_patient = True  # whether SQLite itself waits for locks, as it does on a new connection

    def open(self, version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
        """Be seen by others; and say so if this version of SQLite should not have company."""
        self._is_patient = True
        if sys.platform == "win32":
            return  # it has no such locks: SQLite's own have to do
        self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not self._lock(_USERS) and has_wal_reset_bug(version):
            _logger.warning(
                "SQLite %s can damage a database that several processes write (the WAL-reset bug, mended in 3.51.3, "
                "3.50.7 and 3.44.6), and another process has this one open: use a newer SQLite, or one process.",
                ".".join(map(str, version)),
            )
        fcntl.lockf(self._file, fcntl.LOCK_SH, 1, _USERS)

    def begin(self, connection: sqlite3.Connection) -> None:
        """
        Begin a transaction that writes; :meth:`end` must follow, whatever becomes of it.

        Raises:
            sqlite3.OperationalError: Others did not let go of the file in time.
        """
        give_up = time.monotonic() + self._busy_s
        self._wait(lambda: self._lock(_QUEUE), give_up)
        try:
            self._wait(lambda: self._lock(_WRITER), give_up)
        finally:
            self._unlock(_QUEUE)
        if self._is_patient:
            connection.execute("PRAGMA busy_timeout = 0")  # its own pauses grow to 100 ms
            self._is_patient = False
        self._wait(lambda: _began(connection), give_up)  # some other program may be writing, too

    def read(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that only reads, which waits for nobody's turn."""
        if not self._is_patient:
            connection.execute(f"PRAGMA busy_timeout = {round(self._busy_s * 1000):d}")
            self._is_patient = True
        connection.execute("BEGIN")

    def end(self) -> None:
        """Let the next one in."""
        self._unlock(_WRITER)

    def close(self) -> None:
        """Leave."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _wait(self, is_ours: Callable[[], bool], give_up: float) -> None:
        while not is_ours():
            if time.monotonic() >= give_up:
                raise sqlite3.OperationalError("the database is locked")
            time.sleep(_PAUSE_S * random.uniform(0.5, 1.5))

    def _lock(self, byte: int) -> bool:
        if self._file is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except OSError as error:
                if error.errno in {errno.EACCES, errno.EAGAIN}:
                    return False
                raise
        return True

    def _unlock(self, byte: int) -> None:
        if self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


def has_wal_reset_bug(version: tuple[int, ...]) -> bool:
    """
    Whether this version of SQLite can lose a commit when one connection resets the WAL as another one commits.

    From 3.7.0, where WAL began; mended in 3.51.3, and in the branches 3.44 and 3.50: https://sqlite.org/wal.html#walresetbug
    """
    if version >= (3, 51, 3) or version < (3, 7, 0):
        return False
    return not ((3, 44, 6) <= version < (3, 45, 0) or (3, 50, 7) <= version < (3, 51, 0))


def _began(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True
