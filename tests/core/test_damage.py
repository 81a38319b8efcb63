"""A hold is resolved only where it and its accounts can be made sense of."""

from typing import Any

import msgspec
import pytest

from hpp_middleware.core import damage, quota
from hpp_middleware.testing.stores.bench import DRAFT
from hpp_middleware.types.quota import Account, Hold

HOLD = Hold(
    id="h",
    accounts=("alice", "team"),
    amount=100,
    want=100,
    state="held",
    owner="worker",
    deadline=1000.0,
    orphan_amount=30,
    draft=DRAFT,
)
ACCOUNTS = (Account(id="alice", quota=500, held=100), Account(id="team", quota=500, held=300))


@pytest.mark.parametrize(
    ("hold", "alice"),
    [
        ({"draft": None}, {}),
        ({"amount": -1}, {}),
        ({"amount": quota.MAX_NANO + 1}, {"held": quota.MAX_NANO + 1}),
        ({}, {"held": 99}),
        ({}, {"settled": damage.MOST_COUNTED + 1}),
        ({}, {"settled": -damage.MOST_COUNTED - 1}),
        ({}, {"seq": damage.MOST_COUNTED + 1}),
        ({}, {"requests": damage.MOST_COUNTED + 1}),
        ({}, {"tokens": damage.MOST_COUNTED + 1}),
    ],
    ids=str,
)
def test_what_is_damaged_is_left_as_it_is(hold: dict[str, Any], alice: dict[str, Any]) -> None:
    damaged = msgspec.structs.replace(HOLD, **hold)
    for accounts in ((msgspec.structs.replace(ACCOUNTS[0], **alice), ACCOUNTS[1]), ()):
        assert not damage.is_sound(damaged, accounts, most=quota.MAX_NANO)
        change = quota.expire(damaged, accounts, now=2000.0)
        assert (change.accounts, change.hold) == (accounts, None)
        assert (change.result.id, change.result.status, change.result.entries) == ("h", "refused", ())


@pytest.mark.parametrize(("orphan", "charged"), [(30, 30), (-5, 0), (10**18, 100)])
def test_what_is_sound_is_charged_no_more_than_it_holds(orphan: int, charged: int) -> None:
    hold = msgspec.structs.replace(HOLD, orphan_amount=orphan)
    assert damage.is_sound(hold, ACCOUNTS, most=quota.MAX_NANO)
    change = quota.expire(hold, ACCOUNTS, now=2000.0)
    assert [(each.settled, each.held) for each in change.accounts] == [(charged, 0), (charged, 200)]
    assert sum(entry.amount for entry in change.result.entries) == charged
