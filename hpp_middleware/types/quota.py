"""
Accounts, holds and the ledger; what is done to them stands in :mod:`hpp_middleware.types.operations`.

The life of a hold: ``held -> settled | released | expired``, and once ``expired -> corrected``. Nothing else.
All amounts are nano-dollars; all times are seconds since the epoch by the store's clock.

A ledger in memory has many of these, and none can be part of a cycle: the garbage collector passes them by (``gc``).
"""

from typing import Literal

from msgspec import Raw, Struct

from hpp_middleware.types.auto import Routed
from hpp_middleware.types.price import Price, Usage

__all__ = [
    "Account",
    "Attempt",
    "Balance",
    "Claimed",
    "Draft",
    "Entry",
    "Hold",
    "HoldState",
    "LineClass",
    "Outcome",
    "Report",
    "Seal",
    "Statement",
]

HoldState = Literal["held", "settled", "released", "expired", "corrected"]
LineClass = Literal["resolution", "overage", "correction"]
Outcome = Literal["completed", "abandoned", "failed", "orphaned"]


class Account(Struct, frozen=True, kw_only=True, gc=False):
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


class Attempt(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    One call to an upstream, as the ledger keeps it.

    Attributes:
        price: What its tokens cost, where there were several calls; else the draft's price is.
        upstream: Which of the provider's upstreams it went to, where it has several.
    """

    provider: str
    model: str
    status: int | None = None
    upstream_id: str | None = None
    error: str | None = None
    usage: Usage | None = None
    cost: int = 0
    price: Price | None = None
    upstream: str | None = None


class Draft(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What is known of a ledger entry when the hold is placed; kept with the hold, so that a sweeper can write the entry
    of an owner that died, and prices nothing.

    Attributes:
        policy: The version of the rules that chose the model; None where the client did.
        routed: How they did.
        also: The accounts besides the payer's that are charged: those above it, and budgets.
        downgraded: Which budget had no room for the model that was asked for; None where none was in the way.
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
    routed: Routed | None = None
    also: tuple[str, ...] = ()
    downgraded: str | None = None


class Report(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    What is known when a request has ended: the other half of its ledger entry.

    Attributes:
        usage_raw: The usage as the upstream reported it; JSON's ``null`` where it reported none.
        spared: By how much less than the whole accounts are charged that the draft names besides the payer's: a budget
            of one model has no part in what another one of the same request came to.
    """

    outcome: Outcome
    estimated: bool = False
    usage: Usage = Usage()
    usage_raw: Raw = Raw(b"null")  # not Raw | None, which msgspec does not read back
    attempts: tuple[Attempt, ...] = ()
    spared: tuple[tuple[str, int], ...] = ()


class Hold(Struct, frozen=True, kw_only=True, gc=False):
    """
    Room taken before spending. It is presumed forwarded from its commit.

    Attributes:
        id: The request's id, time-ordered.
        accounts: The accounts it must fit in, the payer first. Empty for the tombstone of an unknown id.
        amount: What was granted; a resize changes it.
        want: What was asked for at first, to tell a repeat from a conflict.
        state: See the module.
        owner: The worker whose lease covers it.
        deadline: When it expires even under a live lease.
        orphan_amount: What it is charged if its owner dies.
        charged: What it was resolved at, corrections included.
        draft: The entry to be, or None for a tombstone.
        attempt: Which attempt it was last resized for; 0 for the first.
        claim: The idempotency claim that was placed with it.
        resolved: When it left the state ``held``; what was resolved long ago is forgotten.
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
    attempt: int = 0
    claim: str | None = None
    resolved: float | None = None


class Claimed(Struct, frozen=True, kw_only=True, gc=False):
    """
    An idempotency key that is in use: it was placed with a hold, and dies with it or with its time.

    Attributes:
        key: A digest of account and key; no store sees the key itself.
        fingerprint: A digest of the request, to tell a repeat from another one.
        hold: The hold it was placed with.
        account: Who pays for that.
        expires: When it is forgotten.
        kept: The answer, encrypted; None where there is none to give again.
    """

    key: str
    fingerprint: str
    hold: str
    account: str
    expires: float
    kept: bytes | None = None


class Entry(Struct, frozen=True, kw_only=True, gc=False):
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

    def share(self, account: str) -> int:
        """What this line charges to an account that its draft names besides the payer's; all lines of a hold sum up."""
        if self.line == "overage" or not self.report.spared:
            return self.amount
        return self.amount - dict(self.report.spared).get(account, 0)


class Balance(Struct, frozen=True, kw_only=True, gc=False):
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


class Statement(Struct, frozen=True, kw_only=True, gc=False):
    """
    One account and what its rows add up to, read in one snapshot: what an auditor compares.

    Attributes:
        account: The account as it stands.
        granted: The sum of its grants, without what was declared.
        held: The sum of the live holds that name it.
        charged: The sum of its ledger lines.
        lines: How many there are.
        seq: The highest number among them.
        resolutions: How many of them are resolutions.
        overdue: How many live holds name it that should have expired more than a minute ago: nobody has swept.
    """

    account: Account
    granted: int
    held: int
    charged: int
    lines: int
    seq: int
    resolutions: int
    overdue: int = 0


class Seal(Struct, frozen=True, kw_only=True, gc=False):
    """
    The head of an account's chain after some line: an HMAC over that line and the head before it.

    Attributes:
        account: Whose chain.
        seq: The line it was taken after.
        mac: The HMAC, in hex.
        key: Which key made it.
        created: When it was taken.
    """

    account: str
    seq: int
    mac: str
    key: str
    created: float
