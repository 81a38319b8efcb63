"""Accounts, holds, ledger and credentials in one process's memory: for tests and for one worker. Nothing is durable."""

import secrets
import threading
import time
from collections.abc import Callable, Sequence

import msgspec

from hpp_middleware.core import quota
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.memory.books import CompactBooks
from hpp_middleware.stores.memory.limits import MemoryLimits
from hpp_middleware.stores.memory.workers import several
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.health import Rest
from hpp_middleware.types.limits import Ask, Standing
from hpp_middleware.types.operations import Operation, Result
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, Seal, Statement

__all__ = ["MemoryStore"]


class MemoryStore:
    """
    The pure functions under a lock.

    Args:
        clock: Seconds since the epoch; tests set it.
        several_workers: Whether it is meant that several workers of a server each have books of their own, and each
            sell the whole quota.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, several_workers: bool = False) -> None:
        self._several_workers = several_workers
        self._clock = clock
        # A lock of threads, not of tasks: it is never held across an await, and two event loops may share the store.
        self._lock = threading.Lock()
        self._books = CompactBooks()
        self._credentials: dict[bytes, Credential] = {}
        self._epoch = 0
        self._limits = MemoryLimits(clock=clock)
        self._pepper = secrets.token_bytes(32)
        self._rests: dict[tuple[str, str], float] = {}

    async def open(self) -> None:
        """
        Nothing to open.

        Raises:
            ConfigurationError: The server was told to run several workers, each of which would sell the whole quota.
        """
        if not self._several_workers and several():
            raise ConfigurationError(
                "a memory store is one process's own, and this server runs several workers: use SQLiteStore, or "
                "MemoryStore(several_workers=True) if each may have its own",
                param="store",
            )

    async def aclose(self) -> None:
        """Nothing to close; the books stay readable."""

    def pepper(self) -> bytes:
        """A random one, as short-lived as the store."""
        return self._pepper

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        with self._lock:
            now = self._clock()
            if len(operations) == 1:
                return [carry_out(self._books, operations[0], now=now)]
            return [carry_out(self._books, operation, now=now) for operation in operations]

    async def balance(self, account: str) -> Balance:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        with self._lock:
            return quota.balance(self._books.account(account) or Account(id=account))

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        return await self._limits.take(ask)

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.correct(ask)

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.extend(asks)

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        with self._lock:
            return self._books.of_hold(account, hold)

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        with self._lock:
            return list(self._books.lines(account, after, most))

    async def find(self, digest: bytes) -> Credential | None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        return self._credentials.get(digest)

    async def add(self, credential: Credential) -> None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        with self._lock:
            for digest, other in list(self._credentials.items()):
                if other.id == credential.id:
                    del self._credentials[digest]
            self._credentials[credential.digest] = credential
            self._epoch += 1

    async def revoke(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        with self._lock:
            for digest, credential in self._credentials.items():
                if credential.id == key_id:
                    earliest = at if credential.revoked is None else min(at, credential.revoked)
                    self._credentials[digest] = msgspec.structs.replace(credential, revoked=earliest)
                    self._epoch += 1
                    return True
        return False

    async def credentials(self) -> list[Credential]:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        with self._lock:
            return sorted(self._credentials.values(), key=lambda credential: (credential.created, credential.id))

    async def epoch(self) -> int:
        """See :class:`hpp_middleware.ports.CredentialEpoch`."""
        return self._epoch

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        """See :class:`hpp_middleware.ports.HealthStore`: between the event loops of one process."""
        with self._lock:
            now = self._clock()
            self._rests.update(((each.key, each.model), now + each.for_s) for each in rests)
            self._rests = {name: until for name, until in self._rests.items() if until > now}
            return [Rest(*name, for_s=until - now) for name, until in self._rests.items()]

    async def expire(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialExpiry`."""
        with self._lock:
            for digest, credential in self._credentials.items():
                if credential.id == key_id:
                    earliest = at if credential.expires is None else min(at, credential.expires)
                    self._credentials[digest] = msgspec.structs.replace(credential, expires=earliest)
                    self._epoch += 1
                    return True
        return False

    async def reassign(self, key_id: str, consumer: Consumer) -> bool:
        """See :class:`hpp_middleware.ports.CredentialReassign`."""
        with self._lock:
            for digest, credential in self._credentials.items():
                if credential.id == key_id:
                    self._credentials[digest] = msgspec.structs.replace(credential, consumer=consumer)
                    self._epoch += 1
                    return True
        return False

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """See :class:`hpp_middleware.ports.CredentialRehash`."""
        with self._lock:
            credential = self._credentials.pop(digest, None)
            if credential is not None:
                self._credentials[to] = msgspec.structs.replace(credential, digest=to, pepper=pepper)
        return credential is not None

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        with self._lock:
            return sorted(name for name in self._books.accounts if name > after)[:most]

    async def statement(self, account: str) -> Statement:
        """See :class:`hpp_middleware.ports.Audit`."""
        with self._lock:
            return self._books.statement(account, self._clock())

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """See :class:`hpp_middleware.ports.Audit`."""
        with self._lock:
            found = map(self._books.hold, ids)
            return [hold for hold in found if hold is not None]

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """See :class:`hpp_middleware.ports.Audit`."""
        with self._lock:
            found = self._books.seals.get(account, {})
            return [found[seq] for seq in sorted(found) if seq > after][:most]

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """See :class:`hpp_middleware.ports.Audit`."""
        with self._lock:
            for seal in seals:
                there = self._books.seals.get(seal.account, {}).get(seal.seq)
                if there is not None and there.mac != seal.mac:
                    raise StoreError("Another seal stands there already.")
            for seal in seals:
                self._books.seals.setdefault(seal.account, {}).setdefault(seal.seq, seal)
