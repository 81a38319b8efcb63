"""
A settled hold and its ledger line as one record of bytes: nothing becomes of them any more, and there are many.

What recurs from one request to the next (who is charged, the model and its price, the shape of what the provider
reports) is kept once, and a record has its number; what is the request's own stands in the record.
"""

import re
from binascii import a2b_hex
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from hpp_middleware.types.auto import Routed
from hpp_middleware.types.price import Price, Usage
from hpp_middleware.types.quota import Attempt, Draft, Entry, Hold, Outcome, Report

__all__ = ["MOST_KNOWN", "Packer", "Record", "begins", "figures", "record"]

MOST_KNOWN = 10_000
"""So many things are kept once: where there are more, they do not recur."""

T = TypeVar("T")
_RUNS = re.compile(b"0+")
_TO_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)

_Call = tuple[str, str, int | None, str | None, Price | None, str | None]
_Known = tuple[tuple[str, ...], str, Draft, Outcome, bool, _Call | None]
"""
What recurs: accounts, owner, the draft without what is one request's own; the outcome, whether it is estimated, and the
call, where it was one, without what is its own.
"""


class _Seldom(Struct, frozen=True, array_like=True, gc=False):
    """What few requests have."""

    want: int
    attempt: int
    claim: str | None
    client_request_id: str | None
    routed: Routed | None
    spared: tuple[tuple[str, int], ...]
    attempts: tuple[Attempt, ...] | None


class Record(Struct, frozen=True, array_like=True, gc=False):
    """
    What is a settled request's own.

    Attributes:
        id: The hold's; one that the gateway has drawn as its 16 bytes.
        known: The number of what recurs.
        seq: The ledger line's number in its account.
        amount: What was held.
        shape: The number of the raw usage with zeros for its digits; -1 where that is not kept.
        digits: The digits; or all of the raw usage.
        upstream_id: That of the one call.
    """

    id: Any  # bytes | str, a union that msgspec has not
    known: int
    seq: int
    amount: int
    charged: int
    orphan_amount: int
    deadline: float
    resolved: float
    usage: Usage
    shape: int
    digits: bytes
    upstream_id: str | None
    seldom: _Seldom | None


_THINGS = len(Record.__struct_fields__)
_encoder = msgspec.msgpack.Encoder()
record = msgspec.msgpack.Decoder(Record).decode


def begins(hold_id: str) -> bytes:
    """What every record of this hold begins with, and none of another one."""
    try:
        return _encoder.encode((None,) * _THINGS)[:-_THINGS] + _encoder.encode(_short(hold_id))
    except UnicodeEncodeError:  # no record is of such a one
        return b"\xc1"


def figures(packed: bytes) -> tuple[int, int, bool]:
    """The number and the amount of a record's ledger line; and that it is a resolution."""
    found = record(packed)
    return found.seq, min(found.charged, found.amount), True


class _Numbers(dict[T, int]):
    """The numbers of things that recur: one that is new gets the next; -1 where there are too many."""

    def __init__(self) -> None:
        self.things: list[T] = []

    def __missing__(self, thing: T) -> int:
        if len(self.things) == MOST_KNOWN:
            return -1
        self[thing] = len(self.things)
        self.things.append(thing)
        return len(self.things) - 1


class _Shapes(_Numbers[bytes]):
    """Those of raw usages, with zeros for their digits; and where the digits are."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Callable[[bytes], Sequence[bytes]]] = []

    def __missing__(self, shape: bytes) -> int:
        number = super().__missing__(shape)
        if number == len(self.runs):
            runs = [slice(*run.span()) for run in _RUNS.finditer(shape)]
            self.runs.append(itemgetter(*runs, slice(0), slice(0)))  # of two at least: one alone would be no tuple
        return number

    def filled(self, number: int, digits: bytes) -> bytes:
        """A shape, with digits."""
        filled, at = bytearray(self.things[number]), 0
        for run in _RUNS.finditer(self.things[number]):
            until = at + len(run[0])
            filled[slice(*run.span())] = digits[at:until]
            at = until
        return bytes(filled)


class Packer:
    """Makes records, and reads them."""

    def __init__(self) -> None:
        self._known = _Numbers[_Known]()
        self._shapes = _Shapes()
        self._buffer = bytearray()

    def pack(self, hold: Hold, entry: Entry) -> bytes | None:
        """
        The record of a hold that was settled, and of its resolution; None where there are too many that are not alike.

        Raises:
            Exception: Whatever there is in them of which there can be no record.
        """
        draft, report, attempts = entry.draft, entry.report, entry.report.attempts
        call = upstream_id = seldom = None
        only = attempts[0] if len(attempts) == 1 else None
        if only is not None and only.usage is report.usage and only.cost == hold.charged:
            call = (only.provider, only.model, only.status, only.error, only.price, only.upstream)
            upstream_id = only.upstream_id
        own_id, routed = draft.client_request_id, draft.routed
        if (
            own_id
            or routed
            or call is None
            or hold.want != hold.amount
            or hold.claim is not None
            or hold.attempt
            or report.spared
        ):
            rest = attempts if call is None else None
            seldom = (hold.want, hold.attempt, hold.claim, own_id, routed, report.spared, rest)
            draft = replace(draft, client_request_id=None, routed=None)
        known = self._known[hold.accounts, hold.owner, draft, report.outcome, report.estimated, call]
        if known < 0:
            return None
        raw = b"".join((report.usage_raw,))  # a third of what bytes() takes
        shape = self._shapes[raw.translate(_TO_ZEROS)]
        own = (
            _short(hold.id),
            known,
            entry.seq,
            hold.amount,
            hold.charged,
            hold.orphan_amount,
            hold.deadline,
            hold.resolved,
            report.usage,
            shape,
            b"".join(self._shapes.runs[shape](raw)) if shape >= 0 else raw,
            upstream_id,
            seldom,
        )
        _encoder.encode_into(own, self._buffer)
        return bytes(self._buffer)  # no longer than need be, as what is encoded at once would be

    def hold(self, packed: bytes) -> Hold:
        """The hold of a record."""
        found = record(packed)
        accounts, owner, *_ = self._known.things[found.known]
        seldom = found.seldom
        return Hold(
            id=_whole(found.id),
            accounts=accounts,
            amount=found.amount,
            want=found.amount if seldom is None else seldom.want,
            state="settled",
            owner=owner,
            deadline=found.deadline,
            orphan_amount=found.orphan_amount,
            charged=found.charged,
            draft=self._draft(found),
            attempt=0 if seldom is None else seldom.attempt,
            claim=None if seldom is None else seldom.claim,
            resolved=found.resolved,
        )

    def entry(self, packed: bytes) -> Entry:
        """The ledger line of a record."""
        found = record(packed)
        name = _whole(found.id)
        return Entry(
            id=name,
            hold=name,
            line="resolution",
            account=self._known.things[found.known][0][0],
            seq=found.seq,
            amount=min(found.charged, found.amount),
            held=found.amount,
            created=found.resolved,
            draft=self._draft(found),
            report=self._report(found),
        )

    def _draft(self, found: Record) -> Draft:
        draft, seldom = self._known.things[found.known][2], found.seldom
        if seldom is None:
            return draft
        return replace(draft, client_request_id=seldom.client_request_id, routed=seldom.routed)

    def _report(self, found: Record) -> Report:
        _, _, _, outcome, estimated, call = self._known.things[found.known]
        usage, seldom = found.usage, found.seldom
        attempts = (seldom and seldom.attempts) or ()
        if call is not None:
            provider, model, status, error, price, upstream = call
            only = Attempt(
                provider=provider,
                model=model,
                status=status,
                upstream_id=found.upstream_id,
                error=error,
                usage=usage,
                cost=found.charged,
                price=price,
                upstream=upstream,
            )
            attempts = (only,)
        return Report(
            outcome=outcome,
            estimated=estimated,
            usage=usage,
            usage_raw=Raw(self._shapes.filled(found.shape, found.digits) if found.shape >= 0 else found.digits),
            attempts=attempts,
            spared=seldom.spared if seldom is not None else (),
        )


def _short(hold_id: str) -> bytes | str:
    """An id that the gateway has drawn as its 16 bytes, any other as it is."""
    digits = hold_id[4:]
    try:
        short = a2b_hex(digits)
    except ValueError:
        return hold_id
    return short if short.hex() == digits and hold_id.startswith("req_") else hold_id


def _whole(short: bytes | str) -> str:
    return f"req_{short.hex()}" if isinstance(short, bytes) else short
