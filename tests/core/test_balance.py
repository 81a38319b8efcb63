"""Which upstream is asked first: by weight, by load, by pace, by price. Each draw is given."""

import random
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.balance import EXPLORE, Seat, order, pace
from hpp_middleware.types.upstreams import Choice

DRAWS = 20_000
CHOICES: tuple[Choice, ...] = ("weighted", "least_busy", "latency", "cheapest")


def first(seats: list[Seat], how: Choice) -> Counter[str]:
    """Who is first, and how often, by dice that fall alike in every run."""
    dice = random.Random(7)
    return Counter(order(seats, how, chance=dice.random)[0] for _ in range(DRAWS))


def test_each_is_asked_by_its_weight() -> None:
    found = first([Seat("a", 3.0), Seat("b", 1.0), Seat("c", 6.0)], "weighted")
    for key, share in {"a": 0.3, "b": 0.1, "c": 0.6}.items():
        assert found[key] / DRAWS == pytest.approx(share, abs=0.015)


def test_of_two_the_one_that_is_less_busy_for_its_weight_is_asked() -> None:
    two = [Seat("busy", in_flight=5), Seat("idle", in_flight=4)]
    assert first(two, "least_busy") == {"idle": DRAWS}
    assert first([Seat("large", 4.0, in_flight=8), Seat("small", 1.0, in_flight=4)], "least_busy") == {"large": DRAWS}


def test_of_many_the_busiest_is_never_asked_and_not_everybody_goes_to_the_idlest() -> None:
    seats = [Seat(key, in_flight=number) for number, key in enumerate("abcd")]
    found = first(seats, "least_busy")
    assert found["d"] == 0
    assert found["a"] > found["b"] > found["c"] > 0


def test_the_fast_ones_are_asked_and_now_and_then_another() -> None:
    seats = [Seat("fast", first_byte_s=0.20), Seat("nearly", first_byte_s=0.24), Seat("slow", first_byte_s=2.0)]
    found = first(seats, "latency")
    assert found["slow"] / DRAWS == pytest.approx(EXPLORE / 3, abs=0.005)
    assert found["fast"] / DRAWS == pytest.approx(found["nearly"] / DRAWS, abs=0.02)


def test_one_that_nobody_has_measured_is_as_good_as_the_fastest() -> None:
    found = first([Seat("fast", first_byte_s=0.2), Seat("new")], "latency")
    assert found["new"] / DRAWS == pytest.approx(0.5, abs=0.02)
    assert first([Seat("a"), Seat("b")], "latency")["a"] / DRAWS == pytest.approx(0.5, abs=0.02)


def test_the_slow_ones_stand_behind_in_the_order_of_their_pace() -> None:
    seats = [Seat("c", first_byte_s=3.0), Seat("a", first_byte_s=1.0), Seat("b", first_byte_s=2.0)]
    assert order(seats, "latency", chance=lambda: 0.5) == ["a", "b", "c"]


def test_the_cheapest_is_asked_and_equals_by_weight() -> None:
    seats = [Seat("dear", 1e6, Decimal("1.1")), Seat("a", 3.0), Seat("b", 1.0)]
    found = first(seats, "cheapest")
    assert found["dear"] == 0
    assert found["a"] / DRAWS == pytest.approx(0.75, abs=0.015)
    assert order(seats, "cheapest", chance=lambda: 0.5)[-1] == "dear"


@given(
    seats=st.lists(
        st.builds(
            Seat,
            key=st.text(),
            weight=st.floats(1e-9, 1e9),
            in_flight=st.integers(0, 9),
            first_byte_s=st.none() | st.floats(0, 9),
        ),
        unique_by=lambda seat: seat.key,
    ),
    how=st.sampled_from(CHOICES),
    draws=st.lists(st.sampled_from([0.0, 0.5, 1.0 - 2**-53, 1.0]), min_size=1),
)
def test_each_is_there_once_whatever_is_drawn(seats: list[Seat], how: Choice, draws: list[float]) -> None:
    drawn = iter(draws * (len(seats) + 1))
    found = order(seats, how, chance=lambda: next(drawn))
    assert sorted(found) == sorted(seat.key for seat in seats)


def test_a_pace_is_a_mean_that_follows_what_is_measured_and_forgets_with_time() -> None:
    mean = pace(None, 1.0, now=0.0)
    assert mean == (1.0, 0.0)
    assert pace(mean, 2.0, now=0.0)[0] == pytest.approx(1.3)
    assert pace(mean, 2.0, now=60.0)[0] == pytest.approx(1.65)
    assert pace(mean, 2.0, now=60.0)[1] == 60.0
    assert pace(mean, 2.0, now=6_000.0)[0] == pytest.approx(2.0)
    assert pace(mean, 2.0, now=-5.0)[0] == pytest.approx(1.3)
