"""PostgreSQL and Valkey keep, by their clock, whom workers leave alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest

from hpp_middleware.ports import HealthStore
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.types.health import Rest

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both are on asyncio only."""
    backend: str = request.param
    return backend


class Clock:
    """A clock that is set."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def names(rests: Sequence[Rest]) -> list[tuple[str, str]]:
    return sorted((rest.key, rest.model) for rest in rests)


async def check(store: HealthStore, clock: Clock) -> None:
    assert isinstance(store, HealthStore)
    assert await store.share([]) == []
    await store.share([Rest("a", "", 10), Rest("a", "m/ü", 20.5), Rest("b", "", 5)])
    clock.now += 1
    await store.share([Rest("b", "", 0), Rest("c#x", "", 3)])
    clock.now += 2
    left = {(rest.key, rest.model): rest.for_s for rest in await store.share([])}
    assert left == {
        ("a", ""): pytest.approx(7, abs=1e-3),
        ("a", "m/ü"): pytest.approx(17.5, abs=1e-3),
        ("c#x", ""): pytest.approx(1, abs=1e-3),
    }
    clock.now += 100
    assert await store.share([Rest("a", "", 1)]) in ([], [Rest("a", "", 1)])
    assert names(await store.share([])) == [("a", "")]


async def together(store: HealthStore) -> None:
    """Many workers tell of the same ones at once, each in an order of its own, by the server's clock."""
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            rests = [Rest(key, "", 60 + number) for key in ("a", "b", "c")]
            tasks.start_soon(store.share, rests[number % 3 :] + rests[: number % 3])
    found = await store.share([])
    assert names(found) == [("a", ""), ("b", ""), ("c", "")]
    assert all(0 < rest.for_s <= 80 for rest in found)


async def opened(store: Any, work: Callable[[], Awaitable[None]]) -> None:
    await store.open()
    try:
        await work()
    finally:
        await store.aclose()


async def test_postgres(postgres_dsn: str) -> None:
    clock = Clock()
    kept, shared = PostgresStore(postgres_dsn, clock=clock), PostgresStore(postgres_dsn)
    await opened(kept, lambda: check(kept, clock))
    await opened(shared, lambda: together(shared))


async def test_redis(redis_url: str) -> None:
    clock = Clock()
    kept, shared = RedisStore(redis_url, clock=clock, prefix="one"), RedisStore(redis_url, prefix="two")
    await opened(kept, lambda: check(kept, clock))
    await opened(shared, lambda: together(shared))
