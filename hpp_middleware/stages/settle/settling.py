"""
Swap the hold for what was used: after the last byte, in the request's own shielded scope.

A read of usage or quota by the same consumer waits, bounded, for its settlements in flight, so that it sees them.
"""

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import anyio

from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import StoreError
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Kept, Release, Resize, Result, Settle
from hpp_middleware.types.quota import Report

__all__ = ["Ending", "Pending", "settle"]

_PAUSES_S = (0.05, 0.2, 1.0)

PATIENCE_S = 2.0
"""A store that has not answered by then has failed: what it was asked is written down, and asked again."""


async def settle(
    lease: Lease,
    hold_id: str,
    settlement: Settlement,
    report: Report,
    *,
    account: str,
    alarm: Callable[[Alarm], None],
    kept: Kept | None = None,
    amends: Resize | None = None,
) -> Result | None:
    """
    Settle a hold, or release it where nothing was forwarded.

    At the first failure of the store it is written into the journal, and from then on it is not lost. It is repeated by
    id for a moment; then it is left to the replay, and raises an alarm.

    Args:
        lease: The worker's; its journal keeps what fails.
        hold_id: The hold.
        settlement: What to charge.
        report: The other half of the ledger entry.
        account: Who is charged: nobody reads its figures while they lack this.
        alarm: Told what an operator should look at.
        kept: The answer, where it may be asked for again.
        amends: What may have to be done before.
    Returns:
        What the store wrote, or None.
    """
    operation: Settle | Release
    if settlement.outcome is None:
        operation = Release(id=hold_id)
    else:
        operation = Settle(id=hold_id, amount=settlement.amount, report=report, kept=kept)
    result: Result | None
    try:
        try:
            result = await _told(lease, operation, amends)
        except StoreError:
            result = await _insist(lease, operation, account, amends)
    except BaseException:  # cancelled by force
        lease.journal.owe(operation, account, amends)
        raise
    if result is None:
        detail = f"{settlement.amount} nano-dollars; kept, and repeated until the store answers"
        alarm(Alarm(kind="settle_failed", request_id=hold_id, detail=detail))
    elif result.status != "done":
        detail = f"{result.status}: wanted {settlement.amount}, stands at {result.amount} nano-dollars"
        alarm(Alarm(kind="conflict", request_id=hold_id, detail=detail))
    return result


def _told(lease: Lease, operation: Settle | Release, amends: Resize | None) -> Coroutine[Any, Any, Result]:
    """What the store answers; a StoreError where nothing is known."""
    if amends is not None:
        return _amended(lease, operation, amends)
    return lease.answer(operation, within_s=PATIENCE_S)


async def _amended(lease: Lease, operation: Settle | Release, amends: Resize) -> Result:
    await lease.answer(amends, within_s=PATIENCE_S)
    return await lease.answer(operation, within_s=PATIENCE_S)


async def _insist(lease: Lease, operation: Settle | Release, account: str, amends: Resize | None) -> Result | None:
    """Write down what the store has not taken, and ask it some more; what it answers, if it does."""
    journal = lease.journal
    result = None
    try:
        for pause in _PAUSES_S:
            await journal.keep(operation, account, amends)
            await anyio.sleep(pause)
            with suppress(StoreError):
                result = await _told(lease, operation, amends)
                break
        else:
            await journal.keep(operation, account, amends)
    finally:
        journal.leave(operation.id)
    if result is not None:
        await journal.strike([operation.id])
    return result


class Pending:
    """
    The responses of this worker that are about to end, and whose settlements are in flight.

    Attributes:
        ending: All of them.
    """

    __slots__ = ("_changed", "ending")

    def __init__(self) -> None:
        self.ending: set[Ending] = set()
        self._changed: anyio.Event | None = None  # there where somebody waits

    def end(self, ending: "Ending") -> None:
        """Its settlement is done."""
        self.ending.discard(ending)
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def has(self, name: str) -> bool:
        """Whether one of an account's, or under an idempotency key's digest, is in flight."""
        return any(name in each.names for each in self.ending)

    async def wait(self, name: str, seconds: float) -> None:
        """Return when none of the account's, or of the key's, is in flight, or after so many seconds."""
        if not self.has(name):
            return
        with anyio.move_on_after(seconds):
            while self.has(name):
                self._changed = self._changed or anyio.Event()
                await self._changed.wait()


class Ending:
    """
    The end of one response, of which :class:`Pending` is told once.

    Args:
        pending: What is told.
        account: Who is charged.
        claim: The digest of its idempotency key.

    Attributes:
        names: What it is waited for by.
        begun: Whether it was told.
    """

    __slots__ = ("_pending", "begun", "names")

    def __init__(self, pending: Pending, account: str, claim: str | None = None) -> None:
        self.begun = False
        self.names = (account, claim)
        self._pending = pending

    def begin(self) -> None:
        """The response is about to end, if it was not before."""
        if not self.begun:
            self.begun = True
            self._pending.ending.add(self)

    def settled(self) -> None:
        """What it comes to is in the books, or owed to them; who leaves now begins nothing any more."""
        if self.begun:
            self._pending.end(self)
        self.begun = True
