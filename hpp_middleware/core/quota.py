"""
Accounts and holds: what each operation does to them.

These functions are the specification. The memory and SQLite stores call them inside a transaction; a faster store may
do the same in SQL or Lua, and must agree with them. ``now`` is always the store's own clock.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from hpp_middleware.core import damage
from hpp_middleware.types.operations import (
    Checkpoint,
    Declare,
    Grant,
    Limit,
    Release,
    Reserve,
    Resize,
    Result,
    Settle,
    Status,
)
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, HoldState, LineClass, Report

__all__ = [
    "KEEP_RESOLVED_S",
    "LIFE",
    "MAX_NANO",
    "Change",
    "balance",
    "checkpoint",
    "declare",
    "expire",
    "grant",
    "granted",
    "is_due",
    "release",
    "reserve",
    "resize",
    "settle",
    "tombstone",
]

MAX_NANO = 9 * 10**15
"""The largest quota, $9,000,000: every store can count it exactly, Redis with its doubles (2^53) too."""

KEEP_RESOLVED_S = 7 * 86_400
"""How long a resolved hold is remembered: a late reserve, settlement or correction finds it for as long."""


_replace = msgspec.structs.replace

LIFE: dict[tuple[HoldState, Literal["settle", "release", "expire"]], HoldState] = {
    ("held", "settle"): "settled",
    ("held", "release"): "released",
    ("held", "expire"): "expired",
    ("expired", "settle"): "corrected",
    ("expired", "release"): "corrected",
}
"""The life of a hold, whole: what is not here does not happen, and is told as a repeat or a conflict."""


class Change(Struct, frozen=True, gc=False):
    """What to write back: the accounts in the hold's order, the hold, and the result (with its ledger lines)."""

    accounts: tuple[Account, ...]
    hold: Hold | None
    result: Result


def granted(want: int, floor: int, available: int, *, rest: bool = False) -> int | None:
    """
    How much a reserve gets, or None where it is refused.

    All of ``want`` if it fits; else at most half of what is available, so that one request never takes the last of it,
    but not less than ``floor``; or all of it, where ``rest`` says so.
    """
    if want <= available:
        return want
    if floor >= want or floor > available:
        return None
    if rest:
        return available
    return min(want, max(floor, available // 2))


def reserve(operation: Reserve, accounts: Sequence[Account], hold: Hold | None, *, now: float) -> Change:
    """Take room for a hold in each of its accounts, or in none."""
    if hold is not None:
        same = hold.state == "held" and hold.want == operation.want and hold.accounts == operation.accounts
        if not same:
            return Change(tuple(accounts), None, Result(id=operation.id, status="conflict"))
        return Change(tuple(accounts), None, Result(id=operation.id, status="done", amount=hold.amount))
    rooms = _limited(accounts, operation.limits) if operation.limits else accounts
    available = rooms[0].available if len(rooms) == 1 else min([account.available for account in rooms])
    want, floor = operation.want, operation.floor
    is_sane = 0 <= want <= MAX_NANO and floor >= 0
    amount = granted(want, floor, available, rest=operation.rest) if is_sane else None
    if amount is None:
        short = _short(rooms) if is_sane else ""
        refused = Result(id=operation.id, status="refused", available=available, short=short)
        return Change(tuple(accounts), None, refused)
    claim = operation.claim
    placed = Hold(
        id=operation.id,
        accounts=operation.accounts,
        amount=amount,
        want=want,
        state="held",
        owner=operation.owner,
        deadline=now + operation.ttl_s,
        orphan_amount=max(0, min(operation.orphan_amount, amount)),
        draft=operation.draft,
        claim=None if claim is None else claim.key,
    )
    result = Result(id=operation.id, status="done", amount=amount, available=available)
    return Change(_held(rooms, amount), placed, result)


def resize(operation: Resize, accounts: Sequence[Account], hold: Hold | None) -> Change:
    """
    Give a live hold another amount, in each of its accounts or in none; and move it to others, where they are named.

    A repeat of the last attempt changes nothing; an older attempt, or another amount for the same one, is a conflict.

    Args:
        operation: What is wanted.
        accounts: Those of the hold, and then the others that the operation names.
        hold: As it is.
    """
    if hold is None:
        return Change(tuple(accounts), None, Result(id=operation.id, status="unknown"))
    if hold.state == "held" and (hold.attempt, hold.amount) == (operation.attempt, operation.amount):
        return Change(tuple(accounts), None, Result(id=operation.id, status="done", amount=hold.amount))
    whose = operation.accounts or hold.accounts
    if hold.state != "held" or operation.attempt <= hold.attempt or whose[0] != hold.accounts[0]:
        return Change(tuple(accounts), None, Result(id=operation.id, status="conflict", amount=hold.amount))
    more = operation.amount - hold.amount
    named = {account.id: account for account in accounts}
    into = _limited([named.pop(name) for name in whose], operation.limits)
    # One that the hold is in already has room for what it has; and what is given back always fits.
    rooms = [(each.available - (0 if each.id in hold.accounts else hold.amount), each.id) for each in into]
    counted = [room for room in rooms if more > 0 or room[1] not in hold.accounts] or rooms
    available, short = min(counted, key=lambda room: room[0])
    is_sane = 0 <= operation.amount <= MAX_NANO
    if not is_sane or (more > available and (more > 0 or short not in hold.accounts)):
        refused = Result(
            id=operation.id,
            status="refused",
            amount=hold.amount,
            available=available,
            short=short if is_sane else "",
        )
        return Change(tuple(accounts), None, refused)
    resized = _replace(
        hold,
        accounts=whose,
        amount=operation.amount,
        attempt=operation.attempt,
        orphan_amount=min(operation.amount, max(hold.orphan_amount, operation.orphan_amount)),
        draft=operation.draft,
    )
    written = [*_held(list(named.values()), -hold.amount)]
    for account in into:
        written += _held([account], more if account.id in hold.accounts else operation.amount)
    return Change(tuple(written), resized, Result(id=operation.id, status="done", amount=operation.amount))


def checkpoint(operation: Checkpoint, accounts: Sequence[Account], hold: Hold | None) -> Change:
    """Raise what a live hold is charged if its owner dies; never above the hold, and never lower than it was."""
    if hold is None:
        return Change(tuple(accounts), None, Result(id=operation.id, status="unknown"))
    if hold.state != "held":
        return Change(tuple(accounts), None, Result(id=operation.id, status="conflict"))
    amount = max(hold.orphan_amount, min(operation.orphan_amount, hold.amount))
    raised = _replace(hold, orphan_amount=amount)
    return Change((), raised, Result(id=operation.id, status="done", amount=amount))


def settle(operation: Settle, accounts: Sequence[Account], hold: Hold | None, *, now: float) -> Change:
    """
    Swap a hold for what was used.

    What exceeds the hold is a line of its own. A hold that a sweeper has expired meanwhile gets one signed correction.
    The first amount wins: a repeat with the same one changes nothing, another one is a conflict. An amount that no
    store can count is refused, and leaves the hold as it was.
    """
    if hold is None:
        return Change(tuple(accounts), None, Result(id=operation.id, status="unknown"))
    if not 0 <= operation.amount <= MAX_NANO:
        return Change(tuple(accounts), None, Result(id=operation.id, status="refused", amount=hold.charged))
    after = LIFE.get((hold.state, "settle"))
    if after is not None:
        return _charge(operation, accounts, hold, after, now=now)
    same = hold.state != "released" and hold.charged == operation.amount
    status: Status = "done" if same else "conflict"
    return Change(tuple(accounts), None, Result(id=operation.id, status=status, amount=hold.charged))


def release(operation: Release, accounts: Sequence[Account], hold: Hold, *, now: float) -> Change:
    """
    Give a hold back: nothing was forwarded.

    After a sweep the account has been charged already, so that the release is a correction down to nothing.
    """
    after = LIFE.get((hold.state, "release"))
    if after == "released":
        freed = _held(accounts, -hold.amount)
        released = _replace(hold, state=after, resolved=now)
        return Change(freed, released, Result(id=operation.id, status="done"))
    if after is not None:
        nothing = Settle(id=hold.id, amount=0, report=Report(outcome="failed"))
        return _charge(nothing, accounts, hold, after, now=now)
    same = hold.state == "released" or hold.charged == 0
    return Change(tuple(accounts), None, Result(id=operation.id, status="done" if same else "conflict"))


def tombstone(operation: Release, *, now: float) -> Hold:
    """What a release of an unknown id leaves behind, so that a reserve which arrives late finds it."""
    return Hold(
        id=operation.id,
        accounts=(),
        amount=0,
        want=0,
        state="released",
        owner="",
        deadline=0.0,
        orphan_amount=0,
        resolved=now,
    )


def is_due(hold: Hold, *, lease_until: float | None, now: float) -> bool:
    """Whether a live hold is the sweeper's: its owner's lease, or its own deadline, has run out."""
    return hold.state == "held" and (hold.deadline <= now or lease_until is None or lease_until <= now)


def expire(hold: Hold, accounts: Sequence[Account], *, now: float) -> Change:
    """
    Charge a hold whose owner died what its owner said it should then be charged.

    One that somebody has damaged is ``refused``, and nothing of it changes, so that all others are swept.
    """
    state = LIFE[hold.state, "expire"]
    if not damage.is_sound(hold, accounts, most=MAX_NANO):
        return Change(tuple(accounts), None, Result(id=hold.id, status="refused", amount=hold.charged))
    report = Report(outcome="orphaned", estimated=True)
    operation = Settle(id=hold.id, amount=max(0, min(hold.orphan_amount, hold.amount)), report=report)
    return _charge(operation, accounts, hold, state, now=now)


def grant(operation: Grant, account: Account, *, seen: tuple[str, int] | None) -> Change:
    """
    Add to a quota.

    Args:
        operation: What to grant.
        account: The account, new or not.
        seen: To which account, and how much, was granted already under this id; or None.
    """
    if seen is not None:
        status: Status = "done" if seen == (operation.account, operation.amount) else "conflict"
        return Change((account,), None, Result(id=operation.id, status=status, amount=seen[1]))
    quota = account.quota + operation.amount
    if operation.expect not in {None, account.quota}:
        return Change((account,), None, Result(id=operation.id, status="conflict", amount=account.quota))
    if not 0 <= quota <= MAX_NANO:
        return Change((account,), None, Result(id=operation.id, status="refused", amount=account.quota))
    written = _replace(account, quota=quota)
    return Change((written,), None, Result(id=operation.id, status="done", amount=operation.amount))


def declare(operation: Declare, account: Account) -> Change:
    """Move a quota by the change in what the configuration file declares for it; grants made besides are kept."""
    written = _declared(account, operation.quota)
    if written is None:
        return Change((account,), None, Result(id=account.id, status="refused", amount=account.quota))
    return Change((written,), None, Result(id=account.id, status="done", amount=written.quota - account.quota))


def balance(account: Account) -> Balance:
    """An account as a reader sees it."""
    return Balance(
        account=account.id,
        quota=account.quota,
        used=account.settled,
        held=account.held,
        requests=account.requests,
        tokens=account.tokens,
    )


def _declared(account: Account, amount: int) -> Account | None:
    """An account of which this much is declared; None where no store could count what it comes to."""
    quota = account.quota + amount - account.declared
    if not 0 <= amount <= MAX_NANO or not 0 <= quota <= MAX_NANO:
        return None
    return _replace(account, quota=quota, declared=amount)


def _limited(accounts: Sequence[Account], limits: Sequence[Limit]) -> Sequence[Account]:
    """The accounts of a hold with what is declared of them when it is placed or moved."""
    if not limits:
        return accounts
    amounts = {limit.account: limit.amount for limit in limits}
    return [
        (_declared(account, amounts[account.id]) or account) if account.id in amounts else account
        for account in accounts
    ]


def _short(accounts: Sequence[Account]) -> str:
    """Which of them has the least room."""
    return min(accounts, key=lambda account: account.available).id


def _held(accounts: Sequence[Account], more: int) -> tuple[Account, ...]:
    """The accounts with so much more held in each."""
    if len(accounts) == 1:
        return (_replace(accounts[0], held=accounts[0].held + more),)
    return tuple([_replace(account, held=account.held + more) for account in accounts])


def _charge(operation: Settle, accounts: Sequence[Account], hold: Hold, state: HoldState, *, now: float) -> Change:
    """
    Bring a hold into a state in which it is charged, with the ledger lines that say so.

    Every account is charged, but for what it is spared; the lines, and what is counted by them, are the payer's. A
    correction brings the tokens that the sweeper could not know.
    """
    if hold.draft is None:
        raise ValueError("a tombstone is never charged")
    payer, report = accounts[0], operation.report
    line: LineClass = "resolution"
    name, moved, freed = hold.id, operation.amount, hold.amount
    within = min(moved, freed)
    if state == "corrected":
        line, name, freed = "correction", f"{hold.id}:correction", 0
        moved = within = operation.amount - hold.charged
    entry = Entry(
        id=name,
        hold=hold.id,
        line=line,
        account=payer.id,
        seq=payer.seq + 1,
        amount=within,
        held=hold.amount,
        created=now,
        draft=hold.draft,
        report=report,
    )
    entries: tuple[Entry, ...] = (entry,)
    if moved > within:
        over = _replace(entry, id=f"{hold.id}:overage", line="overage", seq=entry.seq + 1, amount=moved - within)
        entries = (entry, over)
    charged = _replace(
        payer,
        settled=payer.settled + moved,
        held=payer.held - freed,
        seq=payer.seq + len(entries),
        requests=payer.requests + (line == "resolution"),
        tokens=payer.tokens + report.usage.total,
    )
    written: tuple[Account, ...] = (charged,)
    if len(accounts) > 1:
        less = dict(report.spared)
        others = [
            _replace(each, settled=each.settled + moved - less.get(each.id, 0), held=each.held - freed)
            for each in accounts[1:]
        ]
        written = (charged, *others)
    resolved = _replace(hold, state=state, charged=operation.amount, resolved=now)
    return Change(written, resolved, Result(id=hold.id, status="done", amount=operation.amount, entries=entries))
