"""Cancelled, or left, at every step of the way: nothing stays held, and what was sent is never free."""

from collections import Counter
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from rig import ALICE, USAGE_NANO, ask, check_books, gateway, question

from hpp_middleware import Gateway, MemoryStore, SQLiteStore
from hpp_middleware.ports import Store
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

MOST_STEPS = 400
BOTH = pytest.mark.parametrize("stream", [False, True])


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "hpp.db")


async def steps(number: int, store: Store) -> None:
    """So many turns of the event loop; a thread does not go by turns, so that time has to do there."""
    if isinstance(store, SQLiteStore):
        await anyio.sleep(number * 0.0005)
        return
    for _ in range(number):
        await checkpoint()


async def new_lines(found: Gateway, known: int) -> list[Entry]:
    """What was written since, nothing being held."""
    balance = await found.store.balance("alice")
    assert balance.held == 0
    return await found.store.lines("alice", after=known)


class Tally:
    """What became of the requests: each has at most one line, and none that was answered is free."""

    def __init__(self) -> None:
        self.ends: Counter[str] = Counter()

    def count(self, lines: list[Entry], upstream: FakeUpstream) -> None:
        """One more request."""
        answered = bool(upstream.log) and upstream.log[-1].bytes_sent > 0
        if not lines:
            assert not answered
            self.ends["released"] += 1
            return
        (line,) = lines
        assert 0 < line.amount <= line.held
        assert line.amount == USAGE_NANO or line.report.estimated
        self.ends[line.report.outcome] += 1

    def check(self, outcome: str, store: Store) -> None:
        """Every kind of end was met."""
        assert self.ends["completed"] == 5
        if not isinstance(store, SQLiteStore):
            assert self.ends["released"] > 0
            assert self.ends[outcome] > 0


@BOTH
async def test_a_host_may_cancel_at_any_step(stream: bool, fake_upstream: FakeUpstream, store: Store) -> None:  # noqa: FBT001
    tally, known = Tally(), 0
    async with gateway(fake_upstream, store=store) as found:
        for number in range(MOST_STEPS):
            fake_upstream.log.clear()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(found.complete, ALICE, question(stream=stream))
                await steps(number, store)
                tasks.cancel_scope.cancel()
            with anyio.fail_after(5):
                await fake_upstream.idle()
            lines = await new_lines(found, known)
            known += len(lines)
            tally.count(lines, fake_upstream)
            if tally.ends["completed"] == 5:
                break
        await check_books(found)
    tally.check("failed", store)


@BOTH
async def test_a_client_may_leave_at_any_step(stream: bool, fake_upstream: FakeUpstream, store: Store) -> None:  # noqa: FBT001
    tally, known = Tally(), 0
    async with gateway(fake_upstream, store=store) as found:
        for number in range(MOST_STEPS):
            fake_upstream.log.clear()
            async with ask(found, stream=stream) as call, anyio.create_task_group() as tasks:
                tasks.start_soon(call.read)
                await steps(number, store)
                tasks.cancel_scope.cancel()
                call.disconnect()
                with anyio.fail_after(5):
                    await call.returned()
            with anyio.fail_after(5):
                await fake_upstream.idle()
            lines = await new_lines(found, known)
            known += len(lines)
            tally.count(lines, fake_upstream)
            if tally.ends["completed"] == 5:
                break
        await check_books(found)
    tally.check("abandoned", store)
