"""A smaller model first, and a stronger one where its answer is found wanting: one hold, one entry, both charged."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import anyio
import pytest
from cascading import (
    DOUBT,
    FINE,
    GOOD,
    SMALL_NANO,
    STRONG_NANO,
    answered,
    audited,
    cascading,
    the_entry,
)
from rig import ALICE, Delegate, Lossy, Witness, ask, check_books, read

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.core import ledger
from hpp_middleware.core.attempts import FLOOR
from hpp_middleware.core.auto import AutoPolicy, Learned
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.operations import Operation, Reserve, Resize
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_an_answer_that_is_found_wanting_is_asked_of_the_stronger_model_and_both_are_charged(
    fake_upstream: FakeUpstream, store: str, tmp_path: Any
) -> None:
    kept = MemoryStore() if store == "memory" else SQLiteStore(tmp_path / "hpp.db")
    async with cascading(fake_upstream, store=kept) as found:
        fake_upstream.next(DOUBT, GOOD)
        status, headers, body = await answered(found)
        assert (status, body["choices"][0]["message"]["content"], body["model"]) == (200, "It is Paris.", "fake/strong")
        assert [each.json()["model"] for each in fake_upstream.log] == ["small", "strong"]
        entry = await the_entry(found)
        assert entry.amount == SMALL_NANO + STRONG_NANO
        assert (headers["x-hpp-router-resolved-model"], headers["x-hpp-router-basket"]) == ("fake/strong", "simple")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        assert ledger.recomputed(entry) == entry.amount
        assert (entry.draft.model, entry.report.outcome, entry.report.estimated) == ("fake/strong", "completed", False)
        assert entry.report.usage == Usage(input=60, output=24)
        assert entry.draft.routed is not None
        assert entry.draft.routed.reason == "the smaller model's answer was found wanting: unsure"
        assert [(each.model, each.cost) for each in entry.report.attempts] == [
            ("small", SMALL_NANO),
            ("strong", STRONG_NANO),
        ]
        audit = await read(found, f"/api/user/audit/{entry.hold}")
        assert [(each["model"], each["prompt_tokens"], each["cost"]) for each in audit["attempts"]] == [
            ("small", 31, SMALL_NANO / 10**9),
            ("strong", 29, STRONG_NANO / 10**9),
        ]
        assert audit["cost"] * 10**9 == pytest.approx(entry.amount)


async def test_a_stronger_model_whose_own_limit_is_reached_is_not_asked(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    store = MemoryLimits(clock=clock)
    limits = [RateLimit(model="fake/strong", requests_per_minute=1, concurrency=1)]
    async with cascading(fake_upstream, rate_limits=limits, limit_store=store) as found:
        models: list[str] = []
        for pause in (0, 0, 60):
            clock.now += pause
            fake_upstream.next(*([DOUBT] if models[-1:] == ["fake/strong"] and not pause else [DOUBT, GOOD]))
            status, _, body = await answered(found)
            assert status == 200
            models.append(body["model"])
        assert models == ["fake/strong", "fake/small", "fake/strong"]
        assert len(fake_upstream.log) == 5


async def test_a_good_answer_is_given_as_it_is(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(FINE)
        _, headers, body = await answered(found)
        assert (body["choices"][0]["message"]["content"], body["model"]) == ("Paris.", "fake/small")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model) == (SMALL_NANO, "fake/small")
        assert headers["x-hpp-router-cost"] == "0.0000052"
        assert len(fake_upstream.log) == 1


@pytest.mark.parametrize(
    "fields", [{"stream": True}, {"n": 2}, {"messages": [{"role": "user", "content": "x" * 4000}]}]
)
async def test_streams_several_choices_and_the_strongest_itself_are_answered_once(
    fake_upstream: FakeUpstream, fields: dict[str, Any]
) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT)
        async with ask(found, model="hpprouter/auto", **fields) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        await check_books(found)
        assert len(fake_upstream.log) == 1


async def test_the_learned_policys_strong_model_is_whom_it_ends_with(fake_upstream: FakeUpstream) -> None:
    class Never:
        def score(self, _messages: Sequence[Any]) -> float:
            return 0.0

        def explain(self, _messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
            return []

    learned = Learned(strong="fake/t1", weak="fake/small", scorer=Never())
    async with cascading(fake_upstream, auto=AutoPolicy(policy="learned", learned=learned, cascade=True)) as found:
        fake_upstream.next(DOUBT, GOOD)
        await answered(found)
        entry = await the_entry(found)
        assert (entry.draft.model, entry.amount) == ("fake/t1", SMALL_NANO + 29 * 1_000 + 17 * 2_000)


async def test_the_hold_is_raised_for_both_before_the_second_is_asked(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    async with cascading(fake_upstream, store=store) as found:
        fake_upstream.next(DOUBT, GOOD)
        await answered(found)
        (reserve,), (resize,) = store.asked(Reserve), store.asked(Resize)
        assert reserve.draft.model == "fake/small"
        assert resize.draft.model == "fake/strong"
        assert reserve.want < SMALL_NANO + 100 * 60_000 < resize.amount
        assert SMALL_NANO < resize.orphan_amount < resize.amount
        assert reserve.ttl_s > 2 * 30


async def test_where_both_do_not_fit_the_first_answer_is_given(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream, nano=1_000_000) as found:
        fake_upstream.next(DOUBT)
        status, _, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model) == (SMALL_NANO, "fake/small")
        assert len(fake_upstream.log) == 1


@pytest.mark.parametrize("failure", [Script(status=503), Script(close_before_head=True), Script(raw_body=b"<html>")])
async def test_where_the_second_fails_the_first_answer_is_given(fake_upstream: FakeUpstream, failure: Script) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT, failure)
        status, headers, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (SMALL_NANO, "fake/small", "completed")
        assert headers["x-hpp-router-resolved-model"] == "fake/small"
        assert [each.error is None for each in entry.report.attempts] == [True, False]


async def test_what_a_second_costs_that_fails_is_charged_and_told(fake_upstream: FakeUpstream) -> None:
    timeouts = Timeouts(connect=5, first_byte=0.5, idle=5, total=10)
    async with cascading(fake_upstream, timeouts=timeouts) as found:
        fake_upstream.next(DOUBT, Script(delay_head_s=30))
        status, headers, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        entry = await the_entry(found)
        assert entry.amount > SMALL_NANO  # the prompt of the second was sent
        assert (entry.report.estimated, entry.report.outcome) == (True, "completed")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount


@pytest.mark.parametrize("first", [DOUBT, FINE], ids=["two calls", "one call"])
async def test_what_the_calls_cost_is_their_sum_although_a_report_is_not_believed(
    fake_upstream: FakeUpstream, first: Script
) -> None:
    denies = {"prompt_tokens": 29, "completion_tokens": 10**6, "total_tokens": 46}  # a sum of other figures
    async with cascading(fake_upstream) as found:
        fake_upstream.next(
            *((first, replace(GOOD, usage=denies)) if first is DOUBT else (replace(first, usage=denies),))
        )
        status, headers, _ = await answered(found)
        assert status == 200
        entry = await the_entry(found)
        assert entry.report.estimated
        assert entry.amount <= entry.held
        assert sum(each.cost for each in entry.report.attempts) == entry.amount
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount


@pytest.mark.parametrize("failure", [Script(status=503), Script(close_before_head=True), Script(raw_body=b"<html>")])
async def test_where_the_first_fails_the_second_is_asked(fake_upstream: FakeUpstream, failure: Script) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(failure, GOOD)
        status, headers, body = await answered(found)
        assert (status, body["model"], headers["x-hpp-router-resolved-model"]) == (200, "fake/strong", "fake/strong")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (STRONG_NANO, "fake/strong", "completed")
        assert [each.cost for each in entry.report.attempts] == [0, STRONG_NANO]
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount


async def test_what_a_first_costs_that_fails_is_charged_with_the_second(fake_upstream: FakeUpstream) -> None:
    timeouts = Timeouts(connect=5, first_byte=0.5, idle=5, total=10)
    async with cascading(fake_upstream, timeouts=timeouts) as found:
        fake_upstream.next(Script(delay_head_s=30), GOOD)
        status, headers, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/strong")
        entry = await the_entry(found)
        first, second = entry.report.attempts
        assert (first.error, second.cost) == ("timeout", STRONG_NANO)
        assert entry.amount == first.cost + STRONG_NANO > STRONG_NANO
        assert entry.report.estimated
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount


async def test_where_both_fail_the_last_one_is_told(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(Script(status=503), Script(status=429, headers=[("retry-after", "9")]))
        status, headers, body = await answered(found)
        assert (status, body["error"]["upstream_status"]) == (429, 429)
        entry = await the_entry(found)
        assert (entry.amount, entry.report.outcome, len(entry.report.attempts)) == (0, "failed", 2)
        assert float(headers["x-hpp-router-cost"]) == 0


async def test_where_the_first_fails_and_the_second_does_not_fit_it_is_told(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream, nano=100_000) as found:
        fake_upstream.next(Script(status=503))
        assert (await answered(found))[0] == 502
        assert len(fake_upstream.log) == 1
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model) == (0, "fake/small")


async def test_while_everything_fails_cascades_make_an_outage_no_worse(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.script = Script(status=503)
        for _ in range(20):
            assert (await answered(found))[0] == 502
        assert len(fake_upstream.log) == 20 + FLOOR


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_where_a_resize_is_lost_the_first_answer_is_given_and_the_books_are_right(
    fake_upstream: FakeUpstream, times: int, *, does: bool
) -> None:
    async with cascading(fake_upstream, store=Lossy(times, does=does)) as found:
        fake_upstream.next(DOUBT)
        status, _, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        entry = await the_entry(found)
        assert (entry.amount, ledger.recomputed(entry)) == (SMALL_NANO, SMALL_NANO)
        assert entry.draft.model == "fake/small"


async def test_an_answer_of_both_is_given_again_under_its_key(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        for scripts, model in (((DOUBT, GOOD), "fake/strong"), ((FINE,), "fake/small")):
            fake_upstream.next(*scripts)
            key = {"Idempotency-Key": model}
            first = await answered(found, headers=key)
            asked = len(fake_upstream.log)
            again = await answered(found, headers=key)
            assert again[2] == first[2]
            assert again[2]["model"] == model
            assert again[1]["x-hpp-router-cost"] == "0"
            assert len(fake_upstream.log) == asked
        assert len(await check_books(found)) == 2


@pytest.mark.parametrize(
    ("scripts", "model", "amount"),
    [
        pytest.param((FINE,), "fake/small", SMALL_NANO, id="during the first call"),
        pytest.param((DOUBT,), "fake/small", SMALL_NANO, id="whose answer nobody weighs then"),
        pytest.param((DOUBT, GOOD), "fake/strong", SMALL_NANO + STRONG_NANO, id="during the second one"),
        pytest.param((DOUBT, Script(status=500)), "fake/small", SMALL_NANO, id="which fails"),
    ],
)
async def test_a_client_that_has_left_finds_its_answer_under_its_key(
    fake_upstream: FakeUpstream, scripts: Sequence[Script], model: str, amount: int
) -> None:
    store, key = Delegate(), {"Idempotency-Key": "k"}

    async def hold(operations: Sequence[Operation]) -> None:
        fake_upstream.holding |= any(isinstance(each, Resize) for each in operations)

    store.before = hold
    async with cascading(fake_upstream, store=store) as found:
        fake_upstream.next(*scripts)
        fake_upstream.holding = len(scripts) == 1
        async with ask(found, headers=key, model="hpprouter/auto") as call:
            await fake_upstream.arrived(len(scripts))
            call.disconnect()
            await anyio.wait_all_tasks_blocked()
            store.before, fake_upstream.holding = None, False
            await call.returned()
        status, headers, body = await answered(found, headers=key)
        assert (status, body["model"], headers["x-hpp-router-cost"]) == (200, model, "0")
        assert len(fake_upstream.log) == len(scripts)
        assert (await the_entry(found)).amount == amount


async def test_the_body_says_what_both_cost_where_it_says_so(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream, cost_in="usage") as found:
        fake_upstream.next(DOUBT, GOOD)
        _, _, body = await answered(found)
        assert round(body["usage"]["cost"] * 10**9) == (await the_entry(found)).amount == SMALL_NANO + STRONG_NANO


@pytest.mark.parametrize("during", [1, 2])
async def test_a_client_that_leaves_is_charged_for_what_was_asked(fake_upstream: FakeUpstream, during: int) -> None:
    slow = [replace(each, delay_head_s=0.3) for each in (DOUBT, GOOD)]
    async with cascading(fake_upstream) as found:
        fake_upstream.next(*(slow if during == 1 else [DOUBT, slow[1]]))
        async with ask(found, model="hpprouter/auto") as call:
            await fake_upstream.arrived(during)
            call.disconnect()
            await call.returned()
        lines = await check_books(found)
        assert audited(lines) == []
        (entry,) = lines
        assert entry.report.outcome == "abandoned"
        assert entry.amount == (SMALL_NANO if during == 1 else SMALL_NANO + STRONG_NANO)
        assert len(fake_upstream.log) == during


@pytest.mark.parametrize("during", [1, 2])
async def test_a_host_that_cancels_leaves_no_hold_and_books_that_agree(
    fake_upstream: FakeUpstream, during: int
) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(*([Script(delay_head_s=30)] if during == 1 else [DOUBT, Script(delay_head_s=30)]))
        body = {"model": "hpprouter/auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: found.complete(ALICE, body))
            await fake_upstream.arrived(during)
            group.cancel_scope.cancel()
        lines = await check_books(found)
        assert audited(lines) == []
        (entry,) = lines
        assert entry.amount > (0 if during == 1 else SMALL_NANO)


async def test_observers_hear_of_one_request(fake_upstream: FakeUpstream) -> None:
    witness = Witness()
    async with cascading(fake_upstream, observers=[witness]) as found:
        fake_upstream.next(DOUBT, GOOD)
        await answered(found)
        (settled,) = witness.settled
        assert settled.entries[0].amount == SMALL_NANO + STRONG_NANO <= settled.held
        assert witness.alarms == []


async def test_both_calls_have_the_deadline_that_the_client_asks_for(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(replace(DOUBT, delay_head_s=0.2), replace(GOOD, delay_head_s=60))
        status, _, body = await answered(found, headers={"X-HPP-Router-Timeout": "3"})
        assert (status, body["choices"][0]["message"]["content"]) == (200, "I'm not sure.")
        entry = await the_entry(found)
        assert [each.error for each in entry.report.attempts] == [None, "timeout"]
        assert entry.amount > SMALL_NANO
