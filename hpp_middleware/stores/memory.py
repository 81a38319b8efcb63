"""Accounts, holds, ledger and credentials in one process's memory: for tests and for one worker. Nothing is durable."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from hpp_middleware.core import quota
from hpp_middleware.stores.books import carry_out
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.quota import Account, Balance, Entry, Grant, Hold, Operation, Result

__all__ = ["MemoryStore"]


class MemoryStore:
    """
    The pure functions under a lock.

    Args:
        clock: Seconds since the epoch; tests set it.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        # A lock of threads, not of tasks: it is never held across an await, and two event loops may share the store.
        self._lock = threading.Lock()
        self._books = _MemoryBooks()
        self._credentials: dict[bytes, Credential] = {}
        self._pepper = secrets.token_bytes(32)

    async def open(self) -> None:
        """Nothing to open."""

    async def aclose(self) -> None:
        """Nothing to close; the books stay readable."""

    def pepper(self) -> bytes:
        """A random one, as short-lived as the store."""
        return self._pepper

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        with self._lock:
            now = self._clock()
            return [carry_out(self._books, operation, now=now) for operation in operations]

    async def balance(self, account: str) -> Balance:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        with self._lock:
            return quota.balance(self._books.account(account) or Account(id=account))

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        with self._lock:
            return [entry for entry in self._books.entries.get(account, ()) if entry.hold == hold]

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        with self._lock:
            return self._books.entries.get(account, [])[after : after + most]

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

    async def revoke(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        with self._lock:
            for digest, credential in self._credentials.items():
                if credential.id == key_id:
                    self._credentials[digest] = msgspec.structs.replace(credential, revoked=at)
                    return True
        return False

    async def credentials(self) -> list[Credential]:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        with self._lock:
            return sorted(self._credentials.values(), key=lambda credential: (credential.created, credential.id))


class _MemoryBooks:
    """Dicts, and an index of live holds for the sweep."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.holds: dict[str, Hold] = {}
        self.live: dict[str, Hold] = {}
        self.grants: dict[str, int] = {}
        self.leases: dict[str, float] = {}
        self.entries: dict[str, list[Entry]] = {}

    def account(self, account_id: str) -> Account | None:
        return self.accounts.get(account_id)

    def hold(self, hold_id: str) -> Hold | None:
        return self.holds.get(hold_id)

    def granted(self, grant_id: str) -> int | None:
        return self.grants.get(grant_id)

    def lease(self, owner: str) -> float | None:
        return self.leases.get(owner)

    def due(self, now: float) -> Iterable[Hold]:
        return [hold for hold in self.live.values() if quota.is_due(hold, lease_until=self.lease(hold.owner), now=now)]

    def put_account(self, account: Account) -> None:
        self.accounts[account.id] = account

    def put_hold(self, hold: Hold) -> None:
        self.holds[hold.id] = hold
        if hold.state == "held":
            self.live[hold.id] = hold
        else:
            self.live.pop(hold.id, None)

    def put_grant(self, grant: Grant, now: float) -> None:  # noqa: ARG002  # the port's signature
        self.grants[grant.id] = grant.amount

    def put_lease(self, owner: str, until: float) -> None:
        self.leases[owner] = max(until, self.leases.get(owner, until))

    def put_entry(self, entry: Entry) -> None:
        self.entries.setdefault(entry.account, []).append(entry)
