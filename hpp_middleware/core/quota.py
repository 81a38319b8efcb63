"""
Accounts and holds: what each operation does to them.

These functions are the specification. The memory and SQLite stores call them inside a transaction; a faster store may
do the same in SQL or Lua, and must agree with them. ``now`` is always the store's own clock.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hpp_middleware.types.operations import Declare, Grant, Release, Reserve, Result, Settle, Status
from hpp_middleware.types.quota import Account, Balance, Entry, Hold, HoldState, LineClass, Report

__all__ = [
    "MAX_NANO",
    "Change",
    "balance",
    "declare",
    "expire",
    "grant",
    "granted",
    "is_due",
    "release",
    "reserve",
    "settle",
    "tombstone",
]

MAX_NANO = 9 * 10**15
"""The largest quota, $9,000,000: every store can count it exactly, Redis with its doubles (2^53) too."""


class Change(NamedTuple):
    """What to write back: the accounts in the hold's order, the hold, and the result (with its ledger lines)."""

    accounts: tuple[Account, ...]
    hold: Hold | None
    result: Result


def granted(want: int, floor: int, available: int) -> int | None:
    """
    How much a reserve gets, or None where it is refused.

    All of ``want`` if it fits; else at most half of what is available, so that one request never takes the last of it,
    but not less than ``floor``.
    """
    if want <= available:
        return want
    if floor >= want or floor > available:
        return None
    return min(want, max(floor, available // 2))


def reserve(operation: Reserve, accounts: Sequence[Account], hold: Hold | None, *, now: float) -> Change:
    """Take room for a hold in each of its accounts, or in none."""
    unchanged = tuple(accounts)
    if hold is not None:
        same = hold.state == "held" and hold.want == operation.want and hold.accounts == operation.accounts
        if not same:
            return Change(unchanged, None, Result(id=operation.id, status="conflict"))
        return Change(unchanged, None, Result(id=operation.id, status="done", amount=hold.amount))
    available = min(account.available for account in accounts)
    sane = 0 <= operation.want <= MAX_NANO and operation.floor >= 0
    amount = granted(operation.want, operation.floor, available) if sane else None
    if amount is None:
        return Change(unchanged, None, Result(id=operation.id, status="refused", available=available))
    placed = Hold(
        id=operation.id,
        accounts=operation.accounts,
        amount=amount,
        want=operation.want,
        state="held",
        owner=operation.owner,
        deadline=now + operation.ttl_s,
        orphan_amount=max(0, min(operation.orphan_amount, amount)),
        draft=operation.draft,
    )
    written = tuple(msgspec.structs.replace(account, held=account.held + amount) for account in accounts)
    return Change(written, placed, Result(id=operation.id, status="done", amount=amount, available=available))


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
    if hold.state == "held":
        return _resolve(operation, accounts, hold, state="settled", now=now)
    if hold.state == "expired":
        return _correct(operation, accounts, hold, now=now)
    same = hold.state != "released" and hold.charged == operation.amount
    status: Status = "done" if same else "conflict"
    return Change(tuple(accounts), None, Result(id=operation.id, status=status, amount=hold.charged))


def release(operation: Release, accounts: Sequence[Account], hold: Hold, *, now: float) -> Change:
    """
    Give a hold back: nothing was forwarded.

    After a sweep the account has been charged already, so that the release is a correction down to nothing.
    """
    if hold.state == "held":
        freed = tuple(msgspec.structs.replace(account, held=account.held - hold.amount) for account in accounts)
        released = msgspec.structs.replace(hold, state="released")
        return Change(freed, released, Result(id=operation.id, status="done"))
    if hold.state == "expired":
        report = Report(outcome="failed")
        return _correct(Settle(id=hold.id, amount=0, report=report), accounts, hold, now=now)
    same = hold.state == "released" or hold.charged == 0
    return Change(tuple(accounts), None, Result(id=operation.id, status="done" if same else "conflict"))


def tombstone(operation: Release) -> Hold:
    """What a release of an unknown id leaves behind, so that a reserve which arrives late finds it."""
    return Hold(
        id=operation.id, accounts=(), amount=0, want=0, state="released", owner="", deadline=0.0, orphan_amount=0
    )


def is_due(hold: Hold, *, lease_until: float | None, now: float) -> bool:
    """Whether a live hold is the sweeper's: its owner's lease, or its own deadline, has run out."""
    return hold.state == "held" and (hold.deadline <= now or lease_until is None or lease_until <= now)


def expire(hold: Hold, accounts: Sequence[Account], *, now: float) -> Change:
    """Charge a hold whose owner died what its owner said it should then be charged."""
    report = Report(outcome="orphaned", estimated=True)
    operation = Settle(id=hold.id, amount=hold.orphan_amount, report=report)
    return _resolve(operation, accounts, hold, state="expired", now=now)


def grant(operation: Grant, account: Account, *, seen: int | None) -> Change:
    """
    Add to a quota.

    Args:
        operation: What to grant.
        account: The account, new or not.
        seen: The amount already granted under this id, or None.
    """
    if seen is not None:
        status: Status = "done" if seen == operation.amount else "conflict"
        return Change((account,), None, Result(id=operation.id, status=status, amount=seen))
    quota = account.quota + operation.amount
    if operation.expect not in {None, account.quota}:
        return Change((account,), None, Result(id=operation.id, status="conflict", amount=account.quota))
    if not 0 <= quota <= MAX_NANO:
        return Change((account,), None, Result(id=operation.id, status="refused", amount=account.quota))
    written = msgspec.structs.replace(account, quota=quota)
    return Change((written,), None, Result(id=operation.id, status="done", amount=operation.amount))


def declare(operation: Declare, account: Account) -> Change:
    """Move a quota by the change in what the configuration file declares for it; grants made besides are kept."""
    quota = account.quota + operation.quota - account.declared
    if not 0 <= operation.quota <= MAX_NANO or not 0 <= quota <= MAX_NANO:
        return Change((account,), None, Result(id=account.id, status="refused", amount=account.quota))
    written = msgspec.structs.replace(account, quota=quota, declared=operation.quota)
    return Change((written,), None, Result(id=account.id, status="done", amount=quota - account.quota))


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


def _resolve(operation: Settle, accounts: Sequence[Account], hold: Hold, *, state: HoldState, now: float) -> Change:
    within = min(operation.amount, hold.amount)
    lines: list[tuple[LineClass, int]] = [("resolution", within)]
    if operation.amount > within:
        lines.append(("overage", operation.amount - within))
    entries = _entries(lines, accounts[0], hold, operation.report, now)
    charged = msgspec.structs.replace(hold, state=state, charged=operation.amount)
    written = tuple(_charge(account, operation.amount, entries, freed=hold.amount) for account in accounts)
    result = Result(id=operation.id, status="done", amount=operation.amount, entries=entries)
    return Change(written, charged, result)


def _correct(operation: Settle, accounts: Sequence[Account], hold: Hold, *, now: float) -> Change:
    difference = operation.amount - hold.charged
    entries = _entries([("correction", difference)], accounts[0], hold, operation.report, now)
    charged = msgspec.structs.replace(hold, state="corrected", charged=operation.amount)
    written = tuple(_charge(account, difference, entries, freed=0) for account in accounts)
    result = Result(id=operation.id, status="done", amount=operation.amount, entries=entries)
    return Change(written, charged, result)


def _charge(account: Account, amount: int, entries: Sequence[Entry], *, freed: int) -> Account:
    resolutions = [entry for entry in entries if entry.line == "resolution"]
    # A correction brings the tokens that the sweeper could not know; a resolution brings its own.
    tokens = sum(entry.report.usage.total for entry in entries if entry.line != "overage")
    return msgspec.structs.replace(
        account,
        settled=account.settled + amount,
        held=account.held - freed,
        seq=account.seq + len(entries),
        requests=account.requests + len(resolutions),
        tokens=account.tokens + tokens,
    )


def _entries(
    lines: Sequence[tuple[LineClass, int]], account: Account, hold: Hold, report: Report, now: float
) -> tuple[Entry, ...]:
    if hold.draft is None:
        raise ValueError("a tombstone is never charged")
    return tuple(
        Entry(
            id=hold.id if line == "resolution" else f"{hold.id}:{line}",
            hold=hold.id,
            line=line,
            account=account.id,
            seq=account.seq + number,
            amount=amount,
            held=hold.amount,
            created=now,
            draft=hold.draft,
            report=report,
        )
        for number, (line, amount) in enumerate(lines, start=1)
    )
