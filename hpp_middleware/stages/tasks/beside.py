"""
Beside: work that goes on for as long as a block does, and ends with it.

The task that leaves a block need not be the one that has entered it: pytest-asyncio runs what stands before the
``yield`` of a fixture, and what stands after it, in two. No task group can be left so, but tasks that have a scope of
their own can be ended by anybody: that is what happens under asyncio. Trio has nothing but task groups, and nobody
there does it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio

from hpp_middleware.stages.tasks.guard import asyncios

__all__ = ["beside"]

Work = Callable[[], Coroutine[Any, Any, None]]


def beside(*works: Work) -> AbstractAsyncContextManager[None]:
    """
    Carry out each work until it, or the block, ends.

    Raises:
        Exception: What the block raises, wrapped by no task group; or else what a work has raised, at the latest at
            the end of the block.
    """
    loop = asyncios()
    return _in_a_group(works) if loop is None else _in_tasks(loop, works)


@asynccontextmanager
async def _in_tasks(loop: asyncio.AbstractEventLoop, works: tuple[Work, ...]) -> AsyncIterator[None]:
    # Ended by a scope of its own, and not by Task.cancel(), which no shield of the work's would keep off.
    scopes = [anyio.CancelScope() for _ in works]
    tasks = [loop.create_task(_within(scope, work)) for scope, work in zip(scopes, works, strict=True)]
    try:
        yield
    finally:
        for scope in scopes:
            scope.cancel()
        await _outlast(tasks)
        raised = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if raised:
        raise raised[0]


async def _within(scope: anyio.CancelScope, work: Work) -> None:
    with scope:
        await work()


async def _outlast(tasks: list[asyncio.Task[None]]) -> None:
    """Wait for tasks, however often this one is cancelled meanwhile: that is raised when they have ended."""
    said: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not all(task.done() for task in tasks):
            try:
                await asyncio.wait(tasks)
            except asyncio.CancelledError as cancelled:
                said = cancelled
    if said is not None:
        raise said


@asynccontextmanager
async def _in_a_group(works: tuple[Work, ...]) -> AsyncIterator[None]:
    raised: Exception | None = None
    async with anyio.create_task_group() as tasks:
        for work in works:
            tasks.start_soon(work)
        try:
            yield
        except Exception as error:  # noqa: BLE001  # raised again, where no task group wraps it
            raised = error
        tasks.cancel_scope.cancel()
    if raised is not None:
        raise raised
