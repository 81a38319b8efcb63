"""Whose turn it is: bounds, fairness, and that nobody is forgotten."""

from collections import Counter
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.fair import PRESENT_S, Fair
from hpp_middleware.types.load import Load

NAMES = ("a", "b", "c", "d")


def fair(**load: int) -> Fair[str]:
    return Fair(Load(**{"in_flight": 4, "per_consumer": 0, "queue": 10, **load}))


def fill(found: Fair[str], consumer: str, times: int) -> None:
    for _ in range(times):
        assert found.enter(consumer, now=0)


def line(found: Fair[str], consumer: str, times: int) -> None:
    for number in range(times):
        assert found.line_up(consumer, f"{consumer}{number}") is None


def test_as_many_run_as_there_are_places() -> None:
    found = fair()
    fill(found, "a", 4)
    assert not found.enter("a", now=0)
    assert not found.enter("b", now=0)
    assert found.leave("a") == []
    assert found.enter("b", now=0)
    assert found.running == 4


def test_without_bounds_any_number_runs() -> None:
    found = fair(in_flight=0, per_consumer=0)
    fill(found, "a", 5_000)
    fill(found, "b", 5_000)
    assert found.running == 10_000


def test_the_next_place_is_of_whoever_has_the_fewest_running() -> None:
    found = fair()
    fill(found, "flood", 4)
    line(found, "flood", 5)
    line(found, "victim", 2)
    assert found.leave("flood") == ["victim0"]
    assert found.leave("flood") == ["victim1"]  # two and one are running: the fewer has it again
    assert found.leave("flood") == ["flood0"]


def test_among_equals_turns_go_round() -> None:
    found = fair(in_flight=1)
    fill(found, "a", 1)
    for each in ("b", "c", "d"):
        line(found, each, 2)
    served = []
    running = "a"
    for _ in range(6):
        (ticket,) = found.leave(running)
        running = ticket[0]
        served.append(ticket)
    assert served == ["b0", "c0", "d0", "b1", "c1", "d1"]
    assert (found.leave(running), found.running, found.waiting) == ([], 0, 0)


def test_who_comes_does_not_overtake_its_own_line() -> None:
    found = fair(per_consumer=1)
    assert found.enter("b", now=0)
    assert found.enter("a", now=0)
    line(found, "a", 1)
    assert found.leave("b") == []  # a has its share
    assert not found.enter("a", now=3 * PRESENT_S)  # alone by now, yet its line is first
    assert found.leave("a") == ["a0"]


def test_a_consumers_share_is_bounded_while_others_are_there() -> None:
    found = fair(in_flight=10, per_consumer=2)
    assert found.enter("b", now=0)
    fill(found, "a", 2)
    assert not found.enter("a", now=0)
    line(found, "a", 1)
    assert found.leave("b") == []
    assert found.enter("c", now=0)  # what a may not have is there for others
    assert found.leave("a") == ["a0"]


def test_whoever_is_alone_may_have_all() -> None:
    found = fair(in_flight=10, per_consumer=2)
    fill(found, "a", 9)
    assert found.enter("b", now=0)  # from now on a has more than its share
    for left in range(7):
        assert found.leave("a") == []
        assert found.enter("a", now=1) is (left > 7), left
    assert found.leave("a") == []
    assert found.enter("a", now=1)


def test_the_line_of_whoever_becomes_alone_has_what_is_free() -> None:
    found = fair(in_flight=4, per_consumer=1, queue=10)
    assert found.enter("b", now=0)
    found.leave("b")
    fill(found, "a", 1)
    line(found, "a", 2)
    assert found.turns() == []
    assert not found.enter("a", now=3 * PRESENT_S)  # its own line goes before it
    assert found.turns() == ["a0", "a1"]
    assert found.enter("a", now=3 * PRESENT_S)
    assert (found.running, found.waiting) == (4, 0)


def test_whoever_was_there_lately_counts_as_there() -> None:
    found = fair(in_flight=10, per_consumer=2)
    assert found.enter("b", now=0)
    found.leave("b")
    fill(found, "a", 2)
    assert not found.enter("a", now=PRESENT_S - 1)
    assert not found.enter("a", now=PRESENT_S + 1)  # the last half minute counts besides
    assert found.enter("a", now=3 * PRESENT_S)


def test_whoever_has_something_running_is_there_however_long_ago_it_asked() -> None:
    found = fair(in_flight=10, per_consumer=2)
    assert found.enter("b", now=0)
    fill(found, "a", 2)
    assert not found.enter("a", now=100 * PRESENT_S)
    found.leave("b")
    assert found.enter("a", now=200 * PRESENT_S)


def test_one_consumers_part_of_the_line_is_half() -> None:
    found = fair(queue=5)
    fill(found, "a", 4)
    line(found, "a", 3)
    assert found.line_up("a", "too many") == "too many"
    line(found, "b", 2)
    assert found.waiting == 5


def test_a_full_line_takes_from_the_longest_and_gives_to_who_has_fewer() -> None:
    found = fair(queue=4)
    fill(found, "a", 4)
    line(found, "a", 2)
    line(found, "b", 2)
    assert found.line_up("c", "c0") == "a1"  # the last of the longest
    assert found.line_up("c", "c1") == "c1"  # it would have as many as those it takes from
    assert found.waiting == 4
    assert [found.leave("a") for _ in range(4)] == [["b0"], ["c0"], ["a0"], ["b1"]]


def test_no_line_refuses_at_once() -> None:
    found = fair(queue=0)
    fill(found, "a", 4)
    assert found.line_up("a", "mine") == "mine"
    assert found.line_up("b", "mine") == "mine"
    assert found.leave("a") == []


def test_who_gives_up_leaves_no_trace() -> None:
    found = fair()
    fill(found, "a", 4)
    line(found, "b", 2)
    found.give_up("b", "b0")
    found.give_up("b", "b0")
    found.give_up("nobody", "b0")
    assert found.waiting == 1
    assert found.leave("a") == ["b1"]
    found.give_up("b", "b1")  # it runs: nothing to give up
    assert (found.running, found.waiting) == (4, 0)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from(NAMES)),
        st.tuples(st.just("end"), st.integers(0, 99)),
        st.tuples(st.just("give up"), st.integers(0, 99)),
    ),
    max_size=120,
)


class Watched:
    """What runs and waits, kept beside the one that decides; a ticket's first letter is whose it is."""

    def __init__(self, places: int, part: int, queue: int) -> None:
        self.fair = fair(in_flight=places, per_consumer=part, queue=queue)
        self.places, self.part, self.queue = places, part, queue
        self.running: list[str] = []
        self.waiting: list[str] = []
        self._numbers = count()
        for each in NAMES[:2]:  # two are there: nobody is alone
            if self.fair.enter(each, now=0):
                self.fair.leave(each)

    def step(self, step: str, what: Any) -> None:
        if step == "ask":
            self.ask(what)
        elif step == "end" and self.running:
            self.end(what % len(self.running))
        elif step == "give up" and self.waiting:
            gone = self.waiting.pop(what % len(self.waiting))
            self.fair.give_up(gone[0], gone)

    def ask(self, consumer: str) -> None:
        ticket = f"{consumer}{next(self._numbers)}"
        if self.fair.enter(consumer, now=0):
            assert consumer not in self.lines
            self.running.append(ticket)
            return
        lost = self.fair.line_up(consumer, ticket)
        self.waiting.append(ticket)
        if lost is not None:
            self.waiting.remove(lost)

    def end(self, index: int) -> None:
        for ticket in self.fair.leave(self.running.pop(index)[0]):
            assert ticket == next(each for each in self.waiting if each[0] == ticket[0])  # first come, first served
            counts = self.counts
            assert all(counts[ticket[0]] <= counts[other] for other in self.lines if not self._has_its_share(other))
            self.waiting.remove(ticket)
            self.running.append(ticket)

    def check(self) -> None:
        assert (self.fair.running, self.fair.waiting) == (len(self.running), len(self.waiting))
        assert len(self.running) <= self.places
        assert len(self.waiting) <= self.queue
        assert all(each <= (self.queue + 1) // 2 for each in self.lines.values())
        assert not self.part or all(each <= self.part for each in self.counts.values())
        if len(self.running) < self.places:  # no place is left empty that somebody waits for and may have
            assert all(self._has_its_share(each) for each in self.lines)

    @property
    def counts(self) -> Counter[str]:
        return Counter(each[0] for each in self.running)

    @property
    def lines(self) -> Counter[str]:
        return Counter(each[0] for each in self.waiting)

    def _has_its_share(self, consumer: str) -> bool:
        return bool(self.part) and self.counts[consumer] >= self.part


@given(STEPS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 6))
def test_whatever_happens_bounds_hold_and_each_is_told_once(
    steps: list[tuple[str, int | str]], places: int, part: int, queue: int
) -> None:
    watched = Watched(places, part, queue)
    for step, what in steps:
        watched.step(step, what)
        watched.check()
    while watched.running:  # whoever waits is served in the end
        watched.end(-1)
        watched.check()
    assert watched.waiting == []


@given(st.lists(st.integers(0, 99), min_size=60, max_size=60), st.integers(1, 4), st.integers(1, 3))
def test_who_runs_nothing_waits_for_one_turn_of_each_other_at_most(ends: list[int], places: int, others: int) -> None:
    found = fair(in_flight=places, queue=1000)
    running = [NAMES[number % others] for number in range(places)]
    for each in running:
        assert found.enter(each, now=0)
    for each in NAMES[:others]:
        line(found, each, 50)
    assert found.line_up("victim", "victim") is None
    before = 0
    for end in ends:
        (ticket,) = found.leave(running.pop(end % len(running)))
        if ticket == "victim":
            break
        running.append(ticket[0])
        before += 1
    assert before <= others
