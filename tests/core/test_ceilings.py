"""A hold is in the payer's account, in those above it, and in budgets; a refusal says which was short."""

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core import ceilings
from hpp_middleware.core.ceilings import OverBudget, Scope, Span
from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.operations import Limit
from hpp_middleware.types.provider import Declared

ALICE = Consumer(id="alice")
GROUPS = {"team": Group(parent="org"), "org": Group()}
MONTH = Span(key="2026-11", since=1000.0, until=5000.0, renewed="2026-12-01T00:00:00+01:00")
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"])


def budget(**fields: object) -> Budget:
    return Budget(**{"amount": 5, "period": "month", "consumer": "*", **fields})  # type: ignore[arg-type]  # a test's


def test_what_is_above_an_account_is_followed_to_the_end() -> None:
    assert ceilings.above(("team",), GROUPS) == ("team", "org")
    assert ceilings.above(("unknown",), GROUPS) == ("unknown",)
    assert ceilings.above((), GROUPS) == ()
    assert ceilings.above(("mine", "team"), GROUPS) == ("mine", "team", "org")


@given(st.dictionaries(NAMES, st.one_of(st.none(), NAMES)), NAMES)
def test_it_ends_whatever_the_groups_are(parents: dict[str, str | None], first: str) -> None:
    found = ceilings.above((first,), {name: Group(parent=parent) for name, parent in parents.items()})
    assert found[0] == first
    assert len(set(found)) == len(found) <= ceilings.DEPTH
    for lower, upper in pairwise(found):
        assert parents[lower] == upper


@given(st.dictionaries(NAMES, st.one_of(st.none(), NAMES)))
def test_groups_without_a_problem_are_followed_whole(parents: dict[str, str | None]) -> None:
    groups = {name: Group(parent=parent) for name, parent in parents.items()}
    if ceilings.problems(groups, (), {}):
        return
    for name in groups:
        chain = ceilings.above((name,), groups)
        assert groups[chain[-1]].parent is None


def test_a_consumers_own_budget_goes_before_everybodys() -> None:
    everybody, own, day = budget(), budget(consumer="alice", amount=9), budget(period="day", amount=1)
    for given_ in ((everybody, own, day), (own, day, everybody)):
        found = ceilings.applying(given_, "alice", ("alice",), "fake/a")
        assert sorted(found, key=lambda each: each[1].period) == [("alice", day), ("alice", own)]
    assert ceilings.applying((everybody, own), "bob", ("bob",), "fake/a") == [("bob", everybody)]


def test_a_budget_of_a_consumers_account_by_name_goes_before_everybodys() -> None:
    everybody, own = budget(), budget(consumer=None, account="alice", amount=9)
    for given_ in ((everybody, own), (own, everybody)):
        assert ceilings.applying(given_, "alice", ("alice",), "fake/a") == [("alice", own)]


def test_a_budget_of_a_model_counts_what_goes_to_it() -> None:
    dear, every = budget(model="fake/gpt-5*"), budget(amount=7)
    assert ceilings.applying((dear, every), "alice", ("alice",), "fake/gpt-5-mini") == [
        ("alice", dear),
        ("alice", every),
    ]
    assert ceilings.applying((dear, every), "alice", ("alice",), "fake/small") == [("alice", every)]
    assert len(ceilings.applying((dear, every), "alice", ("alice",), "fake/GPT-5-Mini")) == 2


def test_a_budget_of_an_account_counts_what_is_below_it() -> None:
    teams = budget(consumer=None, account="team")
    assert ceilings.applying((teams,), "alice", ("alice", "team", "org"), "fake/a") == [("team", teams)]
    assert ceilings.applying((teams,), "bob", ("bob", "org"), "fake/a") == []


def test_a_scope_names_each_account_once_and_the_payer_first() -> None:
    own, teams = budget(model="fake/*"), budget(consumer=None, account="team", amount=8)
    scope = ceilings.scope(ALICE, ("team", "org"), [("alice", own, MONTH), ("team", teams, MONTH)])
    assert scope.accounts == ("alice", "team", "org", "alice/~month:2026-11:fake/*", "team/~month:2026-11")
    assert scope.limits == (
        Limit(account="alice/~month:2026-11:fake/*", amount=5),
        Limit(account="team/~month:2026-11", amount=8),
    )
    assert (scope.since, scope.until) == (1000.0, 5000.0)
    nothing = ceilings.scope(ALICE, (), [])
    assert (nothing.accounts, nothing.limits) == (("alice",), ())
    assert nothing.since < 0 < nothing.until


def test_two_scopes_are_joined_without_losing_an_account() -> None:
    one = ceilings.scope(ALICE, ("team",), [("alice", budget(model="fake/a"), MONTH)])
    other = ceilings.scope(ALICE, ("team",), [("alice", budget(model="fake/b"), MONTH)])
    both = ceilings.joined(one, other)
    assert both is not None
    assert both.accounts == ("alice", "team", "alice/~month:2026-11:fake/a", "alice/~month:2026-11:fake/b")
    assert [limit.account for limit in both.limits] == list(both.accounts[2:])
    assert ceilings.joined(None, one) == one
    assert ceilings.joined(one, one) == one
    assert ceilings.joined(None, None) is None


def _scope(**fields: object) -> Scope:
    found = ceilings.scope(ALICE, ("team",), [("alice", budget(**fields), MONTH)])
    return msgspec.structs.replace(found, clock=lambda: 4000.0)


def test_a_refusal_says_which_level_was_short_and_no_figure() -> None:
    for short, said in (
        ("alice", "than what is available."),
        ("", "than what is available."),
        ("someone else's", "than what is available."),
        ("team", "than what team, which you belong to, has available."),
        (
            "alice/~month:2026-11",
            "than what is left of the monthly budget of alice. It is renewed at 2026-12-01T00:00:00+01:00.",
        ),
    ):
        error = ceilings.refusal(short, _scope())
        assert (error.status, error.code) == (429, "insufficient_quota")
        assert error.message.endswith(said)
        assert "Retry-After" not in error.headers
    assert ceilings.refusal("alice", None).message.endswith("than what is available.")
    per_model = ceilings.refusal("alice/~month:2026-11:fake/a*", _scope(model="fake/a*"))
    assert "the monthly budget for fake/a* of alice" in per_model.message


@pytest.mark.parametrize(("now", "told"), [(4879.9, None), (4880.0, "120"), (4999.2, "1"), (5003.0, "1")])
def test_a_budget_that_is_renewed_soon_says_when(now: float, told: str | None) -> None:
    scope = msgspec.structs.replace(_scope(), clock=lambda: now)
    assert ceilings.refusal("alice/~month:2026-11", scope).headers.get("Retry-After") == told


def test_a_budget_that_downgrades_names_the_model() -> None:
    over = ceilings.refusal("alice/~month:2026-11", _scope(downgrade="fake/small"))
    assert isinstance(over, OverBudget)
    assert (over.model, over.budget, over.status) == ("fake/small", "alice/~month:2026-11", 429)
    assert not isinstance(ceilings.refusal("alice", _scope(downgrade="fake/small")), OverBudget)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"a": Group(parent="a")}, "accounts.a.parent: goes round in a circle: a > a"),
        ({"a": Group(parent="b"), "b": Group(parent="a")}, "accounts.a.parent: goes round in a circle: a > b > a"),
        ({"a": Group(parent="b")}, "accounts.a.parent: there is no account 'b' under [accounts]"),
        ({"alice": Group()}, "accounts.alice: is a consumer's account; a group needs a name of its own"),
        ({"a/~day:1": Group()}, "accounts.a/~day:1: no name may have '/~' in it: it is what budgets are called"),
        (
            {str(number): Group(parent=str(number + 1) if number < 8 else None) for number in range(9)},
            "accounts.0.parent: there are more than 7 accounts above one another",
        ),
    ],
)
def test_groups_that_cannot_be_are_named(groups: dict[str, Group], said: str) -> None:
    assert said in ceilings.problems(groups, (), {"alice": Declared()})


def test_a_circle_that_a_group_only_leads_to_is_told_of_its_members() -> None:
    groups = {"out": Group(parent="a"), "a": Group(parent="b"), "b": Group(parent="a")}
    told = ceilings.problems(groups, (), {})
    assert [line.partition(":")[0] for line in told] == ["accounts.a.parent", "accounts.b.parent"]


def test_as_many_groups_as_there_may_be_are_no_problem() -> None:
    groups = {str(number): Group(parent=str(number + 1) if number < 6 else None) for number in range(7)}
    assert ceilings.problems(groups, (), {"alice": Declared(parent="0")}) == []
    assert len(ceilings.above(("0",), groups)) == 7


def test_budgets_that_cannot_be_are_named() -> None:
    told = ceilings.problems(
        GROUPS,
        [
            budget(consumer=None, account="nobody"),
            budget(amount=MAX_NANO + 1),
            budget(period="day"),
            budget(period="day", amount=7),
            budget(period="day", model="fake/*"),
            budget(consumer="alice"),
            budget(consumer=None, account="alice"),
        ],
        {"alice": Declared(parent="none")},
    )
    assert told == [
        "consumers.alice.parent: there is no account 'none' under [accounts]",
        "budgets[0].account: there is no account 'nobody' under [accounts]",
        "budgets[1].amount: must be from 0 to 9000000 dollars",
        "budgets[3]: is the same budget as budgets[2]",
        "budgets[6]: is the same budget as budgets[5]",
    ]
