"""A line's bytes are the same everywhere, a chain tells every change, and a line's cost follows from the line alone."""

from typing import Any

import msgspec
import pytest
from msgspec import Raw

from hpp_middleware.core import ledger, price
from hpp_middleware.core.ledger import Walk
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Account, Attempt, Draft, Entry, LineClass, Report, Statement

KEY = b"k" * 32
PRICE = Price(base=Rates(input=10**9, output=2 * 10**9), tiers=((1000, Rates(input=3 * 10**9, output=4 * 10**9)),))
DRAFT = Draft(consumer="alice", model="fake/m", requested_model="m", price=PRICE, client_request_id="é")
REPORT = Report(
    outcome="completed",
    usage=Usage(input=10, output=5),
    usage_raw=Raw(b'{"prompt_tokens":10,"completion_tokens":5,"cost":1.50}'),
    attempts=(Attempt(provider="fake", model="m", status=200, usage=Usage(input=10, output=5), cost=20),),
)
COST = 20
ORPHANED = Report(outcome="orphaned", estimated=True)


def entry(seq: int = 1, line: LineClass = "resolution", **fields: Any) -> Entry:
    """A line of alice's; by itself it is right."""
    hold = fields.pop("hold", f"hold-{seq}")
    given: dict[str, Any] = {
        "id": hold if line == "resolution" else f"{hold}:{line}",
        "account": "alice",
        "amount": COST,
        "held": 100,
        "created": 1000.5,
        "draft": DRAFT,
        "report": REPORT,
    }
    return Entry(hold=hold, line=line, seq=seq, **(given | fields))


def walked(*entries: Entry) -> list[str]:
    """The kinds of what is wrong with these lines."""
    walk = Walk("alice")
    found = [finding for each in entries for finding in walk.feed(each)]
    return [finding.kind for finding in [*found, *walk.close()]]


def chain(*entries: Entry, key: bytes = KEY) -> bytes:
    mac = ledger.start(key, "alice")
    for each in entries:
        mac = ledger.extend(key, mac, ledger.canonical(each))
    return mac


# --- canonical bytes ---


def test_the_bytes_of_version_1_never_change() -> None:
    assert ledger.canonical(entry()) == (
        rb'{"account":"alice","amount":20,"created":"1000.5","draft":{"client_request_id":"\u00e9","consumer":"alice",'
        rb'"model":"fake/m","price":{"base":{"input":1000000000,"output":2000000000},"tiers":[[1000,{"input":3000000000,'
        rb'"output":4000000000}]]},"requested_model":"m"},"held":100,"hold":"hold-1","id":"hold-1","line":"resolution",'
        rb'"report":{"attempts":[{"cost":20,"model":"m","provider":"fake","status":200,"usage":{"input":10,"output":5}}],'
        rb'"outcome":"completed","usage":{"input":10,"output":5},"usage_raw":{"completion_tokens":5,'
        rb'"cost":{"number":"1.50"},"prompt_tokens":10}},"seq":1}'
    )


def test_a_line_that_a_store_gave_back_has_the_same_bytes() -> None:
    for given in (entry(), entry(created=1000), entry(created=1e21), entry(report=ORPHANED)):
        stored = msgspec.json.encode(given)
        assert ledger.canonical(msgspec.json.decode(stored, type=Entry)) == ledger.canonical(given)


def test_the_order_in_which_a_store_wrote_the_members_does_not_matter() -> None:
    stored = msgspec.json.encode(entry())
    backwards = msgspec.json.encode(dict(reversed(msgspec.json.decode(stored, type=dict[str, Raw]).items())))
    raw = Raw(b'{ "cost": 1.50, "completion_tokens": 5, "prompt_tokens": 10 }')
    turned = msgspec.structs.replace(REPORT, usage_raw=raw)
    assert ledger.canonical(msgspec.json.decode(backwards, type=Entry)) == ledger.canonical(entry())
    assert ledger.canonical(entry(report=turned)) == ledger.canonical(entry())


@pytest.mark.parametrize("raw", [b"[" * 4000 + b"]" * 4000, b"not json", b"9" * 5000, b'{"a":NaN}'])
def test_whatever_an_upstream_reported_has_bytes(raw: bytes) -> None:
    strange = entry(report=msgspec.structs.replace(REPORT, usage_raw=Raw(raw)))
    assert ledger.canonical(strange) != ledger.canonical(entry())


def test_a_line_of_a_later_version_is_not_guessed_at() -> None:
    later = entry(draft=msgspec.structs.replace(DRAFT, row_version=ledger.ROW_VERSION + 1))
    with pytest.raises(ValueError, match="row version 2"):
        ledger.canonical(later)
    assert walked(later) == ["version"]


# --- the chain ---


@pytest.mark.parametrize(
    "changed",
    [
        {"amount": 21},
        {"held": 99},
        {"created": 1000.6},
        {"account": "bob"},
        {"seq": 3},
        {"draft": msgspec.structs.replace(DRAFT, price=Price(base=Rates(input=1, output=1)))},
        {"draft": msgspec.structs.replace(DRAFT, client_request_id="other")},
        {"report": msgspec.structs.replace(REPORT, usage=Usage(input=11, output=5))},
        {"report": msgspec.structs.replace(REPORT, attempts=())},
        {"report": msgspec.structs.replace(REPORT, usage_raw=Raw(b"{}"))},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_chain_tells_every_change(changed: dict[str, Any]) -> None:
    second = entry(2)
    assert chain(entry(1), msgspec.structs.replace(second, **changed)) != chain(entry(1), second)


def test_a_chain_tells_order_loss_account_and_key() -> None:
    macs = [
        chain(entry(1), entry(2)),
        chain(entry(2), entry(1)),
        chain(entry(1)),
        chain(entry(1), entry(2), key=b"l" * 32),
        ledger.start(KEY, "alice"),
        ledger.start(KEY, "bob"),
    ]
    assert len(set(macs)) == len(macs)
    assert ledger.key_id(KEY) != ledger.key_id(b"l" * 32)


# --- what a line comes to ---


def test_a_cost_follows_from_the_line_alone() -> None:
    assert ledger.recomputed(entry()) == COST == price.cost(REPORT.usage, PRICE)
    assert ledger.recomputed(entry(report=ORPHANED)) is None


def test_calls_with_prices_of_their_own_are_each_rounded_and_summed() -> None:
    fine = Price(base=Rates(input=10**8, output=10**8))
    calls = (
        Attempt(provider="fake", model="small", usage=Usage(input=11, output=4), cost=2, price=fine),
        Attempt(provider="fake", model="m", usage=Usage(input=10, output=5), cost=COST, price=PRICE),
        Attempt(provider="fake", model="m", error="timeout", price=PRICE),
    )
    both = msgspec.structs.replace(REPORT, usage=Usage(input=21, output=9), attempts=calls)
    assert ledger.recomputed(entry(report=both)) == 2 + COST
    assert walked(entry(amount=2 + COST, report=both)) == []
    assert walked(entry(amount=COST, report=both)) == ["amount"]
    over = entry(amount=10, held=10, report=both)
    assert walked(over, entry(2, "overage", hold="hold-1", amount=12, held=10, report=both)) == []


def test_an_estimate_of_several_calls_exceeds_the_hold_by_what_was_reported_and_not_by_what_they_were_charged() -> None:
    calls = (
        Attempt(provider="fake", model="m", usage=Usage(input=10, output=5), cost=COST, price=PRICE),
        Attempt(provider="fake", model="m", error="timeout", cost=100, price=PRICE),
    )
    guess = Report(outcome="failed", estimated=True, attempts=calls)
    whole = entry(amount=10, held=10, report=guess)
    over = entry(2, "overage", hold="hold-1", amount=COST, held=10, report=guess)
    assert walked(whole, over) == []
    assert walked(whole, msgspec.structs.replace(over, amount=COST + 1)) == ["amount"]


def test_how_a_model_was_chosen_is_in_the_bytes_and_its_absence_leaves_them_as_they_were() -> None:
    routed = Routed(basket="simple", rule="r", version="v", score=0.25, reason="é")
    chosen = entry(draft=msgspec.structs.replace(DRAFT, routed=routed))
    assert (
        b'"routed":{"basket":"simple","reason":"\\u00e9","rule":"r","score":"0.25","version":"v"}'
        in ledger.canonical(chosen)
    )
    assert b"routed" not in ledger.canonical(entry())
    old = msgspec.json.encode({**msgspec.to_builtins(DRAFT), "policy": None})
    assert msgspec.json.decode(old.replace(b',"routed":null', b""), type=Draft) == DRAFT


def test_lines_that_are_right_are_found_right() -> None:
    assert (
        walked(
            entry(1),
            entry(2, amount=15, held=15),
            entry(3, "overage", hold="hold-2", amount=5, held=15),
            entry(4, amount=30, report=ORPHANED),
            entry(5, amount=0, report=Report(outcome="failed")),
            entry(6, "correction", hold="hold-4", amount=-10),
            entry(7, amount=100, report=Report(outcome="abandoned", estimated=True)),
        )
        == []
    )


def test_what_was_reported_of_an_answer_that_was_cut_short_may_exceed_its_hold() -> None:
    estimated = msgspec.structs.replace(REPORT, estimated=True, outcome="failed")
    over = entry(2, "overage", hold="hold-1", amount=8, held=10, report=estimated)
    assert walked(entry(1, amount=10, held=10, report=estimated), over) == []
    too_much = msgspec.structs.replace(over, amount=11)
    assert walked(entry(1, amount=10, held=10, report=estimated), too_much) == ["amount"]


@pytest.mark.parametrize(
    ("kinds", "entries"),
    [
        (["amount"], [entry(amount=21)]),
        (["amount"], [entry(amount=19)]),
        (["amount"], [entry(amount=101, report=ORPHANED)]),
        (["amount"], [entry(amount=-1, report=ORPHANED)]),
        (["overage"], [entry(amount=15, held=15)]),
        (["overage"], [entry(amount=15, held=15), entry(2)]),
        (["amount"], [entry(amount=15, held=15), entry(2, "overage", hold="hold-1", amount=6, held=15)]),
        (["overage", "amount"], [entry(amount=15, held=15), entry(2), entry(3, "overage", hold="hold-1", amount=5)]),
        (["amount"], [entry(), entry(2, "overage", hold="hold-1", amount=5)]),
        (["amount"], [entry(1, "correction", amount=5)]),
        (["amount"], [entry(), entry(2, "correction", hold="hold-1", amount=5)]),
        (["amount"], [entry(amount=30, report=ORPHANED), entry(2, "correction", hold="hold-1", amount=-9)]),
        (["twice", "amount"], [
            entry(amount=30, report=ORPHANED),
            entry(2, "correction", hold="hold-1", amount=-10),
            entry(3, "correction", hold="hold-1", amount=-10),
        ]),
        (["missing"], [entry(2)]),
        (["missing"], [entry(1), entry(5)]),
        (["missing", "order"], [entry(2), entry(1)]),
        (["misplaced"], [entry(account="bob")]),
        (["id"], [entry(id="hold-2")]),
        (["twice"], [entry(1), entry(2, hold="hold-1")]),
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_is_found(kinds: list[str], entries: list[Entry]) -> None:
    assert walked(*entries) == kinds


# --- sums ---


def test_an_account_that_agrees_with_its_rows_has_no_finding() -> None:
    assert ledger.compared(*_books()) == []


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("quota", "quota"),
        ("declared", "quota"),
        ("held", "held"),
        ("settled", "settled"),
        ("seq", "seq"),
        ("requests", "requests"),
        ("tokens", "tokens"),
    ],
)
def test_an_account_that_does_not_agree_is_found(field: str, kind: str) -> None:
    statement, walk = _books()
    wrong = msgspec.structs.replace(statement.account, **{field: getattr(statement.account, field) + 1})
    found = ledger.compared(msgspec.structs.replace(statement, account=wrong), walk)
    assert [finding.kind for finding in found] == [kind]


def test_holds_that_nobody_sweeps_are_found() -> None:
    statement, walk = _books()
    assert ledger.compared(statement, walk) == []
    (found,) = ledger.compared(msgspec.structs.replace(statement, overdue=3), walk)
    assert found == ledger.Finding("alice", "overdue", "3 live holds should have expired more than 60 s ago")


def _books() -> tuple[Statement, Walk]:
    walk = Walk("alice")
    walk.feed(entry(1))
    account = Account(
        id="alice", quota=1000, settled=COST, held=50, declared=300, seq=1, requests=1, tokens=REPORT.usage.total
    )
    statement = Statement(account=account, granted=700, held=50, charged=COST, lines=1, seq=1, resolutions=1)
    return statement, walk
