"""
A mover takes what the server wrote to a durable store, and a ledger reads both.

Nothing runs by itself: call :meth:`Mover.move` when it suits, or start :meth:`Mover.run` in a task of your own.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence

from hpp_middleware.errors import StoreError
from hpp_middleware.ports import Archive, Ledger
from hpp_middleware.stores.redis import moving
from hpp_middleware.stores.redis.store import RedisStore
from hpp_middleware.types.quota import Entry

__all__ = ["MovedLedger", "Mover"]

_logger = logging.getLogger("hpp_middleware")


class Mover:
    """
    Moves ledger lines and grants into an archive; several may run at once.

    Args:
        store: Whence.
        archive: Whereto: a SQLite or PostgreSQL store.
        trim: Whether the server forgets the lines that were moved, so that it does not grow with the ledger; they are
            then read through a :class:`MovedLedger`.
    """

    def __init__(self, store: RedisStore, archive: Archive, *, trim: bool = False) -> None:
        self._store = store
        self._archive = archive
        self._trim = trim

    @property
    def unreadable(self) -> Sequence[str]:
        """What cannot be read, and was left where it is; it is moved once somebody has mended it."""
        return self._store.server.unreadable

    async def move(self, most: int = 1000) -> int:
        """
        Move up to ``most`` lines and grants of each shard.

        Returns:
            How many were moved; 0 when nothing is left.
        Raises:
            StoreError: The server or the archive cannot be reached; nothing is lost.
        """
        return await moving.move(self._store.server, self._archive, most, trim=self._trim)

    async def empty(self, most: int = 1000) -> int:
        """
        Move all there is now, ``most`` at a time, and say how much it was.

        Raises:
            StoreError: As with :meth:`move`.
        """
        moved = last = await self.move(most)
        while last >= most:  # with less no shard was full; who writes meanwhile does not keep us here
            last = await self.move(most)
            moved += last
        return moved

    async def run(self, every_s: float = 1.0, *, told: Callable[[Exception], None] | None = None) -> None:
        """
        Move for ever, and rest when nothing is left or somebody cannot be reached.

        Args:
            every_s: How long to rest.
            told: Hears of the first failure, and of the next one after it went well again; and once of what cannot be
                read, beside which all else is moved.
        """
        failed = False
        heard = 0
        while True:
            moved = 0
            try:
                moved = await self.move()
            except Exception as error:  # noqa: BLE001  # whatever it is, the next turn may go well
                if not failed:
                    _logger.warning("The ledger cannot be moved at the moment; it is tried again.")
                    if told is not None:
                        told(error)
                failed = True
            else:
                failed = False
            if told is not None:
                for name in self.unreadable[heard:]:
                    told(StoreError(f"It cannot be read, and stays where it is: {name}."))
            heard = len(self.unreadable)
            if not moved:
                await asyncio.sleep(every_s)


class MovedLedger:
    """
    A ledger whose older lines are in an archive.

    Args:
        store: Where lines are written.
        archive: Where they are moved.
    """

    def __init__(self, store: RedisStore, archive: Ledger) -> None:
        self._store = store
        self._archive = archive

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        here = await self._store.entries(account, hold)  # first: what is moved meanwhile is found in the archive
        found = {entry.id: entry for entry in (*await self._archive.entries(account, hold), *here)}
        return sorted(found.values(), key=lambda entry: entry.seq)

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        found: list[Entry] = []
        while len(found) < most:
            left = most - len(found)
            page = await self._archive.lines(account, after, left)
            if not page:
                page = await self._store.lines(account, after, left)
                if not page or page[0].seq != after + 1:  # moved, and forgotten here, between the two
                    page = await self._archive.lines(account, after, left)
            if not page:
                break
            found += page
            after = page[-1].seq
        return found
