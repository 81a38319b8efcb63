"""
Apart: the work in a task beside the request's own, which only listens for a departure.

A host cancels the request's task when it no longer waits for it: by a scope of anyio's, or by asyncio's own
``Task.cancel``, which no shield keeps off. Here it hits the task that listens, and is heard as a departure, too; the
work goes on as far as it is then to go, and the cancellation after it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from hpp_middleware.stages.tasks.guard import guard

__all__ = ["run"]

T = TypeVar("T")


async def run(
    work: Coroutine[Any, Any, T],
    *,
    loop: asyncio.AbstractEventLoop | None,
    hear: Callable[[], Callable[[], None] | None],
    gone: Callable[[], Awaitable[None]],
    dismissed: Callable[[], None],
    upkeep: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """
    Carry out the work, and return what it returns when it has ended.

    Args:
        work: Ends by itself within a bound once ``gone`` has returned, or ``dismissed``.
        loop: The event loop that runs, where it is asyncio's or takes its place.
        hear: Has the work told of the client's departure, and returns what ends that; or None, where only ``gone`` can.
        gone: Listens for the client's departure, and returns when it has told the work of it. It is asked before the
            work begins, so that work for a client that has left already need not begin.
        dismissed: Told that the host has cancelled the request meanwhile; raised again at the end.
        upkeep: What goes on besides for as long as the work does.
    """
    if loop is None:
        return await _on_any_loop(work, gone, dismissed, upkeep)
    # One task instead of a task group, which would cost as much as the rest of the path.
    deaf = hear()
    task = loop.create_task(work)
    keeping = loop.create_task(upkeep()) if upkeep is not None else None
    try:
        if deaf is None:
            await _listen(loop, task, gone)
        if deaf is not None or not task.done():
            ended = loop.create_future()  # which is cancelled in the place of the work
            task.add_done_callback(partial(_set, ended))
            await ended
    except asyncio.CancelledError:
        if not task.done():
            dismissed()
            await _outlast(task)
        if not task.cancelled():
            task.exception()  # is told to nobody: the host waits no more
        raise
    finally:
        if deaf is not None:
            deaf()
        if keeping is not None:
            keeping.cancel()
            await _outlast(keeping)
    return task.result()


def _set(ended: "asyncio.Future[None]", _: object) -> None:
    if not ended.done():
        ended.set_result(None)


async def _listen(
    loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]", gone: Callable[[], Awaitable[None]]
) -> None:
    """Listen for a departure while the work goes on."""
    listening = guard(loop)
    task.add_done_callback(lambda _: listening.stop())
    await listening.run(gone())


async def _outlast(task: "asyncio.Task[Any]") -> None:
    """Wait for a task, however often this one is cancelled meanwhile."""
    with anyio.CancelScope(shield=True):  # anyio's own cancellation would come again and again
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError:
                continue


async def _on_any_loop(
    work: Coroutine[Any, Any, T],
    gone: Callable[[], Awaitable[None]],
    dismissed: Callable[[], None],
    upkeep: Callable[[], Coroutine[Any, Any, None]] | None,
) -> T:
    listening, keeping = anyio.CancelScope(), anyio.CancelScope(shield=True)
    results: list[T] = []
    raised: list[Exception] = []

    async def carry_out() -> None:
        try:
            with anyio.CancelScope(shield=True):
                await checkpoint()  # who listens runs once before
                results.append(await work)
        except Exception as error:  # noqa: BLE001  # raised again where no task group wraps it
            raised.append(error)
        finally:
            listening.cancel()
            keeping.cancel()

    async def keep_up(going_on: Callable[[], Awaitable[None]]) -> None:
        with keeping:
            await going_on()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(carry_out)
        if upkeep is not None:
            tasks.start_soon(keep_up, upkeep)
        try:
            with listening:
                await gone()
        except anyio.get_cancelled_exc_class():
            if not results and not raised:
                dismissed()
            raise
        # The group waits for the work, which is shielded from its scope, however often the host cancels meanwhile.
    if raised:
        raise raised[0]
    return results[0]
