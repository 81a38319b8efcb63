"""
One thread that owns a SQLite connection, and the door through which any event loop reaches it.

What waits is taken together and committed together: one ``fdatasync`` for all. Operations on accounts and holds that
wait side by side are carried out together, too; where something cannot be carried out, all of it is done anew, each
piece in a savepoint of its own. A failed commit fails them all, since nothing is then known of any of them.
"""

import asyncio
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from hpp_middleware.errors import StoreError
from hpp_middleware.stores.sqlite.page import Page, Pages
from hpp_middleware.stores.sqlite.place import MovedError, Place
from hpp_middleware.stores.sqlite.turn import Turn
from hpp_middleware.types.operations import Operation, Result

__all__ = ["Writer"]

_T = TypeVar("_T")
MOST_TOGETHER = 256
_INHERITED = (  # nor can it be opened anew here: SQLite still believes that this process has the other one's locks
    "this process was forked from one that had the file open: open it after the fork, in each process"
)

Work = Callable[[sqlite3.Connection], _T]


class _Job(Generic[_T]):
    """
    One piece of work, and where its result is awaited.

    Args:
        work: What to do; None to end the thread.
        operations: What to do instead, that can be done with others' in one go.
        writes: Whether anything is written.

    Attributes:
        home: The loop in which it is awaited.
        future: What is awaited there under asyncio.
        event: What is awaited elsewhere.
    """

    __slots__ = ("error", "event", "future", "home", "operations", "result", "work", "writes")

    def __init__(self, work: Work[_T] | None, operations: Sequence[Operation] | None, *, writes: bool) -> None:
        self.work = work
        self.operations = operations
        self.writes = writes
        self.result: _T | None = None
        self.error: BaseException | None = None
        self.event: anyio.Event | None = None
        self.future: asyncio.Future[None] | None = None
        try:
            self.home: Any = asyncio.get_running_loop()
        except RuntimeError:
            self.home, self.event = current_token().native_token, anyio.Event()
        else:
            self.future = self.home.create_future()

    def done(self) -> Awaitable[Any]:
        """To be awaited."""
        return self.future if self.future is not None else self.event.wait()  # type: ignore[union-attr]


_Jobs = queue.SimpleQueue[_Job[Any]]


class Writer:
    """
    Runs work on one connection, in one thread, in commits of many.

    Args:
        connect: Opens the connection; called in the thread.
        place: Where the file lies.
        turn: Whose turn it is, among all that write this file.
        pages: What operations are carried out on.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], place: Place, turn: Turn, pages: Pages) -> None:
        self._connect = connect
        self._place = place
        self._turn = turn
        self._pages = pages
        self._thread: threading.Thread | None = None
        self._jobs: _Jobs = queue.SimpleQueue()  # each thread has its own: none can take another's closing job
        self._lock = threading.Lock()

    async def open(self) -> None:
        """
        Start the thread, unless it runs, and wait for the connection.

        Raises:
            StoreError: It cannot be opened; or this process is a fork of one that has opened it.
        """
        if self._is_inherited():
            raise StoreError(_INHERITED)
        with self._lock:
            if self._thread is None:
                self._jobs = queue.SimpleQueue()
                thread = threading.Thread(target=self._run, args=(self._jobs,), name="hpp-sqlite", daemon=True)
                thread.start()
                self._thread = thread  # alive from when it is seen
        await self.run(lambda _: None, writes=False)

    async def aclose(self) -> None:
        """Finish what waits, close the connection and end the thread."""
        if self._is_inherited():
            return  # it is the other process's to close
        last = _Job[None](None, None, writes=False)
        with self._lock:
            thread, self._thread = self._thread, None
            self._jobs.put(last)
        if thread is not None:
            with anyio.CancelScope(shield=True):
                await last.done()
            thread.join()

    def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = True) -> Coroutine[Any, Any, _T]:
        """
        The result of ``work``, once it is committed.

        Cancelling the wait does not take the work back: it is carried out all the same.

        Args:
            work: What to do with the connection.
            writes: False for a read, which then waits for no other process's transaction.
        Raises:
            StoreError: It is not known whether it was committed.
        """
        return self._done(work, None, writes=writes)

    def apply(self, operations: Sequence[Operation]) -> Coroutine[Any, Any, list[Result]]:
        """
        What became of operations, once that is committed; together with those of others that wait.

        Raises:
            StoreError: As above.
        """
        return self._done(None, operations, writes=True)

    def _is_inherited(self) -> bool:
        """Whether it was open when this process was forked: a thread outlives any failure, but no fork."""
        return self._thread is not None and not self._thread.is_alive()

    async def _done(
        self,
        work: Callable[[sqlite3.Connection], Any] | None,
        operations: Sequence[Operation] | None,
        *,
        writes: bool,
    ) -> Any:
        job = _Job[Any](work, operations, writes=writes)
        with self._lock:  # so that nothing is put behind the closing job
            if self._thread is None:
                raise StoreError("The database is not open: open the gateway first.")
            self._jobs.put(job)
        await job.done()
        if job.error is None:
            return job.result
        if isinstance(job.error, StoreError):
            raise StoreError(job.error.message) from job.error
        raise StoreError("The database cannot be used at the moment.") from job.error

    def _run(self, waiting: _Jobs) -> None:
        _wait_for_a_core()
        self._place.forget()
        connection: sqlite3.Connection | None = None
        closing = False
        while not closing:
            jobs = _take(waiting)
            try:
                connection = self._placed(connection)
                self._carry_out(connection, jobs, waiting)
            except BaseException as error:  # noqa: BLE001  # the thread must outlive any failure, and tell it
                for job in jobs:
                    job.error = error
                if not isinstance(error, MovedError):
                    _give_up(connection)
                    connection = None
            closing = _closes(jobs[-1])
            if closing and connection is not None:
                connection.close()
            if closing:
                self._turn.close()
            _wake(jobs)

    def _placed(self, connection: sqlite3.Connection | None) -> sqlite3.Connection:
        """The connection, opened anew where that is needed."""
        if self._place.is_same() and connection is not None:
            return connection
        _give_up(connection)
        self._turn.open()
        opened = self._connect()
        self._place.keep()
        return opened

    def _carry_out(self, connection: sqlite3.Connection, jobs: "list[_Job[Any]]", waiting: _Jobs) -> None:
        """Commit what waits together, and what came while it waited for its turn."""
        if not any(job.writes for job in jobs):
            self._turn.read(connection)
            if self._at_once(connection, jobs, Page(connection)) is None:
                self._turn.read(connection)
                self._one_by_one(connection, jobs)
            connection.execute("COMMIT")
            return
        try:
            self._turn.begin(connection)
            _take_more(waiting, jobs)
            page = self._at_once(connection, jobs, self._pages.take(connection))
            if page is None:
                self._turn.end()
                self._turn.begin(connection)
                self._one_by_one(connection, jobs)
            connection.execute("COMMIT")
            if page is not None:
                self._pages.keep(page)
        finally:
            self._turn.end()

    def _at_once(self, connection: sqlite3.Connection, jobs: "list[_Job[Any]]", page: Page) -> Page | None:
        """
        Carry out all of it, operations side by side in one go; None where that cannot be, and nothing of it was done.

        Without savepoints, for which SQLite copies each page before it is written; past 64 kB, to a file.

        Returns:
            The page that knows what is left in the file.
        """
        results: list[Any] = []
        try:
            for are_operations, some in groupby(jobs, lambda job: job.operations is not None):
                group = list(some)
                if are_operations:
                    results += page.carry_out([job.operations or () for job in group], self._pages.clock())
                    continue
                results += [job.work(connection) if job.work is not None else None for job in group]
                if any(job.writes for job in group):
                    page = page.anew()  # what it knows may be otherwise now
        except Exception:
            if not connection.in_transaction:
                raise  # SQLite itself has given it up: nothing is known of any of them
            connection.execute("ROLLBACK")
            return None  # whose it was is seen when each is carried out alone
        for job, result in zip(jobs, results, strict=True):
            job.result = result
        return page

    def _one_by_one(self, connection: sqlite3.Connection, jobs: "list[_Job[Any]]") -> None:
        """Each in a savepoint: what fails is told to its caller, and the others are committed."""
        for job in jobs:
            if not _closes(job):
                self._alone(connection, job)

    def _alone(self, connection: sqlite3.Connection, job: "_Job[Any]") -> None:
        connection.execute("SAVEPOINT work")
        try:
            if job.operations is not None:
                (job.result,) = Page(connection).carry_out([job.operations], self._pages.clock())
            elif job.work is not None:
                job.result = job.work(connection)
        except Exception as error:  # noqa: BLE001  # told to its caller
            # A constraint of the books refuses it, or it fits in no row: it alone is undone, its neighbours stand.
            # Where SQLite has given up the whole transaction there is no savepoint to go back to, and they all fail.
            job.error = error
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        else:
            connection.execute("RELEASE work")


def _wait_for_a_core() -> None:
    """
    Have this thread wait, when it is woken, until a core is free for it.

    Else Linux may stop the event loop in its favour, which has woken it and has the interpreter's lock, so that it can
    do nothing but wait for that: two switches for nothing at each hand-over, an eighth of a request's CPU.
    """
    if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
        with suppress(OSError):  # a sandbox need not know it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _closes(job: "_Job[Any]") -> bool:
    return job.work is None and job.operations is None


def _take(waiting: _Jobs) -> "list[_Job[Any]]":
    """All that waits; at least one."""
    jobs = [waiting.get()]
    _take_more(waiting, jobs)
    return jobs


def _take_more(waiting: _Jobs, jobs: "list[_Job[Any]]") -> None:
    """Nobody else takes any, and nothing waits behind the closing job."""
    jobs += [waiting.get_nowait() for _ in range(min(waiting.qsize(), MOST_TOGETHER - len(jobs)))]


def _give_up(connection: sqlite3.Connection | None) -> None:
    """After a failure the connection is not trusted again: closed here, opened anew by the next work."""
    if connection is not None:
        try:
            connection.close()
        except sqlite3.Error:
            return


def _wake(jobs: "list[_Job[Any]]") -> None:
    """Tell each in its own loop, all of a loop at once; one that is closed has no one waiting."""
    while jobs:
        home = jobs[0].home
        others = [job for job in jobs if job.home is not home]
        those = [job for job in jobs if job.home is home] if others else jobs
        call_soon = getattr(home, "call_soon_threadsafe", None) or home.run_sync_soon
        with suppress(RuntimeError):
            call_soon(_tell, those)
        jobs = others


def _tell(jobs: "list[_Job[Any]]") -> None:
    """In the loop of who waits: it is done."""
    for job in jobs:
        if job.future is None:
            job.event.set()  # type: ignore[union-attr]
        elif not job.future.done():
            job.future.set_result(None)
