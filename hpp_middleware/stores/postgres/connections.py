"""
The connections of one event loop.

A query is one round trip, behind a transaction pooler too: without a statement cache asyncpg's own ``fetch`` prepares
in one round trip and executes in another, and its pool resets the connection in a third. So a statement's description
is kept with its connection, and its text is sent along with each execution, unnamed: the server need remember nothing.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg

from hpp_middleware.stores.postgres.errors import DATA

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.prepared_stmt import PreparedStatement

__all__ = ["Connections", "Lent", "Own"]

CLOSE_S = 2.0
"""How long a connection may take to end in order, with the cancelling of what it still runs."""


class Connections(Protocol):
    """Where queries go."""

    async def fetch(self, sql: str, values: Sequence[Any], deadline: float) -> "list[Record]":
        """
        One statement, which is a transaction.

        Raises:
            TimeoutError: It is past the deadline, by the loop's clock; the statement is cancelled.
        """
        ...

    async def migrate(self, work: Callable[[Any], Awaitable[None]], deadline: float) -> None:
        """Use one connection for more than a statement."""
        ...

    def forget(self) -> None:
        """Trust none of the connections that are idle now."""
        ...

    async def aclose(self) -> None:
        """Close those that are idle; all are."""
        ...

    def abandon(self) -> None:
        """Let go of what belongs to a loop that has ended."""
        ...


class Own:
    """
    Connections of the store's own, made when they are needed.

    Args:
        connect: Makes one.
        most: How many there may be at once.
    """

    def __init__(self, connect: "Callable[[], Awaitable[asyncpg.Connection[Record]]]", most: int) -> None:
        self._connect = connect
        self._slots = asyncio.Semaphore(most)
        self._idle: list[_Link] = []
        self._ending: set[asyncio.Task[None]] = set()

    async def fetch(self, sql: str, values: Sequence[Any], deadline: float) -> "list[Record]":
        """See :class:`Connections`."""
        async with self._link(deadline) as link:
            return await link.fetch(sql, values)

    async def migrate(self, work: Callable[[Any], Awaitable[None]], deadline: float) -> None:
        """See :class:`Connections`."""
        async with self._link(deadline) as link:
            await work(link.connection)

    def forget(self) -> None:
        """See :class:`Connections`."""
        idle, self._idle = self._idle, []
        for link in idle:
            link.connection.terminate()

    async def aclose(self) -> None:
        """See :class:`Connections`."""
        idle, self._idle = self._idle, []
        for link in idle:
            self._end(link)
        while self._ending:
            await asyncio.wait(set(self._ending))

    def abandon(self) -> None:
        """See :class:`Connections`."""
        with suppress(RuntimeError):  # the loop is closed
            self.forget()

    @asynccontextmanager
    async def _link(self, deadline: float) -> "AsyncGenerator[_Link]":
        async with asyncio.timeout_at(deadline) as scope, self._slots:
            link = self._newest() or _Link(await self._connect())
            try:
                yield link
            except (asyncpg.PostgresError, *DATA):
                self._idle.append(link)
                raise
            except BaseException:
                # An answer may still be on its way: this connection serves nobody any more. A statement that took too
                # long is cancelled in passing; where the loop itself is ending there is no time for that.
                if scope.expired():
                    self._end(link)
                else:
                    link.connection.terminate()
                raise
            else:
                self._idle.append(link)

    def _newest(self) -> "_Link | None":
        while self._idle:
            link = self._idle.pop()
            if not link.connection.is_closed():
                return link
        return None

    def _end(self, link: "_Link") -> None:
        task = asyncio.get_running_loop().create_task(link.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


class _Link:
    """A connection, and what it knows of the statements that were sent over it."""

    def __init__(self, connection: "asyncpg.Connection[Record]") -> None:
        self.connection = connection
        self._statements: dict[str, PreparedStatement[Record]] = {}

    async def fetch(self, sql: str, values: Sequence[Any]) -> "list[Record]":
        """One statement; the first time its description is fetched before."""
        statement = self._statements.get(sql)
        if statement is None:
            statement = self._statements[sql] = await self.connection.prepare(sql)
        return await statement.fetch(*values)

    async def end(self) -> None:
        """Cancel what is running, and close; asyncpg's own limit is only for the close, and cancelling may hang."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self.connection.close()
        except Exception:  # noqa: BLE001  # it is ended in any case
            self.connection.terminate()


class Lent:
    """
    A pool that the host lends. It is never closed here, and has its own way with statements and sessions.

    Args:
        pool: The host's.
    """

    def __init__(self, pool: "asyncpg.Pool[Record]") -> None:
        self._pool = pool

    async def fetch(self, sql: str, values: Sequence[Any], deadline: float) -> "list[Record]":
        """See :class:`Connections`."""
        async with asyncio.timeout_at(deadline), self._pool.acquire() as connection:
            return await connection.fetch(sql, *values)

    async def migrate(self, work: Callable[[Any], Awaitable[None]], deadline: float) -> None:
        """See :class:`Connections`."""
        async with asyncio.timeout_at(deadline), self._pool.acquire() as connection:
            await work(connection)

    def forget(self) -> None:
        """The pool sees to that itself."""

    async def aclose(self) -> None:
        """The host closes it."""

    def abandon(self) -> None:
        """As with closing."""
