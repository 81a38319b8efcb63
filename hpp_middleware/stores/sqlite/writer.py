"""
One thread that owns a SQLite connection, and the door through which any event loop reaches it.

What waits is taken together and committed together: one ``fdatasync`` for all. Each piece of work is a savepoint of its
own; a failed commit fails them all, since nothing is then known of any of them.
"""

import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from hpp_middleware.errors import StoreError
from hpp_middleware.stores.sqlite.turn import Turn

__all__ = ["Writer"]

_T = TypeVar("_T")
MOST_TOGETHER = 256


@dataclass(slots=True, eq=False)
class _Job(Generic[_T]):
    """One piece of work, and where its result is awaited."""

    work: Callable[[sqlite3.Connection], _T] | None
    writes: bool = True
    token: EventLoopToken = field(default_factory=current_token)
    done: anyio.Event = field(default_factory=anyio.Event)
    result: _T | None = None
    error: BaseException | None = None


_Jobs = queue.SimpleQueue[_Job[Any]]


class Writer:
    """
    Runs work on one connection, in one thread, in commits of many.

    Args:
        connect: Opens the connection; called in the thread.
        turn: Whose turn it is, among all that write this file.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection], turn: Turn) -> None:
        self._connect = connect
        self._turn = turn
        self._thread: threading.Thread | None = None
        self._jobs: _Jobs = queue.SimpleQueue()  # each thread has its own: none can take another's closing job
        self._lock = threading.Lock()

    async def open(self) -> None:
        """
        Start the thread, unless it runs, and wait for the connection.

        Raises:
            StoreError: It cannot be opened.
        """
        with self._lock:
            if self._thread is None:
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(target=self._run, args=(self._jobs,), name="hpp-sqlite", daemon=True)
                self._thread.start()
        await self.run(lambda _: None, writes=False)

    async def aclose(self) -> None:
        """Finish what waits, close the connection and end the thread."""
        last = _Job[None](None)
        with self._lock:
            thread, self._thread = self._thread, None
            self._jobs.put(last)
        if thread is not None:
            with anyio.CancelScope(shield=True):
                await last.done.wait()
            thread.join()

    async def run(self, work: Callable[[sqlite3.Connection], _T], *, writes: bool = True) -> _T:
        """
        The result of ``work``, once it is committed.

        Cancelling the wait does not take the work back: it is carried out all the same.

        Args:
            work: What to do with the connection.
            writes: False for a read, which then waits for no other process's transaction.
        Raises:
            StoreError: It is not known whether it was committed.
        """
        job = _Job(work, writes)
        with self._lock:  # so that nothing is put behind the closing job
            if self._thread is None:
                raise StoreError("The database is not open: open the gateway first.")
            self._jobs.put(job)
        await job.done.wait()
        if isinstance(job.error, StoreError):
            raise StoreError(job.error.message) from job.error
        if job.error is not None:
            raise StoreError("The database cannot be used at the moment.") from job.error
        return job.result  # type: ignore[return-value]  # set by the thread, of the work's own type

    def _run(self, waiting: _Jobs) -> None:
        connection: sqlite3.Connection | None = None
        closing = False
        while not closing:
            jobs = _take(waiting)
            try:
                connection = connection or self._open()
                self._carry_out(connection, jobs, waiting)
            except BaseException as error:  # noqa: BLE001  # the thread must outlive any failure, and tell it
                for job in jobs:
                    job.error = error
                _give_up(connection)
                connection = None
            closing = jobs[-1].work is None
            if closing and connection is not None:
                connection.close()
            if closing:
                self._turn.close()
            _wake(jobs)

    def _open(self) -> sqlite3.Connection:
        self._turn.open()
        return self._connect()

    def _carry_out(self, connection: sqlite3.Connection, jobs: "list[_Job[Any]]", waiting: _Jobs) -> None:
        """Commit what waits together, and what came while it waited for its turn."""
        if not any(job.writes for job in jobs if job.work is not None):
            connection.execute("BEGIN")
            _commit(connection, jobs)
            return
        try:
            self._turn.begin(connection)
            _take_more(waiting, jobs)
            _commit(connection, jobs)
        finally:
            self._turn.end()


def _take(waiting: _Jobs) -> "list[_Job[Any]]":
    """All that waits, up to the closing job; at least one."""
    jobs = [waiting.get()]
    _take_more(waiting, jobs)
    return jobs


def _take_more(waiting: _Jobs, jobs: "list[_Job[Any]]") -> None:
    while jobs[-1].work is not None and len(jobs) < MOST_TOGETHER:
        try:
            jobs.append(waiting.get_nowait())
        except queue.Empty:
            return


def _commit(connection: sqlite3.Connection, jobs: "list[_Job[Any]]") -> None:
    for job in jobs:
        if job.work is None:
            continue
        connection.execute("SAVEPOINT work")
        try:
            job.result = job.work(connection)
        except Exception as error:  # noqa: BLE001  # told to its caller
            # A constraint of the books refuses it, or it fits in no row: it alone is undone, its neighbours stand.
            # Where SQLite has given up the whole transaction there is no savepoint to go back to, and they all fail.
            job.error = error
            connection.execute("ROLLBACK TO work")
        connection.execute("RELEASE work")
    connection.execute("COMMIT")


def _give_up(connection: sqlite3.Connection | None) -> None:
    """After a failure the connection is not trusted again: closed here, opened anew by the next work."""
    if connection is not None:
        try:
            connection.close()
        except sqlite3.Error:
            return


def _wake(jobs: list[_Job[Any]]) -> None:
    """Set each job's event in its own loop, without waiting for the loop; one that is closed has no one waiting."""
    for job in jobs:
        native: Any = job.token.native_token
        call_soon = getattr(native, "call_soon_threadsafe", None) or native.run_sync_soon
        try:
            call_soon(job.done.set)
        except RuntimeError:
            continue
