"""What goes on beside a block ends with it, whoever leaves it and however."""

import asyncio
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hpp_middleware.stages.tasks.beside import beside

pytestmark = pytest.mark.anyio


class Work:
    """Goes on until it is ended, or fails when it is told to."""

    def __init__(self) -> None:
        self.begun, self.fails, self.ended = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self.fails.wait()
            raise LookupError("it fails")
        finally:
            self.ended.set()


async def test_all_of_it_begins_and_has_ended_when_the_block_has(anyio_backend: str) -> None:
    works = Work(), Work()
    async with beside(*works):
        for work in works:
            await work.begun.wait()
            assert not work.ended.is_set()
    assert all(work.ended.is_set() for work in works)


async def test_it_begins_though_the_block_is_left_at_once(anyio_backend: str) -> None:
    work = Work()
    async with beside(work):
        pass
    assert work.ended.is_set()


async def test_what_it_has_shielded_is_done_to_its_end(anyio_backend: str) -> None:
    begun, done = anyio.Event(), anyio.Event()

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            begun.set()
            for _ in range(20):
                await checkpoint()
            done.set()

    async with beside(work):
        await begun.wait()
    assert done.is_set()


async def test_what_the_block_raises_leaves_it_as_it_was(anyio_backend: str) -> None:
    work = Work()

    async def block() -> None:
        async with beside(work):
            await work.begun.wait()
            raise KeyError("the block's")

    with pytest.raises(KeyError, match="the block's"):
        await block()
    assert work.ended.is_set()


async def test_a_block_that_is_cancelled_ends_it(anyio_backend: str) -> None:
    work = Work()
    with anyio.CancelScope() as scope:
        async with beside(work):
            await work.begun.wait()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert work.ended.is_set()


async def test_work_that_fails_is_not_passed_over(anyio_backend: str) -> None:
    work, other = Work(), Work()
    told: Any = pytest.raises(LookupError) if anyio_backend == "asyncio" else pytest.RaisesGroup(LookupError)
    with told:
        async with beside(work, other):
            work.fails.set()
            await work.ended.wait()
    assert other.ended.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_task_may_leave_the_block(anyio_backend: str) -> None:
    work = Work()
    block = beside(work)
    await asyncio.create_task(block.__aenter__())
    await work.begun.wait()
    await asyncio.create_task(block.__aexit__(None, None, None))
    assert work.ended.is_set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_that_is_cancelled_as_it_leaves_waits_all_the_same(anyio_backend: str) -> None:
    begun, go_on, done = anyio.Event(), anyio.Event(), anyio.Event()

    async def work() -> None:
        with anyio.CancelScope(shield=True):
            begun.set()
            await go_on.wait()
            done.set()

    async def block() -> None:
        async with beside(work):
            await begun.wait()

    task = asyncio.create_task(block())
    await begun.wait()
    for _ in range(3):  # it is leaving by now
        await checkpoint()
        task.cancel()
    await checkpoint()
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done.is_set()
