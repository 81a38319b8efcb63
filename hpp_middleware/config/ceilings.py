"""``[accounts.NAME]`` and ``[[budgets]]``: what stands above consumers, and what may be spent in a period."""

from collections.abc import Mapping, Sequence
from typing import Literal

from hpp_middleware.config.section import Section
from hpp_middleware.config.values import Name, Quota, Word, key_path
from hpp_middleware.core import ceilings
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stages.reserve.ceilings import zone
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.provider import Declared

__all__ = ["AccountSection", "BudgetSection", "budgets_of", "groups_of", "problems_of"]


class AccountSection(Section):
    """``[accounts.NAME]``: a team or an organisation, above consumers."""

    quota: Quota | None = None
    parent: Name | None = None


class BudgetSection(Section):
    """One of ``[[budgets]]``: see :class:`hpp_middleware.types.budget.Budget`."""

    consumer: Name | None = None
    account: Name | None = None
    period: Literal["day", "week", "month"]
    amount: Quota
    timezone: Word = "UTC"
    model: Word | None = None
    downgrade: Word | None = None


def groups_of(sections: Mapping[str, AccountSection]) -> dict[str, Group]:
    """The accounts above consumers."""
    return {name: Group(quota=section.quota, parent=section.parent) for name, section in sections.items()}


def budgets_of(sections: Sequence[BudgetSection], problems: list[str]) -> tuple[Budget, ...]:
    """The budgets whose values are good; what is wrong is added to the problems."""
    found = []
    for number, section in enumerate(sections):
        where = key_path("budgets", number)
        try:
            zone(section.timezone)
            found.append(Budget(**{name: getattr(section, name) for name in type(section).model_fields}))
        except ConfigurationError as error:
            problems.append(f"{where}.{error.param}: {error.message.removeprefix(f'{error.param} ')}")
        except ValueError as error:
            problems.append(f"{where}.timezone: {error}")
    return tuple(found)


def problems_of(groups: Mapping[str, Group], budgets: Sequence[Budget], consumers: Mapping[str, Declared]) -> list[str]:
    """What does not fit together, a line a problem."""
    return ceilings.problems(groups, budgets, consumers)
