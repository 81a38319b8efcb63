"""An idempotency key is placed with a hold and dies with it."""

import msgspec
import pytest
from test_quota import NOW, hold_in, reserving

from hpp_middleware.core import claims
from hpp_middleware.types.operations import Claim, Kept, Settle
from hpp_middleware.types.quota import Claimed, Outcome, Report

CLAIM = Claim(key="k", fingerprint="f", ttl_s=100.0)
LATER = reserving(id="later", claim=CLAIM)


def found(**more: object) -> Claimed:
    return msgspec.structs.replace(
        Claimed(key="k", fingerprint="f", hold="h", account="a", expires=NOW + 100, kept=b"answer"), **more
    )


@pytest.mark.parametrize(
    ("state", "now", "status"),
    [
        ("held", NOW, "running"),
        ("held", NOW + 1000, "running"),  # a long stream outlives the time to live
        ("settled", NOW, "finished"),
        ("settled", NOW + 99.9, "finished"),
        ("settled", NOW + 100, None),
        ("corrected", NOW, "finished"),
        ("released", NOW, None),
        ("expired", NOW, None),
        ("unknown", NOW, "finished"),  # its hold is long forgotten, it is not
        ("unknown", NOW + 100, None),
    ],
)
def test_a_key_is_in_use_while_its_hold_lives_and_its_answer_lasts(state: str, now: float, status: str | None) -> None:
    _, hold = hold_in(state)
    result = claims.answer(LATER, CLAIM, found(), hold, now=now)
    assert (result.status if result else None) == status
    if result is not None:
        assert (result.id, result.hold) == ("later", "h")
        assert result.kept == (b"answer" if status == "finished" else None)


@pytest.mark.parametrize("state", ["held", "settled"])
def test_another_request_under_the_same_key_is_told_so(state: str) -> None:
    _, hold = hold_in(state)
    result = claims.answer(LATER, CLAIM, found(fingerprint="other"), hold, now=NOW)
    assert result is not None
    assert (result.status, result.kept) == ("mismatch", None)


def test_a_key_that_nobody_has_is_free() -> None:
    assert claims.answer(LATER, CLAIM, None, None, now=NOW) is None


def test_a_claim_is_the_payers_and_lasts_for_its_time() -> None:
    _, hold = hold_in("held")
    assert hold is not None
    assert claims.claimed(CLAIM, hold, now=NOW) == found(kept=None)


@pytest.mark.parametrize(
    ("claim", "stored", "kept"),
    [
        (found(kept=None), 0, b"answer"),
        (found(kept=None), 4, b"answer"),
        (found(kept=None), 5, None),  # past the bound of the account
        (found(kept=None, hold="another"), 0, None),  # the key was claimed anew meanwhile
        (None, 0, None),
    ],
)
def test_an_answer_is_kept_within_the_bound_and_with_its_own_claim(
    claim: Claimed | None, stored: int, kept: bytes | None
) -> None:
    _, hold = hold_in("settled")
    assert hold is not None
    settle = Settle(id="h", amount=25, report=Report(outcome="completed"), kept=Kept(body=b"answer", most=10))
    after = claims.after(settle, claim, hold, stored=stored, now=NOW)
    assert after == (None if kept is None else found(kept=kept))


@pytest.mark.parametrize(
    ("outcome", "amount", "free"),
    [("failed", 0, True), ("failed", 1, False), ("completed", 0, False), ("abandoned", 5, False)],
)
def test_a_request_that_failed_and_cost_nothing_frees_its_key(
    outcome: Outcome,
    amount: int,
    free: bool,  # noqa: FBT001
) -> None:
    _, hold = hold_in("settled")
    assert hold is not None
    settle = Settle(id="h", amount=amount, report=Report(outcome=outcome))
    after = claims.after(settle, found(kept=None), hold, stored=0, now=NOW)
    assert (after is not None) is free
    if after is not None:
        assert not claims.is_live(after, hold, now=NOW)


def test_a_hold_that_is_given_back_after_it_was_swept_frees_its_key_and_no_other_ones() -> None:
    _, hold = hold_in("corrected")
    assert hold is not None
    assert claims.freed(found(), hold, now=NOW) == found(expires=NOW)
    assert claims.freed(found(hold="another"), hold, now=NOW) is None
    assert claims.freed(None, hold, now=NOW) is None
