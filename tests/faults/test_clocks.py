"""
Wall clocks that are wrong, that jump, stand still or run backwards.

Where hosts share a server, its clock alone counts: a worker's own changes nothing. A SQLite file and the memory go by
the host's clock. When that jumps ahead, live holds are charged as their owners' last word was, and each settlement
corrects that; when it jumps back, what was charged stays so, and a hold whose owner died lives until the clock has come
to the end of its lease once more. In no case is anything charged twice.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import pytest
from rig import ALICE, USAGE_NANO, ask, check_books, gateway, read_chat

from faults import workers
from faults.fail_closed import PEPPER, reconciled
from faults.places import made
from faults.workers import Settings, Worker, asked, running_worker
from hpp_middleware.audit import Auditor
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.budget import Budget
from hpp_middleware.types.operations import Grant, Renew, Result, Sweep
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

WRONG: tuple[workers.Clock, ...] = ("an hour ahead", "an hour behind", "frozen", "backwards")
CLOCKS: tuple[workers.Clock, ...] = ("right", *WRONG)
SHORT_LEASE = (2.0, 0.4, 0.4)
HOUR_S = 3600.0
PATIENCE_S = 40
COST = 10_000
"""What the bench's usage costs at its prices."""

SLOW = Script(texts=("word ",) * 20, delay_between_s=0.2)
"""Twice as long as a lease."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of the stores are served on asyncio only."""
    return "asyncio"


# --- shared stores: the server's clock -------------------------------------------------------------


@pytest.mark.parametrize("jumps", ["before it starts", "when told"])
@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_a_worker_whose_clock_is_wrong_charges_as_any_other(
    kind: str,
    jumps: workers.Jumps,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    fake_upstream: FakeUpstream,
) -> None:
    place = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    settings = [
        Settings(
            kind=kind,
            place=place,
            upstream=fake_upstream.url,
            journal=str(tmp_path / "journal"),
            lease_s=SHORT_LEASE,
            clock=clock,
            jumps=jumps,
        )
        for clock in CLOCKS
    ]
    fake_upstream.script = SLOW
    began = time.time()
    with ExitStack() as stack:
        _, *wrong = running = [stack.enter_context(running_worker(tmp_path, each)) for each in settings]
        async with _books(kind, place) as store, httpx2.AsyncClient(timeout=60) as client:
            async with AsyncExitStack() as streams:
                responses = [await _begun(streams, client, worker) for worker in running]
                for worker in wrong:
                    worker.let_the_clock_jump()
                for response in responses:
                    assert (await response.aread()).endswith(b"data: [DONE]\n\n")
            lines = await _lines(store, len(running))
            assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)] * len(running)
            assert {line.report.outcome for line in lines} == {"completed"}, "nobody's hold was swept by anybody"
            async with AsyncExitStack() as streams:
                for worker in wrong:
                    await _begun(streams, client, worker)
                for worker in wrong:
                    worker.kill()
                lines = (await _lines(store, len(running) + len(wrong)))[len(running) :]
            assert [line.report.outcome for line in lines] == ["orphaned"] * len(wrong), "those of the dead are swept"
            lines = await store.lines("alice")
            assert all(began - 60 < line.created < time.time() + 60 for line in lines), (
                "the ledger has the server's time"
            )
            assert (await store.balance("alice")).held == 0
            await reconciled(store)


# --- SQLite and memory: the host's clock -----------------------------------------------------------


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> AsyncGenerator[Any]:
    """One that goes by the host's clock, and an account."""
    made_here = made(request.param, str(tmp_path / f"{uuid4().hex}.db"), clock)
    await made_here.open()
    await _done(made_here, Renew(owner="worker", ttl_s=30), Grant(id="start", account="alice", amount=10**6))
    yield made_here
    await made_here.aclose()


async def test_a_hold_that_was_swept_stays_so_when_the_clock_jumps_back(store: Any, clock: Clock) -> None:
    await _done(store, reserve("hold", 20_000, orphan=25))
    clock.now += 31
    assert await _swept(store) == ["hold"]
    clock.now -= HOUR_S
    assert (await store.apply([reserve("hold", 20_000, orphan=25)]))[0].status == "conflict"
    await _done(store, Renew(owner="worker", ttl_s=30))
    assert await _swept(store) == []
    for _ in range(2):
        await _done(store, settle("hold", COST))
    lines = await store.lines("alice")
    assert [(line.line, line.amount) for line in lines] == [("resolution", 25), ("correction", COST - 25)]
    assert (await store.balance("alice")).held == 0
    await reconciled(store)


async def test_a_hold_that_was_not_swept_before_the_clock_jumped_back_is_swept_later(store: Any, clock: Clock) -> None:
    await _done(store, reserve("of-the-dead", 20_000, orphan=25))
    clock.now += 31 - HOUR_S
    assert await _swept(store) == [], "its lease lasts again, and nobody is charged for what may be running"
    assert (await store.balance("alice")).held == 20_000
    clock.now += HOUR_S
    assert await _swept(store) == ["of-the-dead"]
    assert await _swept(store) == []
    assert [line.amount for line in await store.lines("alice")] == [25]
    await reconciled(store)


async def test_a_clock_that_jumps_ahead_charges_live_holds_once_in_the_end(store: Any, clock: Clock) -> None:
    await _done(store, reserve("hold", 20_000, orphan=25))
    clock.now += HOUR_S
    assert (await store.apply([reserve("next", 20_000)]))[0].status == "fenced", "a worker renews before it goes on"
    assert await _swept(store) == ["hold"]
    await _done(store, Renew(owner="worker", ttl_s=30), reserve("next", 20_000), settle("hold", COST))
    clock.now -= HOUR_S
    assert await _swept(store) == []
    await _done(store, settle("hold", COST), settle("next", COST))
    lines = await store.lines("alice")
    assert [(line.line, line.amount) for line in lines] == [
        ("resolution", 25),
        ("correction", COST - 25),
        ("resolution", COST),
    ]
    balance = await store.balance("alice")
    assert (balance.used, balance.held) == (2 * COST, 0)
    await reconciled(store)


@pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S, 31 - HOUR_S, 0.0])
async def test_a_stream_in_which_the_clock_jumps_is_charged_what_it_cost(
    jump_s: float, store: Any, clock: Clock, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream, store=store, pepper=PEPPER, journal=None) as found:
        async with ask(found, stream=True) as call:
            assert await call.event()
            clock.now += jump_s
            swept = await _swept(store)  # by another process
            assert bool(swept) == (jump_s > 0)
            assert (await call.read()).endswith(b"data: [DONE]\n\n")
            await call.returned()
        async with ask(found) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        lines = await check_books(found)
        assert sum(line.amount for line in lines) == (await found.balance(ALICE)).used == 2 * USAGE_NANO
        corrections = [line for line in lines if line.line == "correction"]
        assert len(corrections) == len(swept)
        await reconciled(store)
    assert len(fake_upstream.log) == 2


async def test_a_budget_is_one_of_its_period_on_whichever_side_of_midnight_a_worker_is(
    store: Any, fake_upstream: FakeUpstream
) -> None:
    budget = Budget(consumer="alice", period="day", amount=400_000)  # room for one hold, but not for another behind it
    midnight = 1_750_032_000.0
    clocks = Clock(midnight - 90), Clock(midnight + 90)
    settings: dict[str, Any] = {"store": store, "pepper": PEPPER, "budgets": [budget], "journal": None}
    async with gateway(fake_upstream, **settings) as behind, gateway(fake_upstream, **settings) as ahead:
        for found, moment in zip((behind, ahead), clocks, strict=True):
            found.setup.ceilings._clock = moment
        hold = {"max_tokens": 150}
        for found in (behind, ahead):
            assert (await read_chat(found, **hold))[0] == 200
        days = [f"alice/~day:2025-06-{day}" for day in (15, 16)]
        assert [(await store.balance(day)).used for day in days] == [USAGE_NANO] * 2, "each in its own"
        large = {"max_tokens": 190}
        for jump_s in (-3600, 0, 3600):  # back before midnight, and forward again
            clocks[1].now = midnight + 90 + jump_s
            for found in (behind, ahead):
                status, body = await read_chat(found, **large)
                assert (status, b"insufficient_quota" in body) == (429, True)
        for day in days:
            balance = await store.balance(day)
            assert (balance.quota, balance.used, balance.held) == (budget.amount, USAGE_NANO, 0)
        auditor = Auditor(store)
        checked = [await auditor.reconcile(account) for account in await auditor.accounts()]
        assert [finding for each in checked for finding in (await auditor.shared(each)).findings] == []


# --- the parts ------------------------------------------------------------------------------------


@asynccontextmanager
async def _books(kind: str, place: str) -> AsyncGenerator[Any]:
    found = made(kind, place)
    await found.open()
    try:
        yield found
    finally:
        await found.aclose()


async def _begun(streams: AsyncExitStack, client: httpx2.AsyncClient, worker: Worker) -> httpx2.Response:
    """A stream whose head has come."""
    response = await streams.enter_async_context(client.stream("POST", **asked(worker, stream=True)))
    assert response.status_code == 200
    return response


async def _lines(store: Any, count: int) -> list[Entry]:
    """Alice's ledger, when it has so many lines."""
    found: list[Entry] = []
    with anyio.fail_after(PATIENCE_S):
        while len(found) < count:
            await anyio.sleep(0.05)
            found = await store.lines("alice")
    assert len(found) == count
    return found


def _hours_off(line: Entry) -> int:
    """By how much a worker's clock, which its request's id shows, was not the store's."""
    drawn = int(line.hold.removeprefix("req_")[:12], 16) / 1000
    return round((drawn - line.created) / HOUR_S)


async def _done(store: Any, *operations: Any) -> None:
    results: list[Result] = await store.apply(operations)
    assert [result.status for result in results] == ["done"] * len(operations)


async def _swept(store: Any) -> list[str]:
    """The holds that a sweep finds."""
    (result,) = await store.apply([Sweep()])
    return [entry.hold for entry in result.entries]
