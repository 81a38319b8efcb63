"""
A guard: work that can be stopped from beside it, at once or at a moment that moves.

A deadline moves with every piece of a stream. Under asyncio a guard is a timer that is set once and looks, when it
rings, whether it still has to; elsewhere it is one of anyio's cancel scopes, which do the same at ten times the cost.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Coroutine, Generator
from contextlib import suppress
from types import CoroutineType, coroutine
from typing import Any, Literal, Protocol, TypeVar

import anyio

__all__ = ["NEVER", "Guard", "asyncios", "begin", "begin_within", "guard", "within"]

T = TypeVar("T")
NEVER = float("inf")
LATE = 0.05
"""By how much of a wait its end may be late, so that the timer need not be set anew for each of many."""


class Guard(Protocol):
    """
    Stops the work that it runs.

    Attributes:
        stopped: Whether it was told to, or its moment has come.
    """

    @property
    def stopped(self) -> bool:
        """See above."""
        ...

    async def run(self, work: Awaitable[T]) -> T | None:
        """Carry out the work; None where it was stopped. One at a time, and one after the other."""
        ...

    def stop(self) -> None:
        """Stop it now, or at its next await."""
        ...

    def until(self, moment: float) -> None:
        """Stop it at this moment, by :func:`time.monotonic`; what was said before counts no more."""
        ...

    def begin(self, seconds: float, first_s: float) -> float:
        """As :meth:`limit` and :meth:`wait`, of one that has run nothing yet, and was told nothing."""
        ...

    def limit(self, seconds: float) -> None:
        """Stop it after so long from now in any case, whatever is said of :meth:`wait` later."""
        ...

    def spare(self, seconds: float) -> None:
        """Have :meth:`limit` leave it so long from now, at least."""
        ...

    def wait(self, seconds: float) -> float:
        """
        What it waits for next may take about so long from now; what was said before of that counts no more.

        Returns:
            When that is over, by :func:`time.monotonic`.
        """
        ...

    def close(self) -> None:
        """Forget the moment: there is nothing more to run."""
        ...


def guard(loop: asyncio.AbstractEventLoop | None) -> Guard:
    """
    One for the event loop that runs.

    Args:
        loop: What :func:`asyncios` says, which before Python 3.12 asks the kernel each time.
    """
    return _OnAnyLoop() if loop is None else _OnAsyncio(loop)


def asyncios() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs, where it is asyncio's or takes its place; None for trio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def begin_within(seconds: float, work: Awaitable[T]) -> tuple[Literal[True], T] | tuple[Literal[False], Awaitable[T]]:
    """
    As :func:`begin`, of work that may take so many seconds: what is to be awaited then raises TimeoutError after that.

    Under asyncio, work that is over before it waits for anything costs no deadline. Elsewhere a deadline is a scope,
    and one that is entered later than those of the work cannot be around them: there nothing is begun.
    """
    if type(work) is CoroutineType and ("trio" not in sys.modules or asyncios() is not None):
        try:
            waits_for = work.send(None)
        except StopIteration as ended:
            return True, ended.value
        return False, _rest_within(seconds, work, waits_for)
    return False, within(seconds, work)


async def within(seconds: float, work: Awaitable[T]) -> T:
    """
    What the work returns, if that is not later than so many seconds from now.

    Raises:
        TimeoutError: It would be.
    """
    around = guard(asyncios())
    around.until(time.monotonic() + seconds)
    try:
        found = await around.run(work)
    finally:
        around.close()
    if around.stopped and found is None:
        raise TimeoutError
    return found  # type: ignore[return-value]  # None is what the work has returned


def begin(work: Awaitable[T]) -> tuple[Literal[True], T] | tuple[Literal[False], Awaitable[T]]:
    """
    Carry work out up to where it first waits for something; to be called where it would be awaited.

    Returns:
        True and its result, if it never waits; else False, and what to await, as if it had been from the start.
    """
    if type(work) is not CoroutineType:
        return False, work
    try:
        waits_for = work.send(None)
    except StopIteration as ended:
        return True, ended.value
    return False, _rest(work, waits_for)


@coroutine
def _rest(work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Pass on what work waits for, which is the event loop's affair, and to it what becomes of that."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001  # the work's to deal with: it may be a cancellation
            raised: BaseException | None = error
        else:
            raised = None
        try:
            waits_for = work.send(sent) if raised is None else work.throw(raised)
        except StopIteration as ended:
            result: T = ended.value
            return result
        finally:
            raised = None  # whose traceback knows this frame


@coroutine
def _rest_within(seconds: float, work: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """As :func:`_rest`, under asyncio, and as :func:`within`, of which it does the same in one step."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task(loop)
    if task is None:
        raise RuntimeError("a deadline is for a task")
    before = task.cancelling()
    late: list[bool] = []
    timer = loop.call_later(seconds, _too_late, task, late)
    try:
        result = yield from _rest(work, waits_for)
    except asyncio.CancelledError:
        if not late or task.uncancel() > before:
            raise
        raise TimeoutError from None
    finally:
        timer.cancel()
    if late:
        if task.cancelling() > before:
            yield from _take_back(task).__await__()
        if result is None:
            raise TimeoutError
    return result


def _too_late(task: "asyncio.Task[object]", late: list[bool]) -> None:
    late.append(True)
    task.cancel()


class _OnAsyncio:
    """Cancels its task, and takes that back where it ends."""

    __slots__ = ("_due", "_last", "_loop", "_rings", "_task", "_timer", "stopped")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stopped = False
        self._loop = loop
        self._task: asyncio.Task[object] | None = None
        self._due = self._last = NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._rings = NEVER

    async def run(self, work: Awaitable[T]) -> T | None:
        """See :class:`Guard`."""
        task = self._task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a guard runs in a task")
        before = task.cancelling()
        if self.stopped:
            task.cancel()
        if self._due < self._rings:
            self._set()
        try:
            result = await work
        except asyncio.CancelledError:
            self._task = None
            if not self.stopped or task.uncancel() > before:
                raise
            return None
        finally:
            self._task = None
        if self.stopped and task.cancelling() > before:
            await _take_back(task)
        return result

    def stop(self) -> None:
        """See :class:`Guard`."""
        if not self.stopped:
            self.stopped = True
            if self._task is not None:
                self._task.cancel()

    def until(self, moment: float) -> None:
        """See :class:`Guard`."""
        self._due = moment
        if moment < self._rings and self._task is not None:
            self._set()

    def begin(self, seconds: float, first_s: float) -> float:
        """See :class:`Guard`."""
        now = time.monotonic()
        over = now + first_s
        self._due = self._last = now + seconds
        if over < self._last:
            self._due = over
        return over

    def limit(self, seconds: float) -> None:
        """See :class:`Guard`."""
        self._last = min(self._last, time.monotonic() + seconds)
        self.until(min(self._due, self._last))

    def spare(self, seconds: float) -> None:
        """See :class:`Guard`."""
        self._last = max(self._last, time.monotonic() + seconds)

    def wait(self, seconds: float) -> float:
        """See :class:`Guard`."""
        over = time.monotonic() + seconds
        self._due = self._last
        if over < self._last:
            self._due = over
        if self._due + seconds * LATE < self._rings and self._task is not None:
            self._set()
        return over

    def close(self) -> None:
        """See :class:`Guard`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._rings = None, NEVER

    def _set(self) -> None:
        """Have the timer ring no later than is due."""
        if self.stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._rings = self._due
        self._timer = self._loop.call_later(self._due - time.monotonic(), self._ring)

    def _ring(self) -> None:
        self._timer, self._rings = None, NEVER
        if self._task is None:
            return  # between two pieces of work
        if time.monotonic() >= self._due:
            self.stop()
        elif self._due < NEVER:
            self._set()


async def _take_back(task: "asyncio.Task[object]") -> None:
    """A cancellation of ours that the work has not passed on, or that came too late for it, is not to outlast it."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    task.uncancel()


class _OnAnyLoop:
    """A cancel scope for each piece of work."""

    def __init__(self) -> None:
        self._due = self._last = NEVER
        self._scope = anyio.CancelScope()
        self._stopped = False

    @property
    def stopped(self) -> bool:
        """See :class:`Guard`."""
        return self._stopped or self._scope.cancel_called

    async def run(self, work: Awaitable[T]) -> T | None:
        """See :class:`Guard`."""
        scope = self._scope = anyio.CancelScope()
        self.until(self._due)
        if self._stopped:
            scope.cancel()
        with scope:
            return await work
        self._stopped = True
        return None

    def stop(self) -> None:
        """See :class:`Guard`."""
        self._stopped = True
        self._scope.cancel()

    def until(self, moment: float) -> None:
        """See :class:`Guard`."""
        self._due = moment
        self._scope.deadline = moment if moment == NEVER else anyio.current_time() + moment - time.monotonic()

    def begin(self, seconds: float, first_s: float) -> float:
        """See :class:`Guard`."""
        self.limit(seconds)
        return self.wait(first_s)

    def limit(self, seconds: float) -> None:
        """See :class:`Guard`."""
        self._last = min(self._last, time.monotonic() + seconds)
        self.until(min(self._due, self._last))

    def spare(self, seconds: float) -> None:
        """See :class:`Guard`."""
        self._last = max(self._last, time.monotonic() + seconds)

    def wait(self, seconds: float) -> float:
        """See :class:`Guard`."""
        over = time.monotonic() + seconds
        self.until(min(self._last, over))
        return over

    def close(self) -> None:
        """See :class:`Guard`."""
