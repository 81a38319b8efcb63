"""Windows never admit more than their room and what came back, and corrections lose nothing."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.windows import (
    LONGEST_US,
    MOST_ROOM,
    MOST_UNITS,
    Kept,
    Level,
    Size,
    drained,
    idle_at,
    live,
    put,
    size,
    take,
    wait_us,
)
from hpp_middleware.types.limits import Ask, Draw, Slot, Standing

NOW = 1_750_000_000_000_000
MINUTE = 60_000_000


def draw(amount: int, found: Size, key: str = "w") -> Draw:
    return Draw(key, amount * found.each, found.refill, found.room)


def sized(figure: int, window_s: int = 60, burst: int | None = None) -> Size:
    found = size(figure, window_s, burst)
    assert found is not None
    return found


def alone(level: Level | None, wanted: Draw, now: int) -> tuple[bool, Level]:
    """Drawn from one window, with no place to take."""
    standing, kept = take(Kept((level,), ()), Ask("alice", (wanted,), (), 60.0), now=now)
    (after,) = kept.levels
    assert after is not None
    assert standing.used == (after.used,)
    return standing.admitted, after


@given(st.integers(1, 10**10), st.sampled_from([1, 60, 3600, 86400]))
def test_a_windows_units_are_exact_or_a_hair_slower(figure: int, window_s: int) -> None:
    found = sized(figure, window_s)
    asked, counted = Fraction(figure, window_s * 10**6), Fraction(found.refill, found.each)
    assert found.room == figure * found.each
    assert asked * (1 - Fraction(1, 10**5)) <= counted <= asked
    assert found.room <= 2 * MOST_ROOM


@pytest.mark.parametrize(
    ("figure", "window_s"), [(60, 60), (7, 60), (100_000, 60), (10**9, 86400), (12_345, 86400), (99_999, 86400)]
)
def test_what_people_write_is_exact(figure: int, window_s: int) -> None:
    found = sized(figure, window_s)
    assert Fraction(found.refill, found.each) == Fraction(figure, window_s * 10**6)


def test_a_burst_bounds_what_comes_at_once_and_not_the_rate() -> None:
    found = sized(60, 60, burst=10)
    assert found.room == 10 * found.each
    assert Fraction(found.refill, found.each) == Fraction(1, 10**6)
    assert size(1, 86400, burst=10**10) is None


def test_as_many_as_the_figure_fit_at_once_and_not_one_more() -> None:
    for figure in (1, 7, 60, 12_345):
        found, level = sized(figure), None
        for _ in range(figure):
            admitted, level = alone(level, draw(1, found), NOW)
            assert admitted
        assert not alone(level, draw(1, found), NOW)[0]


def test_a_refusal_says_when_it_fits_and_then_it_does_and_not_before() -> None:
    found = sized(7)
    _, level = alone(None, draw(7, found), NOW)
    refused, there = alone(level, draw(1, found), NOW + 1_234)
    assert not refused
    wait = wait_us(there.used, draw(1, found))
    assert wait == -(-MINUTE // 7) - 1_234
    assert not alone(level, draw(1, found), NOW + 1_234 + wait - 1)[0]
    assert alone(level, draw(1, found), NOW + 1_234 + wait)[0]
    assert wait_us(0, draw(7, found)) == 0


def test_a_refused_draw_leaves_every_window_and_place_as_it_was() -> None:
    wide, narrow = sized(100), sized(1)
    _, empty = alone(None, draw(1, narrow), NOW)
    ask = Ask("alice", (draw(5, wide, "wide"), draw(1, narrow, "narrow")), (Slot("at-once", 2, "b"),), 60.0)
    kept = Kept((Level(7, NOW), empty), ({"a": NOW + 1},))
    standing, after = take(kept, ask, now=NOW)
    assert standing == Standing(admitted=False, used=(7, empty.used), busy=(1,))
    assert after == kept


def test_places_are_as_many_as_there_are_and_a_holder_has_one() -> None:
    holders: dict[str, int] = {}
    for holder, admitted, busy in (("a", True, 1), ("b", True, 2), ("c", False, 2), ("a", True, 2)):
        ask = Ask("alice", (), (Slot("at-once", 2, holder),), 60.0)
        standing, kept = take(Kept((), (holders,)), ask, now=NOW)
        assert (standing.admitted, standing.busy) == (admitted, (busy,))
        holders = dict(kept.holders[0])
    assert holders == {"a": NOW + MINUTE, "b": NOW + MINUTE}
    assert live(holders, now=NOW + MINUTE - 1) == holders
    assert live(holders, now=NOW + MINUTE) == {}
    assert live(holders, now=NOW + MINUTE - LONGEST_US) == holders
    assert live(holders, now=NOW + MINUTE - LONGEST_US - 1) == {}, "a clock that was an hour ahead keeps no place"
    standing, kept = take(Kept((), (holders,)), Ask("alice", (), (Slot("at-once", 1, "c"),), 1.0), now=NOW + MINUTE)
    assert standing.admitted
    assert kept.holders == ({"c": NOW + MINUTE + 10**6},)


def test_a_window_in_debt_admits_nothing_until_it_is_paid() -> None:
    found = sized(60)
    _, level = alone(None, draw(10, found), NOW)
    level = put(level, 80 * found.each)
    assert level.used == 90 * found.each
    assert not alone(level, draw(0, found), NOW + 29_999_999)[0]
    assert alone(level, draw(0, found), NOW + 30_000_000)[0]


def test_a_debt_has_a_bottom_and_a_window_a_top() -> None:
    assert put(Level(MOST_UNITS - 1, 0), 5) == Level(MOST_UNITS, 0)
    assert put(Level(3, 0), -5) == Level(0, 0)


def test_a_clock_that_is_set_back_gives_nothing_back_and_stops_nobody_for_long() -> None:
    found = sized(60)
    _, level = alone(None, draw(60, found), NOW)
    assert drained(level, draw(0, found), NOW - 1_000_000) == level
    admitted, level = alone(level, draw(1, found), NOW - 1_000_000)
    assert not admitted
    assert drained(level, draw(0, found), NOW - MINUTE) == level
    assert drained(level, draw(0, found), NOW - MINUTE - 1) == Level(0, NOW - MINUTE - 1)
    assert alone(level, draw(1, found), NOW + 1_000_000)[0]


def test_a_window_need_not_be_kept_once_it_is_full() -> None:
    found = sized(7)
    _, level = alone(None, draw(3, found), NOW)
    full = idle_at(level, draw(0, found))
    assert drained(level, draw(0, found), full).used == 0
    assert drained(level, draw(0, found), full - 1).used > 0


@st.composite
def programs(draw_from: st.DrawFn) -> tuple[Size, list[tuple[int, int, int]]]:
    """A window, and requests to it: microseconds since the last, what is estimated, what it comes to."""
    figure = draw_from(st.integers(1, 200))
    found = sized(figure, draw_from(st.sampled_from([1, 60])), draw_from(st.none() | st.integers(1, 300)))
    steps = draw_from(
        st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 50), st.integers(0, 100)), min_size=1, max_size=40)
    )
    return found, steps


@given(programs())
def test_no_more_is_admitted_in_any_span_than_the_room_and_what_came_back(
    program: tuple[Size, list[tuple[int, int, int]]],
) -> None:
    found, steps = program
    rate, room = Fraction(found.refill, found.each), found.room // found.each
    level: Level | None = None
    flows: list[tuple[int, int, bool]] = []  # when, how much, and whether it was an admission
    now = NOW
    for pause, estimated, actual in steps:
        now += pause
        admitted, level = alone(level, draw(estimated, found), now)
        if admitted:
            flows.append((now, estimated, True))
            level = put(drained(level, draw(0, found), now), (actual - estimated) * found.each)
            flows.append((now, actual - estimated, False))
    for end, (until, _, admission) in enumerate(flows):
        if admission:
            for begin in range(end + 1):
                came = sum(amount for _, amount, _ in flows[begin : end + 1])
                assert came <= room + rate * (until - flows[begin][0])


@given(st.integers(1, 500), st.integers(0, 50), st.integers(0, 100), st.integers(0, 3_000_000))
def test_a_correction_comes_to_the_same_as_if_it_had_been_known(
    figure: int, estimated: int, actual: int, later: int
) -> None:
    found = sized(figure, 60)
    base = Level((found.room // 2) + later * found.refill, NOW)  # so that it is not full before the correction
    taken = drained(put(base, estimated * found.each), draw(0, found), NOW + later)
    corrected = put(taken, (actual - estimated) * found.each)
    assert corrected == drained(put(base, actual * found.each), draw(0, found), NOW + later)


@given(st.lists(st.tuples(st.integers(0, 3 * 10**8), st.integers(0, 300)), max_size=30), st.integers(1, 300))
def test_units_are_counted_as_rationals_would_be(steps: list[tuple[int, int]], figure: int) -> None:
    found = sized(figure)
    level: Level | None = None
    lacking, at, now = Fraction(0), NOW, NOW
    for pause, amount in steps:
        now += pause
        lacking = max(Fraction(0), lacking - Fraction(figure * (now - at), MINUTE))
        at = now
        fits = lacking + amount <= figure
        admitted, level = alone(level, draw(amount, found), now)
        assert admitted == fits
        lacking += amount * fits
        assert Fraction(level.used, found.each) == lacking
