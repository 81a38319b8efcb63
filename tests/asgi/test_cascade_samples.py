"""A smaller model that is asked twice and contradicts itself is found wanting; all calls are charged, in one entry."""

from dataclasses import replace
from typing import Any

import anyio
import pytest
from cascading import (
    FINE,
    GOOD,
    MODELS,
    POLICY,
    SMALL_NANO,
    STRONG_NANO,
    answered,
    audited,
    cascading,
    the_entry,
)
from rig import ALICE, Delegate, ask, check_books

from hpp_middleware import Gateway, SQLiteStore
from hpp_middleware.core import ledger
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.operations import Reserve, Resize
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio

TWICE = replace(POLICY, cascade_samples=2)
LYON = replace(FINE, texts=("Lyon.",))
SAME = replace(FINE, texts=("It is Paris.",))
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def sampling(upstream: FakeUpstream, **settings: Any) -> Gateway:
    return cascading(upstream, **{"auto": TWICE, **settings})


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_two_answers_that_contradict_each_other_are_found_wanting(
    fake_upstream: FakeUpstream, store: str, tmp_path: Any
) -> None:
    kept = {} if store == "memory" else {"store": SQLiteStore(tmp_path / "hpp.db")}
    async with sampling(fake_upstream, **kept) as found:
        fake_upstream.next(FINE, LYON, GOOD)
        status, headers, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/strong")
        assert [each.json()["model"] for each in fake_upstream.log] == ["small", "small", "strong"]
        entry = await the_entry(found)
        assert entry.amount == 2 * SMALL_NANO + STRONG_NANO == ledger.recomputed(entry)
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        assert [(each.model, each.cost) for each in entry.report.attempts] == [
            ("small", SMALL_NANO),
            ("small", SMALL_NANO),
            ("strong", STRONG_NANO),
        ]
        assert entry.draft.routed is not None
        assert entry.draft.routed.reason.endswith("another one contradicts it")


@pytest.mark.parametrize("cost_in", ["header", "usage"])
async def test_two_that_agree_are_believed_and_both_are_charged(fake_upstream: FakeUpstream, cost_in: str) -> None:
    async with sampling(fake_upstream, cost_in=cost_in) as found:
        fake_upstream.next(FINE, SAME)
        _, headers, body = await answered(found)
        assert (body["model"], body["choices"][0]["message"]["content"]) == ("fake/small", "It is Paris.")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (2 * SMALL_NANO, "fake/small", "completed")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        if cost_in == "usage":
            assert round(body["usage"]["cost"] * 10**9) == entry.amount
        assert len(fake_upstream.log) == 2


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"seed": 1}])
async def test_who_would_say_the_same_again_is_asked_once(fake_upstream: FakeUpstream, fields: dict[str, Any]) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(FINE)
        await answered(found, **fields)
        assert (await the_entry(found)).amount == SMALL_NANO
        assert len(fake_upstream.log) == 1


async def test_an_answer_that_is_found_wanting_is_not_asked_for_twice(fake_upstream: FakeUpstream) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(replace(FINE, texts=("I'm not sure.",)), GOOD)
        await answered(found)
        assert [each.json()["model"] for each in fake_upstream.log] == ["small", "strong"]


async def test_a_second_one_that_is_found_wanting_speaks_against_both(fake_upstream: FakeUpstream) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(FINE, replace(FINE, texts=("I'm not sure.",)), GOOD)
        await answered(found)
        entry = await the_entry(found)
        assert (entry.draft.model, entry.amount) == ("fake/strong", 2 * SMALL_NANO + STRONG_NANO)


async def test_a_second_one_that_fails_says_nothing(fake_upstream: FakeUpstream) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(FINE, Script(status=503))
        status, _, body = await answered(found)
        assert (status, body["choices"][0]["message"]["content"]) == (200, "Paris.")
        entry = await the_entry(found)
        assert (entry.amount, entry.report.outcome) == (SMALL_NANO, "completed")
        assert [each.error is None for each in entry.report.attempts] == [True, False]


@pytest.mark.parametrize("cost_in", ["header", "usage"])
async def test_what_a_second_one_costs_that_fails_is_told(fake_upstream: FakeUpstream, cost_in: str) -> None:
    """Where the body tells the cost, an answer that was made before cannot: the stronger model is asked."""
    timeouts = Timeouts(connect=5, first_byte=0.5, idle=5, total=10)
    async with sampling(fake_upstream, timeouts=timeouts, cost_in=cost_in) as found:
        fake_upstream.next(FINE, Script(delay_head_s=30), GOOD)
        status, headers, body = await answered(found)
        entry = await the_entry(found)
        assert status == 200
        assert entry.amount > SMALL_NANO
        assert entry.report.estimated
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        assert body["model"] == ("fake/small" if cost_in == "header" else "fake/strong")
        if cost_in == "usage":
            assert round(body["usage"]["cost"] * 10**9) == entry.amount


@pytest.mark.parametrize("failure", [Script(status=503), Script(close_before_head=True)])
@pytest.mark.parametrize("cost_in", ["header", "usage"])
async def test_where_the_stronger_one_fails_one_of_both_is_given(
    fake_upstream: FakeUpstream, failure: Script, cost_in: str
) -> None:
    async with sampling(fake_upstream, cost_in=cost_in) as found:
        fake_upstream.next(FINE, LYON, failure)
        status, headers, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model) == (2 * SMALL_NANO, "fake/small")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        if cost_in == "usage":
            assert round(body["usage"]["cost"] * 10**9) == entry.amount


async def test_the_hold_is_raised_before_each_call(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    async with sampling(fake_upstream, store=store) as found:
        fake_upstream.next(FINE, LYON, GOOD)
        await answered(found)
        (reserve,), (again, strong) = store.asked(Reserve), store.asked(Resize)
        assert (again.attempt, strong.attempt) == (1, 2)
        assert again.amount == SMALL_NANO + reserve.want
        assert (again.draft.model, strong.draft.model) == ("fake/small", "fake/strong")
        assert strong.amount > 2 * SMALL_NANO + 100 * 60_000
        assert reserve.ttl_s > 3 * 30


async def test_where_no_second_one_fits_the_first_is_given(fake_upstream: FakeUpstream) -> None:
    models = {**MODELS, "fake/small": {"input": "0.1", "output": "300"}}
    async with sampling(fake_upstream, models=models, nano=31_500_000) as found:
        fake_upstream.next(FINE)
        status, _, body = await answered(found)
        assert (status, body["model"]) == (200, "fake/small")
        assert len(fake_upstream.log) == 1
        await the_entry(found)


@pytest.mark.parametrize("during", [1, 2, 3])
async def test_a_client_that_leaves_is_charged_for_what_was_asked(fake_upstream: FakeUpstream, during: int) -> None:
    scripts = [
        replace(each, delay_head_s=0.3 if at == during else 0.0) for at, each in enumerate((FINE, LYON, GOOD), 1)
    ]
    async with sampling(fake_upstream) as found:
        fake_upstream.next(*scripts[:during])
        async with ask(found, model="hpprouter/auto") as call:
            await fake_upstream.arrived(during)
            call.disconnect()
            await call.returned()
        lines = await check_books(found)
        assert audited(lines) == []
        (entry,) = lines
        assert entry.report.outcome == "abandoned"
        assert entry.amount == (SMALL_NANO, 2 * SMALL_NANO, 2 * SMALL_NANO + STRONG_NANO)[during - 1]


@pytest.mark.parametrize("during", [2, 3])
async def test_a_host_that_cancels_leaves_no_hold(fake_upstream: FakeUpstream, during: int) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(*[FINE, LYON][: during - 1], Script(delay_head_s=30))
        body = {"model": "hpprouter/auto", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: found.complete(ALICE, body))
            await fake_upstream.arrived(during)
            group.cancel_scope.cancel()
        lines = await check_books(found)
        assert audited(lines) == []
        assert lines[0].amount > (during - 1) * SMALL_NANO


async def test_an_answer_of_several_calls_is_given_again_under_its_key(fake_upstream: FakeUpstream) -> None:
    async with sampling(fake_upstream) as found:
        fake_upstream.next(FINE, SAME)
        first = await answered(found, headers={"Idempotency-Key": "k"})
        again = await answered(found, headers={"Idempotency-Key": "k"})
        assert again[2] == first[2]
        assert len(fake_upstream.log) == 2


@pytest.mark.parametrize("settings", [{"cascade_samples": 3}, {"cascade_samples": 2, "cascade": False}])
def test_what_makes_no_sense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="cascade_samples"):
        replace(POLICY, **settings)
