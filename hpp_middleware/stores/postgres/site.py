"""What one event loop has of a store: its connections, and the batch in which its operations wait."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hpp_middleware.errors import GatewayError
from hpp_middleware.stores.batch import Batch
from hpp_middleware.stores.postgres.connections import Connections
from hpp_middleware.stores.postgres.errors import AGAIN, DATA, LOST, UNDONE, UNUSABLE, unavailable
from hpp_middleware.stores.postgres.wire import request, result_from
from hpp_middleware.types.operations import Operation, Result

if TYPE_CHECKING:
    from asyncpg import Record

__all__ = ["Site"]

_T = TypeVar("_T")

APPLY = "SELECT id, status, amount, available, entries, hold, kept, more, short FROM hpp_apply($1, $2, $3, $4, $5)"

TRIES = 10
"""How often a statement is sent that others are always quicker than."""

MIGRATE_S = 60.0
"""How long tables may take to be brought up to date; another worker may be at it."""


class Site:
    """
    One event loop's way to the database.

    Args:
        connections: Of this loop.
        clock: What to go by instead of the server's clock.
        timeout_s: How long a statement may take, with the wait for a connection.
        most: Operations in one round trip.
        flights: Round trips with operations under way at once.
    """

    def __init__(
        self, connections: Connections, *, clock: Callable[[], float | None], timeout_s: float, most: int, flights: int
    ) -> None:
        self.batch = Batch(self._send, most=most, flights=flights)
        self._connections = connections
        self._clock = clock
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[Any]] = set()

    async def fetch(self, sql: str, *values: Any, once: bool = False) -> "list[Record]":
        """
        The rows of one statement.

        A caller that is cancelled leaves the connection alone: the statement has a task of its own.

        Args:
            sql: The statement.
            values: Its arguments.
            once: Whether it is not to be sent again when its connection is lost, since it may have been carried out.
        Raises:
            StoreError: Nothing is known of it.
        """
        try:
            return await self._apart(self._fetch(sql, values, once=once))
        except DATA as error:
            raise unavailable() from error

    async def migrate(self, work: Callable[[Any], Awaitable[None]]) -> None:
        """
        Use one connection for more than a statement.

        Raises:
            StoreError: It could not be done.
        """
        deadline = asyncio.get_running_loop().time() + MIGRATE_S
        try:
            await self._apart(self._connections.migrate(work, deadline))
        except GatewayError:
            raise
        except (*DATA, *UNUSABLE) as error:
            raise unavailable() from error

    async def aclose(self) -> None:
        """Finish what is under way, and close the connections."""
        await self.batch.drain()
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await self._connections.aclose()

    def abandon(self) -> None:
        """Let go of what belongs to a loop that has ended."""
        self._connections.abandon()

    async def _send(self, operations: Sequence[Operation]) -> list[Result]:
        rows = await self._fetch(APPLY, (*request(operations), self._clock()))
        return [result_from(row) for row in rows]

    async def _fetch(self, sql: str, values: Sequence[Any], *, once: bool = False) -> "list[Record]":
        """As :meth:`fetch`; but what is the data's own fault is raised as it is, and says that nothing was kept."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        lost = 0
        for _ in range(TRIES):
            try:
                return await self._connections.fetch(sql, values, deadline)
            except AGAIN:
                continue
            except DATA:
                raise
            except TimeoutError as error:
                raise unavailable() from error
            except LOST as error:
                # An idle connection may have been cut long ago, and then so were they all. Once, since a server that is
                # gone is not there the second time either.
                self._connections.forget()
                lost += 1
                if lost > 1 or (once and not isinstance(error, UNDONE)):
                    raise unavailable() from error
            except UNUSABLE as error:
                raise unavailable() from error
        raise unavailable()

    async def _apart(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, where nobody waits for it any more
