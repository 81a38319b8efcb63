"""
PostgreSQL, the durable store for many hosts.

A batch of operations is one call of a function in the database: one round trip, one statement, one transaction, and its
answer comes after the commit (``synchronous_commit`` is left as it is: on). Leases and ledger go by the server's clock.
Nothing is kept in a session, so that a transaction pooler may stand before the database.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg

from hpp_middleware.core import quota
from hpp_middleware.core.ledger import OVERDUE_S
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.stores.postgres import rows, schema, wire
from hpp_middleware.stores.postgres.connections import Connections, Lent, Own
from hpp_middleware.stores.postgres.limits import PostgresLimits
from hpp_middleware.stores.postgres.rests import share
from hpp_middleware.stores.postgres.site import Site
from hpp_middleware.stores.unreadable import listed, reading
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.health import Rest
from hpp_middleware.types.limits import Ask, Standing
from hpp_middleware.types.operations import Grant, Operation, Result
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, Seal, Statement

if TYPE_CHECKING:
    from asyncpg import Record

__all__ = ["PostgresStore"]


class PostgresStore:
    """
    Accounts, holds, ledger and credentials in one database. One store may serve several asyncio event loops.

    Args:
        dsn: Any libpq URI, ``?host=/socket/directory`` too. Its ``search_path`` says where the tables are.
        clock: Seconds since the epoch, instead of the server's clock; for tests.
        pool: A pool of the host's own, which is used in its own event loop and never closed here; the ``dsn`` may then
            be left out, and serves other event loops otherwise.
        most_connections: Per event loop.
        statement_cache_size: Named prepared statements a connection keeps; more than 0 spares the server some parsing,
            and needs a server, or a pooler, that keeps sessions apart.
        timeout_s: How long a statement may take, with the wait for a connection.
        most_together: Operations in one round trip.
        flights: Round trips with operations under way at once, per event loop.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        clock: Callable[[], float] | None = None,
        pool: "asyncpg.Pool[Record] | None" = None,
        most_connections: int = 8,
        statement_cache_size: int = 0,
        timeout_s: float = 5.0,
        most_together: int = 256,
        flights: int = 2,
    ) -> None:
        if dsn is None and pool is None:
            raise ConfigurationError("PostgreSQL needs a URL or a pool.")
        self._dsn = dsn
        self._clock = clock
        self._pool = pool
        self._most_connections = most_connections
        self._statement_cache_size = statement_cache_size
        self._timeout_s = timeout_s
        self._most_together = most_together
        self._flights = flights
        self._limits = PostgresLimits(self._fetch, self._now)
        self._lock = threading.Lock()
        self._opened = False
        self._sites: dict[asyncio.AbstractEventLoop, Site] = {}
        self._pools_loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        """
        Connect, and bring the tables up to date.

        Raises:
            StoreError: It cannot be reached, or belongs to a newer version.
            ConfigurationError: It cannot be used as it is set up, or from this event loop.
        """
        site = self._site(opening=True)
        if not self._opened:
            await site.migrate(schema.migrate)
            self._opened = True

    async def aclose(self) -> None:
        """Finish what is under way, and close the connections, those of other event loops too."""
        with self._lock:
            sites, self._sites = self._sites, {}
            self._opened = False
            self._pools_loop = None
        for loop, site in sites.items():
            if loop is _running():
                await asyncio.shield(loop.create_task(site.aclose()))
            elif loop.is_running():
                there = asyncio.run_coroutine_threadsafe(site.aclose(), loop)
                with suppress(TimeoutError):  # where that loop is stuck
                    await asyncio.wait_for(asyncio.wrap_future(there), 2 * self._timeout_s)
            else:
                site.abandon()

    def pepper(self) -> None:
        """None: what many hosts share must be given to each of them."""

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        return await self._site().batch.apply(tuple(operations))

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        return await self._limits.take(ask)

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.correct(ask)

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.extend(asks)

    async def balance(self, account: str) -> Balance:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        return quota.balance(await self.totals(account))

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        return _lines(await self._fetch(rows.ENTRIES, hold, account))

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        return _lines(await self._fetch(rows.LINES, account, after, most))

    async def find(self, digest: bytes) -> Credential | None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        found = await self._fetch(rows.FIND, digest)
        with reading():
            return rows.credential_from(found[0]) if found else None

    async def add(self, credential: Credential) -> None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        await self._fetch(rows.ADD, *rows.credential_row(credential))

    async def revoke(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        return bool(await self._fetch(rows.REVOKE, key_id, at))

    async def expire(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialExpiry`."""
        return bool(await self._fetch(rows.EXPIRE, key_id, at))

    async def credentials(self) -> list[Credential]:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        found = await self._fetch(rows.CREDENTIALS)
        return [listed(row, rows.credential_from, digest=row["digest"], key_id=row["id"]) for row in found]

    async def epoch(self) -> int:
        """See :class:`hpp_middleware.ports.CredentialEpoch`."""
        (row,) = await self._fetch(rows.EPOCH)
        return int(row["epoch"])

    async def reassign(self, key_id: str, consumer: Consumer) -> bool:
        """See :class:`hpp_middleware.ports.CredentialReassign`."""
        return bool(await self._fetch(rows.REASSIGN, key_id, wire.as_json(consumer)))

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """See :class:`hpp_middleware.ports.CredentialRehash`."""
        return bool(await self._fetch(rows.REHASH, digest, to, pepper))

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        """See :class:`hpp_middleware.ports.HealthStore`."""
        return await share(self._fetch, self._now(), rests)

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return [row["id"] for row in await self._fetch(rows.ACCOUNTS, after, most)]

    async def statement(self, account: str) -> Statement:
        """See :class:`hpp_middleware.ports.Audit`."""
        (row,) = await self._fetch(rows.STATEMENT, account, self._now(), OVERDUE_S)
        return rows.statement_from(account, row)

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """See :class:`hpp_middleware.ports.Audit`."""
        found = await self._fetch(rows.HOLDS, list(ids))
        with reading():
            return [rows.hold_from(row) for row in found]

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return [Seal(**dict(row)) for row in await self._fetch(rows.SEALS, account, after, most)]

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """See :class:`hpp_middleware.ports.Audit`."""
        await self._fetch(rows.ADD_SEALS, wire.as_json(seals))

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        """See :class:`hpp_middleware.ports.Archive`."""
        lines = wire.archived([item for item in items if isinstance(item, Entry)])
        grants = wire.as_json([item for item in items if isinstance(item, Grant)])
        await self._fetch(rows.ARCHIVE, lines, grants, self._now())

    async def totals(self, account: str) -> Account:
        """See :class:`hpp_middleware.ports.Archive`."""
        found = await self._fetch(rows.ACCOUNT, account)
        return rows.account_from(found[0]) if found else Account(id=account)

    async def grants(self, account: str, after: str = "", most: int = 1000) -> list[Grant]:
        """See :class:`hpp_middleware.ports.Archive`."""
        return [Grant(**dict(row)) for row in await self._fetch(rows.GRANTS, account, after, most)]

    async def _fetch(self, sql: str, *values: Any, once: bool = False) -> "list[Record]":
        return await self._site().fetch(sql, *values, once=once)

    def _now(self) -> float | None:
        return self._clock() if self._clock is not None else None

    def _site(self, *, opening: bool = False) -> Site:
        """This event loop's, made without a round trip."""
        loop = _running()
        if loop is None:
            raise ConfigurationError("PostgreSQL is served on asyncio only, not on trio.")
        with self._lock:
            if not self._opened and not opening:
                raise StoreError("The database is not open: open the gateway first.")
            site = self._sites.get(loop)
            if site is None:
                self._leave_closed_loops()
                site = self._sites[loop] = Site(
                    self._connections(loop),
                    clock=self._now,
                    timeout_s=self._timeout_s,
                    most=self._most_together,
                    flights=self._flights,
                )
            return site

    def _connections(self, loop: asyncio.AbstractEventLoop) -> Connections:
        if self._pool is not None and self._pools_loop in {None, loop}:
            self._pools_loop = loop
            return Lent(self._pool)
        if self._dsn is None:
            raise ConfigurationError("The PostgreSQL pool belongs to another event loop; give a URL too.")
        return Own(self._connect, self._most_connections)

    async def _connect(self) -> "asyncpg.Connection[Record]":
        try:
            return await asyncpg.connect(
                self._dsn, statement_cache_size=self._statement_cache_size, timeout=self._timeout_s
            )
        except ValueError:  # asyncpg's own are of this kind, and name the URL: no traceback shows them
            raise ConfigurationError("The PostgreSQL URL cannot be understood.") from None

    def _leave_closed_loops(self) -> None:
        for loop in [loop for loop in self._sites if loop.is_closed()]:
            self._sites.pop(loop).abandon()


def _lines(found: "Sequence[Record]") -> list[Entry]:
    with reading():
        return [wire.entry_from(row["entry"]) for row in found]


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
