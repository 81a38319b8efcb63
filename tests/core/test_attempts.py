"""What follows an attempt that failed, and how many attempts there may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.attempts import FLOOR, LONGEST_WAIT_S, SHARE, Budget, Failure, Left, Step, backoff, decide
from hpp_middleware.core.settlement import End

STOP, NEXT = Step("stop"), Step("next")
FAILED = [End.REFUSED, End.DEADLINE, End.LAPSED, End.BROKEN]

failures = st.builds(
    Failure,
    end=st.sampled_from(list(End)),
    status=st.sampled_from([None, 200, 204, 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 529]),
    retryable=st.booleans(),
    relayed=st.booleans(),
    retry_after_s=st.none() | st.floats(0, 10_000),
    cost=st.integers(0, 10**9),
)
lefts = st.builds(
    Left,
    retries=st.integers(0, 5),
    others=st.integers(0, 5),
    seconds=st.floats(-10, 1_000),
    budget=st.booleans(),
)


def refused(status: int | None = 503, *, retryable: bool = True, **fields: float | None) -> Failure:
    return Failure(end=End.REFUSED, status=status, retryable=retryable, **fields)  # type: ignore[arg-type]


def after(failure: Failure, *, tried: int = 1, chance: float = 1.0, **left: float | bool) -> Step:
    return decide(failure, Left(**{"retries": 1, "others": 1, "seconds": 600.0, **left}), tried=tried, chance=chance)  # type: ignore[arg-type]


@given(failures, lefts, st.integers(1, 9), st.floats(0, 1))
def test_the_rules_hold_whatever_happens(failure: Failure, left: Left, tried: int, chance: float) -> None:
    step = decide(failure, left, tried=tried, chance=chance)
    over = failure.relayed or failure.end not in FAILED or not left.budget or left.seconds <= 0
    assert (step == STOP) or not over
    assert over or (step == STOP) == (left.others == 0 and step.kind != "again")
    if step.kind == "again":
        assert left.retries > 0
        assert failure.retryable
        assert failure.cost == 0
        assert failure.end not in {End.DEADLINE, End.LAPSED}
        assert failure.status not in {400, 401, 402, 403, 404, 409, 413, 422}
        assert 0 <= step.after_s < left.seconds
        assert failure.retry_after_s is None or step.after_s == failure.retry_after_s <= LONGEST_WAIT_S
    else:
        assert step.after_s == 0
    if step.kind == "next":
        assert left.others > 0


@pytest.mark.parametrize("status", [None, 200, 408, 429, 500, 502, 503, 529])
def test_what_passes_is_asked_again_of_the_same_target_and_then_of_the_next(status: int | None) -> None:
    assert after(refused(status)) == Step("again", 0.5)
    assert after(refused(status), retries=0) == NEXT
    assert after(refused(status), retries=0, others=0) == STOP
    assert after(refused(status, retryable=False)) == NEXT


@pytest.mark.parametrize("status", [400, 404, 409, 413, 415, 422])
def test_what_is_the_requests_own_fault_is_asked_of_another_model_only(status: int) -> None:
    assert after(refused(status, retryable=status == 409)) == NEXT
    assert after(refused(status, retryable=status == 409), others=0) == STOP


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_provider_that_does_not_take_the_operators_key_is_not_asked_again(status: int) -> None:
    assert after(refused(status, retryable=True)) == NEXT
    assert after(refused(status, retryable=True), others=0, retries=9) == STOP


def test_a_wish_to_be_left_alone_is_respected_where_it_fits() -> None:
    busy = refused(429, retry_after_s=1.5)
    assert after(busy) == Step("again", 1.5)
    assert after(refused(429, retry_after_s=30.0)) == NEXT
    assert after(refused(429, retry_after_s=30.0), others=0) == Step("again", 30.0)
    assert after(refused(429, retry_after_s=30.0), others=0, seconds=30.0) == STOP
    assert after(refused(429, retry_after_s=LONGEST_WAIT_S + 1), others=0) == STOP
    assert after(refused(429, retry_after_s=0.0), others=0) == Step("again", 0.0)


def test_an_attempt_that_is_charged_is_not_repeated_but_another_model_may_be_asked() -> None:
    for failure in (
        Failure(end=End.DEADLINE, retryable=True, cost=700),
        Failure(end=End.DEADLINE, retryable=True),
        Failure(end=End.LAPSED, retryable=True),
        Failure(end=End.BROKEN, status=200, retryable=True, cost=700),
        refused(500, cost=700),
    ):
        assert after(failure) == NEXT
        assert after(failure, others=0, retries=9) == STOP


@pytest.mark.parametrize("end", [end for end in End if end not in FAILED])
def test_nothing_follows_an_answer_or_a_client_that_has_left(end: End) -> None:
    assert after(Failure(end=end, retryable=True)) == STOP


def test_nothing_follows_once_the_client_has_seen_something() -> None:
    assert after(Failure(end=End.BROKEN, status=200, retryable=True, relayed=True)) == STOP


@given(st.integers(1, 100), st.floats(0, 1))
def test_pauses_double_up_to_a_bound_and_are_jittered(tried: int, chance: float) -> None:
    bound = min(8.0, 0.5 * 2 ** (tried - 1))
    assert bound / 2 <= backoff(tried, chance) <= bound
    assert backoff(tried, 0.0) == bound / 2
    assert backoff(tried, 1.0) == bound


@given(st.lists(st.tuples(st.sampled_from(["request", "take"]), st.floats(0, 0.01)), max_size=400))
def test_while_everything_fails_there_are_no_more_attempts_than_their_share(steps: list[tuple[str, float]]) -> None:
    budget, now, requests, extra = Budget(), 1_000.0, 0, 0
    for kind, seconds in steps:
        now += seconds
        if kind == "request":
            budget.request(now)
            requests += 1
        else:
            extra += budget.take(now)
        assert extra <= max(FLOOR, SHARE * requests)


@given(st.lists(st.integers(60, 90), min_size=1, max_size=30))
def test_over_many_windows_they_are_no_more_either(loads: list[int]) -> None:
    budget, requests, extra = Budget(), 0, 0
    for window, load in enumerate(loads):
        for number in range(load):
            now = window * 10.0 + number * 10.0 / load
            budget.request(now)
            requests += 1
            # The first requests of all stand for a while that had fewer than this: then the floor is what counts.
            extra += sum(budget.take(now) for _ in range(3))
    assert extra <= max(FLOOR, SHARE * requests)


def test_a_single_request_may_try_a_chain_to_its_end() -> None:
    budget = Budget()
    budget.request(0.0)
    assert [budget.take(0.0) for _ in range(FLOOR + 1)] == [True] * FLOOR + [False]


def test_what_succeeds_is_given_back() -> None:
    budget = Budget()
    for _ in range(1_000):
        budget.request(0.0)
        assert budget.take(0.0)
        budget.give_back()
    budget.give_back()
    assert sum(budget.take(0.0) for _ in range(1_000)) == 200


def test_what_was_long_ago_no_longer_counts() -> None:
    budget = Budget()
    budget.request(0.0)
    assert sum(budget.take(0.0) for _ in range(99)) == FLOOR
    assert not budget.take(9.0)
    assert budget.take(10.0)
    assert sum(budget.take(1e9) for _ in range(99)) == FLOOR
