"""Accounts and holds: every state of a hold by every operation, and conservation after any program."""

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import quota
from hpp_middleware.types.operations import Declare, Grant, Release, Reserve, Settle
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Account, Balance, Draft, Entry, Hold, Report

DRAFT = Draft(consumer="alice", model="p/m", requested_model="p/m", price=Price(base=Rates(input=1, output=1)))
REPORT = Report(outcome="completed", usage=Usage(input=3, output=4))
NOW = 1000.0


def reserving(want: int = 40, floor: int | None = None, **more: Any) -> Reserve:
    settings: dict[str, Any] = {
        "id": "h",
        "accounts": ("a",),
        "want": want,
        "floor": want if floor is None else floor,
        "owner": "w",
        "ttl_s": 60.0,
        "orphan_amount": 15,
        "draft": DRAFT,
        **more,
    }
    return Reserve(**settings)


def settling(amount: int) -> Settle:
    return Settle(id="h", amount=amount, report=REPORT)


def account(**numbers: int) -> Account:
    return Account(id="a", **{"quota": 100, **numbers})


# --- what a reserve gets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("want", "floor", "available", "amount"),
    [
        (40, 40, 40, 40),
        (40, 40, 39, None),
        (40, 10, 39, 19),
        (40, 10, 20, 10),
        (40, 10, 15, 10),
        (40, 10, 10, 10),
        (40, 10, 9, None),
        (40, 0, 1, 0),
        (0, 0, 0, 0),
        (0, 0, -1, None),
        (1, 0, -1, None),
        (10, 20, 5, None),
    ],
)
def test_a_reserve_gets_all_or_half_but_not_under_its_floor(
    want: int, floor: int, available: int, amount: int | None
) -> None:
    assert quota.granted(want, floor, available) == amount


@given(st.integers(0, 10**16), st.integers(0, 10**16), st.integers(-(10**16), 10**16))
def test_no_grant_is_negative_above_the_want_or_above_what_is_there(want: int, floor: int, available: int) -> None:
    amount = quota.granted(want, floor, available)
    if amount is None:
        assert want > available
    else:
        assert 0 <= amount <= min(want, available)
        assert amount == want or floor <= amount <= max(floor, available // 2)


def test_a_reserve_takes_room_in_every_account_or_in_none() -> None:
    team = Account(id="t", quota=50, held=20)
    operation = reserving(accounts=("a", "t"))
    refused = quota.reserve(operation, (account(), team), None, now=NOW)
    assert refused.accounts == (account(), team)
    assert (refused.hold, refused.result.status, refused.result.available) == (None, "refused", 30)
    done = quota.reserve(msgspec.structs.replace(operation, want=30, floor=30), (account(), team), None, now=NOW)
    assert [each.held for each in done.accounts] == [30, 50]
    assert (done.result.status, done.result.amount) == ("done", 30)


def test_a_hold_carries_what_its_resolution_will_need() -> None:
    change = quota.reserve(reserving(want=400, floor=10, orphan_amount=999), (account(),), None, now=NOW)
    hold = change.hold
    assert hold is not None
    assert (hold.amount, hold.want, hold.state, hold.owner) == (50, 400, "held", "w")
    assert (hold.deadline, hold.draft, hold.charged) == (1060.0, DRAFT, 0)
    assert hold.orphan_amount == 50  # no more than was granted
    assert change.result.amount == 50


@pytest.mark.parametrize(
    "operation", [reserving(-1, 0), reserving(40, -5), reserving(quota.MAX_NANO + 1, 1), reserving(-10, -10)]
)
def test_a_senseless_amount_is_refused_and_makes_no_room(operation: Reserve) -> None:
    rich = account(quota=quota.MAX_NANO)
    for payer in (rich, account(settled=200)):
        change = quota.reserve(operation, (payer,), None, now=NOW)
        assert (change.accounts, change.hold, change.result.status) == ((payer,), None, "refused")


# --- every state by every operation ----------------------------------------------------------------


def hold_in(state: str) -> tuple[tuple[Account, ...], Hold | None]:
    """An account of 100 and its hold of 40 in this state; settled and corrected ones at 25."""
    before = quota.reserve(reserving(), (account(),), None, now=NOW)
    held = before.hold
    assert held is not None
    match state:
        case "unknown":
            return (account(),), None
        case "held":
            return before.accounts, held
        case "settled":
            after = quota.settle(settling(25), before.accounts, held, now=NOW)
        case "released":
            after = quota.release(Release(id="h"), before.accounts, held, now=NOW)
        case "tombstone":
            return (), quota.tombstone(Release(id="h"), now=NOW)
        case "expired" | "corrected":
            after = quota.expire(held, before.accounts, now=NOW)
            if state == "corrected":
                after = quota.settle(settling(25), after.accounts, after.hold, now=NOW)
        case _:
            raise AssertionError(state)
    return after.accounts, after.hold


SAME = None  # nothing is written
# (state, operation) -> status, amount of the result, state written, and (settled, held) of the account, and lines
MACHINE: dict[tuple[str, str], tuple[str, int, str | None, tuple[int, int], dict[str, int]]] = {
    ("unknown", "reserve"): ("done", 40, "held", (0, 40), {}),
    ("unknown", "settle 25"): ("unknown", 0, SAME, (0, 0), {}),
    ("unknown", "settle 55"): ("unknown", 0, SAME, (0, 0), {}),
    ("held", "reserve"): ("done", 40, SAME, (0, 40), {}),
    ("held", "reserve 41"): ("conflict", 0, SAME, (0, 40), {}),
    ("held", "settle 25"): ("done", 25, "settled", (25, 0), {"resolution": 25}),
    ("held", "settle 55"): ("done", 55, "settled", (55, 0), {"resolution": 40, "overage": 15}),
    ("held", "settle 0"): ("done", 0, "settled", (0, 0), {"resolution": 0}),
    ("held", "release"): ("done", 0, "released", (0, 0), {}),
    ("held", "expire"): ("done", 15, "expired", (15, 0), {"resolution": 15}),
    ("settled", "reserve"): ("conflict", 0, SAME, (25, 0), {}),
    ("settled", "settle 25"): ("done", 25, SAME, (25, 0), {}),
    ("settled", "settle 55"): ("conflict", 25, SAME, (25, 0), {}),
    ("settled", "settle 0"): ("conflict", 25, SAME, (25, 0), {}),
    ("settled", "release"): ("conflict", 0, SAME, (25, 0), {}),
    ("released", "reserve"): ("conflict", 0, SAME, (0, 0), {}),
    ("released", "settle 25"): ("conflict", 0, SAME, (0, 0), {}),
    ("released", "settle 0"): ("conflict", 0, SAME, (0, 0), {}),
    ("released", "release"): ("done", 0, SAME, (0, 0), {}),
    ("tombstone", "reserve"): ("conflict", 0, SAME, (0, 0), {}),
    ("tombstone", "settle 25"): ("conflict", 0, SAME, (0, 0), {}),
    ("tombstone", "release"): ("done", 0, SAME, (0, 0), {}),
    ("expired", "reserve"): ("conflict", 0, SAME, (15, 0), {}),
    ("expired", "settle 25"): ("done", 25, "corrected", (25, 0), {"correction": 10}),
    ("expired", "settle 55"): ("done", 55, "corrected", (55, 0), {"correction": 40}),
    ("expired", "settle 0"): ("done", 0, "corrected", (0, 0), {"correction": -15}),
    ("expired", "release"): ("done", 0, "corrected", (0, 0), {"correction": -15}),
    ("corrected", "reserve"): ("conflict", 0, SAME, (25, 0), {}),
    ("corrected", "settle 25"): ("done", 25, SAME, (25, 0), {}),
    ("corrected", "settle 55"): ("conflict", 25, SAME, (25, 0), {}),
    ("corrected", "release"): ("conflict", 0, SAME, (25, 0), {}),
}


def carried_out(operation: str, accounts: tuple[Account, ...], hold: Hold | None) -> quota.Change:
    match operation.split():
        case ["reserve"]:
            return quota.reserve(reserving(), accounts, hold, now=NOW)
        case ["reserve", want]:
            return quota.reserve(reserving(int(want)), accounts, hold, now=NOW)
        case ["settle", amount]:
            return quota.settle(settling(int(amount)), accounts, hold, now=NOW)
    assert hold is not None
    if operation == "release":
        return quota.release(Release(id="h"), accounts, hold, now=NOW)
    return quota.expire(hold, accounts, now=NOW)


@pytest.mark.parametrize(("state", "operation"), list(MACHINE), ids=lambda part: part)
def test_every_state_of_a_hold_by_every_operation(state: str, operation: str) -> None:
    accounts, hold = hold_in(state)
    status, amount, written, (used, held), lines = MACHINE[state, operation]
    change = carried_out(operation, accounts, hold)
    assert (change.result.id, change.result.status, change.result.amount) == ("h", status, amount)
    assert (change.hold.state if change.hold else None) == written
    assert {entry.line: entry.amount for entry in change.result.entries} == lines
    if state == "tombstone":
        assert change.accounts == ()
    else:
        assert (change.accounts[0].settled, change.accounts[0].held) == (used, held)
        assert change.accounts[0].seq == accounts[0].seq + len(lines)
        assert written is not None or change.accounts == accounts


def test_the_machine_lists_every_pair_that_can_meet() -> None:
    states = ("held", "settled", "released", "tombstone", "expired", "corrected")
    for state, operation in product(states, ("reserve", "settle 25", "release")):
        assert (state, operation) in MACHINE


@pytest.mark.parametrize("state", ["held", "settled", "released", "expired", "corrected"])
def test_a_reserve_of_the_same_id_for_other_accounts_is_a_conflict(state: str) -> None:
    accounts, hold = hold_in(state)
    change = quota.reserve(reserving(accounts=("b",)), accounts, hold, now=NOW)
    assert (change.result.status, change.hold, change.accounts) == ("conflict", None, accounts)


def test_releasing_what_was_settled_at_nothing_is_no_conflict() -> None:
    accounts, hold = hold_in("held")
    free = quota.settle(settling(0), accounts, hold, now=NOW)
    assert free.hold is not None
    again = quota.release(Release(id="h"), free.accounts, free.hold, now=NOW)
    assert (again.result.status, again.hold) == ("done", None)


@pytest.mark.parametrize("state", ["held", "settled", "released", "expired", "corrected"])
@pytest.mark.parametrize("amount", [-1, quota.MAX_NANO + 1])
def test_an_amount_that_no_store_can_count_settles_nothing(state: str, amount: int) -> None:
    accounts, hold = hold_in(state)
    change = quota.settle(settling(amount), accounts, hold, now=NOW)
    assert (change.accounts, change.hold, change.result.status) == (accounts, None, "refused")


def test_the_lines_of_a_request_are_named_numbered_and_dated() -> None:
    accounts, hold = hold_in("held")
    lines = quota.settle(settling(55), accounts, hold, now=NOW).result.entries
    assert [(line.id, line.hold, line.account, line.seq, line.held) for line in lines] == [
        ("h", "h", "a", 1, 40),
        ("h:overage", "h", "a", 2, 40),
    ]
    assert all(line.created == NOW and line.draft is DRAFT and line.report is REPORT for line in lines)
    accounts, hold = hold_in("expired")
    (correction,) = quota.settle(settling(25), accounts, hold, now=NOW + 1).result.entries
    assert (correction.id, correction.seq, correction.created) == ("h:correction", 2, NOW + 1)


def test_an_orphans_entry_is_estimated_and_says_so() -> None:
    accounts, hold = hold_in("held")
    assert hold is not None
    (line,) = quota.expire(hold, accounts, now=NOW).result.entries
    assert (line.amount, line.report.outcome, line.report.estimated) == (15, "orphaned", True)


def test_requests_and_tokens_are_counted_once_whatever_the_lines() -> None:
    for state, operation in (("held", "settle 55"), ("expired", "settle 55")):
        accounts, hold = hold_in(state)
        after = carried_out(operation, accounts, hold).accounts[0]
        assert (after.requests, after.tokens) == (1, 7)


def test_a_tombstone_is_never_charged() -> None:
    with pytest.raises(KeyError, match="expire"):
        quota.expire(quota.tombstone(Release(id="h"), now=NOW), (account(),), now=NOW)


@pytest.mark.parametrize(
    ("state", "deadline", "lease", "due"),
    [
        ("held", 1001.0, 1001.0, False),
        ("held", 1000.0, 2000.0, True),
        ("held", 2000.0, 1000.0, True),
        ("held", 2000.0, None, True),
        ("settled", 0.0, None, False),
        ("released", 0.0, None, False),
        ("expired", 0.0, None, False),
        ("corrected", 0.0, None, False),
    ],
)
def test_a_hold_is_the_sweepers_when_its_lease_or_deadline_has_run_out(
    state: str, deadline: float, lease: float | None, *, due: bool
) -> None:
    hold = msgspec.structs.replace(quota.tombstone(Release(id="h"), now=NOW), state=state, deadline=deadline)
    assert quota.is_due(hold, lease_until=lease, now=NOW) is due


# --- grants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "seen", "status", "amount", "after"),
    [
        (Grant(id="g", account="a", amount=50), None, "done", 50, 150),
        (Grant(id="g", account="a", amount=50), ("a", 50), "done", 50, 100),
        (Grant(id="g", account="a", amount=50), ("a", 60), "conflict", 60, 100),
        (Grant(id="g", account="a", amount=-100), None, "done", -100, 0),
        (Grant(id="g", account="a", amount=-101), None, "refused", 100, 100),
        (Grant(id="g", account="a", amount=quota.MAX_NANO - 100), None, "done", quota.MAX_NANO - 100, quota.MAX_NANO),
        (Grant(id="g", account="a", amount=quota.MAX_NANO - 99), None, "refused", 100, 100),
        (Grant(id="g", account="a", amount=1, expect=100), None, "done", 1, 101),
        (Grant(id="g", account="a", amount=1, expect=99), None, "conflict", 100, 100),
        (Grant(id="g", account="a", amount=1, expect=0), None, "conflict", 100, 100),
        (Grant(id="g", account="a", amount=1, expect=99), ("a", 1), "done", 1, 100),
        (Grant(id="g", account="a", amount=1), ("b", 1), "conflict", 1, 100),
    ],
)
def test_a_grant_counts_once_and_keeps_quotas_in_range(
    operation: Grant, seen: tuple[str, int] | None, status: str, amount: int, after: int
) -> None:
    change = quota.grant(operation, account(), seen=seen)
    assert (change.result.id, change.result.status, change.result.amount) == ("g", status, amount)
    assert change.accounts[0].quota == after


def test_a_lowered_quota_stops_admission_and_leaves_live_holds() -> None:
    accounts, hold = hold_in("held")
    (lowered,) = quota.grant(Grant(id="g", account="a", amount=-90), accounts[0], seen=None).accounts
    assert (lowered.quota, lowered.held, lowered.available) == (10, 40, -30)
    assert quota.reserve(reserving(1, id="i"), (lowered,), None, now=NOW).result.status == "refused"
    assert quota.settle(settling(40), (lowered,), hold, now=NOW).accounts[0].settled == 40


def test_a_declared_quota_moves_by_its_change_and_keeps_what_was_granted_besides() -> None:
    (first,) = quota.declare(Declare(account="a", quota=30), Account(id="a", quota=5)).accounts
    assert (first.quota, first.declared) == (35, 30)
    again = quota.declare(Declare(account="a", quota=30), first)
    assert (again.accounts, again.result.amount) == ((first,), 0)
    (lower,) = quota.declare(Declare(account="a", quota=10), first).accounts
    assert (lower.quota, lower.declared) == (15, 10)
    for wrong in (-1, quota.MAX_NANO + 1):
        assert quota.declare(Declare(account="a", quota=wrong), first).result.status == "refused"
    spent = msgspec.structs.replace(first, quota=10)
    assert quota.declare(Declare(account="a", quota=0), spent).result.status == "refused"


def test_a_balance_reads_what_an_account_has() -> None:
    found = quota.balance(account(settled=120, held=5, requests=2, tokens=9))
    assert found == Balance(account="a", quota=100, used=120, held=5, requests=2, tokens=9)
    assert (found.remaining, found.available) == (-20, -25)


# --- conservation ----------------------------------------------------------------------------------


@dataclass
class Book:
    """A store of two accounts, as plain as can be."""

    accounts: dict[str, Account] = field(default_factory=lambda: {"a": Account(id="a"), "t": Account(id="t")})
    holds: dict[str, Hold] = field(default_factory=dict)
    grants: dict[str, tuple[str, int]] = field(default_factory=dict)
    lines: list[Entry] = field(default_factory=list)
    overage: int = 0

    def write(self, change: quota.Change) -> None:
        for each in change.accounts:
            self.accounts[each.id] = each
        if change.hold is not None:
            self.holds[change.hold.id] = change.hold
        self.lines += change.result.entries
        for line in change.result.entries:
            if line.line == "overage" or (line.line == "correction" and line.amount > 0):
                self.overage += line.amount

    def step(self, kind: str, name: str, number: int, *, both: bool) -> None:
        hold = self.holds.get(name)
        names = hold.accounts if hold else (("a", "t") if both else ("a",))
        accounts = tuple(self.accounts[each] for each in names)
        match kind:
            case "reserve":
                operation = reserving(number, number // 3, id=name, accounts=names, orphan_amount=number // 2)
                self.write(quota.reserve(operation, accounts, hold, now=NOW))
            case "settle":
                self.write(quota.settle(Settle(id=name, amount=number, report=REPORT), accounts, hold, now=NOW))
            case "release" if hold is None:
                self.holds[name] = quota.tombstone(Release(id=name), now=NOW)
            case "release":
                assert hold is not None
                self.write(quota.release(Release(id=name), accounts, hold, now=NOW))
            case "expire" if hold is not None and quota.is_due(hold, lease_until=None, now=NOW):
                self.write(quota.expire(hold, accounts, now=NOW))
            case "grant":
                payer = self.accounts["t" if both else "a"]
                seen = self.grants.get(name)
                operation_ = Grant(id=name, account=payer.id, amount=number)
                change = quota.grant(operation_, payer, seen=seen)
                self.write(change)
                if seen is None and change.result.status == "done":
                    self.grants[name] = (payer.id, number)
            case _:
                pass

    def check(self) -> None:
        payers = {hold.id: hold.accounts for hold in self.holds.values()}
        for name, found in self.accounts.items():
            assert found.quota == sum(amount for payer, amount in self.grants.values() if payer == name)
            assert found.settled == sum(line.amount for line in self.lines if name in payers[line.hold])
            live = [hold for hold in self.holds.values() if hold.state == "held" and name in hold.accounts]
            assert found.held == sum(hold.amount for hold in live)
            assert found.held >= 0
            assert found.settled >= 0
        own = [line for line in self.lines if line.account == "a"]
        assert [line.seq for line in own] == list(range(1, len(own) + 1))
        assert self.accounts["a"].seq == len(own)
        assert len({(line.hold, line.line) for line in self.lines}) == len(self.lines)
        for hold in self.holds.values():
            assert hold.charged == sum(line.amount for line in self.lines if line.hold == hold.id)
        assert self.accounts["a"].requests == sum(line.line == "resolution" for line in self.lines)


steps = st.tuples(
    st.sampled_from(["reserve", "reserve", "settle", "settle", "release", "expire", "grant"]),
    st.sampled_from(["1", "2", "3", "4"]),
    st.integers(0, 100),
    st.booleans(),
)


@settings(max_examples=rounds(200, soak=500), deadline=None)
@given(st.lists(steps, max_size=40))
def test_books_balance_after_every_step_of_any_program(program: list[tuple[str, str, int, bool]]) -> None:
    book = Book()
    for step in [("grant", "a0", 200, False), ("grant", "t0", 200, True), *program]:
        kind, name, number, both = step
        book.step(kind, name, number, both=both)
        book.check()
        for found in book.accounts.values():
            assert found.settled + found.held <= found.quota + book.overage
