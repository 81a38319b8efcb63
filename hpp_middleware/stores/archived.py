"""A Redis store's ledger in a durable store: where a mover puts the lines, where they are sealed, and read again."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import Archive, Audit, Ledger, Store
from hpp_middleware.stores.opening import opening
from hpp_middleware.stores.redis import MovedLedger, Mover, RedisStore
from hpp_middleware.stores.redis.link import OTHER_BOOKS
from hpp_middleware.stores.redis.server import AHEAD, BEHIND
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Entry, Hold, Seal, Statement

__all__ = ["ArchivedLedger", "Durable", "OpenedWhenUsed"]


@runtime_checkable
class Durable(Archive, Audit, Ledger, Protocol):
    """A store that can be an archive."""

    async def open(self) -> None:
        """Connect; safe to repeat."""
        ...

    async def aclose(self) -> None:
        """Let go; safe to repeat."""
        ...


class ArchivedLedger:
    """
    Lines of a request are read from both stores; all else is the archive's, which alone is sealed and audited: what is
    in it is not lost with a failover.

    Args:
        store: Where lines are written first.
        archive: Where they are moved.

    Attributes:
        store: Where lines are written first.
        archive: Where they stay.
        mover: Moves them, and lets the store forget them then, so that it does not grow with the ledger; a gateway's
            lifespan runs it.
    """

    def __init__(self, store: Store, archive: Store) -> None:
        if not isinstance(store, RedisStore) or not isinstance(archive, Durable):
            raise ConfigurationError("only a Redis store has its ledger moved, and only to a store that is an archive")
        self.archive: Durable = archive
        self.store = store
        self.mover = Mover(store, archive, trim=True)
        self._both = MovedLedger(store, archive)

    async def open(self) -> None:
        """Open the archive; the store is opened by itself."""
        await self.archive.open()

    async def move(self) -> int:
        """
        Open both, whereby the store moves what it finds, and move all there is.

        Returns:
            How many lines and grants that were.
        Raises:
            StoreError: One of them cannot be reached, or is behind the other.
        """
        before = self.store.server.moved
        await self.open()
        with opening("store.url"):
            await self.store.open()
        await self.mover.empty()
        return self.store.server.moved - before

    @property
    def unreadable(self) -> Sequence[str]:
        """What cannot be read, and therefore stays in the store."""
        return self.mover.unreadable

    async def rebuild(self) -> int | None:
        """
        Make the store's books anew from the archive, if they are refused as they are.

        Returns:
            How many accounts there are; None where the store opened: there is nothing to rebuild.
        Raises:
            StoreError: One of them cannot be reached.
        """
        await self.open()
        try:
            await self.store.open()
        except StoreError as error:
            if error.message not in {AHEAD, BEHIND, OTHER_BOOKS}:
                with opening("store.url"):
                    raise
        else:
            return None
        return await self.store.rebuild(self.archive)

    async def aclose(self) -> None:
        """Close the archive."""
        await self.archive.aclose()

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`; those that are not moved yet too."""
        return await self._both.entries(account, hold)

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`; those that were moved."""
        return await self.archive.lines(account, after, most)

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self.archive.accounts(after, most)

    async def statement(self, account: str) -> Statement:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self.archive.statement(account)

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self.archive.holds(ids)

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self.archive.seals(account, after, most)

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """See :class:`hpp_middleware.ports.Audit`."""
        await self.archive.add_seals(seals)


class OpenedWhenUsed:
    """
    An archive, and a ledger, that is opened by its first use: a Redis store compares its books with it while it is
    opened itself.

    Args:
        archive: The store.
    """

    def __init__(self, archive: Store) -> None:
        if not isinstance(archive, Durable):
            raise ConfigurationError("this store is no archive")
        self._archive: Durable = archive

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        """See :class:`hpp_middleware.ports.Archive`."""
        await self._archive.open()
        await self._archive.archive(items)

    async def totals(self, account: str) -> Account:
        """See :class:`hpp_middleware.ports.Archive`."""
        await self._archive.open()
        return await self._archive.totals(account)

    async def grants(self, account: str, after: str = "", most: int = 1000) -> list[Grant]:
        """See :class:`hpp_middleware.ports.Archive`."""
        await self._archive.open()
        return await self._archive.grants(account, after, most)

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        await self._archive.open()
        return await self._archive.entries(account, hold)

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        await self._archive.open()
        return await self._archive.lines(account, after, most)

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        await self._archive.open()
        return await self._archive.accounts(after, most)
