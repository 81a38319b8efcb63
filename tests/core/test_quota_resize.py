"""A live hold is given another amount, and says what it is charged if its owner dies."""

from typing import Any

import msgspec
import pytest
from test_quota import DRAFT, NOW, account, hold_in, reserving, settling

from hpp_middleware.core import quota
from hpp_middleware.types.operations import Checkpoint, Resize
from hpp_middleware.types.quota import Account, Hold

DEARER = msgspec.structs.replace(DRAFT, model="p/dearer")


def resizing(amount: int, attempt: int = 1, **more: Any) -> Resize:
    return Resize(id="h", **{"attempt": attempt, "amount": amount, "orphan_amount": 15, "draft": DEARER, **more})


def held() -> tuple[tuple[Account, ...], Hold]:
    accounts, hold = hold_in("held")
    assert hold is not None
    return accounts, hold


@pytest.mark.parametrize(("amount", "after"), [(70, 70), (100, 100), (40, 40), (10, 10), (0, 0)])
def test_a_hold_is_resized_within_what_is_available(amount: int, after: int) -> None:
    accounts, hold = held()
    change = quota.resize(resizing(amount), accounts, hold)
    assert change.hold is not None
    assert (change.result.status, change.result.amount, change.hold.amount) == ("done", amount, after)
    assert [each.held for each in change.accounts] == [after]
    assert (change.hold.want, change.hold.attempt, change.hold.draft) == (40, 1, DEARER)
    assert change.hold.orphan_amount == min(15, amount)


@pytest.mark.parametrize("amount", [101, -1, quota.MAX_NANO + 1, 2**64])
def test_a_resize_that_does_not_fit_leaves_the_hold_as_it_was(amount: int) -> None:
    accounts, hold = held()
    change = quota.resize(resizing(amount), accounts, hold)
    assert (change.accounts, change.hold) == (accounts, None)
    assert (change.result.status, change.result.amount, change.result.available) == ("refused", 40, 60)


def test_a_smaller_hold_is_given_even_by_an_account_below_zero() -> None:
    accounts, hold = held()
    poor = msgspec.structs.replace(accounts[0], settled=90)
    assert quota.resize(resizing(30), (poor,), hold).result.status == "done"
    assert quota.resize(resizing(41), (poor,), hold).result.status == "refused"


def test_a_resize_must_fit_in_every_account() -> None:
    accounts = (account(), Account(id="t", quota=50))
    placed = quota.reserve(reserving(accounts=("a", "t")), accounts, None, now=NOW)
    assert quota.resize(resizing(51), placed.accounts, placed.hold).result.status == "refused"
    change = quota.resize(resizing(50), placed.accounts, placed.hold)
    assert [each.held for each in change.accounts] == [50, 50]


def test_a_repeated_resize_changes_nothing_and_an_older_one_is_a_conflict() -> None:
    accounts, hold = held()
    first = quota.resize(resizing(70, 2), accounts, hold)
    repeat = quota.resize(resizing(70, 2), first.accounts, first.hold)
    assert (repeat.result.status, repeat.result.amount, repeat.hold) == ("done", 70, None)
    for late in (resizing(70, 1), resizing(71, 2), resizing(40, 0)):
        assert quota.resize(late, first.accounts, first.hold).result.status == "conflict"


@pytest.mark.parametrize("state", ["settled", "released", "expired", "corrected", "tombstone", "unknown"])
def test_only_a_live_hold_is_resized_or_raised(state: str) -> None:
    accounts, hold = hold_in(state)
    status = "unknown" if state == "unknown" else "conflict"
    for change in (
        quota.resize(resizing(50), accounts, hold),
        quota.checkpoint(Checkpoint(id="h", orphan_amount=20), accounts, hold),
    ):
        assert (change.result.status, change.hold, change.accounts) == (status, None, accounts)


def test_a_repeated_reserve_finds_its_hold_after_a_resize() -> None:
    accounts, hold = held()
    change = quota.resize(resizing(70), accounts, hold)
    again = quota.reserve(reserving(), change.accounts, change.hold, now=NOW)
    assert (again.result.status, again.result.amount) == ("done", 70)


@pytest.mark.parametrize(("amount", "after"), [(20, 20), (15, 15), (3, 15), (-4, 15), (40, 40), (900, 40)])
def test_an_orphan_amount_rises_up_to_the_hold_and_never_falls(amount: int, after: int) -> None:
    accounts, hold = held()
    change = quota.checkpoint(Checkpoint(id="h", orphan_amount=amount), accounts, hold)
    assert change.hold is not None
    assert (change.result.status, change.result.amount, change.hold.orphan_amount) == ("done", after, after)
    assert quota.expire(change.hold, accounts, now=NOW).result.amount == after


def test_what_is_settled_after_a_resize_is_divided_by_the_new_amount() -> None:
    accounts, hold = held()
    resized = quota.resize(resizing(70), accounts, hold)
    change = quota.settle(settling(75), resized.accounts, resized.hold, now=NOW)
    assert [(entry.line, entry.amount, entry.held) for entry in change.result.entries] == [
        ("resolution", 70, 70),
        ("overage", 5, 70),
    ]
    assert change.result.entries[0].draft == DEARER
    assert (change.accounts[0].settled, change.accounts[0].held) == (75, 0)
