"""What a worker knows of its upstreams: whom it asks, whom it leaves alone, and for how long."""

import pytest

from hpp_middleware.errors import UpstreamUnavailableError
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.types.completion import Target
from hpp_middleware.types.events import Alarm, UpstreamChanged
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

BREAKER = Breaker(failures=3, cooldown=10, window=30, rest=2, longest=60)
URL = "http://127.0.0.1:1"


class Clock:
    """A clock that is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Heard:
    """What was told."""

    def __init__(self) -> None:
        self.alarms: list[Alarm] = []
        self.changes: list[UpstreamChanged] = []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def found(clock: Clock, heard: Heard) -> Health:
    return Health(
        {"fake": Provider(base_url=URL, breaker=BREAKER), "bare": Provider(base_url=URL, breaker=None)},
        alarm=heard.alarms.append,
        changed=heard.changes.append,
        clock=clock,
    )


def target(name: str = "fake/a") -> Target:
    provider, _, model = name.partition("/")
    return Target(
        id=name,
        provider_name=provider,
        model_name=model,
        provider=Provider(base_url=URL),
        model=Model(),
        price=Price(base=Rates(input=10**12, output=2 * 10**12)),
    )


def fail(found: Health, times: int, *, key: str = "fake", status: int | None = 500) -> None:
    for _ in range(times):
        found.began(key, "a").ended(ok=False, status=status)


def test_an_upstream_that_fails_is_left_alone_and_then_probed_by_one(found: Health, clock: Clock) -> None:
    fail(found, 2)
    assert found.admits("fake") == 0
    fail(found, 1)
    assert found.admits("fake") == 10
    assert found.targets(target()) == []
    clock.now += 10
    assert found.targets(target()) == [target()]
    probe = found.began("fake", "a")
    assert found.admits("fake") == 10, "a second probe would have gone out"
    probe.ended(ok=True, status=200)
    assert found.admits("fake") == 0


def test_a_stream_that_has_begun_closes_the_circuit_long_before_it_ends(found: Health, clock: Clock) -> None:
    fail(found, 3)
    clock.now += 10
    probe = found.began("fake", "a")
    probe.answering(0.1)
    assert found.admits("fake") == 0
    probe.ended(ok=None)
    assert found.admits("fake") == 0


def test_a_probe_whose_client_has_left_makes_room_for_another(found: Health, clock: Clock) -> None:
    fail(found, 3)
    clock.now += 10
    found.began("fake", "a").ended(ok=None)
    assert found.admits("fake") == 0


def test_one_that_was_not_let_through_says_nothing(found: Health) -> None:
    fail(found, 3)
    for ok, status in ((True, 200), (False, 429), (False, 500), (None, None)):
        sneaked = found.began("fake", "b")
        sneaked.answering(0.1)
        sneaked.ended(ok=ok, status=status)
        assert found.admits("fake") == 10


def test_a_call_ends_once(found: Health) -> None:
    ticket = found.began("fake", "a")
    for _ in range(5):
        ticket.ended(ok=False, status=500)
    assert found.admits("fake") == 0


def test_a_key_over_its_limit_rests_for_that_model_only_and_the_circuit_stays_closed(
    found: Health, clock: Clock, heard: Heard
) -> None:
    for _ in range(9):
        found.began("fake", "a").ended(ok=False, status=429, retry_after_s=7)
    assert found.admits("fake", "a") == 7
    assert found.admits("fake", "b") == 0
    assert heard.changes == []
    clock.now += 7
    assert found.admits("fake", "a") == 0


def test_a_key_that_is_not_told_for_how_long_rests_a_moment(found: Health) -> None:
    found.began("fake", "a").ended(ok=False, status=429)
    assert found.admits("fake", "a") == 2


def test_a_shorter_rest_does_not_cut_a_longer_one_off(found: Health) -> None:
    early, late = found.began("fake", "a"), found.began("fake", "a")
    early.ended(ok=False, status=429, retry_after_s=30)
    late.ended(ok=False, status=429)
    assert found.admits("fake", "a") == 30


def test_a_refused_key_is_left_alone_at_once_and_the_operator_is_told(found: Health, heard: Heard) -> None:
    fail(found, 1, status=401)
    assert found.admits("fake") == 10
    assert [alarm.kind for alarm in heard.alarms] == ["upstream_refused"]
    assert [(change.upstream, change.state) for change in heard.changes] == [("fake", "open")]


def test_openings_and_closings_are_told(found: Health, clock: Clock, heard: Heard) -> None:
    fail(found, 3)
    clock.now += 10
    found.began("fake", "a").ended(ok=True, status=200)
    assert heard.changes == [
        UpstreamChanged(upstream="fake", state="open", for_s=10),
        UpstreamChanged(upstream="fake", state="closed", for_s=0),
    ]
    assert heard.alarms == []


def test_without_a_breaker_and_without_a_name_nothing_is_held_against_anybody(found: Health) -> None:
    for key in ("bare", "somebody else"):
        fail(found, 50, key=key)
        fail(found, 1, key=key, status=429)
        assert found.admits(key, "a") == 0


def test_a_client_is_told_when_to_come_again() -> None:
    error = UpstreamUnavailableError("fake", 9.1)
    assert (error.status, error.code, error.retryable, error.unsent) == (503, "upstream_unavailable", True, True)
    assert error.headers == {"Retry-After": "10"}
    assert UpstreamUnavailableError("fake", 0.0).headers == {"Retry-After": "1"}


def test_how_soon_an_answer_begins_and_how_fast_it_is_written_are_kept_apart(found: Health) -> None:
    stream = found.began("fake", "a")
    stream.answering(2.0)
    stream.ended(ok=True, status=200, first_byte_s=1.0, token_s=0.01)
    found.began("bare", "a").ended(ok=True, status=200, first_byte_s=0.5, token_s=0.25)
    found.began("bare", "a").ended(ok=False, status=500, first_byte_s=0.1, token_s=0.001)
    fast, other = target("fake/a"), target("bare/a")
    assert (found.pace_s(fast), found.token_s(fast)) == (2.0, 0.01)
    assert (found.pace_s(fast, stream=False), found.token_s(fast, stream=False)) == (None, None)
    assert (found.pace_s(other, stream=False), found.token_s(other, stream=False)) == (0.5, 0.25)
    assert found.token_s(target("gone/a")) is None
