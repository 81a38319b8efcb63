"""``[accounts.NAME]`` and ``[[budgets]]``: what the file says, and what is wrong with it, by its path."""

import re
from pathlib import Path

import pytest
from reading import EXAMPLE, LOCAL, read, refusal

from hpp_middleware import ConfigurationError
from hpp_middleware.config.ceilings import AccountSection, BudgetSection
from hpp_middleware.types.budget import Budget, Group

DOLLAR = 10**9


def test_groups_and_budgets_are_read(tmp_path: Path) -> None:
    text = """
        [consumers.alice]
        parent = "team"
        clamp_floor = 0
        [accounts.team]
        quota = "5"
        parent = "org"
        [accounts.org]
        [[budgets]]
        consumer = "*"
        period = "month"
        amount = "0.50"
        [[budgets]]
        account = "team"
        period = "day"
        amount = "2"
        timezone = "Europe/Berlin"
        model = "openai/gpt-5*"
        downgrade = "openai/gpt-5-mini"
        [bounds]
        clamp = true
        clamp_floor = 10
    """
    found = read(tmp_path, text)
    assert found.groups == {"team": Group(quota=5 * DOLLAR, parent="org"), "org": Group()}
    assert found.budgets == (
        Budget(amount=DOLLAR // 2, period="month", consumer="*"),
        Budget(
            amount=2 * DOLLAR,
            period="day",
            account="team",
            timezone="Europe/Berlin",
            model="openai/gpt-5*",
            downgrade="openai/gpt-5-mini",
        ),
    )
    assert (found.consumers["alice"].parent, found.consumers["alice"].clamp_floor) == ("team", 0)
    assert (found.limits.clamp, found.limits.clamp_floor) == (True, 10)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[consumers.alice]\nparent = "x"', "consumers.alice.parent: there is no account 'x' under [accounts]"),
        ('[accounts.a]\nparent = "a"', "accounts.a.parent: goes round in a circle: a > a"),
        ("[accounts.a]\nquota = 5", 'accounts.a.quota: must be in quotes, which keep it exact: "5"'),
        ("[accounts.a]\nbudget = 5", "accounts.a.budget: unknown key"),
        (
            "[accounts.alice]\n[consumers.alice]",
            "accounts.alice: is a consumer's account; a group needs a name of its own",
        ),
        ('[[budgets]]\nconsumer = "*"\namount = "1"', "budgets[0].period: is missing"),
        ('[[budgets]]\nconsumer = "*"\nperiod = "day"', "budgets[0].amount: is missing"),
        (
            '[[budgets]]\nconsumer = "*"\namount = "1"\nperiod = "year"',
            "budgets[0].period: must be 'day', 'week' or 'month'",
        ),
        (
            '[[budgets]]\namount = "1"\nperiod = "day"',
            "budgets[0].consumer: must be set, or account, and not both",
        ),
        (
            '[[budgets]]\nconsumer = "*"\naccount = "a"\namount = "1"\nperiod = "day"',
            "budgets[0].consumer: must be set, or account, and not both",
        ),
        (
            '[[budgets]]\nconsumer = "*"\namount = "1"\nperiod = "day"\ntimezone = "Berlin"',
            "budgets[0].timezone: 'Berlin' is no time zone that this system knows, such as Europe/Berlin",
        ),
        (
            '[[budgets]]\naccount = "a"\namount = "1"\nperiod = "day"',
            "budgets[0].account: there is no account 'a' under [accounts]",
        ),
    ],
)
def test_what_cannot_be_is_refused_by_its_path(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(tmp_path, text) == [problem]


def test_a_model_to_downgrade_to_must_be_there(tmp_path: Path) -> None:
    text = LOCAL + '[[budgets]]\nconsumer = "*"\namount = "1"\nperiod = "day"\ndowngrade = "nowhere/x"'
    with pytest.raises(ConfigurationError, match=r"budgets\[0\]\.downgrade 'nowhere/x' is no model"):
        read(tmp_path, text).gateway()


@pytest.mark.parametrize("section", [AccountSection, BudgetSection])
def test_the_example_shows_every_key(section: type[AccountSection | BudgetSection]) -> None:
    text = EXAMPLE.read_text("utf-8")
    assert [key for key in section.model_fields if not re.search(rf"^(# )?{key} = ", text, re.MULTILINE)] == []
