"""Records of what was settled: small, and read back as what was packed, whatever that is."""

import sys
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from hpp_middleware.core import quota
from hpp_middleware.stages.worker.worker import new_id
from hpp_middleware.stores.books import carry_out
from hpp_middleware.stores.memory import books as module
from hpp_middleware.stores.memory import packed
from hpp_middleware.stores.memory.books import CompactBooks, MemoryBooks
from hpp_middleware.stores.memory.packed import Packer
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.operations import Claim, Grant, Release, Renew, Reserve, Resize, Settle, Sweep
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Account, Attempt, Draft, Entry, Hold, Report

NOW = 1_750_000_000.25
Books = TypeVar("Books", MemoryBooks, CompactBooks)
PRICE = Price(
    base=Rates(input=1_250_000_000_000, output=10_000_000_000_000), tiers=((200_000, Rates(input=2, output=3)),)
)
AMOUNT = st.integers(0, quota.MAX_NANO)
NAME = st.text(max_size=20)
MAYBE = st.none() | NAME
USAGE = st.builds(Usage, **{name: st.integers(0, 2**53) for name in Usage.__struct_fields__})
RAW = st.binary(max_size=60) | st.from_regex(rb'\{("[a-z_0-9]{1,9}": ?[0-9.]{1,9},? ?){0,9}\}', fullmatch=True)
ROUTED = st.none() | st.builds(
    Routed, basket=NAME, rule=NAME, version=NAME, tier=MAYBE, score=st.none() | st.floats(0, 1)
)
DRAFT = st.builds(
    Draft,
    consumer=NAME,
    model=NAME,
    requested_model=NAME,
    price=st.just(PRICE),
    key_id=MAYBE,
    client_request_id=MAYBE,
    stream=st.booleans(),
    routed=ROUTED,
    also=st.lists(NAME, max_size=2).map(tuple),
)
ATTEMPT = st.builds(
    Attempt,
    provider=NAME,
    model=NAME,
    status=st.none() | st.integers(100, 599),
    upstream_id=MAYBE,
    error=MAYBE,
    usage=st.none() | USAGE,
    cost=AMOUNT,
    price=st.none() | st.just(PRICE),
    upstream=MAYBE,
)
REPORT = st.builds(
    Report,
    outcome=st.sampled_from(["completed", "abandoned", "failed"]),
    estimated=st.booleans(),
    usage=USAGE,
    usage_raw=RAW.map(Raw),
    attempts=st.lists(ATTEMPT, max_size=3).map(tuple),
    spared=st.lists(st.tuples(NAME, AMOUNT), max_size=2).map(tuple),
)
HOLD = st.builds(
    Hold,
    id=NAME | st.builds(new_id) | st.builds(str.upper, st.builds(new_id)) | st.just("req_" + "F" * 32),
    accounts=st.lists(NAME, min_size=1, max_size=3).map(tuple),
    amount=AMOUNT,
    want=AMOUNT,
    state=st.just("held"),
    owner=NAME,
    deadline=st.floats(0, 1e12),
    orphan_amount=AMOUNT,
    draft=DRAFT,
    attempt=st.integers(0, 9),
    claim=MAYBE,
)


def of_one_call(report: Report, charged: int) -> Report:
    """The same where its only attempt had all of the usage and of the cost."""
    only = Attempt(provider="p", model="m", status=200, upstream_id="chatcmpl-1", usage=report.usage, cost=charged)
    return replace(report, attempts=(only,))


@given(hold=HOLD, report=REPORT, charged=AMOUNT, seq=st.integers(1, 10**9), plain=st.booleans())
def test_a_record_reads_back_as_its_hold_and_its_line(
    hold: Hold, report: Report, charged: int, seq: int, *, plain: bool
) -> None:
    settled, entry = _settled(hold, _of_one_call(report, charged) if plain else report, charged, seq)
    packer = Packer()
    for _ in range(2):  # the second time, what recurs is there already
        record = packer.pack(settled, entry)
        assert record is not None
        assert packer.hold(record) == settled
        assert packer.entry(record) == entry
        assert packed.figures(record) == (entry.seq, entry.amount, True)
        assert record.startswith(packed.begins(hold.id))


@given(one=HOLD, other=HOLD)
def test_a_record_begins_as_those_of_its_own_id_alone(one: Hold, other: Hold) -> None:
    record = Packer().pack(*_settled(one, REPORTED, 1, 1))
    assert record is not None
    assert record.startswith(packed.begins(other.id)) == (one.id == other.id)


@pytest.mark.parametrize(
    "change",
    [{"id": "\ud800"}, {"amount": 2**70}, {"owner": []}, {"deadline": object()}],
    ids=lambda change: next(iter(change)),
)
def test_what_can_be_no_record_is_kept_as_it_is(change: dict[str, Any]) -> None:
    books = CompactBooks()
    hold = replace(Hold(**{**EXAMPLE, **change}), state="settled", charged=1, resolved=NOW)
    books.put_hold(hold)
    line = Entry(
        id=hold.id, hold=hold.id, line="resolution", account="a", seq=1, amount=1, held=9, created=NOW,
        draft=DRAFTED, report=REPORTED,
    )  # fmt: skip
    books.put_entry(line)
    assert not books.settled
    assert books.hold(hold.id) is hold
    assert books.of_hold("a", hold.id) == books.lines("a") == [line]
    assert not books.prune(NOW, NOW, 10)
    assert books.prune(NOW + 1, NOW + 1, 1)
    assert books.hold(hold.id) is None
    assert books.lines("a") == [line]


def test_more_than_recurs_is_kept_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST_KNOWN", 2)
    books = _opened(CompactBooks())
    for number in range(4):  # the fourth of raws that are not alike, and of models
        raw = Raw(b'{"tokens": %d}' % 10**number)
        _request(books, f"shape-{number}", report=replace(REPORTED, usage_raw=raw))
        _request(books, f"model-{number}", draft=replace(DRAFTED, model=f"m{number}"))
    assert sorted(books.holds) == ["model-1", "model-2", "model-3"]
    assert len(books.settled) == 5
    assert [line.hold for line in books.lines("a")] == [f"{kind}-{n}" for n in range(4) for kind in ("shape", "model")]
    assert [bytes(line.report.usage_raw) for line in books.lines("a")][::2] == [
        b'{"tokens": %d}' % 10**n for n in range(4)
    ]


def test_two_ids_of_one_hash_are_two_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INDEX", 0)
    books = _opened(CompactBooks())
    for name in ("one", "two"):
        _request(books, name)
    assert [books.hold(name).id for name in ("one", "two")] == ["one", "two"]  # type: ignore[union-attr]
    assert books.hold("three") is None
    assert [[line.hold for line in books.of_hold("a", name)] for name in ("one", "two", "three")] == [
        ["one"],
        ["two"],
        [],
    ]


def test_a_settled_request_keeps_250_bytes() -> None:
    books, requests = _opened(CompactBooks()), 5000
    for number in range(requests):
        report = _of_one_call(
            replace(REPORTED, usage_raw=Raw(b'{"prompt_tokens": %d, "completion_tokens": 96}' % number)), 1_300_000
        )
        _request(books, new_id(), report=report, amount=1_300_000)
    assert not books.holds
    assert not books.resolved
    kept = [books.settled, books.ledger["a"], *books.settled.values(), *books.settled]
    assert sum(map(sys.getsizeof, kept)) / requests <= 250


@given(st.data())
def test_compact_books_tell_what_plain_ones_do(data: st.DataObject) -> None:
    plain, compact = _opened(MemoryBooks()), _opened(CompactBooks())
    now = NOW
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.sampled_from([0, 1, 400_000, -1]))
        operation = data.draw(OPERATION)
        told = [carry_out(books, operation, now=now) for books in (plain, compact)]
        assert told[0] == told[1]
        for name in NAMES:
            assert plain.hold(name) == compact.hold(name)
            assert plain.of_hold("a", name) == compact.of_hold("a", name)
        assert plain.lines("a", 1, 2) == compact.lines("a", 1, 2)
        assert plain.lines("a") == compact.lines("a")
        assert plain.statement("a", now) == compact.statement("a", now)
        assert plain.live == compact.live
        assert plain.claims == compact.claims


def _settled(hold: Hold, report: Report, charged: int, seq: int) -> tuple[Hold, Entry]:
    accounts = [Account(id=name, quota=quota.MAX_NANO, held=hold.amount, seq=seq - 1) for name in hold.accounts]
    change = quota.settle(Settle(id=hold.id, amount=charged, report=report), accounts, hold, now=NOW)
    assert change.hold is not None
    return change.hold, change.result.entries[0]


def _of_one_call(report: Report, charged: int) -> Report:
    """The same where its only attempt had all of the usage and of the cost."""
    only = Attempt(provider="p", model="m", status=200, upstream_id="chatcmpl-1", usage=report.usage, cost=charged)
    return replace(report, attempts=(only,))


def _opened(books: Books) -> Books:
    for operation in (Renew(owner="w", ttl_s=1e12), Grant(id="g", account="a", amount=10**12)):
        carry_out(books, operation, now=NOW)
    return books


def _request(
    books: Books, name: str, *, draft: Draft | None = None, report: Report | None = None, amount: int = 1
) -> None:
    for operation in (
        _reserve(name, draft=draft or DRAFTED),
        Settle(id=name, amount=amount, report=report or REPORTED),
    ):
        assert carry_out(books, operation, now=NOW).status == "done"


def _reserve(name: str, draft: Draft, claim: Claim | None = None) -> Reserve:
    return Reserve(
        id=name,
        accounts=("a",),
        want=10**7,
        floor=1,
        owner="w",
        ttl_s=600,
        orphan_amount=10**6,
        draft=draft,
        claim=claim,
    )


DRAFTED = Draft(consumer="a", model="m", requested_model="m", price=PRICE)
REPORTED = Report(outcome="completed", usage=Usage(input=210, output=96))
EXAMPLE = {
    "id": "h", "accounts": ("a",), "amount": 9, "want": 9, "state": "held", "owner": "w", "deadline": NOW,
    "orphan_amount": 1, "draft": DRAFTED,
}  # fmt: skip
NAMES = ("one", "two", "req_" + "0f" * 16)
_NAME = st.sampled_from(NAMES)
_CLAIM = Claim(key="k", fingerprint="f", ttl_s=1e6)
OPERATION = st.one_of(
    st.builds(_reserve, _NAME, st.just(DRAFTED) | DRAFT, st.none() | st.just(_CLAIM)),
    st.builds(Settle, id=_NAME, amount=st.sampled_from([0, 1, 10**7, 10**7 + 1]), report=st.just(REPORTED) | REPORT),
    st.builds(Release, id=_NAME),
    st.builds(
        Resize, id=_NAME, attempt=st.integers(1, 2), amount=st.just(10**6), orphan_amount=st.just(1), draft=DRAFT
    ),
    st.just(Sweep()),
)
