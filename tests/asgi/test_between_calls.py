"""What happens between two calls of one request, while the hold is resized: the time runs out, the client leaves."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from cascading import DOUBT, GOOD, SMALL, SMALL_NANO, cascading
from cascading import answered as asked_auto
from cascading import the_entry as the_line
from chains import answered, pair, the_entry
from rig import Delegate, ask, check_books, read

from hpp_middleware import Gateway
from hpp_middleware.core.attempts import FLOOR
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.stages.settle.settling import Ending, Pending
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.budget import Budget
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.operations import Operation, Resize, Settle
from hpp_middleware.types.provider import Timeouts
from hpp_middleware.types.streams import KeepAlive

pytestmark = pytest.mark.anyio

FAILS = Script(status=500)
TOTAL_S = 1.0
BRIEF = Timeouts(connect=5, first_byte=20, idle=20, total=TOTAL_S)
SILENT = Script(raw_body=b": wait\n\n" * 20, content_type="text/event-stream", chunk_size=8, delay_between_s=0.03)
"""Signs of life, and then the end, which is none of an answer."""


class Held(Delegate):
    """A store that keeps resizes waiting: for so long, or until it is told to go on; and settlements, where asked."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.seconds = seconds
        self.resizing, self.go_on, self.settling = anyio.Event(), anyio.Event(), anyio.Event()
        self.settles: anyio.Event | None = None
        self.before = self._wait

    async def _wait(self, operations: Sequence[Operation]) -> None:
        if any(isinstance(each, Resize) for each in operations):
            self.resizing.set()
            await (self.go_on.wait() if self.seconds is None else anyio.sleep(self.seconds))
        if self.settles is not None and any(isinstance(each, Settle) for each in operations):
            self.settling.set()
            await self.settles.wait()


def worker_of(found: Gateway) -> Worker:
    (worker,) = found.setup.workers()
    return worker


def attempts_left(found: Gateway) -> int:
    """How many more attempts the worker may make; they are taken by asking."""
    now = time.monotonic()
    return sum(worker_of(found).budget.take(now) for _ in range(FLOOR))


async def left_between(store: Held, found: Gateway, model: str) -> None:
    """A request whose client leaves while its hold is resized for the second call."""
    async with ask(found, model=model) as call:
        await store.resizing.wait()
        call.disconnect()
        await anyio.wait_all_tasks_blocked()
        store.go_on.set()
        with anyio.fail_after(10):
            await call.returned()


# --- the time runs out ----------------------------------------------------------------------------


async def test_a_cascade_out_of_time_gives_the_answer_that_it_has(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream, store=Held(TOTAL_S + 0.1)) as found:
        fake_upstream.next(DOUBT)
        status, headers, body = await asked_auto(found, headers={"x-hpp-router-timeout": str(TOTAL_S)})
        assert (status, body["model"], len(fake_upstream.log)) == (200, "fake/small", 1)
        entry = await the_line(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (SMALL_NANO, "fake/small", "completed")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == SMALL_NANO


async def test_a_cascade_out_of_time_does_not_ask_the_stronger_model_instead(fake_upstream: FakeUpstream) -> None:
    async with cascading(fake_upstream, store=Held(TOTAL_S + 0.1)) as found:
        fake_upstream.next(FAILS)
        status, _, _ = await asked_auto(found, headers={"x-hpp-router-timeout": str(TOTAL_S)})
        assert (status, len(fake_upstream.log)) == (502, 1)
        entry = await the_line(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (0, "fake/small", "failed")
        assert attempts_left(found) == FLOOR


async def test_a_chain_out_of_time_sends_nothing_more_and_charges_nothing() -> None:
    async with pair(store=Held(TOTAL_S + 0.1), timeouts=BRIEF) as found:
        found.fake.script = FAILS
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["attempts"], found.asked) == (502, "1", (["a"], []))
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (0, "fake/a", "failed")
        assert attempts_left(found.gateway) == FLOOR


# --- the client leaves ----------------------------------------------------------------------------


async def test_a_fallback_that_is_not_asked_uses_up_nothing_of_its_limits() -> None:
    store = Held()
    limits = [RateLimit(model="other/c", requests_per_day=1, concurrency=1)]
    async with pair(store=store, rate_limits=limits) as found:
        found.fake.script = FAILS
        await left_between(store, found.gateway, "fake/a")
        assert found.asked == (["a"], [])
        assert (await answered(found.gateway, model="other/c"))[0] == 200


async def test_a_stronger_model_that_is_not_asked_uses_up_nothing_of_its_limits(fake_upstream: FakeUpstream) -> None:
    store = Held()
    limits = [RateLimit(model="fake/strong", requests_per_day=1, concurrency=1)]
    async with cascading(fake_upstream, store=store, rate_limits=limits) as found:
        fake_upstream.next(DOUBT, GOOD)
        await left_between(store, found, "hpprouter/auto")
        assert len(fake_upstream.log) == 1
        assert (await asked_auto(found, model="fake/strong"))[0] == 200


async def test_an_attempt_that_is_not_made_is_given_back(fake_upstream: FakeUpstream) -> None:
    store = Held()
    async with cascading(fake_upstream, store=store) as found:
        fake_upstream.script = FAILS
        await left_between(store, found, "hpprouter/auto")
        assert len(fake_upstream.log) == 1
        assert attempts_left(found) == FLOOR


@pytest.mark.parametrize("during", ["call", "resize"])
async def test_who_reads_an_account_waits_for_a_request_whose_client_has_left(
    fake_upstream: FakeUpstream, during: str
) -> None:
    store = Held()
    store.settles = anyio.Event()
    fake_upstream.script = Script(texts=("I'm not sure.",), usage=SMALL)
    fake_upstream.holding = during == "call"
    async with (
        cascading(fake_upstream, store=store) as found,
        anyio.create_task_group() as tasks,
        ask(found, model="hpprouter/auto") as call,
    ):
        await (fake_upstream.arrived() if during == "call" else store.resizing.wait())
        await anyio.wait_all_tasks_blocked()
        call.disconnect()
        await anyio.wait_all_tasks_blocked()
        usage: list[Any] = []

        async def look() -> None:
            usage.append(await read(found, "/api/usage"))

        tasks.start_soon(look)
        fake_upstream.holding = False
        store.go_on.set()
        await store.settling.wait()
        assert usage == []
        store.settles.set()
        await call.returned()
    assert round(usage[0]["used"] * 10**9) == SMALL_NANO


async def test_who_leaves_once_it_is_settled_keeps_no_reader_waiting() -> None:
    pending = Pending()
    ending = Ending(pending, "alice")
    ending.settled()
    ending.begin()
    with anyio.fail_after(5):
        await pending.wait("alice", 60)


# --- what is left behind --------------------------------------------------------------------------


async def test_a_request_that_took_limits_of_a_fallback_in_vain_is_forgotten() -> None:
    limits = [RateLimit(model="other/c", concurrency=5)]
    async with pair(nano=400_000, rate_limits=limits) as found:
        found.fake.script = FAILS
        await answered(found.gateway)
        assert found.asked == (["a"], [])  # its hold did not fit
        limiter = worker_of(found.gateway).limiter
        assert limiter is not None
        assert limiter._live == {}


async def test_a_sign_of_life_is_no_answer_that_a_retry_has_brought() -> None:
    async with pair(retries=1, fallbacks={}, keep_alive=KeepAlive(after=0.1)) as found:
        found.fake.next(FAILS, SILENT)
        status, _, body = await answered(found.gateway, stream=True)
        assert (status, b"data: [DONE]" in body) == (200, False)
        assert len(await check_books(found.gateway)) == 1
        assert attempts_left(found.gateway) == FLOOR - 1


# --- the client leaves when all is ready for the next call ------------------------------------------


class Last:
    """A transport by which something happens at the last moment before a model is asked."""

    def __init__(self, inner: Transport, model: str, happens: Callable[[], None]) -> None:
        self._inner, self._model, self._happens = inner, model, happens

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        if json.loads(call.body)["model"] == self._model:
            self._happens()
            await anyio.wait_all_tasks_blocked()
        return await self._inner.send(call, provider=provider, sent=sent)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def left_at_the_last(found: Gateway, model: str, provider: str, last: str) -> None:
    async with ask(found, model=model) as call:
        transports = worker_of(found).transports
        transports[provider] = Last(transports[provider], last, call.disconnect)
        await call.returned()


async def test_a_stronger_model_that_is_not_asked_at_the_last_moment_uses_up_nothing(
    fake_upstream: FakeUpstream,
) -> None:
    limits = [RateLimit(model="fake/strong", requests_per_day=1)]
    budgets = [Budget(amount=10**9, period="day", consumer="*", model="fake/strong")]
    async with cascading(fake_upstream, rate_limits=limits, budgets=budgets) as found:
        fake_upstream.next(DOUBT)
        await left_at_the_last(found, "hpprouter/auto", "fake", "strong")
        assert len(fake_upstream.log) == 1
        entry = await the_line(found)
        assert (entry.amount, entry.draft.model, entry.report.outcome) == (SMALL_NANO, "fake/small", "abandoned")
        assert entry.draft.also == ()
        fake_upstream.next(GOOD)
        assert (await asked_auto(found, model="fake/strong"))[0] == 200


async def test_a_fallback_that_is_not_asked_at_the_last_moment_uses_up_nothing() -> None:
    async with pair(rate_limits=[RateLimit(model="other/c", requests_per_day=1)]) as found:
        found.fake.script = FAILS
        await left_at_the_last(found.gateway, "fake/a", "other", "c")
        assert found.asked == (["a"], [])
        assert (await the_entry(found.gateway)).amount == 0
        assert attempts_left(found.gateway) == FLOOR
        assert (await answered(found.gateway, model="other/c"))[0] == 200


async def test_nobody_is_given_an_answer_that_comes_between_two_calls(fake_upstream: FakeUpstream) -> None:
    store = Held()
    async with cascading(fake_upstream, store=store) as found:
        fake_upstream.next(DOUBT)
        await left_between(store, found, "hpprouter/auto")
        entry = await the_line(found)
        assert (entry.amount, entry.report.outcome) == (SMALL_NANO, "abandoned")
