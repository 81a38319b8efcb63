"""
Cascade: a smaller model first, and a stronger one where its answer is found wanting: one hold, one ledger entry.

The first answer is kept back until it is judged. The second call is made only if the hold can be raised for it, by the
same atomic step as any other, to what the first came to and all that the second can cost; else, and where the second
fails, the first answer is given after all. What both calls cost is charged, each at its own model's price.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import anyio
import msgspec

from hpp_middleware.core import ceilings
from hpp_middleware.core.auto import verify
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.ports import Client, Dialect, Transport
from hpp_middleware.stages.drain import Slots
from hpp_middleware.stages.further import Further
from hpp_middleware.stages.health import Health
from hpp_middleware.stages.job import Job
from hpp_middleware.stages.lease import Lease
from hpp_middleware.stages.line import Line
from hpp_middleware.stages.relay import Exchange
from hpp_middleware.stages.replay import Record
from hpp_middleware.stages.settle import Pending
from hpp_middleware.types.completion import Seen, Target
from hpp_middleware.types.http import Headers
from hpp_middleware.types.operations import Resize
from hpp_middleware.types.quota import Draft
from hpp_middleware.types.replay import Answer

__all__ = ["Cascade"]

_DEAR = "X-HPP-Router-Cost"


class Cascade:
    """
    Two exchanges in the place of one: see :class:`~hpp_middleware.stages.relay.Exchange`, whose words it has.

    Args:
        target: Where the first goes.
        dialect: What its provider speaks.
        transport: How to reach it.
        client: Where the answer goes.
        pending: Told when the response is about to end.
        slots: Where a drain finds room.
        record: Keeps the answer, that it can be given again.
        health: Whether the providers may be asked.
        second: The stronger model.
        draft: The entry to be of the first.
        scope: What the hold is in for it; for both it is in what each of them calls for.

    Attributes:
        priced: Whether each attempt is kept with its price: there may be two.
    """

    job: Job
    priced = True
    _ending = False
    _over_at: float

    def __init__(
        self,
        target: Target,
        dialect: Dialect,
        transport: Transport,
        client: Client,
        *,
        pending: Pending,
        slots: Slots,
        record: Record | None = None,
        health: Health | None = None,
        second: Further,
        draft: Draft,
        scope: Scope | None = None,
    ) -> None:
        self._client = client
        self._pending = pending
        self._slots = slots
        self._record = record
        self._then = second
        self._draft = draft
        self._scope = scope
        self._held = Line(client, holds=True)
        self._health = health
        self._first = Exchange(target, dialect, transport, self._held, pending=Pending(), slots=slots, health=health)
        self._second: Exchange | None = None
        self._line = self._held
        self._first.hear()
        self._gave_first = self._left = self._dismissed = self._expired = False
        self._raised: Exception | None = None

    @property
    def _last(self) -> Exchange:
        return self._first if self._second is None else self._second

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Those that there were."""
        return (self._first,) if self._second is None else (self._first, self._second)

    @property
    def error(self) -> GatewayError | None:
        """What the client is to be told."""
        return None if self._gave_first else self._last.error

    @property
    def ending(self) -> bool:
        """Whether ``pending`` was told."""
        return self._ending or (self._second is not None and self._second.ending)

    @property
    def seen(self) -> Seen:
        """What the last answer showed."""
        return self._last.seen

    @property
    def duration_s(self) -> float:
        """How long it took, all in all."""
        return sum(each.duration_s for each in self.exchanges)

    @property
    def first_byte_s(self) -> float | None:
        """How long the last provider took to begin its answer."""
        return self._last.first_byte_s

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None where it was not recorded, or broke off."""
        if self._second is not None and not self._gave_first:
            return self._second.answer
        return self._record.answer if self._record is not None and self._gave_first else None

    def so_far(self) -> int:
        """What it would be charged if it broke off now."""
        return self._last.so_far()

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """What both are charged; an answer that was given is complete, whatever became of the other call."""
        found = self._last.settlement(host_left=host_left)
        if not self._gave_first or self._second is None:
            return found
        return Settlement(found.amount, "completed", estimated=found.estimated, usage=found.usage)

    def hear(self) -> Callable[[], None] | None:
        """Have the client's departure told; None where one has to listen for it."""
        return self._client.hear(self._depart)

    async def gone(self) -> None:
        """Listen for the client's departure."""
        try:
            await self._client.gone()
        except Exception as error:  # noqa: BLE001  # the client's; raised again by the work
            self._raised = error
        self._depart()

    def dismiss(self) -> None:
        """The host has cancelled the request."""
        self._dismissed = True
        self._last.dismiss()

    def expire(self, error: GatewayError) -> None:
        """Our own time is up; an answer that is there already is given all the same."""
        self._expired = True
        self._last.expire(error)

    def _depart(self) -> None:
        self._left = True
        self._line.leave()

    async def run(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Carry out the job; and the second, if the first answer calls for it.

        Args:
            lease: It must not run out meanwhile.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        """
        self._first.job = self.job
        self._over_at = time.monotonic() + (self._then.within_s or float("inf"))
        await self._first.run(lease, loop)
        whole = self._first.end is End.COMPLETED and self._first.error is None
        if whole and not self._is_over:
            fault = verify.fault(self._held.body, self.job.request)
            if fault is None or self._expired or not await self._escalated(lease, loop, fault):
                await self._give_first()
        if self._raised is not None:
            raise self._raised

    @property
    def _is_over(self) -> bool:
        return self._left or self._dismissed

    async def _escalated(self, lease: Lease, loop: asyncio.AbstractEventLoop | None, fault: str) -> bool:
        """Ask the stronger model, under a hold for both; whether that was the answer, or the end."""
        before, then = self._first.settlement(), self._then
        amount = before.amount + then.operation.want
        orphan = before.amount + then.operation.orphan_amount
        left_s = self._over_at - time.monotonic()
        if left_s <= 0 or not await self._resized(lease, 1, amount, orphan, _why(then, fault)):
            return False
        if self._is_over or self._expired:  # meanwhile: nothing more is sent, and the entry is the first call's
            await self._resized(lease, 2, amount, 0, self._draft)
            return self._is_over
        job = then.job(amount, before)
        timeouts = replace(job.timeouts, total=min(job.timeouts.total, left_s))
        self.job = msgspec.structs.replace(job, routed=_why(then, fault).routed, timeouts=timeouts)
        self._line = Line(self._client)
        second = self._second = Exchange(
            then.target,
            then.dialect,
            then.transport,
            self._line,
            pending=self._pending,
            slots=self._slots,
            record=self._record,
            health=self._health,
        )
        second.job = self.job
        second.hear()
        await second.run(lease, loop)
        if second.error is None or self._client.started or self._is_over:
            return True
        total = second.settlement().amount
        if total != before.amount and self.job.cost_in == "usage":
            return True  # the first answer says of itself that it costs less
        self.job = msgspec.structs.replace(self._first.job, hold=amount)
        await self._resized(lease, 2, amount, 0, self._draft)
        return False

    async def _resized(self, lease: Lease, attempt: int, amount: int, orphan: int, draft: Draft) -> bool:
        """Give the hold what it now is for; False where it does not fit, or nobody can tell."""
        resize = Resize(id=self.job.id, attempt=attempt, amount=amount, orphan_amount=orphan, draft=draft)
        both = ceilings.joined(self._scope, self._then.scope)
        if both is not None:
            draft = msgspec.structs.replace(draft, also=both.accounts[1:])
            resize = msgspec.structs.replace(resize, accounts=both.accounts, limits=both.limits, draft=draft)
        try:
            (result,) = await lease.apply([resize])
        except StoreError:
            if attempt == 1:  # it may have been done: the entry is to be the first call's again
                await self._resized(lease, 2, self.job.hold, 0, self._draft)
            return False
        return result.id == resize.id and result.status == "done"

    async def _give_first(self) -> None:
        """The first answer, after all, at what both calls come to."""
        self._gave_first = True
        cost = dict(self._first.job.headers(cost=self.settlement().amount))[_DEAR]
        headers: Headers = [(name, cost if name == _DEAR else value) for name, value in self._held.headers]
        if self._record is not None:
            self._record.start(self._held.status, headers)
            self._record.add(self._held.body)
        if not self.ending:
            self._ending = True
            self._pending.begin(self.job.account)
        with anyio.move_on_after(self.job.limits.send_s):  # who takes nothing for so long has left
            await self._client.start(self._held.status, headers)
            await self._client.send(self._held.body, more=False)


def _why(then: Further, fault: str) -> Draft:
    """The entry to be of the second call, which says why there is one."""
    draft = then.operation.draft
    if draft.routed is None:
        return draft
    reason = f"the smaller model's answer was found wanting: {fault}"
    return msgspec.structs.replace(draft, routed=msgspec.structs.replace(draft.routed, reason=reason))
