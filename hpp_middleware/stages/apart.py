"""
Apart: the work in a task beside the request's own, which only listens for a departure.

A host cancels the request's task when it no longer waits for it: by a scope of anyio's, or by asyncio's own
``Task.cancel``, which no shield keeps off. Here it hits the task that listens, and is heard as a departure, too; the
work goes on as far as it is then to go, and the cancellation after it.
"""

from collections.abc import Awaitable, Callable

import anyio

__all__ = ["run"]


async def run(
    work: Callable[[], Awaitable[None]],
    scope: anyio.CancelScope,
    *,
    gone: Callable[[], Awaitable[None]],
    dismissed: Callable[[], None],
    upkeep: Callable[[], Awaitable[None]] | None,
) -> None:
    """
    Carry out the work, and return when it has ended.

    Args:
        work: Ends by itself within a bound once ``gone`` has returned, or ``dismissed``.
        scope: Shielded; the work's own, by which it can be cancelled.
        gone: Listens for the client's departure, and returns when it has told the work of it.
        dismissed: Told that the host has cancelled the request meanwhile; raised again at the end.
        upkeep: What goes on besides for as long as the work does.
    """
    ended = anyio.Event()
    listening, keeping = anyio.CancelScope(), anyio.CancelScope(shield=True)

    async def carry_out() -> None:
        try:
            with scope:
                await work()
        finally:
            ended.set()
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
            if not ended.is_set():
                dismissed()
            raise
        # The group waits for the work, which is shielded from its scope, however often the host cancels meanwhile.
