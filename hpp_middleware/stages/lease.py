"""
A worker's lease: it covers all its holds, and says to the store that they still have an owner.

Renewal and sweep ride on traffic, so that nothing runs which the host did not start; a timer does both besides where
the gateway was opened by a lifespan, and a running exchange where it was not.
"""

import time
from collections.abc import Callable, Sequence

import anyio

from hpp_middleware.errors import StoreError
from hpp_middleware.ports import QuotaStore
from hpp_middleware.types.operations import Operation, Release, Renew, Result, Sweep
from hpp_middleware.types.quota import Entry

__all__ = ["LEASE_S", "MARGIN_S", "Lease"]

LEASE_S = 30.0
RENEW_AFTER_S = 10.0
SWEEP_AFTER_S = 5.0
MARGIN_S = 5.0
STORE_S = 20.0
"""After this long without an answer, nothing is known of what was asked."""

MOST_OWED = 100


class Lease:
    """
    One worker's lease at one store.

    Args:
        store: Where it is kept.
        owner: The worker's id, never used before.
        swept: Told the ledger lines that a sweep wrote.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        store: QuotaStore,
        owner: str,
        *,
        swept: Callable[[Sequence[Entry]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = owner
        self._store = store
        self._swept = swept
        self._clock = clock
        self._renewed = float("-inf")
        self._swept_at = float("-inf")
        self._owed: list[Release] = []

    @property
    def holds(self) -> bool:
        """Whether enough of it is left to send something that costs money. By our own clock, with a margin."""
        return self._clock() < self._renewed + LEASE_S - MARGIN_S

    async def apply(self, operations: Sequence[Operation], *, renew: bool = False) -> list[Result]:
        """
        Carry out operations, with whatever upkeep is due before them, in one go.

        Args:
            operations: What to do.
            renew: Renew in any case.
        Raises:
            StoreError: Nothing is known of any of them.
        """
        before = self._clock()
        upkeep = self._due(before, renew=renew)
        if not upkeep and not operations:
            return []
        try:
            results = await self._tried([*upkeep, *operations])
        except StoreError:
            if not any(isinstance(operation, Sweep) for operation in upkeep):
                raise
            # A sweep that fails must not take everybody's requests with it: without it, and all is idempotent.
            upkeep = [operation for operation in upkeep if not isinstance(operation, Sweep)]
            results = await self._tried([*upkeep, *operations])
            self._swept_at = before
        if len(results) != len(upkeep) + len(operations):
            raise StoreError("The quota store gave too few answers.")
        for operation, result in zip(upkeep, results, strict=False):
            self._kept(operation, result, before)
        return results[len(upkeep) :]

    async def _tried(self, operations: Sequence[Operation]) -> list[Result]:
        try:
            with anyio.fail_after(STORE_S):
                return await self._store.apply(operations)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError("The quota store failed.") from error

    def owe(self, release: Release) -> None:
        """Give a hold back as soon as the store answers again; past a bound it is left to the sweeper."""
        if len(self._owed) < MOST_OWED:
            self._owed.append(release)

    async def keep(self) -> None:
        """Renew and sweep until cancelled; a failure is tried again at the next turn."""
        while True:
            await anyio.sleep(RENEW_AFTER_S / 2)
            try:
                await self.apply([])
            except StoreError:
                continue

    def _due(self, now: float, *, renew: bool) -> list[Operation]:
        upkeep: list[Operation] = []
        if renew or now >= self._renewed + RENEW_AFTER_S:
            upkeep.append(Renew(owner=self.owner, ttl_s=LEASE_S))
        if now >= self._swept_at + SWEEP_AFTER_S:
            upkeep.append(Sweep())
        return [*upkeep, *self._owed]

    def _kept(self, operation: Operation, result: Result, before: float) -> None:
        if isinstance(operation, Release):
            self._owed = [each for each in self._owed if each.id != operation.id]
            return
        if result.status != "done":
            return  # it is still due
        if isinstance(operation, Renew):
            self._renewed = before
        else:
            self._swept_at = before
            if result.entries:
                self._swept(result.entries)
