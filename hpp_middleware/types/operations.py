"""
What can be done to accounts and holds, and what became of it.

Every operation is idempotent by its id: repeated after a reply that was lost, it changes nothing.
"""

from typing import Literal

from msgspec import Struct

from hpp_middleware.types.quota import Draft, Entry, Report

__all__ = [
    "Checkpoint",
    "Claim",
    "Declare",
    "Grant",
    "Kept",
    "Limit",
    "Operation",
    "Release",
    "Renew",
    "Reserve",
    "Resize",
    "Result",
    "Settle",
    "Status",
    "Sweep",
]

Status = Literal["done", "refused", "conflict", "unknown", "fenced", "running", "finished", "mismatch"]


class Claim(Struct, frozen=True, kw_only=True, gc=False):
    """
    An idempotency key, as it is claimed.

    Attributes:
        key: A digest of account and key.
        fingerprint: A digest of the request.
        ttl_s: For how long, from the hold on, a finished request answers for it; one that runs does so to its end.
    """

    key: str
    fingerprint: str
    ttl_s: float


class Kept(Struct, frozen=True, kw_only=True, gc=False):
    """
    An answer to keep.

    Attributes:
        body: Encrypted.
        most: How many bytes of answers the account may have kept in all; past that, this one is not.
    """

    body: bytes
    most: int


class Limit(Struct, frozen=True, kw_only=True, gc=False):
    """
    What one of a reserve's accounts may come to in all: a budget, whose account is made when it is first used.

    Attributes:
        account: One of those that the reserve names.
        amount: Nano-dollars.
    """

    account: str
    amount: int


class Reserve(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """
    Place a hold, atomically, in every account it names.

    Grants ``want`` where it fits; else, where ``floor < want``, at most half of what is available but not less than
    ``floor``; else refuses. A repeat returns the stored grant.

    Attributes:
        accounts: The payer first, whose ledger has the lines; each once.
        ttl_s: The hard deadline, seconds from now.
        claim: An idempotency key to claim in the same step. Where another hold has it already, nothing is placed.
        limits: Declared in the same step as :class:`Declare` does, before it is decided what fits, where the hold is
            placed; one that could not be declared changes nothing.
        rest: Where ``want`` does not fit, all that is available is granted instead of half of it.
    """

    id: str
    accounts: tuple[str, ...]
    want: int
    floor: int
    owner: str
    ttl_s: float
    orphan_amount: int
    draft: Draft
    claim: Claim | None = None
    limits: tuple[Limit, ...] = ()
    rest: bool = False


class Resize(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """
    Give a live hold another amount, for another attempt at a dearer or cheaper model; refused where it does not fit.

    Attributes:
        attempt: Counts up from 1: a repeat of the same one changes nothing, an older one is a conflict.
        amount: What the hold is to be.
        orphan_amount: What it is then charged if its owner dies, if that is more than before.
        draft: The entry to be.
        accounts: What the hold is in from then on, the payer first, who stays the same: it leaves the others, and must
            fit in the new ones. Empty for those that it is in.
        limits: Declared with it, as a reserve's are.
    """

    id: str
    attempt: int
    amount: int
    orphan_amount: int
    draft: Draft
    accounts: tuple[str, ...] = ()
    limits: tuple[Limit, ...] = ()


class Checkpoint(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Raise what a live hold is charged if its owner dies, as a long stream goes on; it is never lowered."""

    id: str
    orphan_amount: int


class Settle(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """
    Swap a hold for what was used, and write its ledger entry in the same transaction.

    Attributes:
        kept: The answer to a request with an idempotency key, to be given again.
    """

    id: str
    amount: int
    report: Report
    kept: Kept | None = None


class Release(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Give a hold back: nothing was forwarded. An unknown id leaves a tombstone, which a late reserve will find."""

    id: str


class Grant(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """
    Add to an account's quota (or take from it), once per ``id``; makes the account.

    Attributes:
        expect: Grant only if the quota is exactly this now (a compare-and-set); None for always.
    """

    id: str
    account: str
    amount: int
    expect: int | None = None


class Declare(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Say what a configuration file declares for an account: the quota moves by the change since the last time."""

    account: str
    quota: int


class Renew(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Extend a worker's lease to ``ttl_s`` seconds from now, by the store's clock."""

    owner: str
    ttl_s: float


class Sweep(Struct, frozen=True, kw_only=True, tag=True, gc=False):
    """Expire the holds whose owner's lease, or whose own deadline, has run out."""


Operation = Reserve | Resize | Checkpoint | Settle | Release | Grant | Declare | Renew | Sweep


class Result(Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of one operation.

    Attributes:
        id: The operation's hold or grant id: every reply is checked against what was asked.
        status: ``done``; ``refused`` (it does not fit); ``conflict`` (decided otherwise before, the first wins);
            ``unknown`` (no such hold); ``fenced`` (the owner's lease has run out). For a reserve with a claim that
            another hold has: ``running``, ``finished``, or ``mismatch`` (it was another request).
        amount: What was granted, charged, or swept.
        available: What the accounts had room for, for ``refused``.
        short: Which of them had the least, the first of several, where that is why it was ``refused``.
        entries: The ledger lines written.
        hold: Whose the claim is; for a sweep, one that it has left as it is, since it cannot be resolved.
        kept: The answer that was kept with it, for ``finished``.
        more: A sweep did as much as one may, and has left the rest to the next one.
    """

    id: str = ""
    status: Status
    amount: int = 0
    available: int = 0
    entries: tuple[Entry, ...] = ()
    hold: str = ""
    kept: bytes | None = None
    more: bool = False
    short: str = ""
