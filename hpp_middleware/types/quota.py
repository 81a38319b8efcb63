"""
Accounts, holds, the ledger, and the operations on them.

The life of a hold: ``held -> settled | released | expired``, and once ``expired -> corrected``. Nothing else.
All amounts are nano-dollars; all times are seconds since the epoch by the store's clock.
"""

from typing import Literal

from msgspec import Raw, Struct, field

from hpp_middleware.types.price import Price, Usage

__all__ = [
    "Account",
    "Attempt",
    "Balance",
    "Declare",
    "Draft",
    "Entry",
    "Grant",
    "Hold",
    "HoldState",
    "LineClass",
    "Operation",
    "Outcome",
    "Release",
    "Renew",
    "Report",
    "Reserve",
    "Result",
    "Settle",
    "Status",
    "Sweep",
]

HoldState = Literal["held", "settled", "released", "expired", "corrected"]
LineClass = Literal["resolution", "overage", "correction"]
Outcome = Literal["completed", "abandoned", "failed", "orphaned"]
Status = Literal["done", "refused", "conflict", "unknown", "fenced"]


class Account(Struct, frozen=True, kw_only=True):
    """
    What one payer has.

    Attributes:
        id: The account's name.
        quota: The sum of its grants.
        settled: The sum of its ledger's amounts.
        held: The sum of its live holds.
        declared: The part of ``quota`` that a configuration file declared.
        seq: How many ledger lines it has; each line carries its number, without gaps.
        requests: How many resolutions its ledger has.
        tokens: The sum of their tokens.
    """

    id: str
    quota: int = 0
    settled: int = 0
    held: int = 0
    declared: int = 0
    seq: int = 0
    requests: int = 0
    tokens: int = 0

    @property
    def available(self) -> int:
        """What admission goes by."""
        return self.quota - self.settled - self.held


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call to an upstream, as the ledger keeps it."""

    provider: str
    model: str
    status: int | None = None
    upstream_id: str | None = None
    error: str | None = None
    usage: Usage | None = None
    cost: int = 0


class Draft(Struct, frozen=True, kw_only=True):
    """
    What is known of a ledger entry when the hold is placed; kept with the hold, so that a sweeper can write the entry
    of an owner that died, and prices nothing.
    """

    consumer: str
    model: str
    requested_model: str
    price: Price
    key_id: str | None = None
    client_request_id: str | None = None
    stream: bool = False
    policy: str | None = None
    pricing_version: int = 1
    estimator_version: int = 1
    row_version: int = 1


class Report(Struct, frozen=True, kw_only=True):
    """
    What is known when a request has ended: the other half of its ledger entry.

    Attributes:
        usage_raw: The usage as the upstream reported it; JSON's ``null`` where it reported none.
    """

    outcome: Outcome
    estimated: bool = False
    usage: Usage = Usage()
    usage_raw: Raw = Raw(b"null")  # not Raw | None, which msgspec does not read back
    attempts: tuple[Attempt, ...] = ()


class Hold(Struct, frozen=True, kw_only=True):
    """
    Room taken before spending. It is presumed forwarded from its commit.

    Attributes:
        id: The request's id, time-ordered.
        accounts: The accounts it must fit in, the payer first. Empty for the tombstone of an unknown id.
        amount: What was granted.
        want: What was asked for, to tell a repeat from a conflict.
        state: See the module.
        owner: The worker whose lease covers it.
        deadline: When it expires even under a live lease.
        orphan_amount: What it is charged if its owner dies.
        charged: What it was resolved at, corrections included.
        draft: The entry to be, or None for a tombstone.
    """

    id: str
    accounts: tuple[str, ...]
    amount: int
    want: int
    state: HoldState
    owner: str
    deadline: float
    orphan_amount: int
    charged: int = 0
    draft: Draft | None = None


class Entry(Struct, frozen=True, kw_only=True):
    """
    One ledger line. ``UNIQUE(hold, class)``: one resolution, at most one overage, at most one signed correction.

    Attributes:
        id: The hold's id for a resolution; ``<hold>:overage`` and ``<hold>:correction`` for the others.
        hold: The hold it resolves; the request's id.
        line: Its class.
        account: Who is charged.
        seq: Its number in the account, gap-free.
        amount: Nano-dollars; negative only for a correction.
        held: What the hold was granted, which divides a cost between resolution and overage.
        created: By the store's clock.
        draft: What was known at the reserve.
        report: What was known at the end.
    """

    id: str
    hold: str
    line: LineClass
    account: str
    seq: int
    amount: int
    held: int
    created: float
    draft: Draft
    report: Report


class Balance(Struct, frozen=True, kw_only=True):
    """An account as a reader sees it: nano-dollars, requests and tokens."""

    account: str
    quota: int = 0
    used: int = 0
    held: int = 0
    requests: int = 0
    tokens: int = 0

    @property
    def remaining(self) -> int:
        """Quota less what was used; below zero after an overage."""
        return self.quota - self.used

    @property
    def available(self) -> int:
        """Remaining less live holds: what admission goes by."""
        return self.quota - self.used - self.held


class Reserve(Struct, frozen=True, kw_only=True, tag=True):
    """
    Place a hold, atomically, in every account it names.

    Grants ``want`` where it fits; else, where ``floor < want``, at most half of what is available but not less than
    ``floor``; else refuses. A repeat returns the stored grant.

    Attributes:
        ttl_s: The hard deadline, seconds from now.
    """

    id: str
    accounts: tuple[str, ...]
    want: int
    floor: int
    owner: str
    ttl_s: float
    orphan_amount: int
    draft: Draft


class Settle(Struct, frozen=True, kw_only=True, tag=True):
    """Swap a hold for what was used, and write its ledger entry in the same transaction."""

    id: str
    amount: int
    report: Report


class Release(Struct, frozen=True, kw_only=True, tag=True):
    """Give a hold back: nothing was forwarded. An unknown id leaves a tombstone, which a late reserve will find."""

    id: str


class Grant(Struct, frozen=True, kw_only=True, tag=True):
    """
    Add to an account's quota (or take from it), once per ``id``; makes the account.

    Attributes:
        expect: Grant only if the quota is exactly this now (a compare-and-set); None for always.
    """

    id: str
    account: str
    amount: int
    expect: int | None = None


class Declare(Struct, frozen=True, kw_only=True, tag=True):
    """Say what a configuration file declares for an account: the quota moves by the change since the last time."""

    account: str
    quota: int


class Renew(Struct, frozen=True, kw_only=True, tag=True):
    """Extend a worker's lease to ``ttl_s`` seconds from now, by the store's clock."""

    owner: str
    ttl_s: float


class Sweep(Struct, frozen=True, kw_only=True, tag=True):
    """Expire the holds whose owner's lease, or whose own deadline, has run out."""


Operation = Reserve | Settle | Release | Grant | Declare | Renew | Sweep


class Result(Struct, frozen=True, kw_only=True):
    """
    What became of one operation.

    Attributes:
        id: The operation's hold or grant id: every reply is checked against what was asked.
        status: ``done``; ``refused`` (it does not fit); ``conflict`` (decided otherwise before, the first wins);
            ``unknown`` (no such hold); ``fenced`` (the owner's lease has run out).
        amount: What was granted, charged, or swept.
        available: What the account had, for ``refused``.
        entries: The ledger lines written.
    """

    id: str = ""
    status: Status
    amount: int = 0
    available: int = 0
    entries: tuple[Entry, ...] = field(default_factory=tuple)
