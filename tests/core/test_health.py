"""The circuit breaker, as a state machine that Hypothesis drives, and its rules one by one."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from hpp_middleware.core import health
from hpp_middleware.core.health import CLOSED, Circuit
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.health import Breaker

QUICK = Breaker(failures=3, window=30, cooldown=15, rate=0.5, minimum=10, longest=100, probes=2)


@dataclass(frozen=True)
class Sent:
    """A call, as the caller keeps it."""

    term: int
    probe: float | None


class Machine(RuleBasedStateMachine):
    """A circuit, the calls that it has let through, and a clock that only goes on."""

    calls: Bundle[Sent] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.circuit = CLOSED
        self.flying: list[Sent] = []
        self.opened_at = 0.0

    def _next(self, circuit: Circuit) -> None:
        before, self.circuit = self.circuit, circuit
        assert circuit.term in {before.term, before.term + 1}
        if circuit.is_open and circuit.term != before.term:
            self.opened_at = self.now
            assert self.now + QUICK.cooldown <= circuit.until <= self.now + QUICK.longest

    def _state(self) -> str:
        return health.state(self.circuit, now=self.now)

    @rule(target=calls)
    def ask(self) -> Any:
        """Ask, as a caller does: only where it is let through."""
        wait = health.wait_s(self.circuit, QUICK, now=self.now)
        if wait:
            assert self._state() != "closed"
            return Sent(-1, None)
        assert self._state() != "open", "an open one let a call through"
        probing = self._state() == "half_open"
        self.circuit = health.begun(self.circuit, QUICK, now=self.now)
        sent = Sent(self.circuit.term, self.circuit.probes[-1] if probing else None)
        self.flying.append(sent)
        return sent

    @rule(sent=consumes(calls))
    def succeed(self, sent: Sent) -> None:
        before = self.circuit
        self._ended(sent)
        self._next(health.succeeded(self.circuit, QUICK, now=self.now, term=sent.term))
        assert not self.circuit.is_open or sent.term != before.term

    @rule(
        sent=consumes(calls),
        retry_after=st.none() | st.floats(0, 1_000),
        why=st.sampled_from(["failed", "refused", "forbidden"]),
    )
    def fail(self, sent: Sent, retry_after: float | None, why: Any) -> None:
        before = self.circuit
        self._ended(sent)
        self._next(health.failed(self.circuit, QUICK, now=self.now, term=sent.term, why=why, retry_after_s=retry_after))
        if sent.term == before.term and (before.is_open or why == "refused"):
            assert self._state() == "open"
            assert self.circuit.until >= self.now + min(retry_after or 0, QUICK.longest)

    @rule(sent=consumes(calls))
    def leave(self, sent: Sent) -> None:
        """Its client has left: it says nothing, and it makes room for another probe."""
        before = self.circuit
        self._ended(sent)
        self._next(health.nothing(self.circuit, term=sent.term, probe=sent.probe))
        assert (self.circuit.term, self._state()) == (before.term, health.state(before, now=self.now))

    @rule(sent=consumes(calls))
    def leak(self, sent: Sent) -> None:
        """Nobody ends it."""

    @rule(seconds=st.floats(0, 200))
    def wait(self, seconds: float) -> None:
        was = self._state()
        self.now += seconds
        becomes = {"closed": {"closed"}, "open": {"open", "half_open"}, "half_open": {"half_open"}}
        assert self._state() in becomes[was], "time alone opens nothing, and closes nothing"

    @rule(seconds=st.floats(-5, 500))
    def hear(self, seconds: float) -> None:
        """Another worker leaves it alone."""
        before = health.wait_s(self.circuit, QUICK, now=self.now)
        circuit = health.heard(self.circuit, QUICK, now=self.now, for_s=seconds)
        assert circuit.term in {self.circuit.term, self.circuit.term + 1}
        self.circuit = circuit
        assert health.wait_s(circuit, QUICK, now=self.now) >= min(before, max(seconds, 0.0), QUICK.longest) - 1e-6

    @precondition(lambda self: self.circuit.is_open)
    @rule()
    def recover(self) -> None:
        """Whatever has leaked: after its cooldown, and a success, it is closed."""
        for _ in range(4):  # until it may be probed; and until probes that nobody ended are forgotten
            self.now += health.wait_s(self.circuit, QUICK, now=self.now)
        assert health.wait_s(self.circuit, QUICK, now=self.now) == 0
        self.circuit = health.begun(self.circuit, QUICK, now=self.now)
        self._next(health.succeeded(self.circuit, QUICK, now=self.now, term=self.circuit.term))
        assert self._state() == "closed"
        assert health.wait_s(self.circuit, QUICK, now=self.now) == 0

    def _ended(self, sent: Sent) -> None:
        if sent in self.flying:
            self.flying.remove(sent)

    @invariant()
    def never_more_probes_than_allowed(self) -> None:
        waiting = [
            each
            for each in self.flying
            if each.term == self.circuit.term and each.probe is not None and each.probe > self.now
        ]
        assert len(waiting) <= QUICK.probes
        assert len(self.circuit.probes) <= QUICK.probes

    @invariant()
    def never_left_alone_for_longer_than_it_may(self) -> None:
        assert health.wait_s(self.circuit, QUICK, now=self.now) <= QUICK.longest + 1e-6

    @invariant()
    def the_counts_are_possible(self) -> None:
        assert 0 <= self.circuit.failed <= self.circuit.asked
        assert 0 <= self.circuit.failed_before <= self.circuit.asked_before
        if not self.circuit.is_open:
            assert self.circuit.row < QUICK.failures
            assert self.circuit.probes == ()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def run(circuit: Circuit, outcomes: str, *, now: float = 0.0, step: float = 0.0, breaker: Breaker = QUICK) -> Circuit:
    """A circuit after calls, one letter each: ``f`` failed, ``s`` succeeded, ``x`` forbidden, ``r`` refused."""
    for letter in outcomes:
        term = circuit.term
        if letter == "s":
            circuit = health.succeeded(circuit, breaker, now=now, term=term)
        else:
            why: Any = {"f": "failed", "x": "forbidden", "r": "refused"}[letter]
            circuit = health.failed(circuit, breaker, now=now, term=term, why=why)
        now += step
    return circuit


@pytest.mark.parametrize(
    ("outcomes", "opens"),
    [
        ("ff", False),
        ("fff", True),
        ("ffsff", False),
        ("ffsfff", True),
        ("sfsfsfsfs", False),
        ("sfsfsfsfsf", True),
        ("ssfssfssfssf", False),
        ("r", True),
        ("xx", False),
        ("xxx", True),
        ("sxsxsxsxsxsxsxsx", False),
    ],
)
def test_so_many_failures_in_a_row_or_such_a_rate_of_them_open_it(outcomes: str, *, opens: bool) -> None:
    assert run(CLOSED, outcomes).is_open is opens


def test_failures_that_lie_further_apart_than_the_window_are_in_no_row() -> None:
    assert not run(CLOSED, "ffffff", step=30.0).is_open
    assert run(CLOSED, "fff", step=29.0).is_open


def test_the_rate_is_of_the_window_and_forgets_what_was_before_it() -> None:
    old = run(CLOSED, "sfsfsfsfs", now=0.0)
    assert run(old, "f", now=14.0).is_open
    assert run(old, "f", now=16.0).is_open  # still the half before
    assert not run(old, "f", now=30.0).is_open


def test_it_stays_open_for_longer_each_time_up_to_a_bound() -> None:
    circuit, now, waits = run(CLOSED, "fff"), 0.0, []
    for _ in range(5):
        waits.append(circuit.until - now)
        now = circuit.until
        circuit = health.begun(circuit, QUICK, now=now)
        circuit = health.failed(circuit, QUICK, now=now, term=circuit.term)
    assert waits == [15, 30, 60, 100, 100]


def test_closing_for_a_moment_does_not_make_it_short_again_but_a_window_does() -> None:
    circuit = run(CLOSED, "fff")
    closed = health.succeeded(circuit, QUICK, now=15.0, term=circuit.term)
    assert run(closed, "fff", now=20.0).until == 20.0 + 30.0
    assert run(closed, "fff", now=50.0).until == 50.0 + 15.0


def test_an_upstream_says_how_long_it_is_left_alone_but_not_for_ever() -> None:
    def until(retry_after: float | None) -> float:
        circuit = run(CLOSED, "ff")
        return health.failed(circuit, QUICK, now=0.0, term=0, retry_after_s=retry_after).until

    assert (until(None), until(3.0), until(40.0), until(1e9)) == (15, 15, 40, 100)


def test_what_began_before_the_opening_neither_closes_it_nor_keeps_it_open() -> None:
    circuit = run(CLOSED, "fff")
    assert health.succeeded(circuit, QUICK, now=16.0, term=0) is circuit
    assert health.failed(circuit, QUICK, now=16.0, term=0) is circuit
    closed = health.succeeded(circuit, QUICK, now=16.0, term=1)
    assert health.failed(closed, QUICK, now=17.0, term=1) is closed  # a second probe, that was late


def test_what_another_worker_leaves_alone_is_left_alone_here_for_as_long_and_no_longer() -> None:
    heard = health.heard(CLOSED, QUICK, now=0.0, for_s=40)
    assert (health.state(heard, now=39.0), health.state(heard, now=40.0)) == ("open", "half_open")
    assert health.heard(heard, QUICK, now=10.0, for_s=30) is heard
    assert health.heard(heard, QUICK, now=10.0, for_s=30.9) is heard, "its own word, by way of the store"
    assert health.heard(heard, QUICK, now=10.0, for_s=32).until == 42.0
    assert health.heard(CLOSED, QUICK, now=0.0, for_s=0) is CLOSED
    assert health.heard(CLOSED, QUICK, now=0.0, for_s=1e9).until == QUICK.longest
    again = health.failed(heard, QUICK, now=40.0, term=heard.term)
    assert again.until == 40 + 30  # the second time in a row


@pytest.mark.parametrize(
    ("status", "ok", "told"),
    [
        (200, True, "well"),
        (200, False, "failed"),
        (200, None, "nothing"),
        (None, False, "failed"),
        (None, None, "nothing"),
        (400, False, "well"),
        (404, False, "well"),
        (408, False, "failed"),
        (409, False, "well"),
        (422, True, "well"),
        (401, False, "refused"),
        (402, False, "refused"),
        (403, False, "forbidden"),
        (429, False, "limited"),
        (429, None, "nothing"),
        (500, False, "failed"),
        (503, False, "failed"),
        (529, False, "failed"),
        (302, False, "failed"),
    ],
)
def test_a_status_says_whose_fault_it_was(*, status: int | None, ok: bool | None, told: str) -> None:
    assert health.told(status, ok=ok) == told


def test_a_key_rests_for_as_long_as_it_is_told_within_a_bound() -> None:
    assert health.rest_s(QUICK, retry_after_s=None) == QUICK.rest
    assert health.rest_s(QUICK, retry_after_s=7.5) == 7.5
    assert health.rest_s(QUICK, retry_after_s=-1.0) == 0
    assert health.rest_s(QUICK, retry_after_s=86_400.0) == 100


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"failures": 0}, "breaker.failures"),
        ({"minimum": 0}, "breaker.minimum"),
        ({"probes": 0}, "breaker.probes"),
        ({"window": 0}, "breaker.window"),
        ({"cooldown": -1}, "breaker.cooldown"),
        ({"rest": 90_000}, "breaker.rest"),
        ({"rate": 0}, "breaker.rate"),
        ({"rate": 1.1}, "breaker.rate"),
        ({"rate": float("nan")}, "breaker.rate"),
        ({"cooldown": 400}, "breaker.longest"),
        ({"longest": float("inf")}, "breaker.longest"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_its_name(wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Breaker(**wrong)
    assert error.value.param == field
    assert field in error.value.message
