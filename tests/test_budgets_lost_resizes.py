"""A resize to a dearer model whose answer is lost, or that nobody waits for, leaves that model's budget alone."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import cascading as cascades
import pytest
from cascading import DOUBT, SMALL_NANO, cascading
from chains import A_NANO, A, answered, pair, the_entry
from rig import ALICE, Delegate, Lossy, ask, check_books

from hpp_middleware import Gateway, StoreError
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.budget import Budget
from hpp_middleware.types.operations import Operation, Resize, Result

pytestmark = pytest.mark.anyio

DOLLAR = 10**9


def _escalating(upstream: FakeUpstream, store: Any = None, **settings: Any) -> Gateway:
    models = ("fake/small", "fake/strong")
    budgets = [Budget(amount=DOLLAR, period="day", consumer="*", model=model) for model in models]
    return cascading(upstream, budgets=budgets, store=store, **settings)


async def _spent(found: Gateway) -> dict[str, int]:
    """What the only request was charged in each model's budget; nothing is held in either."""
    (line,) = await check_books(found)
    assert cascades.audited([line]) == []
    spent = {}
    for account in (each.account for each in found.setup.ceilings.all_of(ALICE).budgets):
        name = account.rpartition("/")[2]
        balance = await found.store.balance(account)
        assert balance.held == 0
        assert balance.used == (line.amount if account in line.draft.also else 0)
        spent[name] = balance.used
    return spent


@pytest.mark.parametrize("does", [True, False])
async def test_a_stronger_model_whose_resize_is_lost_leaves_its_budget_alone(
    fake_upstream: FakeUpstream, *, does: bool
) -> None:
    async with _escalating(fake_upstream, Lossy(1, does=does)) as found:
        fake_upstream.next(DOUBT)
        assert (await cascades.answered(found))[0] == 200
        assert await _spent(found) == {"small": SMALL_NANO, "strong": 0}


class Away(Delegate):
    """A store that carries out the first resize, and is away for its answer, and for what follows, some calls long."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.away = calls

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Fail, once there has been a resize."""
        is_first = not self.asked(Resize)
        self.calls.append(operations)
        if not self.away or not self.asked(Resize):
            return await self.inner.apply(operations)
        self.away -= 1
        if is_first:
            await self.inner.apply(operations)
        raise StoreError("lost")


@pytest.mark.parametrize("calls", [2, 6], ids=["until the settlement", "longer than that"])
async def test_what_could_not_be_put_back_at_once_is_put_back_at_the_end(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr("hpp_middleware.stages.settle.settling._PAUSES_S", (0.0, 0.0, 0.0))
    store = Away(calls)
    async with _escalating(fake_upstream, store) as found:
        fake_upstream.next(DOUBT)
        assert (await cascades.answered(found))[0] == 200
        (worker,) = found.setup.workers()
        assert worker.lease.journal.owed == (calls > 2)
        await worker.lease.drain()
        assert await _spent(found) == {"small": SMALL_NANO, "strong": 0}
        assert (await cascades.the_entry(found)).draft.model == "fake/small"


async def test_what_a_worker_could_not_put_back_before_it_ended_is_put_back_by_the_next(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("hpp_middleware.stages.settle.settling._PAUSES_S", (0.0, 0.0, 0.0))
    store = Away(1000)
    async with _escalating(fake_upstream, store, journal=tmp_path) as found:
        fake_upstream.next(DOUBT)
        assert (await cascades.answered(found))[0] == 200
    async with _escalating(fake_upstream, store.inner, journal=tmp_path) as found:
        assert await _spent(found) == {"small": SMALL_NANO, "strong": 0}
        assert (await cascades.the_entry(found)).draft.model == "fake/small"


async def test_a_fallback_whose_resize_is_lost_leaves_its_budget_alone() -> None:
    budgets = [Budget(amount=DOLLAR, period="day", consumer="*", model="other/c")]
    async with pair(store=Away(2), budgets=budgets) as found:
        found.fake.script = Script(status=500, raw_body=json.dumps({"error": {}, "usage": A}).encode())
        assert (await answered(found.gateway))[0] == 502
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model, entry.draft.also) == (A_NANO, "fake/a", ())
        (due,) = found.gateway.setup.ceilings.all_of(ALICE).budgets
        balance = await found.gateway.store.balance(due.account)
        assert (balance.used, balance.held) == (0, 0)


async def test_a_client_that_leaves_before_the_stronger_model_is_asked_leaves_its_budget_alone(
    fake_upstream: FakeUpstream,
) -> None:
    store = Delegate()
    async with _escalating(fake_upstream, store) as found, ask(found, model="hpprouter/auto") as call:

        async def leave(_operations: Any, results: list[Any]) -> list[Any]:
            if store.asked(Resize) and not call._gone.is_set():
                call.disconnect()
                await anyio.wait_all_tasks_blocked()
            return results

        store.after = leave
        fake_upstream.next(DOUBT)
        await call.returned()
        assert len(fake_upstream.log) == 1
        assert await _spent(found) == {"small": SMALL_NANO, "strong": 0}
