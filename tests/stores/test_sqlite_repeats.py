"""A hold is taken for a new one until the file says otherwise: so is a repeat by a process that cannot know of it."""

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import pytest

from hpp_middleware import SQLiteStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Grant, Operation, Release, Renew, Result, Sweep

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncGenerator[tuple[SQLiteStore, SQLiteStore]]:
    """Two on one file, which do not tell each other anything, with 100 in an account."""
    first, second = SQLiteStore(tmp_path / "hpp.db"), SQLiteStore(tmp_path / "hpp.db")
    await first.open()
    await second.open()
    await first.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=100)])
    yield first, second
    await second.aclose()
    await first.aclose()


async def _one(store: SQLiteStore, operation: Operation) -> Result:
    (result,) = await store.apply([operation])
    return result


@pytest.mark.parametrize("amount", [30, 80])
async def test_a_reserve_that_is_repeated_elsewhere_gets_what_it_has(
    stores: tuple[SQLiteStore, SQLiteStore], amount: int
) -> None:
    first, second = stores
    assert (await _one(first, reserve("hold", amount))).status == "done"
    again = await _one(second, reserve("hold", amount))
    assert (again.status, again.amount) == ("done", amount)
    assert (await second.balance("alice")).held == amount


async def test_one_that_was_given_back_meanwhile_is_not_placed(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    first, second = stores
    await _one(first, Release(id="hold"))
    assert (await _one(second, reserve("hold", 30))).status == "conflict"
    assert (await _one(second, reserve("hold", 300))).status == "conflict"
    assert (await second.balance("alice")).held == 0


async def test_one_that_is_over_is_a_conflict(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    first, second = stores
    await first.apply([reserve("hold", 30), settle("hold", 20)])
    assert (await _one(second, reserve("hold", 30))).status == "conflict"
    assert (await second.balance("alice")).available == 80


async def test_among_others_it_is_the_only_one_that_is_not_new(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    first, second = stores
    await _one(first, reserve("old", 30))
    told = await second.apply(
        [
            reserve("new", 10),
            reserve("old", 30),
            reserve("large", 90),
            Release(id="new"),
            Sweep(),
            reserve("other", 70),
        ]
    )
    assert [result.status for result in told] == ["done", "done", "refused", "done", "done", "done"]
    assert (await second.balance("alice")).held == 100


async def test_what_waits_together_is_told_apart(stores: tuple[SQLiteStore, SQLiteStore]) -> None:
    first, second = stores
    await _one(first, reserve("hold-7", 30))
    results: dict[int, Result] = {}

    async def place(number: int) -> None:
        results[number] = await _one(second, reserve(f"hold-{number}", 30 if number == 7 else 1))

    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(place, number)
    assert {result.status for result in results.values()} == {"done"}
    assert (await second.balance("alice")).held == 30 + 19
