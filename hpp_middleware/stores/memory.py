"""Accounts, holds, ledger and credentials in one process's memory: for tests and for one worker. Nothing is durable."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct, field

from hpp_middleware.core import quota
from hpp_middleware.stores.books import carry_out
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.operations import Grant, Operation, Result
from hpp_middleware.types.quota import Account, Balance, Entry, Hold

__all__ = ["MemoryBooks", "MemoryStore"]


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
        self._books = MemoryBooks()
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


class MemoryBooks(Struct):
    """
    Dicts, and an index of live holds for the sweep; see :class:`hpp_middleware.stores.books.Books`.

    A struct, so that ``msgspec`` can encode it: the books of a small store of your own.
    """

    accounts: dict[str, Account] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    live: set[str] = field(default_factory=set)
    grants: dict[str, int] = field(default_factory=dict)
    leases: dict[str, float] = field(default_factory=dict)
    entries: dict[str, list[Entry]] = field(default_factory=dict)

    def account(self, account_id: str) -> Account | None:
        """One account."""
        return self.accounts.get(account_id)

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        return self.holds.get(hold_id)

    def granted(self, grant_id: str) -> int | None:
        """The amount granted under an id."""
        return self.grants.get(grant_id)

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        return self.leases.get(owner)

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out."""
        holds = (self.holds[hold_id] for hold_id in sorted(self.live))
        return [hold for hold in holds if quota.is_due(hold, lease_until=self.lease(hold.owner), now=now)]

    def put_account(self, account: Account) -> None:
        """Write an account."""
        self.accounts[account.id] = account

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        self.holds[hold.id] = hold
        if hold.state == "held":
            self.live.add(hold.id)
        else:
            self.live.discard(hold.id)

    def put_grant(self, grant: Grant, now: float) -> None:  # noqa: ARG002  # the port's signature
        """Keep a grant."""
        self.grants[grant.id] = grant.amount

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease."""
        self.leases[owner] = max(until, self.leases.get(owner, until))

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        self.entries.setdefault(entry.account, []).append(entry)
