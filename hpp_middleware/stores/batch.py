"""
What waits together goes together: operations of many callers in one round trip, for stores behind a network.

While a round trip is under way the next ones wait, and then all go in one: so a hot account costs a commit for many
requests instead of one each. A caller that is cancelled takes nothing back: the round trip has a task of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hpp_middleware.errors import StoreError
from hpp_middleware.types.operations import Operation, Result

__all__ = ["Batch"]

_Waiting = tuple[Sequence[Operation], "asyncio.Future[list[Result]]"]


class Batch:
    """
    One event loop's operations, grouped.

    Args:
        send: Carries out operations in one round trip, and answers each in order.
        most: Operations in one round trip.
        flights: Round trips under way at once.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Operation]], Awaitable[list[Result]]],
        *,
        most: int = 256,
        flights: int = 1,
    ) -> None:
        self._send = send
        self._most = most
        self._free = flights
        self._waiting: list[_Waiting] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """
        Carry out operations, with those of others.

        Raises:
            StoreError: Nothing is known of any of them.
        """
        if not operations:
            return []
        answer: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self._waiting.append((operations, answer))
        if self._free:
            self._fly()
        return await answer

    async def drain(self) -> None:
        """Return when nothing is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _fly(self) -> None:
        self._free -= 1
        task = asyncio.get_running_loop().create_task(self._flight())
        self._tasks.add(task)
        task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        """A flight is over; one that was cancelled, by who cancels all tasks, may not even have begun."""
        self._tasks.discard(task)
        self._free += 1
        if self._waiting:
            self._fly()

    async def _flight(self) -> None:
        while self._waiting:
            await self._round_trip(self._take())

    def _take(self) -> list[_Waiting]:
        taken, size = 0, 0
        for operations, _ in self._waiting:
            if taken and size + len(operations) > self._most:
                break
            taken, size = taken + 1, size + len(operations)
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    async def _round_trip(self, group: list[_Waiting]) -> None:
        together = [operation for operations, _ in group for operation in operations]
        try:
            results = await self._send(together)
            if len(results) != len(together):
                raise StoreError("The store gave too few answers.")
        except Exception as error:  # noqa: BLE001  # told to everybody who waits
            await self._apart(group, error)
            return
        except BaseException:
            _tell(group, StoreError("The store was closed."))
            raise
        start = 0
        for operations, answer in group:
            if not answer.done():
                answer.set_result(results[start : start + len(operations)])
            start += len(operations)

    async def _apart(self, group: list[_Waiting], error: Exception) -> None:
        """Where it is not the connection that failed together, it need not be everybody's fault: each goes alone."""
        if len(group) == 1 or isinstance(error, StoreError):
            _tell(group, error)
            return
        for each in group:
            await self._round_trip([each])


def _tell(group: list[_Waiting], error: Exception) -> None:
    for _, answer in group:
        if not answer.done():
            told = StoreError("The store cannot be used at the moment.")
            told.__cause__ = error
            answer.set_exception(told)
