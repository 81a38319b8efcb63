"""
Whether a database still lies where it was opened.

A file that somebody has removed or replaced can be written as before by whoever has it open, and all of it is gone when
they end. What others find under its name meanwhile are other books.
"""

import logging
from pathlib import Path

from hpp_middleware.errors import StoreError

__all__ = ["MovedError", "Place"]

_logger = logging.getLogger("hpp_middleware")

_MOVED = "was removed or replaced while it was in use: put it back, or restart the router"

_Identity = tuple[int, int]


class MovedError(StoreError):
    """The database is not where it was opened any more, or another one is."""


class Place:
    """
    Where one connection's database lies.

    Args:
        database: The database file.
        lasting: Whether what it holds has to be kept: then no other file may take its place.
    """

    def __init__(self, database: Path, *, lasting: bool = True) -> None:
        self._database = database
        self._log = database.with_name(database.name + "-wal")
        self._lasting = lasting
        self._told = False
        self._found: tuple[_Identity | None, _Identity | None] = (None, None)

    def forget(self) -> None:
        """Take whatever lies there for the database: it is opened for the first time."""
        self._found = (None, None)

    def keep(self) -> None:
        """Remember what was opened."""
        self._found = (_identity(self._database), _identity(self._log))

    def is_same(self) -> bool:
        """
        Whether what was opened lies there; if not, it is to be opened anew.

        A log that was removed is no loss: closing moves what it has into the database.

        Raises:
            MovedError: The database itself is not there any more, or another one is. A connection to it is to stay
                open: as long as it is, no other file is taken for it.
        """
        before, now = self._found, (_identity(self._database), _identity(self._log))
        if before[0] in {None, now[0]} or not self._lasting:
            self._told = False
            return before == now
        if not self._told:
            self._told = True
            _logger.error("%s %s", self._database, _MOVED)
        raise MovedError(f"The database {_MOVED}.")


def _identity(path: Path) -> _Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
