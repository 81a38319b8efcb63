"""A request under limits, cancelled at each of its suspensions: what it took is put right, and nobody is refused."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from rig import ALICE, gateway, question

from faults.limits_kept import LIMIT, none_is_live, taken, tokens_of
from faults.places import PEPPER, made
from faults.suspensions import How, cancelled_at, counting
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.limits import Ask, Standing

pytestmark = pytest.mark.anyio

MOST = 200
LEAST = {"json": 3, "stream": 5}
"""So many suspensions a request has at least: were they fewer, less would be tested here than it seems."""
BOTH = pytest.mark.parametrize("shape", ["json", "stream"])


class FragileLimits(MemoryLimits):
    """Limits that a cancellation stops wherever they are: before they are taken, or when they were and nobody knows."""

    async def take(self, ask: Ask) -> Standing:
        await anyio.sleep(0.0001)
        standing = await super().take(ask)
        await anyio.sleep(0.0001)
        return standing

    async def correct(self, ask: Ask) -> None:
        await anyio.sleep(0.0001)
        await super().correct(ask)
        await anyio.sleep(0.0001)


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where an empty store is."""
    if kind in {"postgres", "redis"}:
        found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
        return found
    return str(tmp_path / "hpp.db")


@BOTH
@pytest.mark.parametrize("how", ["task", "late task", "again"])
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite", "postgres", "redis"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_may_be_cancelled_at_every_suspension(
    anyio_backend: str, kind: str, how: How, shape: str, place: str
) -> None:
    await at_every_suspension(kind, place, how, shape)


@BOTH
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite"])
async def test_a_scope_may_be_cancelled_at_every_suspension(kind: str, shape: str, place: str) -> None:
    await at_every_suspension(kind, place, "scope", shape)


@BOTH
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_cancels_all_tasks_there_are_leaves_no_place_taken(
    anyio_backend: str, kind: str, shape: str, place: str
) -> None:
    await at_every_suspension(kind, place, "own", shape)


async def at_every_suspension(kind: str, place: str, how: How, shape: str) -> None:
    """After each of them the windows have what the ledger has, no place is taken, and the next request is answered."""
    clock, store = Clock(), None
    store = made(kind, place, clock)
    limits: Any = FragileLimits(clock=clock) if kind == "fragile" else None
    async with FakeUpstream() as upstream:
        found = gateway(
            upstream, store=store, pepper=PEPPER, nano=10**14, rate_limits=[LIMIT], limit_store=limits, journal=None
        )
        counts: Any = found.setup.backends.limits

        async def once() -> None:
            await found.complete(ALICE, question(stream=shape == "stream"))

        async with found:
            with counting():
                await once()
                before = await taken(counts)
                assert (before.requests, before.tokens, before.places) == (1, await tokens_of(found), 0)
                for at in range(1, MOST):
                    run = await cancelled_at(at, once, how=how)
                    if not run.cancels:
                        break
                    with anyio.fail_after(5):
                        await upstream.idle()
                    cancelled = await taken(counts)
                    assert none_is_live(found), "nobody extends its places"
                    assert (await found.balance(ALICE)).held == 0
                    assert cancelled.requests - before.requests in {0, 1}
                    lost = cancelled.tokens - await tokens_of(found)
                    if how != "own":  # which leaves nobody who could put right what it cuts off
                        assert (cancelled.places, lost) == (0, 0)
                    await once()
                    before = await taken(counts)
                    assert before.places == 0
                    assert before.requests == cancelled.requests + 1
                    assert before.tokens == await tokens_of(found) + lost
                assert at > LEAST[shape]
