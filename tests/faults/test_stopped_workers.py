"""A worker that sleeps past its lease is swept by another one; awake, it can only put right what was charged."""

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import anyio
import httpx2
import pytest
from rig import ALICE, BOB_KEY, USAGE_NANO, check_books, gateway, question

from faults.fail_closed import reconciled
from faults.places import made
from faults.workers import Settings, Worker, asked, running_worker
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "redis"]
SHORT_LEASE = (2.0, 0.4, 0.4)
PATIENCE_S = 30
NANO_A_TOKEN = 1000
"""What the rig's model costs in."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of the stores are served on asyncio only."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path, fake_upstream: FakeUpstream) -> Settings:
    """What all workers of a test are told."""
    kind: str = request.param
    place = {"sqlite": "", "postgres": "postgres_dsn", "redis": "redis_url"}[kind]
    return Settings(
        kind=kind,
        place=request.getfixturevalue(place) if place else str(tmp_path / f"{uuid4().hex}.db"),
        upstream=fake_upstream.url,
        journal=str(tmp_path / "journal"),
        lease_s=SHORT_LEASE,
    )


async def test_a_worker_that_slept_in_mid_stream_posts_one_correction(
    settings: Settings, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(Script(texts=("word ",) * 20, delay_between_s=0.2))
    with running_worker(tmp_path, settings) as sleeper, running_worker(tmp_path, settings):
        async with _books(settings) as store, httpx2.AsyncClient(timeout=60) as client:
            async with client.stream("POST", **asked(sleeper, stream=True)) as response:
                assert response.status_code == 200
                pieces = response.aiter_bytes()
                received = await anext(pieces)
                sleeper.pause()
                (orphaned,) = await _lines(store, 1)
                assert (orphaned.line, orphaned.report.outcome) == ("resolution", "orphaned")
                assert orphaned.amount not in {0, USAGE_NANO}
                sleeper.resume()
                received += b"".join([piece async for piece in pieces])
            assert received.endswith(b"data: [DONE]\n\n"), "the client has it all"
            lines = await _lines(store, 2)
            assert (lines[1].line, lines[1].report.outcome) == ("correction", "completed")
            assert lines[1].amount == USAGE_NANO - orphaned.amount
            assert (await client.post(**asked(sleeper))).status_code == 200, "and is a worker as before"
            assert [line.line for line in await _lines(store, 3)] == ["resolution", "correction", "resolution"]
            await _are_in_order(store, used=2 * USAGE_NANO)
    assert len(fake_upstream.log) == 2


@pytest.mark.parametrize("moment", ["once held", "before sending"])
async def test_a_worker_that_slept_before_it_sent_sends_nothing_and_takes_the_charge_back(
    moment: Literal["once held", "before sending"], settings: Settings, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    settings.stops = moment
    told: list[httpx2.Response] = []
    with running_worker(tmp_path, settings) as sleeper, running_worker(tmp_path, settings) as other:
        async with _books(settings) as store, httpx2.AsyncClient(timeout=60) as client:

            async def ask() -> None:
                told.append(await client.post(**asked(sleeper, stop_here=True)))

            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                with anyio.fail_after(PATIENCE_S):
                    while not sleeper.is_stopped:  # noqa: ASYNC110  # nobody tells
                        await anyio.sleep(0.01)
                (orphaned,) = await _lines(store, 1)
                assert (orphaned.line, orphaned.report.outcome) == ("resolution", "orphaned")
                assert orphaned.amount > 0
                sleeper.resume()
            assert (told[0].status_code, told[0].json()["error"]["code"]) == (503, "quota_unavailable")
            assert fake_upstream.log == [], "what was charged as an orphan was not sent"
            lines = await _lines(store, 2)
            assert (lines[1].line, lines[1].amount) == ("correction", -orphaned.amount)
            await _are_in_order(store, used=0)
            for worker in (sleeper, other):
                assert (await client.post(**asked(worker, key=BOB_KEY))).status_code == 200
            assert len(fake_upstream.log) == 2


async def test_four_gateways_forward_exactly_the_ten_that_there_is_room_for(
    settings: Settings, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    hold = await _what_is_held(fake_upstream)
    settings.nano = 10 * hold + hold - 1
    # What is charged is what was held, so that room which was taken is never given back.
    fake_upstream.script = Script(usage={"prompt_tokens": hold // NANO_A_TOKEN, "completion_tokens": 0})
    statuses: list[int] = []
    with ExitStack() as stack:
        workers = [stack.enter_context(running_worker(tmp_path, settings)) for _ in range(4)]
        async with _books(settings) as store, httpx2.AsyncClient(timeout=60) as client:

            async def ask(worker: Worker) -> None:
                statuses.append((await client.post(**asked(worker))).status_code)

            async with anyio.create_task_group() as asking:
                for worker in workers * 10:
                    asking.start_soon(ask, worker)
            assert [line.amount for line in await _lines(store, 10)] == [hold] * 10
            await _are_in_order(store, used=10 * hold)
    assert (statuses.count(200), statuses.count(429)) == (10, 30)
    assert len(fake_upstream.log) == 10


async def _what_is_held(upstream: FakeUpstream) -> int:
    """What the rig's question, written as an HTTP client does, takes of an account while it is answered."""
    async with gateway(upstream) as found:
        await found.complete(ALICE, question())
        (line,) = await check_books(found)
    upstream.log.clear()
    assert line.held % NANO_A_TOKEN == 0
    return line.held


@asynccontextmanager
async def _books(settings: Settings) -> AsyncGenerator[Any]:
    """The workers' store, to look into."""
    store = made(settings.kind, settings.place)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def _lines(store: Any, count: int) -> list[Entry]:
    """Alice's ledger, when it has so many lines."""
    found: list[Entry] = []
    with anyio.fail_after(PATIENCE_S):
        while len(found) < count:
            await anyio.sleep(0.05)
            found = await store.lines("alice")
    assert len(found) == count
    return found


async def _are_in_order(store: Any, *, used: int) -> None:
    balance = await store.balance("alice")
    assert (balance.used, balance.held) == (used, 0)
    await reconciled(store)
