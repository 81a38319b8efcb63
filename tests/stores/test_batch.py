"""Operations that go together: whoever is cancelled, those that wait are carried out."""

import asyncio
from collections.abc import Sequence

import anyio
import pytest

from hpp_middleware.errors import StoreError
from hpp_middleware.stores.batch import Batch
from hpp_middleware.types.operations import Operation, Release, Result

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def carried_out(operations: Sequence[Operation]) -> list[Result]:
    await asyncio.sleep(0)
    return [Result(id=operation.id, status="done") for operation in operations if isinstance(operation, Release)]


@pytest.mark.parametrize("steps", [0, 1], ids=["before it begins", "under way"])
async def test_a_round_trip_that_is_cancelled_leaves_the_next_one_its_way(steps: int) -> None:
    batch = Batch(carried_out)
    before = asyncio.all_tasks()
    first = asyncio.ensure_future(batch.apply([Release(id="a")]))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(batch.apply([Release(id="b")]))
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in asyncio.all_tasks() - before - {first, second}:
        task.cancel()
    with anyio.fail_after(5):
        (result,) = await second
        assert result.id == "b"
        if steps:
            with pytest.raises(StoreError):
                await first
        else:
            assert [each.id for each in await first] == ["a"]
        assert [each.id for each in await batch.apply([Release(id="c")])] == ["c"]
