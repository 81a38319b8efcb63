"""Operations as a script's arguments, and its replies as the frozen nouns."""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from hpp_middleware.core.quota import KEEP_RESOLVED_S, MAX_NANO
from hpp_middleware.errors import StoreError
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
    Status,
    Sweep,
)
from hpp_middleware.types.quota import Account, Draft, Entry, Hold, HoldState, Report, Statement

__all__ = ["Arguments", "account_from", "arguments", "entry_from", "hold_from", "result_from", "statement_from"]

Arguments = tuple[str | bytes, ...]

_text = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)
_draft = msgspec.json.Decoder(Draft)

_GIVEN_BACK = _text(Report(outcome="failed"))
_ORPHANED = _text(Report(outcome="orphaned", estimated=True))

ACCOUNT = ("quota", "settled", "held", "declared", "seq", "requests", "tokens")
"""The columns of an account, in the order in which they are read."""


def arguments(operation: Operation) -> tuple[str, Arguments]:
    """The script that carries out an operation, and its arguments."""
    match operation:
        case Reserve():
            return "reserve", _reserve(operation)
        case Resize():
            sane, amount = _counted(operation.amount)
            orphan = str(min(operation.orphan_amount, MAX_NANO))
            first = (operation.id, str(operation.attempt), amount, sane, orphan, _text(operation.draft))
            return "resize", (*first, *_limits(operation.limits), *operation.accounts)
        case Checkpoint():
            return "checkpoint", (operation.id, str(min(operation.orphan_amount, MAX_NANO)))
        case Settle():
            return "settle", _settle(operation)
        case Release():
            return "release", (operation.id, _text(operation.id), _GIVEN_BACK)
        case Grant():
            expect = "" if operation.expect is None else str(operation.expect)
            return "grant", (operation.id, operation.account, str(operation.amount), expect, _text(operation))
        case Declare():
            return "declare", (operation.account, str(operation.quota))
        case Renew():
            return "renew", (operation.owner, repr(float(operation.ttl_s)))
        case Sweep():
            return "sweep", (_ORPHANED, str(MOST_SWEPT), repr(KEEP_RESOLVED_S))


def result_from(operation: Operation, reply: Any) -> Result:
    """
    What a script's reply says of the operation that was asked for.

    Raises:
        StoreError: The reply is to something else.
    """
    if not isinstance(reply, list) or len(reply) != 9:
        raise StoreError("The store gave an answer that cannot be read.")
    name, status, amount, counts, lines, hold, kept, more, short = reply
    if name.decode() != asked(operation):
        raise StoreError("The store answered something else.")
    return Result(
        id=asked(operation),
        status=_status(status.decode()),
        amount=int(amount),
        available=_available([int(count) for count in counts]),
        entries=tuple(entry_from(line) for line in lines),
        hold=hold.decode(),
        kept=kept,
        more=bool(more),
        short=short.decode(),
    )


def asked(operation: Operation) -> str:
    """What the reply to an operation is known by."""
    match operation:
        case Declare():
            return operation.account
        case Renew():
            return operation.owner
        case Sweep():
            return ""
        case _:
            return operation.id


def account_from(name: str, counts: Sequence[bytes | None]) -> Account:
    """An account from its columns."""
    return Account(id=name, **{column: int(count or 0) for column, count in zip(ACCOUNT, counts, strict=False)})


def entry_from(line: bytes) -> Entry:
    """A ledger line."""
    return _entry.decode(line)


def hold_from(name: str, packed: bytes) -> Hold:
    """A hold as the scripts pack it."""
    row = _hold.decode(packed)
    return Hold(
        id=name,
        accounts=row.accounts,
        amount=row.amount,
        want=int(row.want),
        state=row.state,
        owner=row.owner,
        deadline=row.deadline,
        orphan_amount=row.orphan_amount,
        charged=row.charged,
        draft=_draft.decode(row.draft) if row.draft else None,
        attempt=row.attempt,
        claim=row.claim or None,
        resolved=None if row.state == "held" else row.resolved,
    )


def statement_from(name: str, reply: Any) -> Statement:
    """An account's statement: the sums are taken here, where they are exact."""
    _, fields, granted, held, charged, resolutions, last, overdue = reply
    gone, gone_amount, gone_resolutions, gone_granted = (int(field) for field in fields[len(ACCOUNT) :])
    return Statement(
        account=account_from(name, fields),
        granted=gone_granted + sum(int(amount) for amount in granted),
        held=sum(int(amount) for amount in held),
        charged=gone_amount + sum(int(amount) for amount in charged),
        lines=gone + len(charged),
        seq=int(last),
        resolutions=gone_resolutions + int(resolutions),
        overdue=int(overdue),
    )


class _Hold(Struct, array_like=True):
    """The places of a packed hold."""

    state: HoldState
    amount: int
    want: str
    owner: str
    deadline: float
    orphan_amount: int
    charged: int
    attempt: int
    claim: str
    resolved: float
    accounts: tuple[str, ...]
    name: str
    payer: str
    draft: str


_hold = msgspec.msgpack.Decoder(_Hold)


def _reserve(operation: Reserve) -> Arguments:
    sane, want = _counted(operation.want)
    claim = operation.claim
    return (
        operation.id,
        _text(operation.id),
        want,
        str(operation.floor),
        operation.owner,
        repr(float(operation.ttl_s)),
        str(min(operation.orphan_amount, MAX_NANO)),
        _text(operation.draft),
        sane if operation.floor >= 0 else "0",
        claim.key if claim is not None else "",
        claim.fingerprint if claim is not None else "",
        repr(float(claim.ttl_s)) if claim is not None else "",
        _text(operation.accounts[0]),
        "1" if operation.rest else "0",
        *_limits(operation.limits),
        *operation.accounts,
    )


def _limits(limits: Sequence[Limit]) -> Sequence[str]:
    """How many there are, then account and amount of each."""
    return [str(len(limits)), *(text for limit in limits for text in (limit.account, str(limit.amount)))]


def _settle(operation: Settle) -> Arguments:
    sane, amount = _counted(operation.amount)
    kept = operation.kept
    return (
        operation.id,
        amount,
        sane,
        _text(operation.report),
        str(operation.report.usage.total),
        "1" if operation.report.outcome == "failed" and operation.amount == 0 else "0",
        str(kept.most) if kept is not None else "",
        kept.body if kept is not None else b"",
        *(text for name, less in operation.report.spared for text in (name, str(less))),
    )


def _counted(amount: int) -> tuple[str, str]:
    """Whether a store can count an amount, and its text."""
    return ("1" if 0 <= amount <= MAX_NANO else "0"), str(amount)


def _available(counts: Sequence[int]) -> int:
    threes = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
    return min((quota - settled - held for quota, settled, held in threes), default=0)


def _status(text: str) -> Status:
    status: Status = msgspec.convert(text, Status)
    return status
