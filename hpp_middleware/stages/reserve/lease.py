"""
A worker's lease: it covers all its holds, and says to the store that they still have an owner.

Renewal and sweep ride on traffic, so that nothing runs which the host did not start; a timer does both besides where
the gateway was opened by a lifespan, and a running exchange where it was not. So do the checkpoints of long streams,
and the replay of what the store has not answered.
"""

import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import anyio

from hpp_middleware.errors import StoreError
from hpp_middleware.ports import QuotaStore
from hpp_middleware.stages.settle.debt import Debt
from hpp_middleware.stages.settle.journal import Journal
from hpp_middleware.stages.tasks.guard import begin_within
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import (
    Checkpoint,
    Operation,
    Release,
    Renew,
    Reserve,
    Resize,
    Result,
    Settle,
    Sweep,
)
from hpp_middleware.types.quota import Entry

__all__ = ["LEASE_S", "MARGIN_S", "Lease"]

LEASE_S = 30.0
RENEW_AFTER_S = 10.0
SWEEP_AFTER_S = 5.0
SWEEP_ON_S = 0.1
"""After a sweep that was as much as one may be: so the books are tidied faster than requests can fill them."""

MARGIN_S = 5.0
STORE_S = 20.0
"""After this long without an answer, nothing is known of what was asked."""

REPLAY_S = 2.0
"""How long a request waits at most for what others owe."""

REPLAY_AFTER_S = 1.0
"""After a replay that failed, others of the same second do not try."""

MOST_CHECKPOINTS = 64


class Lease:
    """
    One worker's lease at one store.

    Args:
        store: Where it is kept.
        owner: The worker's id, never used before.
        swept: Told the ledger lines that a sweep or a replay wrote.
        journal: Keeps what the store has not answered; by default in memory.
        clock: Monotonic seconds.

    Attributes:
        journal: What is owed to the store.
        term: Counts how often it was taken anew: at the start, and after it had run out.
    """

    def __init__(
        self,
        store: QuotaStore,
        owner: str,
        *,
        swept: Callable[[Sequence[Entry]], None],
        journal: Journal | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = owner
        self.journal = Journal(clock=clock) if journal is None else journal
        self._store = store
        self._swept = swept
        self._clock = clock
        self._renewed = float("-inf")
        self.term = 0
        self._swept_at = float("-inf")
        self._sweeping = False  # one at a time, whatever is in flight: what comes meanwhile goes on without
        self._calm_until = float("-inf")  # before that no upkeep is due
        self._replay_after = float("-inf")
        self._replaying = False
        self._passed_over = ""  # the hold that the last sweep could not resolve
        self._watched: dict[str, tuple[Callable[[], int], int]] = {}
        self._to_tell: list[str] = []

    @property
    def holds(self) -> bool:
        """Whether enough of it is left to send something that costs money. By our own clock, with a margin."""
        return self._clock() < self._renewed + LEASE_S - MARGIN_S

    def covers(self, term: int) -> bool:
        """
        Whether what was placed in this :attr:`term` is covered still.

        A lease that ran out and was renewed holds again, but what was placed before has been swept meanwhile.
        """
        return self.term == term and self._clock() < self._renewed + LEASE_S - MARGIN_S

    def apply(
        self,
        operations: Sequence[Operation],
        *,
        renew: bool = False,
        account: str | None = None,
        within_s: float | None = None,
    ) -> Coroutine[Any, Any, list[Result]]:
        """
        Carry out operations, with whatever upkeep is due before them, in one go.

        What is owed to the store is replayed before, by itself: it never fails what is asked here.

        Args:
            operations: What to do.
            renew: Renew in any case.
            account: All that is owed for it is replayed, and not only as much as a request may be kept waiting for.
            within_s: How long the store may take; 20 s by default.
        Raises:
            StoreError: Nothing is known of any of them.
        """
        now = self._clock()
        if now < self._calm_until and operations and not renew and self.journal.is_quiet_at(now):
            return self._tried(operations, within_s)
        return self._with_upkeep(operations, renew=renew, account=account, within_s=within_s)

    async def answer(
        self, operation: Reserve | Resize | Settle | Release, *, renew: bool = False, within_s: float | None = None
    ) -> Result:
        """
        What the store says to one operation; see :meth:`apply`.

        Raises:
            StoreError: Nothing is known of it.
        """
        now = self._clock()
        try:
            if now < self._calm_until and not renew and self.journal.is_quiet_at(now):
                there, found = begin_within(within_s or STORE_S, self._store.apply([operation]))
                results: list[Result] = found if there else await found  # type: ignore[assignment, misc]
            else:
                results = await self._with_upkeep([operation], renew=renew, account=None, within_s=within_s)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError("The quota store failed.") from error
        if len(results) != 1 or results[0].id != operation.id:
            raise StoreError("The quota store answered another question.")
        return results[0]

    async def _with_upkeep(
        self, operations: Sequence[Operation], *, renew: bool, account: str | None, within_s: float | None
    ) -> list[Result]:
        unanswered: Sequence[Debt] = ()
        if not self.journal.is_quiet:
            unanswered = await self._replay(account)
        before = self._clock()
        needed, upkeep = self._due(before, renew=renew)
        if not needed and not upkeep and not operations:
            return []
        self._calm_until = float("-inf")
        sweeps = upkeep[:1] == [Sweep()]
        self._sweeping |= sweeps
        try:
            results = await self._tried([*needed, *upkeep, *operations], within_s)
        except StoreError:
            if not upkeep:
                raise
            # Upkeep that fails must not take everybody's requests with it: without it, and all is idempotent.
            upkeep = []
            results = await self._tried([*needed, *operations], within_s)
            self._swept_at = before
        finally:
            self._sweeping &= not sweeps
        due = [*needed, *upkeep]
        for operation, result in zip(due, results, strict=False):
            self._kept(operation, result, before)
        if not self._to_tell:
            self._calm_until = min(self._renewed + RENEW_AFTER_S, self._swept_at + SWEEP_AFTER_S)
        if unanswered:
            self.journal.blame(unanswered)
        return results[len(due) :]

    async def catch_up(self, account: str) -> None:
        """
        Sweep where that is due, and replay what is owed for an account, so that its figures can be read.

        Raises:
            StoreError: They lack something still.
        """
        await self.apply([], account=account)
        if self.journal.owes(account):
            raise StoreError("Settlements of this account are waiting for the store.")

    async def drain(self) -> None:
        """Replay all that is owed, for as long as the store answers."""
        owed = self.journal.owed + 1
        while 0 < self.journal.owed < owed:
            owed = self.journal.owed
            await self._replay(None)

    def owe(self, release: Release) -> None:
        """Give a hold back as soon as the store answers again."""
        self.journal.owe(release)

    def watch(self, hold_id: str, amount: Callable[[], int], told: int) -> None:
        """
        Tell the store, at each renewal, what a hold is to be charged if this worker dies.

        Args:
            hold_id: The hold.
            amount: What it is now, in nano-dollars.
            told: What it was placed with: that is known already.
        """
        self._watched[hold_id] = (amount, told)

    def unwatch(self, hold_id: str) -> None:
        """The hold is about to be resolved."""
        self._watched.pop(hold_id, None)

    async def keep(self) -> None:
        """Renew, sweep and replay until cancelled; a failure is tried again at the next turn."""
        while True:
            await anyio.sleep(RENEW_AFTER_S / 2)
            try:
                await self.apply([])
                await self.drain()
            except StoreError:
                continue

    async def _tried(self, operations: Sequence[Operation], within_s: float | None = None) -> list[Result]:
        try:
            there, found = begin_within(within_s or STORE_S, self._store.apply(operations))
            results: list[Result] = found if there else await found  # type: ignore[assignment, misc]
        except StoreError:
            raise
        except Exception as error:
            raise StoreError("The quota store failed.") from error
        if len(results) != len(operations):
            raise StoreError("The quota store gave too few answers.")
        return results

    async def _replay(self, account: str | None) -> Sequence[Debt]:
        """Try some of what is owed; those that were not answered."""
        await self.journal.look()
        await self.journal.mend()
        urgent = account is not None and self.journal.owes(account)
        if not urgent and (self._replaying or self._clock() < self._replay_after):
            return ()
        debts = self.journal.due(account if urgent else None)
        if not debts:
            return ()
        results: list[Result] = []
        mine = [debt for debt in debts if not debt.busy]
        self._replaying = True
        for debt in mine:
            debt.busy = True
        try:
            with anyio.move_on_after(REPLAY_S):
                await self._amended(debts)
                results = await self._tried([debt.operation for debt in debts])
        except StoreError:
            results = []
        finally:
            self._replaying = False
            for debt in mine:
                debt.busy = False
        if [result.id for result in results] != [debt.operation.id for debt in debts]:
            self._replay_after = self._clock() + REPLAY_AFTER_S
            await self.journal.write()
            return debts
        self.journal.praise()
        for debt, result in zip(debts, results, strict=True):
            self._answered(debt, result)
        await self.journal.strike(result.id for result in results)
        return ()

    async def _amended(self, debts: Sequence[Debt]) -> None:
        """Do first what some of them have to follow; a store that does not take that need not keep them from it."""
        amends = [debt.amends for debt in debts if debt.amends is not None]
        if amends:
            with suppress(StoreError):
                await self._tried(amends)

    def _answered(self, debt: Debt, result: Result) -> None:
        if result.status != "done":
            wanted = debt.operation.amount if isinstance(debt.operation, Settle) else 0
            detail = f"{result.status}: wanted {wanted}, stands at {result.amount} nano-dollars"
            self.journal.alarm(Alarm(kind="conflict", request_id=result.id, detail=detail))
        elif result.entries:
            self._swept(result.entries)

    def _due(self, now: float, *, renew: bool) -> tuple[list[Operation], list[Operation]]:
        """What must be done with every call, and what can be done without."""
        needed: list[Operation] = []
        upkeep: list[Operation] = []
        if renew or now >= self._renewed + RENEW_AFTER_S:
            needed.append(Renew(owner=self.owner, ttl_s=LEASE_S))
            self._to_tell = list(self._watched)
        if now >= self._swept_at + SWEEP_AFTER_S and not self._sweeping:
            upkeep.append(Sweep())
        while self._to_tell and len(upkeep) < MOST_CHECKPOINTS:
            hold_id = self._to_tell.pop()
            if hold_id in self._watched:
                amount, told = self._watched[hold_id]
                if (risen := amount()) > told:
                    upkeep.append(Checkpoint(id=hold_id, orphan_amount=risen))
        return needed, upkeep

    def _kept(self, operation: Operation, result: Result, before: float) -> None:
        if isinstance(operation, Checkpoint):
            watched = self._watched.get(operation.id)
            if watched is not None:  # one that was resolved meanwhile is told nothing more, too
                self._watched[operation.id] = (watched[0], operation.orphan_amount)
            return
        if result.status != "done":
            return  # it is still due
        if isinstance(operation, Renew):
            self.term += self._clock() >= self._renewed + LEASE_S
            self._renewed = before
        else:
            self._swept_at = before - (SWEEP_AFTER_S - SWEEP_ON_S if result.more else 0)
            if result.hold not in {"", self._passed_over}:
                detail = "cannot be resolved: its row is damaged, or its account's"
                self.journal.alarm(Alarm(kind="hold", request_id=result.hold, detail=detail))
            self._passed_over = result.hold
            if result.entries:
                self._swept(result.entries)
