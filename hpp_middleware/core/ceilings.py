"""
What a request's hold has to fit in besides the payer's quota: the accounts above the payer, and budgets of a period.

A budget of a period is an account of its own, which the reserve declares: ``alice/~month:2026-11``. Its name begins
with whose it is, so that a store which keeps what has one root in one place has all of it together. Nothing here reads
a clock or knows a calendar: what a period is called, and when it ends, is passed in.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from hpp_middleware.core.names import MARK, is_like
from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.errors import RequestError
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.operations import Limit
from hpp_middleware.types.provider import Declared

__all__ = [
    "DEPTH",
    "NEAR_S",
    "Due",
    "OverBudget",
    "Scope",
    "Span",
    "above",
    "account_of",
    "applying",
    "joined",
    "problems",
    "refusal",
    "scope",
]

DEPTH = 8
"""An account has at most this many above it."""

NEAR_S = 120.0
"""A budget that is renewed sooner is told with ``Retry-After``; of more than this OpenAI's SDKs take no notice."""

_EVERY = {"day": "daily", "week": "weekly", "month": "monthly"}


class Span(Struct, frozen=True, kw_only=True, gc=False):
    """
    One period of a budget.

    Attributes:
        key: What it is called: ``2026-11-30``, ``2026-W48``, ``2026-11``.
        since: When it began, in seconds since the epoch.
        until: When it ends.
        renewed: The same, as a client is told it.
    """

    key: str
    since: float
    until: float
    renewed: str


class Due(Struct, frozen=True, kw_only=True):
    """
    A budget that applies to a request.

    Attributes:
        account: The account that it is.
        whose: The consumer, or the account, that it is a budget of.
        span: The period.
    """

    account: str
    whose: str
    budget: Budget
    span: Span


class Scope(Struct, frozen=True, kw_only=True):
    """
    What a hold is to be in.

    Attributes:
        accounts: The payer's, those above it, nearest first, and the budgets'.
        limits: The budgets' amounts.
        budgets: The budgets.
        of: The scope of the same payer for another model.
        clock: Seconds since the epoch, as its periods go by.
    """

    accounts: tuple[str, ...]
    limits: tuple[Limit, ...] = ()
    budgets: tuple[Due, ...] = ()
    of: "Callable[[str], Scope] | None" = None
    clock: Callable[[], float] = lambda: 0.0

    @property
    def until(self) -> float:
        """Until when it is good: the end of the first period that ends."""
        return min((due.span.until for due in self.budgets), default=float("inf"))

    @property
    def since(self) -> float:
        """Since when it is."""
        return max((due.span.since for due in self.budgets), default=float("-inf"))

    def due(self, account: str) -> Due | None:
        """The budget that an account is; None for any other account."""
        return next((due for due in self.budgets if due.account == account), None)


class OverBudget(RequestError):
    """
    429: a budget has no room, and another model is to be asked instead.

    Attributes:
        model: The model's id.
        budget: The budget's account.
    """

    def __init__(self, error: RequestError, model: str, budget: str) -> None:
        super().__init__(error.message, status=error.status, code=error.code, headers=error.headers)
        self.model = model
        self.budget = budget


def above(nearest: Sequence[str], groups: Mapping[str, Group]) -> tuple[str, ...]:
    """
    All accounts above one, nearest first.

    Args:
        nearest: Those that are known; what is above the last of them, the groups say.
        groups: By name.
    """
    found = list(dict.fromkeys(nearest))
    while found and len(found) < DEPTH:
        group = groups.get(found[-1])
        if group is None or group.parent is None or group.parent in found:
            break
        found.append(group.parent)
    return tuple(found)


def applying(
    budgets: Iterable[Budget], consumer: str, accounts: Sequence[str], model: str | None
) -> list[tuple[str, Budget]]:
    """
    Which budgets a request has to keep within, each with whose it is; one by name goes before everybody's.

    Args:
        budgets: All there are.
        consumer: Who asks.
        accounts: The payer's account, and those above it.
        model: The id of the model that is asked; None for those of every model.
    """
    found: dict[tuple[str, str, str | None], Budget] = {}
    for budget in budgets:
        if budget.model is not None and model is not None and not is_like(model, budget.model):
            continue
        if budget.account is not None:
            if budget.account in accounts:
                found[budget.account, budget.period, budget.model] = budget
        elif budget.consumer == consumer:
            found[consumer, budget.period, budget.model] = budget
        elif budget.consumer == "*":
            found.setdefault((consumer, budget.period, budget.model), budget)
    return [(whose, budget) for (whose, _, _), budget in found.items()]


def account_of(whose: str, budget: Budget, key: str) -> str:
    """What the account of a budget's period is called."""
    return f"{whose}{MARK}{budget.period}:{key}" + (f":{budget.model}" if budget.model is not None else "")


def scope(consumer: Consumer, parents: Sequence[str], budgets: Iterable[tuple[str, Budget, Span]]) -> Scope:
    """What a request's hold is to be in, for one model; see :func:`above` and :func:`applying`."""
    due = tuple(
        Due(account=account_of(whose, budget, span.key), whose=whose, budget=budget, span=span)
        for whose, budget, span in budgets
    )
    accounts = dict.fromkeys((consumer.account, *parents, *(each.account for each in due)))
    limits = {each.account: each.budget.amount for each in due}
    return Scope(
        accounts=tuple(accounts),
        limits=tuple(Limit(account=account, amount=amount) for account, amount in limits.items()),
        budgets=due,
    )


def joined(one: Scope | None, other: Scope | None) -> Scope | None:
    """What a hold is to be in that two models are asked under."""
    if one is None or other is None or one.accounts == other.accounts:
        return other
    limits = {limit.account: limit for limit in (*one.limits, *other.limits)}
    return msgspec.structs.replace(
        other,
        accounts=tuple(dict.fromkeys((*one.accounts, *other.accounts))),
        limits=tuple(limits.values()),
        budgets=tuple({due.account: due for due in (*one.budgets, *other.budgets)}.values()),
    )


def refusal(short: str, scope: Scope | None) -> RequestError:
    """
    What a client is told whose hold does not fit: which level has no room, and nobody's figures.

    Args:
        short: The account that had the least room; empty where the store does not say.
        scope: What the hold was to be in.
    """
    message = "You exceeded your current quota: this request may cost more than what is available."
    headers: dict[str, str] = {}
    due = scope.due(short) if scope is not None else None
    if due is not None:
        models = f" for {due.budget.model}" if due.budget.model is not None else ""
        message = (
            f"You exceeded your current quota: this request may cost more than what is left of the "
            f"{_EVERY[due.budget.period]} budget{models} of {due.whose}. It is renewed at {due.span.renewed}."
        )
        left = due.span.until - (scope.clock() if scope is not None else due.span.since)
        if left <= NEAR_S:
            headers["Retry-After"] = str(max(1, math.ceil(left)))
    elif scope is not None and short in scope.accounts[1:]:
        message = (
            f"You exceeded your current quota: this request may cost more than what {short}, "
            "which you belong to, has available."
        )
    error = RequestError(message, status=429, code="insufficient_quota", headers=headers)
    if due is not None and due.budget.downgrade is not None:
        return OverBudget(error, due.budget.downgrade, due.account)
    return error


def problems(groups: Mapping[str, Group], budgets: Sequence[Budget], consumers: Mapping[str, Declared]) -> list[str]:
    """What is wrong with them, each line beginning with the setting's path."""
    found = [
        f"{section}.{name}: no name may have {MARK!r} in it: it is what budgets are called"
        for section, names in (("accounts", groups), ("consumers", consumers))
        for name in names
        if MARK in name
    ]
    found += [
        f"accounts.{name}: is a consumer's account; a group needs a name of its own"
        for name in groups
        if name in consumers
    ]
    for section, named in (("accounts", groups), ("consumers", consumers)):
        for name, each in named.items():
            if each.parent is not None and each.parent not in groups:
                found.append(f"{section}.{name}.parent: there is no account {each.parent!r} under [accounts]")
    found += _chains(groups)
    seen: dict[tuple[str | None, str, str | None], int] = {}
    for number, budget in enumerate(budgets):
        where = f"budgets[{number}]"
        if budget.account is not None and budget.account not in groups and budget.account not in consumers:
            found.append(f"{where}.account: there is no account {budget.account!r} under [accounts]")
        if not 0 <= budget.amount <= MAX_NANO:
            found.append(f"{where}.amount: must be from 0 to {MAX_NANO // 10**9} dollars")
        key = (budget.consumer or budget.account, budget.period, budget.model)  # what its account is called by
        if key in seen:
            found.append(f"{where}: is the same budget as budgets[{seen[key]}]")
        seen.setdefault(key, number)
    return found


def _chains(groups: Mapping[str, Group]) -> list[str]:
    found = []
    for name in groups:
        chain, here = [name], groups[name].parent
        while here is not None and here in groups and here not in chain and len(chain) <= DEPTH:
            chain.append(here)
            here = groups[here].parent
        if here == name:
            found.append(f"accounts.{name}.parent: goes round in a circle: {' > '.join([*chain, name])}")
        elif len(chain) > DEPTH - 1:
            found.append(f"accounts.{name}.parent: there are more than {DEPTH - 1} accounts above one another")
    return found
