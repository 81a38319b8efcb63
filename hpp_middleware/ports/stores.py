"""What keeps credentials, accounts, holds and ledger."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, runtime_checkable

from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.health import Rest
from hpp_middleware.types.operations import Grant, Operation, Result
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, Seal, Statement

__all__ = [
    "Archive",
    "Audit",
    "CredentialEpoch",
    "CredentialExpiry",
    "CredentialReassign",
    "CredentialRehash",
    "CredentialStore",
    "HealthStore",
    "Ledger",
    "Moved",
    "Mover",
    "QuotaStore",
    "Store",
]


@runtime_checkable
class QuotaStore(Protocol):
    """
    Accounts and holds.

    Promises: a reserve is atomic, across processes where the store is shared; every operation is idempotent by id; a
    settlement may exceed its hold; a race never oversells; one refusal leaves its neighbours alone.
    """

    def apply(self, operations: Sequence[Operation]) -> Coroutine[Any, Any, list[Result]]:
        """
        Carry out each operation, independently of the others, and answer in the same order.

        An ``async def`` is what it mostly is; one that passes on another's coroutine fits as well.

        Raises:
            StoreError: Nothing is known of any of them; repeat them by id.
        """
        ...

    async def balance(self, account: str) -> Balance:
        """
        Read one account, fresh; an account nobody granted anything reads as zeros.

        Raises:
            StoreError: It cannot be read.
        """
        ...


@runtime_checkable
class Ledger(Protocol):
    """What was charged; written by the quota store in the settling transaction, read here."""

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """
        The lines of one request of one account: its resolution first, then overage and correction. Empty if there are
        none.
        """
        ...

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """Up to ``most`` lines of an account with ``seq > after``, in order."""
        ...


@runtime_checkable
class CredentialStore(Protocol):
    """Digests and the consumers they name."""

    async def find(self, digest: bytes) -> Credential | None:
        """
        The credential, expired and revoked ones too; None only for a definite absence.

        Raises:
            StoreError: It cannot be known, or read.
        """
        ...

    async def add(self, credential: Credential) -> None:
        """Keep one; a digest or an id that is there already is replaced."""
        ...

    async def revoke(self, key_id: str, at: float) -> bool:
        """Mark one as revoked, of several times at the earliest; False if there is none of that id."""
        ...

    async def credentials(self) -> list[Credential]:
        """All of them, oldest first; one that cannot be read is ``damaged``, and keeps no other from being listed."""
        ...


@runtime_checkable
class CredentialEpoch(Protocol):
    """A credential store that counts its changes, so that every worker hears of a revocation within about a second."""

    async def epoch(self) -> int:
        """
        A number that is never the same again once a credential was added, revoked or given an end, by anybody.

        It is read once a second by each worker that has traffic. A store without it has its answers forgotten by their
        age: after 5 seconds.

        Raises:
            StoreError: It cannot be known.
        """
        ...


@runtime_checkable
class CredentialExpiry(Protocol):
    """A credential store in which a key can be given an end, as a rotation with a grace does."""

    async def expire(self, key_id: str, at: float) -> bool:
        """
        Let one expire at a time, or earlier if it does already, in one step, so that a revocation meanwhile is not
        lost; False if there is none of that id.
        """
        ...


@runtime_checkable
class CredentialReassign(Protocol):
    """A credential store in which a key's consumer can be said anew, as a change of the account above it does."""

    async def reassign(self, key_id: str, consumer: Consumer) -> bool:
        """
        Put another consumer in the place of a credential's, in one step, so that a revocation meanwhile is not lost;
        False if there is none of that id.
        """
        ...


@runtime_checkable
class CredentialRehash(Protocol):
    """A credential store in which keys move to another pepper as they are used."""

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """
        Keep the credential of a digest under another one, in one step, and note the pepper's id; nothing else of it
        changes, so that a revocation meanwhile is not lost. The same digest notes the pepper alone.

        Returns:
            False if there is none of that digest, or no longer.
        Raises:
            StoreError: It is not known whether it was moved.
        """
        ...


@runtime_checkable
class Store(QuotaStore, Ledger, CredentialStore, Protocol):
    """A backend that keeps everything, and can be opened and closed."""

    async def open(self) -> None:
        """Connect; safe to repeat."""
        ...

    async def aclose(self) -> None:
        """Let go; safe to repeat."""
        ...

    def pepper(self) -> bytes | None:
        """A pepper of the store's own, for a gateway that was given none; None where one must be given."""
        ...


@runtime_checkable
class HealthStore(Protocol):
    """A store in which workers tell each other which upstreams they leave alone, once a second or so."""

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        """
        Keep these, each in the place of what was kept of its key and model, and give back all that are in force, by the
        store's own clock; whether these are among them is all the same.

        Raises:
            StoreError: Nothing is known of them; they are told again.
        """
        ...


@runtime_checkable
class Audit(Protocol):
    """A store whose books can be checked, line by line and sum by sum."""

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """Up to ``most`` account ids that sort behind ``after``, in order."""
        ...

    async def statement(self, account: str) -> Statement:
        """An account and what its rows add up to, in one snapshot; an unknown account reads as zeros."""
        ...

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """Those of these holds that are still known."""
        ...

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """Up to ``most`` seals of an account with ``seq > after``, in order."""
        ...

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """
        Append seals; the same one again changes nothing.

        Raises:
            StoreError: There is another one at that place already, or they cannot be written.
        """
        ...


@runtime_checkable
class Archive(Protocol):
    """Where a mover puts what a faster store wrote, to keep it for good."""

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        """
        Keep ledger lines and grants, each once, and add what is new to its account's sums, in one transaction.

        Raises:
            StoreError: Nothing is known of any of them; repeat them.
        """
        ...

    async def totals(self, account: str) -> Account:
        """What an account has by what was archived; zeros for one that nothing was archived of."""
        ...

    async def grants(self, account: str, after: str = "", most: int = 1000) -> list[Grant]:
        """Up to ``most`` of an account's grants whose ids sort behind ``after``, in order."""
        ...


@runtime_checkable
class Mover(Protocol):
    """Moves what a fast store wrote into its archive; nothing is lost or moved twice, however often it is stopped."""

    async def run(self, *, told: Callable[[Exception], None] | None = None) -> None:
        """Move for ever; ``told`` hears of the first failure, and of the next one after it went well again."""
        ...

    async def empty(self) -> int:
        """
        Move all there is now, and say how much it was.

        Raises:
            StoreError: Where it comes from or goes to cannot be reached.
        """
        ...


@runtime_checkable
class Moved(Protocol):
    """A ledger that is moved to where it stays; the lifespan of a gateway runs its mover."""

    @property
    def mover(self) -> Mover:
        """What moves it."""
        ...
