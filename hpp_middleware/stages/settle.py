"""
Swap the hold for what was used: after the last byte, in the request's own shielded scope.

A read of usage or quota by the same consumer waits, bounded, for its settlements in flight, so that it sees them.
"""

from collections.abc import Callable

import anyio

from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import StoreError
from hpp_middleware.stages.lease import Lease
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Release, Result, Settle
from hpp_middleware.types.quota import Report

__all__ = ["Pending", "settle"]

_PAUSES_S = (0.05, 0.2, 1.0, 3.0)


async def settle(
    lease: Lease, hold_id: str, settlement: Settlement, report: Report, *, alarm: Callable[[Alarm], None]
) -> Result | None:
    """
    Settle a hold, or release it where nothing was forwarded.

    Repeats by id while the store fails; what cannot be told in the end raises an alarm, and is left to the sweeper.

    Returns:
        What the store wrote, or None.
    """
    operation = (
        Release(id=hold_id)
        if settlement.outcome is None
        else Settle(id=hold_id, amount=settlement.amount, report=report)
    )
    for pause in (*_PAUSES_S, None):
        try:
            (result,) = await lease.apply([operation])
            if result.id != hold_id:
                raise StoreError("The quota store answered another question.")
            break
        except StoreError:
            if pause is None:
                alarm(Alarm(kind="settle_failed", request_id=hold_id, detail=f"{settlement.amount} nano-dollars"))
                return None
            await anyio.sleep(pause)
    if result.status != "done":
        detail = f"{result.status}: wanted {settlement.amount}, stands at {result.amount} nano-dollars"
        alarm(Alarm(kind="conflict", request_id=hold_id, detail=detail))
    return result


class Pending:
    """How many settlements of each account are in flight in this worker."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._changed = anyio.Event()

    def begin(self, account: str) -> None:
        """A response is about to end."""
        self._counts[account] = self._counts.get(account, 0) + 1

    def end(self, account: str) -> None:
        """Its settlement is done."""
        left = self._counts[account] - 1
        if left:
            self._counts[account] = left
        else:
            del self._counts[account]
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def wait(self, account: str, seconds: float) -> None:
        """Return when none of the account's is in flight, or after so many seconds."""
        if account not in self._counts:
            return
        with anyio.move_on_after(seconds):
            while account in self._counts:
                await self._changed.wait()
