"""
SQLite, the embedded default: durable, on one host, without a server.

One writer thread a process owns the connection; callers on any event loop hand it their operations and wait. What waits
together is committed together. WAL, ``synchronous=FULL`` (a commit that was acknowledged survives a power cut), and
``BEGIN IMMEDIATE``, so that several processes may share the file.
"""

import sqlite3
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from hpp_middleware.core import quota
from hpp_middleware.stores import pepper
from hpp_middleware.stores.sqlite import audit, schema
from hpp_middleware.stores.sqlite.limits import SQLiteLimits
from hpp_middleware.stores.sqlite.page import Pages
from hpp_middleware.stores.sqlite.place import Place
from hpp_middleware.stores.sqlite.rests import share
from hpp_middleware.stores.sqlite.rows import (
    CREDENTIAL,
    SQLiteBooks,
    as_json,
    credential_from,
    credential_row,
    entry_from,
)
from hpp_middleware.stores.sqlite.turn import Turn
from hpp_middleware.stores.sqlite.writer import Writer
from hpp_middleware.stores.unreadable import listed
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.health import Rest
from hpp_middleware.types.limits import Ask, Standing
from hpp_middleware.types.operations import Grant, Operation, Result
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, Seal, Statement

__all__ = ["SQLiteStore"]


class SQLiteStore:
    """
    Accounts, holds, ledger and credentials in one file.

    Args:
        path: The database file; its folder must exist.
        clock: Seconds since the epoch, the clock of leases and ledger.
        busy_s: How long to wait for another process's transaction.
    """

    def __init__(self, path: str | Path, *, clock: Callable[[], float] = time.time, busy_s: float = 10.0) -> None:
        self.path = Path(path)
        self._clock = clock
        self._writer = Writer(
            lambda: schema.connect(self.path, busy_s=busy_s),
            Place(self.path),
            Turn(self.path, busy_s=busy_s),
            Pages(clock),
        )
        self._limits = SQLiteLimits(self.path.with_name(f"{self.path.name}.limits"), clock=clock, busy_s=busy_s)

    async def open(self) -> None:
        """
        Open the file, and bring its tables up to date.

        Raises:
            StoreError: It cannot be opened, or belongs to a newer version.
        """
        await self._writer.open()

    async def aclose(self) -> None:
        """Finish what waits, and close the files."""
        await self._limits.aclose()
        await self._writer.aclose()

    def pepper(self) -> bytes:
        """The pepper kept beside the file, made at first use, mode 0600."""
        return pepper.beside(self.path)

    def journal_dir(self) -> Path:
        """Where settlements are kept that the file did not take: a folder beside it."""
        return self.path.with_name(f"{self.path.name}.settle")

    def apply(self, operations: Sequence[Operation]) -> Coroutine[Any, Any, list[Result]]:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        return self._writer.apply(tuple(operations))

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

        def work(connection: sqlite3.Connection) -> Balance:
            return quota.balance(SQLiteBooks(connection).account(account) or Account(id=account))

        return await self._writer.run(work, writes=False)

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        # Left to itself, SQLite looks through all lines of the account so as to have these in order.
        sql = "SELECT entry FROM ledger INDEXED BY ledger_hold WHERE hold = ? AND account = ? ORDER BY seq"
        return await self._entries(sql, (hold, account))

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        sql = "SELECT entry FROM ledger WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?"
        return await self._entries(sql, (account, after, most))

    async def _entries(self, sql: str, values: tuple[str | int, ...]) -> list[Entry]:
        def work(connection: sqlite3.Connection) -> list[Entry]:
            return [entry_from(row[0]) for row in connection.execute(sql, values)]

        return await self._writer.run(work, writes=False)

    async def find(self, digest: bytes) -> Credential | None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        sql = f"SELECT {CREDENTIAL} FROM credential WHERE digest = ?"  # noqa: S608  # constant

        def work(connection: sqlite3.Connection) -> Credential | None:
            row = connection.execute(sql, (digest,)).fetchone()
            return credential_from(row) if row else None

        return await self._writer.run(work, writes=False)

    async def add(self, credential: Credential) -> None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        sql = f"INSERT OR REPLACE INTO credential ({CREDENTIAL}) VALUES (?,?,?,?,?,?,?)"  # noqa: S608  # constant

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(sql, credential_row(credential))

        await self._writer.run(work)

    async def revoke(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        sql = "UPDATE credential SET revoked = min(?, ifnull(revoked, ?)) WHERE id = ?"

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(sql, (at, at, key_id)).rowcount > 0

        return await self._writer.run(work)

    async def credentials(self) -> list[Credential]:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        sql = f"SELECT {CREDENTIAL} FROM credential ORDER BY created, id"  # noqa: S608  # constant

        def work(connection: sqlite3.Connection) -> list[Credential]:
            rows = connection.execute(sql)
            return [listed(row, credential_from, digest=row[0], key_id=row[1]) for row in rows]

        return await self._writer.run(work, writes=False)

    async def epoch(self) -> int:
        """See :class:`hpp_middleware.ports.CredentialEpoch`."""

        def work(connection: sqlite3.Connection) -> int:
            return int(connection.execute("SELECT epoch FROM credential_epoch").fetchone()[0])

        return await self._writer.run(work, writes=False)

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        """See :class:`hpp_middleware.ports.HealthStore`."""
        now = self._clock()
        return await self._writer.run(lambda connection: share(connection, rests, now), writes=bool(rests))

    async def expire(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialExpiry`."""
        sql = "UPDATE credential SET expires = min(?, ifnull(expires, ?)) WHERE id = ?"

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(sql, (at, at, key_id)).rowcount > 0

        return await self._writer.run(work)

    async def reassign(self, key_id: str, consumer: Consumer) -> bool:
        """See :class:`hpp_middleware.ports.CredentialReassign`."""
        sql = "UPDATE credential SET consumer = ? WHERE id = ?"

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(sql, (as_json(consumer), key_id)).rowcount > 0

        return await self._writer.run(work)

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """See :class:`hpp_middleware.ports.CredentialRehash`."""
        sql = "UPDATE credential SET digest = ?, pepper = ? WHERE digest = ?"

        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute(sql, (to, pepper, digest)).rowcount > 0

        return await self._writer.run(work)

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self._writer.run(lambda connection: audit.accounts(connection, after, most), writes=False)

    async def statement(self, account: str) -> Statement:
        """See :class:`hpp_middleware.ports.Audit`."""

        def work(connection: sqlite3.Connection) -> Statement:
            return audit.statement(connection, account, self._clock())

        return await self._writer.run(work, writes=False)

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """See :class:`hpp_middleware.ports.Audit`."""
        wanted = tuple(ids)
        return await self._writer.run(lambda connection: audit.holds(connection, wanted), writes=False)

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await self._writer.run(lambda connection: audit.seals(connection, account, after, most), writes=False)

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """See :class:`hpp_middleware.ports.Audit`."""
        given = tuple(seals)
        await self._writer.run(lambda connection: audit.add_seals(connection, given))

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        """See :class:`hpp_middleware.ports.Archive`."""
        given = tuple(items)
        await self._writer.run(lambda connection: audit.archive(connection, given, self._clock()))

    async def grants(self, account: str, after: str = "", most: int = 1000) -> list[Grant]:
        """See :class:`hpp_middleware.ports.Archive`."""
        return await self._writer.run(lambda connection: audit.grants(connection, account, after, most), writes=False)

    async def totals(self, account: str) -> Account:
        """See :class:`hpp_middleware.ports.Archive`."""

        def work(connection: sqlite3.Connection) -> Account:
            return SQLiteBooks(connection).account(account) or Account(id=account)

        return await self._writer.run(work, writes=False)
