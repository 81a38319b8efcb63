"""
A transaction around the decision: what a store that calls the pure functions does for each operation.

The store supplies rows (:class:`Books`), one operation at a time and inside its own transaction; the functions of
:mod:`hpp_middleware.core.quota` decide. A refusal writes nothing, so that its neighbours in the batch are left alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from hpp_middleware.core import claims, quota
from hpp_middleware.types.operations import (
    Checkpoint,
    Declare,
    Grant,
    Operation,
    Release,
    Renew,
    Reserve,
    Resize,
    Result,
    Settle,
    Sweep,
)
from hpp_middleware.types.quota import Account, Claimed, Entry, Hold

__all__ = ["MOST_SWEPT", "Books", "carry_out"]

MOST_SWEPT = 1000
"""How much one sweep does at most, so that nobody waits long for it; the next one goes on."""


class Books(Protocol):
    """The rows of one open transaction."""

    def account(self, account_id: str) -> Account | None:
        """One account."""
        ...

    def hold(self, hold_id: str) -> Hold | None:
        """One hold, resolved ones too."""
        ...

    def granted(self, grant_id: str) -> tuple[str, int] | None:
        """To which account, and how much, was granted under an id."""
        ...

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        ...

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out, all of them, one after the other."""
        ...

    def claim(self, key: str) -> Claimed | None:
        """One idempotency claim."""
        ...

    def kept_bytes(self, account_id: str) -> int:
        """How long the answers are that an account has kept, those out of date that are not pruned yet among them."""
        ...

    def put_account(self, account: Account) -> None:
        """Write an account."""
        ...

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        ...

    def put_grant(self, grant: Grant, now: float) -> None:
        """Keep a grant."""
        ...

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease; one that reaches further already stays."""
        ...

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        ...

    def put_claim(self, claimed: Claimed) -> None:
        """Write a claim."""
        ...

    def prune(self, now: float, before: float, most: int) -> bool:
        """
        Forget holds that were resolved, and leases that ended, before a moment; and claims that are out of date by now
        and whose hold does not live. At most so many of each.

        Returns:
            Whether there may be more: it were so many of one.
        """
        ...


def carry_out(books: Books, operation: Operation, *, now: float) -> Result:
    """One operation: load, decide, write back."""
    return _HOW[type(operation)](books, operation, now)


def _reserve(books: Books, operation: Reserve, now: float) -> Result:
    lease = books.lease(operation.owner)
    if lease is None or lease <= now:
        return Result(id=operation.id, status="fenced")
    accounts, hold, claim = _named(books, operation.accounts), books.hold(operation.id), operation.claim
    if claim is not None and hold is None:
        found = books.claim(claim.key)
        other = books.hold(found.hold) if found is not None else None
        taken = claims.answer(operation, claim, found, other, now=now)
        if taken is not None:
            return taken
    change = quota.reserve(operation, accounts, hold, now=now)
    if claim is not None and change.hold is not None:
        books.put_claim(claims.claimed(claim, change.hold, now=now))
    return _write(books, change)


def _settle(books: Books, operation: Settle, now: float) -> Result:
    hold = books.hold(operation.id)
    change = quota.settle(operation, _accounts(books, hold), hold, now=now)
    charged = change.hold
    if charged is not None and charged.claim is not None:
        found = books.claim(charged.claim)
        stored = books.kept_bytes(charged.accounts[0]) if operation.kept is not None else 0
        after = claims.after(operation, found, charged, stored=stored, now=now)
        if after is not None:
            books.put_claim(after)
    return _write(books, change)


def _resize(books: Books, operation: Resize, _now: float) -> Result:
    hold = books.hold(operation.id)
    others = [name for name in operation.accounts if hold is not None and name not in hold.accounts]
    return _write(books, quota.resize(operation, [*_accounts(books, hold), *_named(books, others)], hold))


def _checkpoint(books: Books, operation: Checkpoint, _now: float) -> Result:
    hold = books.hold(operation.id)
    return _write(books, quota.checkpoint(operation, _accounts(books, hold), hold))


def _renew(books: Books, operation: Renew, now: float) -> Result:
    books.put_lease(operation.owner, now + operation.ttl_s)
    return Result(id=operation.owner, status="done")


def _sweep(books: Books, _operation: Sweep, now: float) -> Result:
    swept: list[Result] = []
    left = ""
    for hold in books.due(now):
        result = _write(books, quota.expire(hold, _accounts(books, hold), now=now))
        if result.status != "done":  # counted with none, so that it hides nothing that stands behind it
            left = left or hold.id
            continue
        swept.append(result)
        if len(swept) == MOST_SWEPT:
            break
    more = books.prune(now, now - quota.KEEP_RESOLVED_S, MOST_SWEPT)
    return Result(
        status="done",
        amount=len(swept),
        entries=tuple(entry for result in swept for entry in result.entries),
        hold=left,
        more=more or len(swept) == MOST_SWEPT,
    )


def _release(books: Books, operation: Release, now: float) -> Result:
    hold = books.hold(operation.id)
    if hold is None:
        books.put_hold(quota.tombstone(operation, now=now))
        return Result(id=operation.id, status="done")
    change = quota.release(operation, _accounts(books, hold), hold, now=now)
    if hold.claim is not None and change.hold is not None and change.hold.state == "corrected":
        freed = claims.freed(books.claim(hold.claim), hold, now=now)
        if freed is not None:
            books.put_claim(freed)
    return _write(books, change)


def _declare(books: Books, operation: Declare, _now: float) -> Result:
    account = books.account(operation.account) or Account(id=operation.account)
    return _write(books, quota.declare(operation, account))


def _grant(books: Books, operation: Grant, now: float) -> Result:
    account = books.account(operation.account) or Account(id=operation.account)
    seen = books.granted(operation.id)
    change = quota.grant(operation, account, seen=seen)
    if seen is None and change.result.status == "done":
        books.put_grant(operation, now)
        return _write(books, change)
    return change.result


def _accounts(books: Books, hold: Hold | None) -> Sequence[Account]:
    return _named(books, hold.accounts) if hold is not None else ()


def _named(books: Books, names: Sequence[str]) -> Sequence[Account]:
    if len(names) == 1:
        return (books.account(names[0]) or Account(id=names[0]),)
    return [books.account(name) or Account(id=name) for name in names]


def _write(books: Books, change: quota.Change) -> Result:
    result = change.result
    if result.status != "done":
        return result
    if change.hold is not None:
        books.put_hold(change.hold)
    for entry in result.entries:
        books.put_entry(entry)
    for account in change.accounts:
        books.put_account(account)
    return result


_HOW: dict[type[Operation], Callable[[Books, Any, float], Result]] = {
    Reserve: _reserve,
    Resize: _resize,
    Checkpoint: _checkpoint,
    Settle: _settle,
    Release: _release,
    Grant: _grant,
    Declare: _declare,
    Renew: _renew,
    Sweep: _sweep,
}
