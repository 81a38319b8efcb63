"""Work that is begun, waited for with a deadline, and stopped from beside it: as if it were awaited as usual."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from hpp_middleware.stages.tasks.guard import asyncios, begin, begin_within, guard, within

pytestmark = pytest.mark.anyio

Way = Callable[[Coroutine[Any, Any, str]], Coroutine[Any, Any, str]]


async def plainly(work: Awaitable[str]) -> str:
    return await work


async def begun(work: Awaitable[str]) -> str:
    ended, found = begin(work)
    return found if ended else await found  # type: ignore[return-value, misc]


async def begun_within(work: Awaitable[str]) -> str:
    ended, found = begin_within(60, work)
    return found if ended else await found  # type: ignore[return-value, misc]


WAYS = [plainly, begun, begun_within]


@pytest.mark.parametrize("way", WAYS)
async def test_it_returns_what_the_work_returns_whether_that_waits_or_not(way: Way) -> None:
    async def work(waits: int) -> str:
        for _ in range(waits):
            await anyio.lowlevel.checkpoint()
        return f"waited {waits} times"

    for waits in range(3):
        assert await way(work(waits)) == f"waited {waits} times"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("waits", [0, 1])
async def test_what_the_work_raises_passes_through(way: Way, waits: int) -> None:
    async def work() -> str:
        for _ in range(waits):
            await anyio.lowlevel.checkpoint()
        raise KeyError("what it raised")

    with pytest.raises(KeyError, match="what it raised"):
        await way(work())


@pytest.mark.parametrize("way", WAYS)
async def test_the_work_hears_of_a_cancellation_and_may_end_in_order(way: Way) -> None:
    notes: list[str] = []

    async def work() -> str:
        try:
            async with anyio.create_task_group() as inner:
                inner.start_soon(anyio.sleep_forever)
                notes.append("waits")
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            notes.append("cancelled")
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()
            notes.append("in order")
            raise
        return "never"

    async with anyio.create_task_group() as group:
        group.start_soon(way, work())
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    assert notes == ["waits", "cancelled", "in order"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_scope_of_the_works_own_ends_only_what_is_in_it(way: Way) -> None:
    async def work() -> str:
        with anyio.move_on_after(0.01):
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        return "and on it goes"

    assert await way(work()) == "and on it goes"


async def test_work_that_takes_too_long_is_a_timeout_and_is_stopped() -> None:
    ended: list[str] = []

    async def work() -> str:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("stopped")
        return "never"

    there, found = begin_within(0.01, work())
    assert not there
    with pytest.raises(TimeoutError):
        await found  # type: ignore[misc]
    with pytest.raises(TimeoutError):
        await within(0.01, work())
    assert ended == ["stopped", "stopped"]
    await anyio.lowlevel.checkpoint()  # and nobody is cancelled by what was left over


async def with_a_deadline(work: Awaitable[str | None]) -> str | None:
    ended, found = begin_within(0.01, work)
    return found if ended else await found  # type: ignore[return-value, misc]


@pytest.mark.parametrize("way", [partial(within, 0.01), with_a_deadline])
async def test_work_that_ends_in_order_when_time_is_up_is_believed_only_where_it_says_something(
    way: Callable[[Awaitable[str | None]], Awaitable[str | None]], anyio_backend_name: str
) -> None:
    if anyio_backend_name != "asyncio":
        return  # elsewhere a scope lets nobody go on

    async def work(found: str | None) -> str | None:
        with suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        return found

    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    assert await way(work("done")) == "done"
    with pytest.raises(TimeoutError):
        await way(work(None))
    assert task.cancelling() == before, "it is not counted as cancelled any more"
    await anyio.lowlevel.checkpoint()  # and nobody is cancelled by what was left over


async def test_what_is_not_a_coroutine_is_awaited_as_it_is(anyio_backend_name: str) -> None:
    if anyio_backend_name != "asyncio":
        return
    future = asyncio.get_running_loop().create_future()
    there, found = begin(future)
    assert (there, found) == (False, future)
    future.set_result("done")
    assert await future == "done"


async def test_a_limit_holds_whatever_is_waited_for_later() -> None:
    around = guard(asyncios())
    around.limit(0.02)
    around.wait(60)
    with anyio.fail_after(5):
        await around.run(anyio.sleep_forever())
    assert around.stopped
    around.close()


async def test_each_wait_begins_anew_and_none_outlasts_the_limit() -> None:
    around = guard(asyncios())
    around.limit(60)

    async def work() -> str:
        for _ in range(4):
            around.wait(0.2)
            await anyio.sleep(0.08)
        around.wait(0.01)
        await anyio.sleep_forever()
        return "never"

    with anyio.fail_after(5):
        assert await around.run(work()) is None
    around.close()
