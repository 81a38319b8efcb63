"""Periods begin at midnight where the budget is, whatever its clocks do; and what a hold is in follows the clock."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hpp_middleware import ConfigurationError, Consumer
from hpp_middleware.stages.reserve import ceilings as stage
from hpp_middleware.stages.reserve.ceilings import Ceilings, span, zone
from hpp_middleware.types.budget import Budget, Group, Period
from hpp_middleware.types.provider import Declared

ALICE = Consumer(id="alice")
BERLIN = zone("Europe/Berlin")
DAY = Budget(amount=5, period="day", consumer="*", timezone="Europe/Berlin")
# Midnights that are skipped (Beirut, Havana, Cairo), a day that was (Apia), half an hour (Lord Howe), far ones.
ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Berlin", "Asia/Beirut", "America/Havana", "Africa/Cairo", "Pacific/Apia"),
        *("Australia/Lord_Howe", "Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kathmandu", "America/Sao_Paulo"),
    ]
)
PERIODS: st.SearchStrategy[Period] = st.sampled_from(["day", "week", "month"])
MOMENTS = st.one_of(
    st.floats(datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2037, 1, 1, tzinfo=UTC).timestamp()),
    st.integers(530_000, 1_170_000).map(lambda half: half * 1800.0),
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(
    ("period", "moment", "key", "since", "until"),
    [
        ("day", "2026-11-29T23:59:59+01:00", "2026-11-29", "2026-11-29T00:00:00+01:00", "2026-11-30T00:00:00+01:00"),
        ("day", "2026-11-30T00:00:00+01:00", "2026-11-30", "2026-11-30T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        ("day", "2026-11-29T23:30:00+00:00", "2026-11-30", "2026-11-30T00:00:00+01:00", "2026-12-01T00:00:00+01:00"),
        # A day of 23 hours, and one of 25.
        ("day", "2026-03-29T12:00:00+02:00", "2026-03-29", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("day", "2026-10-25T12:00:00+01:00", "2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        # A week begins on Monday, and belongs to the year that its Thursday is in.
        ("week", "2026-11-29T23:59:59+01:00", "2026-W48", "2026-11-23T00:00:00+01:00", "2026-11-30T00:00:00+01:00"),
        ("week", "2027-01-01T12:00:00+01:00", "2026-W53", "2026-12-28T00:00:00+01:00", "2027-01-04T00:00:00+01:00"),
        ("week", "2026-03-25T12:00:00+01:00", "2026-W13", "2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("month", "2026-10-31T12:00:00+01:00", "2026-10", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"),
        ("month", "2026-12-31T23:59:59+01:00", "2026-12", "2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"),
        ("month", "2028-02-29T12:00:00+01:00", "2028-02", "2028-02-01T00:00:00+01:00", "2028-03-01T00:00:00+01:00"),
    ],
)
def test_a_period_goes_from_midnight_to_midnight(period: Period, moment: str, key: str, since: str, until: str) -> None:
    found = span(period, BERLIN, at(moment))
    assert found.key == key
    assert (found.since, found.until) == (at(since), at(until))
    assert found.renewed == until


def test_a_midnight_that_is_skipped_is_the_moment_of_the_change() -> None:
    """Clocks in Beirut went from 0:00 to 1:00 on 27 March 2022."""
    before, after = span("day", zone("Asia/Beirut"), at("2022-03-26T23:30:00+02:00")), at("2022-03-27T01:00:00+03:00")
    assert before.until == after == span("day", zone("Asia/Beirut"), after).since


@given(PERIODS, ZONES, MOMENTS)
@example("day", "UTC", 1057190399.9999998)
def test_every_moment_is_in_one_period_and_the_next_begins_where_it_ends(
    period: Period, name: str, moment: float
) -> None:
    found = span(period, zone(name), moment)
    assert found.since <= moment < found.until
    after = span(period, zone(name), found.until)
    assert after.since == found.until
    assert after.key > found.key
    assert span(period, zone(name), found.since).key == found.key
    most = {"day": 2, "week": 8, "month": 32}[period]
    assert timedelta(0) < timedelta(seconds=found.until - found.since) <= timedelta(days=most)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_what_a_hold_is_in_follows_the_clock() -> None:
    clock = Clock(at("2026-11-29T23:59:59+01:00"))
    found = Ceilings({}, [DAY], {}, clock=clock)
    before = found.of(ALICE, "fake/a")
    assert before is not None
    assert before.accounts == ("alice", "alice/~day:2026-11-29")
    assert found.of(ALICE, "fake/a") is before
    clock.now += 1
    after = found.of(ALICE, "fake/a")
    assert after is not None
    assert after.accounts == ("alice", "alice/~day:2026-11-30")
    clock.now -= 1  # which a clock may do
    back = found.of(ALICE, "fake/a")
    assert back is not None
    assert back.accounts == before.accounts


def test_nothing_configured_is_nothing_to_hold_in() -> None:
    found = Ceilings({}, [], {})
    assert found.of(ALICE, "fake/a") is None


def test_a_hosts_own_consumer_brings_its_parents() -> None:
    found = Ceilings({"team": Group(parent="org"), "org": Group()}, [], {})
    scope = found.of(Consumer(id="alice", parents=("squad", "team", "alice")), "fake/a")
    assert scope is not None
    assert scope.accounts == ("alice", "squad", "team")
    scope = found.of(Consumer(id="alice", parents=("squad", "team")), "fake/a")
    assert scope is not None
    assert scope.accounts == ("alice", "squad", "team", "org")


def test_what_the_file_says_of_a_consumer_goes_before() -> None:
    found = Ceilings({"team": Group(), "other": Group()}, [], {"alice": Declared(parent="team")})
    scope = found.of(Consumer(id="alice", parents=("other",)), "fake/a")
    assert scope is not None
    assert scope.accounts == ("alice", "team")


def test_another_models_scope_is_the_same_payers() -> None:
    dear = Budget(amount=5, period="day", consumer="alice", model="fake/dear")
    scope = Ceilings({}, [dear, DAY], {}).of(ALICE, "fake/dear")
    assert scope is not None
    assert scope.of is not None
    assert len(scope.accounts) == 3
    assert len(scope.of("fake/cheap").accounts) == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "MOST_KNOWN", 10)
    found = Ceilings({}, [DAY], {})
    for number in range(25):
        found.of(Consumer(id=str(number)), "fake/a")
    assert len(found._known) <= 10


@pytest.mark.parametrize(
    ("groups", "budgets", "param"),
    [
        ({"a": Group(parent="b")}, [], "accounts.a.parent"),
        ({}, [Budget(amount=1, period="day", consumer="*", timezone="Mars/Olympus")], "budgets[0].timezone"),
        ({}, [Budget(amount=1, period="day", consumer="*", timezone="../etc/passwd")], "budgets[0].timezone"),
        ({}, [Budget(amount=1, period="day", account="nobody")], "budgets[0].account"),
    ],
)
def test_what_cannot_be_is_refused_by_name(groups: dict[str, Group], budgets: list[Budget], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Ceilings(groups, budgets, {})
    assert caught.value.param == param
    assert caught.value.message.startswith(param)


def test_a_store_that_cannot_hold_in_both_is_refused_with_the_names() -> None:
    class Sharded:
        def holds_together(self, accounts: tuple[str, ...]) -> bool:
            return len({account.partition("/")[0] for account in accounts}) == 1

    groups = {"org/team": Group(parent="org"), "org": Group()}
    Ceilings(groups, [], {"org/alice": Declared(parent="org/team")}, quota=Sharded())
    with pytest.raises(ConfigurationError, match="alice and org/team and org at once") as caught:
        Ceilings(groups, [], {"alice": Declared(parent="org/team")}, quota=Sharded())
    assert caught.value.param == "consumers.alice.parent"


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"period": "year", "consumer": "*"}, "period"), ({"period": "day"}, "consumer")],
)
def test_a_budget_is_one_or_is_refused(fields: dict[str, str], param: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Budget(amount=1, **fields)  # type: ignore[arg-type]  # on purpose
    assert caught.value.param == param
