"""Budgets of models and of periods, where one request has several calls: whose they are, and of what day."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import anyio
import pytest
from cascading import DOUBT, GOOD, SMALL_NANO, STRONG_NANO, cascading
from cascading import MODELS as CASCADED
from cascading import answered as asked_auto
from chains import A_NANO, B_NANO, MODELS, A, answered, pair, the_entry
from rig import ALICE, KEY, Delegate, ask, check_books

from hpp_middleware import Gateway, StoreError
from hpp_middleware.audit import Audited, Auditor
from hpp_middleware.stages.reserve.ceilings import Ceilings
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.operations import Operation, Resize, Result
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio

DOLLAR = 10**9
FAILS = Script(status=500)
TEAM = {"alice": Declared(quota=DOLLAR, keys=(KEY,), parent="team")}
COSTS = Script(status=500, raw_body=json.dumps({"error": {"message": "no"}, "usage": A}).encode())
"""A failure that reports usage, and so is charged for it."""


def of_models(*models: str, amount: int = DOLLAR) -> list[Budget]:
    return [Budget(amount=amount, period="day", consumer="*", model=each) for each in models]


async def used(found: Gateway, budgets: Sequence[Budget]) -> list[int]:
    """What was charged in each of these budgets of Alice's, in which nothing is held any more."""
    scope = found.setup.ceilings.all_of(ALICE)
    due = {each.budget.model: each.account for each in scope.budgets}
    balances = [await found.store.balance(due[each.model]) for each in budgets]
    assert [each.held for each in balances] == [0] * len(balances)
    return [each.used for each in balances]


async def test_each_model_is_charged_in_its_own_budget_and_one_that_failed_for_nothing_in_none() -> None:
    budgets = of_models("fake/a", "other/c", "other/d")
    async with pair(budgets=budgets, fallbacks={"fake/a": ["other/c", "other/d"]}) as found:
        found.fake.script = COSTS
        found.other.next(FAILS)
        assert (await answered(found.gateway))[0] == 200
        assert found.asked == (["a"], ["c", "d"])
        assert (await the_entry(found.gateway)).amount == A_NANO + B_NANO
        assert await used(found.gateway, budgets) == [A_NANO, 0, B_NANO]


@pytest.mark.parametrize("stream", [False, True])
async def test_where_all_fail_those_pay_that_cost_something(*, stream: bool) -> None:
    budgets = of_models("fake/a", "other/c", "other/d")
    async with pair(budgets=budgets, fallbacks={"fake/a": ["other/c", "other/d"]}) as found:
        found.fake.script, found.other.script = COSTS, FAILS
        assert (await answered(found.gateway, stream=stream))[0] == 502
        assert found.asked == (["a"], ["c", "d"])
        assert (await the_entry(found.gateway)).amount == A_NANO
        assert await used(found.gateway, budgets) == [A_NANO, 0, 0]


@pytest.mark.parametrize(
    ("scripts", "costs"),
    [
        pytest.param((DOUBT, GOOD), [SMALL_NANO, STRONG_NANO], id="both"),
        pytest.param((FAILS, GOOD), [0, STRONG_NANO], id="the smaller one fails"),
        pytest.param((DOUBT, FAILS), [SMALL_NANO, 0], id="the stronger one fails"),
        pytest.param((FAILS, FAILS), [0, 0], id="both fail"),
    ],
)
async def test_each_model_of_a_cascade_is_charged_in_its_own_budget(
    scripts: Sequence[Script], costs: list[int], fake_upstream: FakeUpstream
) -> None:
    budgets = of_models("fake/small", "fake/strong")
    async with cascading(fake_upstream, budgets=budgets) as found:
        fake_upstream.next(*scripts)
        await asked_auto(found)
        assert len(fake_upstream.log) == 2
        (line,) = await check_books(found)
        assert line.amount == sum(costs)
        assert await used(found, budgets) == costs


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_no_models_own_is_charged_the_whole(*, stream: bool) -> None:
    budgets = [*of_models("fake/*", "other/c"), Budget(amount=DOLLAR, period="day", consumer="*")]
    fallbacks, groups = {"fake/a": ["fake/cheap", "other/c"]}, {"team": Group(quota=DOLLAR)}
    async with pair(budgets=budgets, fallbacks=fallbacks, accounts=groups, consumers=TEAM) as found:
        found.fake.script = COSTS
        assert (await answered(found.gateway, stream=stream))[0] == 200
        assert found.asked == (["a", "cheap"], ["c"])
        entry = await the_entry(found.gateway)
        fake = sum(each.cost for each in entry.report.attempts if each.provider == "fake")
        assert entry.amount == fake + B_NANO
        assert await used(found.gateway, budgets) == [fake, B_NANO, entry.amount]
        assert (await found.gateway.store.balance("team")).used == entry.amount
        assert isinstance(found.gateway.store, Audited)
        auditor = Auditor(found.gateway.store)
        checked = [await auditor.shared(await auditor.reconcile(name)) for name in await auditor.accounts()]
        assert [each.findings for each in checked] == [()] * 5


async def test_a_stronger_model_needs_no_room_in_the_budget_of_one_that_has_failed(fake_upstream: FakeUpstream) -> None:
    budgets = of_models("fake/small", amount=100_000)
    async with cascading(fake_upstream, budgets=budgets) as found:
        fake_upstream.next(FAILS, GOOD)
        status, _, body = await asked_auto(found)
        assert (status, body["model"]) == (200, "fake/strong")
        assert await used(found, budgets) == [0]


@pytest.mark.parametrize(("first", "amount"), [(FAILS, 0), (COSTS, A_NANO)])
@pytest.mark.parametrize("lost", [False, True], ids=["who asked has left", "the reply is lost"])
async def test_a_model_that_was_not_asked_pays_nothing_although_its_hold_cannot_be_put_back(
    first: Script, amount: int, *, lost: bool
) -> None:
    budgets, store = of_models("fake/a", "fake/cheap"), Delegate()
    async with pair(budgets=budgets, fallbacks={"fake/a": ["fake/cheap"]}, store=store) as found:
        async with ask(found.gateway, model="fake/a") as call:

            async def taken(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
                """The first resize gives room back, which is gone at once: an operator has lowered the quota."""
                if any(isinstance(each, Resize) for each in operations) and len(store.asked(Resize)) == 1:
                    await found.gateway.accounts.set_quota("alice", "0")
                    if lost:
                        raise StoreError("lost")
                    call.disconnect()
                    await anyio.wait_all_tasks_blocked()
                return results

            store.after = taken
            found.fake.script = first
            if lost:
                assert await call.started() == 502
                await call.read()
            await call.returned()
        assert found.asked == (["a"], [])
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model) == (amount, "fake/a")
        assert await used(found.gateway, budgets) == [amount, 0]


@pytest.mark.parametrize("lost", [False, True], ids=["who asked has left", "the reply is lost"])
async def test_a_stronger_model_that_was_not_asked_pays_nothing_although_the_quota_was_lowered(
    fake_upstream: FakeUpstream, *, lost: bool
) -> None:
    budgets, store = of_models("fake/small", "fake/strong"), Delegate()
    prices = {**CASCADED, "fake/small": CASCADED["fake/strong"], "fake/strong": CASCADED["fake/small"]}
    async with cascading(fake_upstream, budgets=budgets, models=prices, store=store) as found:
        async with ask(found, model="hpprouter/auto") as call:

            async def taken(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
                if any(isinstance(each, Resize) for each in operations) and len(store.asked(Resize)) == 1:
                    await found.accounts.set_quota("alice", "0")
                    if lost:
                        raise StoreError("lost")
                    call.disconnect()
                    await anyio.wait_all_tasks_blocked()
                return results

            store.after = taken
            fake_upstream.next(DOUBT)
            if lost:
                assert await call.started() == 200
                await call.read()
            await call.returned()
        assert len(fake_upstream.log) == 1
        (line,) = await check_books(found)
        assert line.draft.model == "fake/small"
        assert await used(found, budgets) == [line.amount, 0]


# --- downgrades -----------------------------------------------------------------------------------

NO_ROOM = Budget(amount=0, period="day", consumer="*", model="fake/a", downgrade="fake/cheap")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_downgraded_request_is_one_request_of_its_limits(*, stream: bool) -> None:
    limits = [RateLimit(requests_per_day=1, concurrency=1)]
    async with pair(budgets=[NO_ROOM], rate_limits=limits) as found:
        status, headers, _ = await answered(found.gateway, stream=stream)
        assert (status, headers["downgraded"]) == (200, "budget")
        async with ask(found.gateway, model="fake/cheap") as call:
            assert await call.started() == 429
            assert call.headers["x-ratelimit-remaining-requests"] == "0"
            assert b"1 requests per day" in await call.read()
        assert found.asked == (["cheap"], [])


async def test_a_request_that_is_refused_for_its_budget_is_one_of_its_limits() -> None:
    limits = [RateLimit(requests_per_day=1)]
    async with pair(budgets=[NO_ROOM, *of_models("fake/cheap", amount=0)], rate_limits=limits) as found:
        bodies = [(await answered(found.gateway))[2] for _ in range(2)]
        assert [json.loads(each)["error"]["code"] for each in bodies] == ["insufficient_quota", "rate_limit_exceeded"]
        assert found.asked == ([], [])


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param({"only": ["fake/a"]}, id="only"),
        pytest.param({"ignore": ["fake/cheap"]}, id="ignore"),
        pytest.param({"allow_fallbacks": False}, id="allow_fallbacks"),
    ],
)
async def test_where_preferences_leave_the_cheaper_model_out_the_budget_is_told(provider: dict[str, Any]) -> None:
    async with pair(budgets=[NO_ROOM], fallbacks={}) as found:
        status, _, body = await answered(found.gateway, provider=provider)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (429, "insufficient_quota"), body
        assert "the daily budget for fake/a of alice" in error["message"]
        assert found.asked == ([], [])
        assert await used(found.gateway, [NO_ROOM]) == [0]


@pytest.mark.parametrize("said_by", ["the file", "the client"])
async def test_a_cheaper_model_that_lacks_a_tag_of_the_data_policy_is_not_asked(said_by: str) -> None:
    requires = ("eu",) if said_by == "the file" else ()
    headers = {"x-hpp-router-require": "eu"} if said_by == "the client" else {}
    models = {**MODELS, "fake/a": {**MODELS["fake/a"], "tags": ("eu",)}}
    consumers = {"alice": Declared(quota=DOLLAR, keys=(KEY,), requires=requires)}
    async with pair(budgets=[NO_ROOM], models=models, consumers=consumers) as found:
        status, _, body = await answered(found.gateway, headers=headers)
        assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")
        assert found.asked == ([], [])


async def test_a_downgraded_request_falls_back_on_what_its_own_model_does() -> None:
    async with pair(budgets=[NO_ROOM], fallbacks={"fake/a": ["other/c"], "fake/cheap": ["other/d"]}) as found:
        found.fake.script = FAILS
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["downgraded"], headers["resolved-model"]) == (200, "budget", "other/d")
        assert found.asked == (["cheap"], ["d"])
        entry = await the_entry(found.gateway)
        assert (entry.draft.requested_model, entry.draft.model, entry.amount) == ("fake/a", "other/d", B_NANO)


# --- periods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "amount"), [(FAILS, B_NANO), (COSTS, A_NANO + B_NANO)])
async def test_all_attempts_are_charged_in_the_period_in_which_the_request_came(first: Script, amount: int) -> None:
    clock = Clock(datetime.fromisoformat("2026-11-30T23:59:59+00:00").timestamp())
    budgets = [Budget(amount=DOLLAR, period=each, consumer="*") for each in ("day", "month")]
    async with pair(budgets=budgets) as found:
        found.gateway.setup.ceilings = Ceilings({}, budgets, {}, clock=clock)
        found.fake.script = first
        found.fake.holding = True
        async with ask(found.gateway, model="fake/a") as call:
            await found.fake.arrived()
            clock.now += 2
            found.fake.holding = False
            assert await call.started() == 200
            await call.read()
            await call.returned()
        assert (await the_entry(found.gateway)).amount == amount
        balances: dict[str, Any] = {
            key: await found.gateway.store.balance(f"alice/~{key}")
            for key in ("day:2026-11-30", "month:2026-11", "day:2026-12-01", "month:2026-12")
        }
        assert [each.used for each in balances.values()] == [amount, amount, 0, 0]
        assert {each.held for each in balances.values()} == {0}
