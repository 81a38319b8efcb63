"""
A transaction around the decision: what a store that calls the pure functions does for each operation.

The store supplies rows (:class:`Books`), one operation at a time and inside its own transaction; the functions of
:mod:`hpp_middleware.core.quota` decide. A refusal writes nothing, so that its neighbours in the batch are left alone.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from hpp_middleware.core import quota
from hpp_middleware.types.operations import Declare, Grant, Operation, Release, Renew, Reserve, Result, Settle, Sweep
from hpp_middleware.types.quota import Account, Entry, Hold

__all__ = ["Books", "carry_out"]


class Books(Protocol):
    """The rows of one open transaction."""

    def account(self, account_id: str) -> Account | None:
        """One account."""
        ...

    def hold(self, hold_id: str) -> Hold | None:
        """One hold, resolved ones too."""
        ...

    def granted(self, grant_id: str) -> int | None:
        """The amount granted under an id."""
        ...

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        ...

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out."""
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


def carry_out(books: Books, operation: Operation, *, now: float) -> Result:
    """One operation: load, decide, write back."""
    match operation:
        case Reserve():
            return _reserve(books, operation, now)
        case Settle():
            hold = books.hold(operation.id)
            return _write(books, quota.settle(operation, _accounts(books, hold), hold, now=now))
        case Release():
            return _release(books, operation, now)
        case Grant():
            return _grant(books, operation, now)
        case Declare():
            account = books.account(operation.account) or Account(id=operation.account)
            return _write(books, quota.declare(operation, account))
        case Renew():
            books.put_lease(operation.owner, now + operation.ttl_s)
            return Result(id=operation.owner, status="done")
        case Sweep():
            swept = [
                _write(books, quota.expire(hold, _accounts(books, hold), now=now)) for hold in list(books.due(now))
            ]
            entries = tuple(entry for result in swept for entry in result.entries)
            return Result(status="done", amount=len(swept), entries=entries)


def _reserve(books: Books, operation: Reserve, now: float) -> Result:
    lease = books.lease(operation.owner)
    if lease is None or lease <= now:
        return Result(id=operation.id, status="fenced")
    accounts = [books.account(name) or Account(id=name) for name in operation.accounts]
    return _write(books, quota.reserve(operation, accounts, books.hold(operation.id), now=now))


def _release(books: Books, operation: Release, now: float) -> Result:
    hold = books.hold(operation.id)
    if hold is None:
        books.put_hold(quota.tombstone(operation))
        return Result(id=operation.id, status="done")
    return _write(books, quota.release(operation, _accounts(books, hold), hold, now=now))


def _grant(books: Books, operation: Grant, now: float) -> Result:
    account = books.account(operation.account) or Account(id=operation.account)
    seen = books.granted(operation.id)
    change = quota.grant(operation, account, seen=seen)
    if seen is None and change.result.status == "done":
        books.put_grant(operation, now)
        return _write(books, change)
    return change.result


def _accounts(books: Books, hold: Hold | None) -> Sequence[Account]:
    names = hold.accounts if hold is not None else ()
    return [books.account(name) or Account(id=name) for name in names]


def _write(books: Books, change: quota.Change) -> Result:
    if change.result.status == "done":
        if change.hold is not None:
            books.put_hold(change.hold)
        for entry in change.result.entries:
            books.put_entry(entry)
        for account in change.accounts:
            books.put_account(account)
    return change.result
