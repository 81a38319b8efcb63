"""
Operations as ``hpp_apply`` reads them, and its results.

What is known at the reserve and at the end travels as the JSON text that msgspec makes of it, inside a JSON string: so
the database keeps it byte for byte, and never looks into what a client or a provider has written there.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from hpp_middleware.core.quota import KEEP_RESOLVED_S
from hpp_middleware.stores.books import MOST_SWEPT
from hpp_middleware.types.operations import (
    Checkpoint,
    Declare,
    Grant,
    Limit,
    Operation,
    Release,
    Renew,
    Reserve,
    Resize,
    Result,
    Settle,
)
from hpp_middleware.types.price import Usage
from hpp_middleware.types.quota import Draft, Entry, Outcome, Report

__all__ = ["Request", "archived", "as_json", "entry_from", "number", "request", "result_from", "title", "tokens"]

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)

_FURTHEST = 2**62 - 1
"""Beyond every number that is decided on, and still within what the database counts with, sums included."""


class _Item(Struct, frozen=True, kw_only=True, omit_defaults=True):
    op: str
    id: str = ""
    accounts: tuple[str, ...] | UnsetType = UNSET
    want: int | UnsetType = UNSET
    floor: int | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    ttl_s: float | UnsetType = UNSET
    amount: int | UnsetType = UNSET
    orphan_amount: int | UnsetType = UNSET
    attempt: int | UnsetType = UNSET
    expect: int | UnsetType = UNSET
    draft: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    report: str | UnsetType = UNSET
    outcome: Outcome | UnsetType = UNSET
    tokens: int | UnsetType = UNSET
    claim: str | UnsetType = UNSET
    fingerprint: str | UnsetType = UNSET
    claim_ttl_s: float | UnsetType = UNSET
    kept: bytes | UnsetType = UNSET
    most: int | UnsetType = UNSET
    keep_s: float | UnsetType = UNSET
    limited: tuple[str, ...] | UnsetType = UNSET
    limits: tuple[int, ...] | UnsetType = UNSET
    rest: bool = False
    spared: dict[str, int] | UnsetType = UNSET


class Request(NamedTuple):
    """The first four arguments of ``hpp_apply``: what to do, and what to lock for it."""

    operations: str
    names: list[str]
    makes: list[str]
    holds: list[str]


def request(operations: Iterable[Operation]) -> Request:
    """What to send for a batch."""
    items = [_item(operation) for operation in operations]
    names, makes, holds = set[str](), set[str](), set[str]()
    for item in items:
        if item.accounts is UNSET or item.op == "resize":
            holds.add(item.id)
        if item.accounts is UNSET:
            continue
        names.update(item.accounts)
        # A reserve of nothing is granted in an account that nobody granted anything, and then makes it.
        least = {"reserve": (item.want, item.floor), "resize": (item.amount,)}.get(item.op)
        if least is None or _least(*least) <= 0:
            makes.update(item.accounts)
        elif item.limited is not UNSET:
            makes.update(item.limited)
    return Request(_encode(items).decode(), sorted(names), sorted(makes), sorted(holds))


def result_from(row: Any) -> Result:
    """What became of one operation."""
    return Result(
        id=row["id"],
        status=row["status"],
        amount=row["amount"],
        available=row["available"],
        entries=tuple(entry_from(text) for text in row["entries"]),
        hold=row["hold"],
        kept=row["kept"],
        more=row["more"],
        short=row["short"],
    )


def archived(entries: Sequence[Entry]) -> str:
    """Ledger lines as ``hpp_archive`` reads them."""
    return as_json(
        [
            {
                "account": entry.account,
                "seq": entry.seq,
                "hold": entry.hold,
                "line": entry.line,
                "amount": entry.amount,
                "tokens": tokens(entry.report.usage) if entry.line != "overage" else 0,
                "created": entry.created,
                "model": title(entry.draft),
                "outcome": entry.report.outcome,
                "entry": as_json(entry),
            }
            for entry in entries
        ]
    )


def entry_from(text: str) -> Entry:
    """A ledger line from its column."""
    return _entry.decode(text)


def as_json(value: Any) -> str:
    """A value as JSON text."""
    return _encode(value).decode()


def number(value: int) -> int:
    """The value, or where the database could not count it one that is decided on just the same."""
    return max(-_FURTHEST, min(value, _FURTHEST))


def tokens(usage: Usage) -> int:
    """How many tokens a line adds to its account."""
    return number(usage.total)


def title(draft: Draft) -> str:
    """The model's name for a column; no text of this database has a NUL."""
    return draft.model.replace("\0", "\ufffd")


def _item(operation: Operation) -> _Item:
    match operation:
        case Reserve():
            return _reserve(operation)
        case Resize():
            return _Item(
                op="resize",
                id=operation.id,
                attempt=number(operation.attempt),
                amount=number(operation.amount),
                orphan_amount=number(operation.orphan_amount),
                draft=as_json(operation.draft),
                model=title(operation.draft),
                accounts=operation.accounts or UNSET,
                limited=_limited(operation.limits),
                limits=_limits(operation.limits),
            )
        case Checkpoint():
            return _Item(op="checkpoint", id=operation.id, orphan_amount=number(operation.orphan_amount))
        case Settle():
            item = _ending("settle", operation.id, operation.amount, operation.report)
            if operation.kept is None:
                return item
            return msgspec.structs.replace(item, kept=operation.kept.body, most=number(operation.kept.most))
        case Release():
            return _ending("release", operation.id, 0, Report(outcome="failed"))
        case Grant():
            expect = UNSET if operation.expect is None else number(operation.expect)
            amount = number(operation.amount)
            return _Item(op="grant", id=operation.id, accounts=(operation.account,), amount=amount, expect=expect)
        case Declare():
            quota = number(operation.quota)
            return _Item(op="declare", id=operation.account, accounts=(operation.account,), amount=quota)
        case Renew():
            return _Item(op="renew", id=operation.owner, accounts=(), ttl_s=operation.ttl_s)
        case _:
            sweep = _ending("sweep", "", 0, Report(outcome="orphaned", estimated=True))
            return msgspec.structs.replace(sweep, accounts=(), most=MOST_SWEPT, keep_s=KEEP_RESOLVED_S)


def _reserve(operation: Reserve) -> _Item:
    claim = operation.claim
    return _Item(
        op="reserve",
        id=operation.id,
        accounts=operation.accounts,
        want=number(operation.want),
        floor=number(operation.floor),
        owner=operation.owner,
        ttl_s=operation.ttl_s,
        orphan_amount=number(operation.orphan_amount),
        draft=as_json(operation.draft),
        model=title(operation.draft),
        claim=UNSET if claim is None else claim.key,
        fingerprint=UNSET if claim is None else claim.fingerprint,
        claim_ttl_s=UNSET if claim is None else claim.ttl_s,
        limited=_limited(operation.limits),
        limits=_limits(operation.limits),
        rest=operation.rest,
    )


def _ending(op: str, hold: str, amount: int, report: Report) -> _Item:
    """What writes ledger lines."""
    return _Item(
        op=op,
        id=hold,
        amount=number(amount),
        report=as_json(report),
        outcome=report.outcome,
        tokens=tokens(report.usage),
        spared={name: number(less) for name, less in report.spared} if report.spared else UNSET,
    )


def _limited(limits: Sequence[Limit]) -> tuple[str, ...] | UnsetType:
    return tuple(limit.account for limit in limits) if limits else UNSET


def _limits(limits: Sequence[Limit]) -> tuple[int, ...] | UnsetType:
    return tuple(number(limit.amount) for limit in limits) if limits else UNSET


def _least(*values: int | UnsetType) -> int:
    return min(value for value in values if value is not UNSET)
