"""What holds after every program, whatever was asked and however it ended."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from rig import read

from hpp_middleware.audit import Auditor
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.budget import Budget
from hpp_middleware.types.quota import Entry
from programs.drawing import AUTO, MODELS, Asked, Made

__all__ = ["books", "only_who_may_be_asked"]


_NOT_ARRIVED = ("upstream_unavailable", "timeout")


async def books(found: Made, fakes: Mapping[str, FakeUpstream], *, departures: int) -> list[Entry]:
    """
    Accounts, ledger, usage, budgets, limits and the providers' own logs agree, and nothing is held or owed.

    Returns:
        The ledger.
    """
    gateway = found.gateway
    store: Any = gateway.store
    for worker in gateway.setup.workers():
        await worker.pending.wait("alice", 30)
        assert not worker.pending.ending
        assert worker.limiter is None or not worker.limiter._live
    lines: list[Entry] = await store.lines("alice")
    auditor = Auditor(store)
    accounts = await auditor.accounts()
    for account in accounts:
        assert not (await auditor.shared(await auditor.reconcile(account))).findings
        balance = await store.balance(account)
        over = sum(max(0, line.amount - line.held) + (line.line == "overage") * line.amount for line in lines)
        assert balance.held == 0
        assert balance.used <= balance.quota + over, account
    assert round((await read(gateway, "/api/usage"))["used"] * 10**9) == sum(line.amount for line in lines)
    for budget in found.budgets:
        await _is_charged_for_its_models(budget, found, accounts, lines)
    _windows_have_what_was_used(found, lines)
    attempts = [each for line in lines if line.line == "resolution" for each in line.report.attempts]
    assert all(
        line.line != "resolution" or sum(each.cost for each in line.report.attempts) >= line.amount for line in lines
    )
    # Who is left alone, or is not there, is asked nothing; where time was up or the client left, perhaps.
    made = [each for each in attempts if each.provider != "gone" and each.error not in _NOT_ARRIVED]
    assert len(made) <= sum(len(fake.log) for fake in fakes.values()) + departures
    return lines


async def _is_charged_for_its_models(
    budget: Budget, found: Made, accounts: Iterable[str], lines: Sequence[Entry]
) -> None:
    """A budget has what its models came to: of requests in which they alone have cost something, the whole."""
    of_all = budget.consumer == "*"
    own = [each for each in found.budgets if (each.consumer, each.period, each.model) == ("alice", *_key(budget))]
    if of_all and own:
        return  # one's own counts in its place
    whose = "team" if budget.account else "alice"
    used = 0
    for account in accounts:
        is_its = account.endswith(f":{budget.model}") if budget.model else account.count(":") == 1
        if account.startswith(f"{whose}/~{budget.period}:") and is_its:
            used += (await found.gateway.store.balance(account)).used
    due = answered = 0
    for hold in {line.hold for line in lines}:
        mine = [line for line in lines if line.hold == hold]
        amount, cost, others = sum(line.amount for line in mine), *_costs(budget, mine[0])
        due += amount - others if cost else 0
        # Whoever answers has a part in it, though the answer may have cost nothing.
        answered += amount - others if cost else amount * _answers(budget, mine[0])
    assert due <= used <= answered, budget


def _key(budget: Budget) -> tuple[str, str | None]:
    return budget.period, budget.model


def _costs(budget: Budget, line: Entry) -> tuple[int, int]:
    """What a budget's models have cost in a request, and what others have beside them."""
    if budget.model is None:
        return 1, 0  # it is charged the whole of anything
    costs: Counter[bool] = Counter()
    for each in line.report.attempts:
        costs[fnmatchcase(f"{each.provider}/{each.model}", budget.model)] += each.cost
    return costs[True], costs[False]


def _answers(budget: Budget, line: Entry) -> bool:
    return budget.model is not None and fnmatchcase(line.draft.model, budget.model)


def _windows_have_what_was_used(found: Made, lines: Sequence[Entry]) -> None:
    """No place is taken, and of tokens each window has what its models used, where that is known."""
    assert not found.limits._holders
    if any(line.report.estimated for line in lines):
        return
    attempts = [each for line in lines if line.line != "overage" for each in line.report.attempts]
    for (_, key), (level, _) in found.limits._levels.items():
        name, each_token, _, _, model = key.split(":", 4)
        if name.startswith("tokens"):
            mine = [each for each in attempts if not model or fnmatchcase(f"{each.provider}/{each.model}", model)]
            due = sum(each.usage.total for each in mine if each.usage is not None)
            assert level.used // int(each_token) == due, key


def only_who_may_be_asked(
    found: Made, one: Asked, fakes: Mapping[str, FakeUpstream], before: Mapping[str, int]
) -> None:
    """Nobody was asked whom the key, the data policy or the client's own preferences leave out."""
    wanted: Mapping[str, Any] = one.body.get("provider") or {}
    requires = {*found.requires, *filter(None, [one.headers.get("x-hpp-router-require")])}
    for provider, fake in fakes.items():
        for call in fake.log[before[provider] :]:
            if not call.body:  # a deadline, or a departure, came between its head and its body
                continue
            model = f"{provider}/{call.json()['model']}"
            assert any(fnmatchcase(model, each) for each in found.allowed), model
            assert "only" not in wanted or {provider, model} & set(wanted["only"]), model
            assert not {provider, model} & set(wanted.get("ignore", ())), model
            assert "max_price" not in wanted or Decimal(MODELS[model]["input"]) <= wanted["max_price"]["prompt"], model
            if wanted.get("allow_fallbacks") is False and one.body["model"] != AUTO:
                assert model in {one.body["model"], *one.body.get("models", ())}, model
            assert model == one.body["model"] or requires <= set(MODELS[model].get("tags", ())), model
