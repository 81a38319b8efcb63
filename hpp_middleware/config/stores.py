"""Where the file says that accounts, keys and the ledger are kept."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpp_middleware.config.sections import File
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Ledger, LimitStore, Store
from hpp_middleware.stores import urls
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.stores.opening import opening

if TYPE_CHECKING:
    from hpp_middleware.stores.archived import ArchivedLedger

__all__ = ["Places", "Stores", "places"]


@dataclass(frozen=True, slots=True)
class Stores:
    """
    The stores of a configuration, as a gateway takes them.

    Attributes:
        store: Keeps accounts and holds, and what nobody else keeps.
        credentials: Keeps keys instead; None for the store.
        ledger: Where the ledger is read instead; None for the store.
        limits: Who counts what is limited instead; None for the store.
    """

    store: Store
    credentials: Store | None
    ledger: "ArchivedLedger | None"
    limits: LimitStore | None = None

    @property
    def audited(self) -> Ledger:
        """Where the ledger is kept for good."""
        return self.store if self.ledger is None else self.ledger

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Open each of them, and close them at the end."""
        async with AsyncExitStack() as stack:
            named = (("ledger.url", self.ledger), ("credentials.url", self.credentials), ("store.url", self.store))
            for where, each in named:
                if each is not None:
                    stack.push_async_callback(each.aclose)
                    with opening(where):
                        await each.open()
            yield


@dataclass(frozen=True, slots=True, repr=False)
class Places:
    """
    URLs of stores, found good; they may hold passwords.

    Attributes:
        store: The store's.
        credentials: Where keys are kept; the same where it is not another one.
        ledger: Where a Redis store's lines are moved; the store's own where they are not.
        limits: Who counts what is limited; the store's own where that is not another one.
        directory: Where relative SQLite paths begin.
    """

    store: str
    credentials: str
    ledger: str
    limits: str
    directory: Path

    @property
    def in_memory(self) -> str | None:
        """The path of a key that names a memory store."""
        return "store.url" if urls.kind_of(self.store) == "memory" else None

    @property
    def shared_keys(self) -> bool:
        """Whether keys are where several routers may share them, and no pepper is beside them."""
        return urls.kind_of(self.credentials) in {"postgres", "redis"}

    def stores(self) -> Stores:
        """
        The stores, not yet opened.

        Raises:
            ConfigurationError: A library is missing for one of them; the message begins with the key's path.
        """
        ledger: ArchivedLedger | None = None
        if self.ledger == self.store:
            store = self._open("store.url", self.store)
        else:
            try:
                store, ledger = urls.open_archived(self.store, self.ledger, self.directory)
            except ConfigurationError as error:
                raise ConfigurationError(f"store.url and ledger.url: {error.message}") from error
        credentials = self._open("credentials.url", self.credentials) if self.credentials != self.store else None
        return Stores(store, credentials, ledger, self._limits(credentials))

    def _limits(self, credentials: Store | None) -> LimitStore | None:
        """Who counts; None for the store itself."""
        if self.limits == self.store:
            return None
        if urls.kind_of(self.limits) == "memory":
            return MemoryLimits()
        found: object = credentials if self.limits == self.credentials else self._open("limit_store.url", self.limits)
        if not isinstance(found, LimitStore):
            raise ConfigurationError("limit_store.url: names a store that counts no limits")
        return found

    def _open(self, where: str, url: str) -> Store:
        try:
            return urls.open_store(url, self.directory)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error.message}") from error


def places(file: File, *, directory: Path, problems: list[str]) -> Places:
    """
    Where things are kept, as far as it can be known without opening anything.

    Args:
        file: The sections.
        directory: Where the file is.
        problems: What is wrong is added here, a line a problem, none of which repeats a URL.
    """
    store = file.store.url
    kind = _checked("store.url", store, directory, problems)
    credentials = store if file.credentials.url is None else file.credentials.url
    if credentials != store:
        credentials_kind = _checked("credentials.url", credentials, directory, problems)
        if credentials_kind == "memory":
            problems.append('credentials.url: keys are kept in memory only where store.url is "memory:" too')
    ledger = store if file.ledger.url is None else file.ledger.url
    if ledger != store:
        ledger_kind = _checked("ledger.url", ledger, directory, problems)
        if kind is not None and kind != "redis":
            problems.append(
                "ledger.url: must be left out: this store writes the ledger in the transaction that settles, and only "
                "the lines of a Redis store are moved to another one"
            )
        elif ledger_kind in {"memory", "redis"}:
            problems.append(
                "ledger.url: must be of SQLite or PostgreSQL, where a Redis store's lines are moved for good"
            )
    limits = store if file.limit_store.url is None else file.limit_store.url
    if limits != store:
        _checked("limit_store.url", limits, directory, problems)
    if problems:
        store = credentials = ledger = limits = _REFUSED
    return Places(store, credentials, ledger, limits, directory)


_REFUSED = "memory:"
"""Stands for URLs of a file that is refused anyway."""


def _checked(where: str, url: str, directory: Path, problems: list[str]) -> urls.Kind | None:
    try:
        return urls.check_url(url, directory)
    except ConfigurationError as error:
        problems.append(f"{where}: {error.message}")
        return None
