"""Workers tell each other whom they leave alone; a store that fails changes nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from hpp_middleware import MemoryStore, Provider, SQLiteStore
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import HealthStore
from hpp_middleware.stages.upstream import sharing
from hpp_middleware.stages.upstream.health import FRESH_S, Health
from hpp_middleware.types.events import UpstreamChanged
from hpp_middleware.types.health import Breaker, Rest

pytestmark = pytest.mark.anyio

BREAKER = Breaker(failures=2, cooldown=10, window=30, longest=60)


class Clock:
    """A clock that is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(clock: Clock, changes: list[UpstreamChanged] | None = None) -> Health:
    providers = {name: Provider(base_url="http://127.0.0.1:9", breaker=BREAKER) for name in ("fake", "other")}
    return Health(providers, clock=clock, changed=changes.append if changes is not None else None)


def fail(health: Health, times: int = 2, status: int = 500) -> None:
    for _ in range(times):
        health.began("fake", "a").ended(ok=False, status=status)


async def meet(store: HealthStore, *workers: Health) -> None:
    for worker in workers:
        worker.hear(await store.share(worker.untold()))


async def test_what_one_leaves_alone_another_does_and_both_find_out_again(clock: Clock) -> None:
    store, changes = MemoryStore(clock=clock), list[UpstreamChanged]()
    one, other = made(clock), made(clock, changes)
    fail(one)
    await meet(store, one, other)
    assert (other.admits("fake"), other.admits("other")) == (10, 0)
    assert [(change.upstream, change.state) for change in changes] == [("fake", "open")]
    clock.now += 10
    assert other.admits("fake") == 0
    one.began("fake").ended(ok=True, status=200)
    await meet(store, one, other)
    assert (one.admits("fake"), other.admits("fake")) == (0, 0)


async def test_one_that_closes_in_the_meantime_is_told_no_longer(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    one, late = made(clock), made(clock)
    fail(one)
    one._watched["fake"].circuit = one._watched["fake"].circuit.__class__(term=1, is_open=True, until=clock.now)
    await meet(store, one)
    one.began("fake").ended(ok=True, status=200)
    await meet(store, one, late)
    assert late.admits("fake") == 0


async def test_a_key_that_rests_rests_everywhere_for_that_model(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    one, other = made(clock), made(clock)
    one.began("fake", "a").ended(ok=False, status=429, retry_after_s=25)
    other.began("fake", "a").ended(ok=True, status=200)  # it was well a moment ago: a limit is everybody's all the same
    clock.now += 5
    await meet(store, one, other)
    assert other.admits("fake", "a") == pytest.approx(20)
    assert other.admits("fake", "b") == 0


async def test_who_has_just_found_it_well_asks_on_and_believes_others_later(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    one, other = made(clock), made(clock)
    fail(one)
    other.began("fake", "a").ended(ok=True, status=200)
    await meet(store, one, other)
    assert other.admits("fake") == 0
    clock.now += FRESH_S
    await meet(store, other)
    assert other.admits("fake") == 10 - FRESH_S


async def test_what_is_heard_is_not_told_on_as_ones_own(clock: Clock) -> None:
    store = MemoryStore(clock=clock)
    one, other = made(clock), made(clock)
    fail(one)
    await meet(store, one, other)
    assert other.untold() == []
    assert one.untold() == []


async def test_what_nobody_knows_and_what_is_out_of_all_bounds_is_taken_as_little(clock: Clock) -> None:
    health = made(clock)
    health.hear([Rest("gone", "", 50), Rest("gone", "m", 50), Rest("fake", "", 1e9), Rest("other", "m", 1e9)])
    assert (health.admits("fake"), health.admits("other", "m")) == (60, 60)


class Failing:
    """A store that is down for a while."""

    def __init__(self, inner: MemoryStore) -> None:
        self.inner = inner
        self.errors: list[Exception] = [StoreError("down"), OSError("gone"), ValueError("nonsense")]
        self.asked = anyio.Event()

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        if self.errors:
            raise self.errors.pop()
        found = await self.inner.share(rests)
        self.asked.set()
        return found


async def test_a_store_that_does_not_answer_costs_nothing_and_is_told_later(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SHARE_S", 0.001)
    store = Failing(MemoryStore(clock=clock))
    one, other = made(clock), made(clock)
    fail(one)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sharing.share, one, store)
        await store.asked.wait()
        tasks.cancel_scope.cancel()
    await meet(store, other)
    assert other.admits("fake") == 10


async def test_sqlite_keeps_it_by_its_clock(tmp_path: Path, clock: Clock) -> None:
    store = SQLiteStore(str(tmp_path / "hpp.db"), clock=clock)
    await store.open()
    try:
        await check(store, clock)
    finally:
        await store.aclose()


async def test_memory_keeps_it_by_its_clock(clock: Clock) -> None:
    await check(MemoryStore(clock=clock), clock)


async def check(store: Any, clock: Clock) -> None:
    assert isinstance(store, HealthStore)
    assert await store.share([]) == []
    await store.share([Rest("a", "", 10), Rest("a", "m/ü", 20.5), Rest("b", "", 5)])
    clock.now += 1
    found = sorted(await store.share([Rest("b", "", 0), Rest("c#x", "", 3)]), key=lambda rest: (rest.key, rest.model))
    assert [(rest.key, rest.model) for rest in found if rest.key != "c#x"] == [("a", ""), ("a", "m/ü")]
    clock.now += 2
    left = {(rest.key, rest.model): rest.for_s for rest in await store.share([])}
    assert left == {
        ("a", ""): pytest.approx(7, abs=1e-3),
        ("a", "m/ü"): pytest.approx(17.5, abs=1e-3),
        ("c#x", ""): pytest.approx(1, abs=1e-3),
    }
    clock.now += 100
    assert await store.share([]) == []
