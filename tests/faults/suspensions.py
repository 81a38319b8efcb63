"""
A request that is cancelled at its k-th suspension, counted over all tasks that it is carried out by.

On asyncio each task's coroutine is wrapped, and each ``send`` that comes back with something to wait for is one
suspension; on trio an instrument counts the steps of the tasks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import anyio
import trio

__all__ = ["Cancelled", "How", "cancelled_at", "counting"]

How = Literal["task", "late task", "again", "own", "scope"]
"""
``Task.cancel`` while it waits; or when what it waits for has come but was not taken; or again and again, at every
suspension that follows, which no shield keeps off; or of whichever of its tasks waits, as by who cancels all of them;
or a scope of anyio's.
"""

PATIENCE_S = 10.0
AGAIN = 10
"""So often in all: a host gives up in the end."""


class Cancelled:
    """
    One request that is cancelled.

    Args:
        at: At which suspension; what has fewer of them runs to its end.
        how: With what.

    Attributes:
        suspensions: How many there were in the end.
        tasks: The tasks that carried it out, on asyncio.
        cancels: How often it was cancelled.
    """

    def __init__(self, at: int, how: How) -> None:
        self.suspensions = 0
        self.tasks: list[asyncio.Task[Any]] = []
        self.cancels = 0
        self._at = at
        self._how = how
        self._cancel: Callable[[], object] = lambda: None

    @property
    def was_due(self) -> bool:
        """Whether there were as many suspensions as that."""
        return self.suspensions >= self._at

    def suspended(self, waits_for: object = None) -> None:
        """One more."""
        self.suspensions += 1
        last = self._at + AGAIN if self._how == "again" else self._at + 1
        if not self._at <= self.suspensions < last:
            return
        self.cancels += 1
        if self._how == "late task" and isinstance(waits_for, asyncio.Future):
            # Before the task's own callback: it finds itself cancelled, and what came is lost.
            waits_for.add_done_callback(lambda _: self._cancel())
        else:
            self._cancel()

    async def run(self, call: Callable[[], Awaitable[None]]) -> None:
        """Carry it out; to be called in a task of its own."""
        if self._how == "scope":
            with anyio.CancelScope() as scope:
                self._cancel = scope.cancel
                await call()
            return
        task = asyncio.current_task()
        assert task is not None
        self._cancel = _cancel_this_one if self._how == "own" else task.cancel
        await call()


def _cancel_this_one() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


_mine: ContextVar[Cancelled | None] = ContextVar("_mine", default=None)


async def cancelled_at(at: int, call: Callable[[], Awaitable[None]], *, how: How) -> Cancelled:
    """
    Carry out a call, cancel it, and return when all its tasks have ended; within :func:`counting`.

    Args:
        at: Which suspension it is cancelled at.
        call: What to do.
        how: With what.
    """
    found = Cancelled(at, how)
    with anyio.fail_after(PATIENCE_S):
        if _on_trio():
            async with trio.open_nursery() as nursery:
                with _counted_by(found):
                    nursery.start_soon(found.run, call)
            return found
        with _counted_by(found):
            root = asyncio.get_running_loop().create_task(found.run(call))
        await asyncio.wait([root])
        if not root.cancelled():
            root.result()
        while running := [task for task in found.tasks if not task.done()]:
            await asyncio.wait(running)
    return found


@contextmanager
def _counted_by(found: Cancelled) -> Iterator[None]:
    """Tasks that are made here are counted, and those that they make."""
    token = _mine.set(found)
    try:
        yield
    finally:
        _mine.reset(token)


@contextmanager
def counting() -> Iterator[None]:
    """Count suspensions in this event loop."""
    if _on_trio():
        steps = _Steps()
        trio.lowlevel.add_instrument(steps)
        try:
            yield
        finally:
            trio.lowlevel.remove_instrument(steps)
        return
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(_make)
    try:
        yield
    finally:
        loop.set_task_factory(before)


def _on_trio() -> bool:
    return bool(trio.lowlevel.in_trio_run())


class _Steps(trio.abc.Instrument):
    """Counts on trio."""

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        found = task.context.get(_mine)
        if found is not None:
            found.suspended()


def _make(loop: asyncio.AbstractEventLoop, coroutine: Any, **settings: Any) -> "asyncio.Task[Any]":
    mine = _mine.get()
    if mine is None:
        return asyncio.Task(coroutine, loop=loop, **settings)
    task: asyncio.Task[Any] = asyncio.Task(_Counted(coroutine, mine), loop=loop, **settings)
    mine.tasks.append(task)
    return task


class _Counted(Coroutine[Any, Any, Any]):
    """A coroutine whose suspensions are counted."""

    def __init__(self, inner: Coroutine[Any, Any, Any], cancelled: Cancelled) -> None:
        self._inner = inner
        self._cancelled = cancelled

    def send(self, value: Any) -> Any:
        waits_for = self._inner.send(value)
        self._cancelled.suspended(waits_for)
        return waits_for

    def throw(self, *error: Any) -> Any:
        waits_for = self._inner.throw(*error)
        self._cancelled.suspended(waits_for)
        return waits_for

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    def __getattr__(self, name: str) -> Any:  # its state, which anyio asks for
        return getattr(self._inner, name)
