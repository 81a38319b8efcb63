"""
Cascade: a smaller model first, and a stronger one where its answer is found wanting: one hold, one ledger entry.

The first answer is kept back until it is judged. Where that is wished for, the smaller model is asked once more, and
two answers that contradict each other are found wanting too. A further call is made only if the hold can be raised for
it, by the same atomic step as any other, to what the earlier ones came to and all that it can cost; else, and where the
stronger model fails, the smaller one's answer is given after all. What all calls cost is charged, each at its own
model's price.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

import anyio
import msgspec

from hpp_middleware.core import ceilings
from hpp_middleware.core.auto import agree, verify
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.ports import Client, Dialect, Transport
from hpp_middleware.stages.drain import Slots
from hpp_middleware.stages.further import Further
from hpp_middleware.stages.health import Health
from hpp_middleware.stages.job import Job
from hpp_middleware.stages.lease import Lease
from hpp_middleware.stages.limits import Admission
from hpp_middleware.stages.line import Line
from hpp_middleware.stages.relay import Exchange
from hpp_middleware.stages.replay import Record
from hpp_middleware.stages.settle import Pending
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import Headers
from hpp_middleware.types.operations import Resize
from hpp_middleware.types.quota import Draft
from hpp_middleware.types.replay import Answer

__all__ = ["Cascade"]

_DEAR = "X-HPP-Router-Cost"


class Cascade:
    """
    Several exchanges in the place of one: see :class:`~hpp_middleware.stages.relay.Exchange`, whose words it has.

    Args:
        target: Where the first goes.
        dialect: What its provider speaks.
        transport: How to reach it.
        client: Where the answer goes.
        pending: Told when the response is about to end.
        slots: Where a drain finds room.
        record: Keeps the answer, that it can be given again.
        health: Whether the providers may be asked.
        asked: The request, as the client has written it.
        second: The stronger model.
        again: The smaller one, to be asked twice; None to believe its first answer.
        draft: The entry to be of the first.
        scope: What the hold is in for it; for both it is in what each of them calls for.
        admission: Takes what the stronger model's own limits ask; None where nothing is limited.

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
        asked: Request,
        second: Further,
        again: Further | None = None,
        draft: Draft,
        scope: Scope | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._client = client
        self._pending = pending
        self._slots = slots
        self._record = record
        self._asked = asked
        self._then = second
        self._again = again
        self._draft = draft
        self._scope = scope
        self._admission = admission
        self._held = Line(client, holds=True)
        self._health = health
        self._given = Exchange(target, dialect, transport, self._held, pending=Pending(), slots=slots, health=health)
        self._exchanges = [self._given]
        self._line = self._held
        self._given.hear()
        self._gave_held = self._left = self._dismissed = self._expired = False
        self._resizes = 0
        self._raised: Exception | None = None

    @property
    def _last(self) -> Exchange:
        return self._exchanges[-1]

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Those that there were."""
        return tuple(self._exchanges)

    @property
    def error(self) -> GatewayError | None:
        """What the client is to be told."""
        return None if self._gave_held else self._last.error

    @property
    def ending(self) -> bool:
        """Whether ``pending`` was told."""
        return self._ending or self._last.ending

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
        if self._gave_held:
            return self._record.answer if self._record is not None else None
        return self._last.answer

    def so_far(self) -> int:
        """What it would be charged if it broke off now."""
        return self._last.so_far()

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """What all are charged; an answer that was given is complete, whatever became of another call."""
        found = self._last.settlement(host_left=host_left)
        if not self._gave_held or len(self._exchanges) == 1:
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
        Carry out the job; and the further ones, if the answer calls for it.

        Args:
            lease: It must not run out meanwhile.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        """
        first = self._given
        first.job = self.job
        self._over_at = time.monotonic() + (self._then.within_s or float("inf"))
        await first.run(lease, loop)
        if _is_whole(first) and not self._is_over:
            await self._judge(lease, loop)
        if self._raised is not None:
            raise self._raised

    async def _judge(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """Give the answer that is held back, or ask for others."""
        fault = verify.fault(self._held.body, self._asked)
        again = self._again if fault is None and not self._expired else None
        if again is not None and agree.is_comparable(self._held.body, self._asked):
            fault = await self._asked_again(again, lease, loop)
        if self._is_over:
            return
        if fault is not None and not self._expired and await self._escalated(lease, loop, fault):
            return
        if self._is_told_whole:  # else what is told is the error of the call that cost more
            await self._give_held()

    @property
    def _is_over(self) -> bool:
        return self._left or self._dismissed

    @property
    def _left_s(self) -> float:
        """How long what is still to come may take."""
        return max(0.0, self._over_at - time.monotonic())

    @property
    def _is_told_whole(self) -> bool:
        """Whether the answer that is held back says what all calls cost, where answers do."""
        return self.job.cost_in != "usage" or self._given.settlement().amount == self._last.settlement().amount

    async def _asked_again(self, again: Further, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> str | None:
        """Ask the smaller model once more; what is wrong with its answers, taken together."""
        one, before = self._held.body, self._last.settlement()
        amount, orphan = before.amount + again.operation.want, before.amount + again.operation.orphan_amount
        if not self._left_s or not await self._resized(lease, amount, orphan, self._draft, joins=False):
            return None  # one answer is what there is
        if self._is_over or self._expired:
            return None  # nothing more is sent
        line = Line(self._client, holds=True)
        asked = await self._call(again, again.job(amount, before), line, lease, loop)
        if not _is_whole(asked):
            return None if self._is_told_whole else "there is no second one"
        fault = verify.fault(line.body, self._asked)
        if fault is None or not self._is_told_whole:
            self._held, self._given = line, asked
        if fault is None and not agree.agree(one, line.body, self._asked):
            return "another one contradicts it"
        return fault

    async def _admits(self, then: Further) -> bool:
        return self._admission is None or await self._admission.also(then.target.id, then.bound)

    async def _escalated(self, lease: Lease, loop: asyncio.AbstractEventLoop | None, fault: str) -> bool:
        """Ask the stronger model, under a hold for all calls; whether that was the answer, or the end."""
        before, then = self._last.settlement(), self._then
        amount, orphan = before.amount + then.operation.want, before.amount + then.operation.orphan_amount
        if not self._left_s or not await self._admits(then):
            return False
        if not await self._resized(lease, amount, orphan, _why(then, fault)):
            if self._admission is not None:
                await self._admission.without(then.target.id)
            return False
        if self._is_over or self._expired:  # meanwhile: nothing more is sent, and the entry is the smaller model's
            await self._resized(lease, amount, 0, self._draft)
            return self._is_over
        job = msgspec.structs.replace(then.job(amount, before), routed=_why(then, fault).routed)
        line = Line(self._client)
        second = await self._call(then, job, line, lease, loop, pending=self._pending, record=self._record)
        if second.error is None or self._client.started or self._is_over:
            return True
        if not self._is_told_whole:
            return True  # the answer that is held back says of itself that it costs less
        self.job = msgspec.structs.replace(self._given.job, hold=amount)
        await self._resized(lease, amount, 0, self._draft)
        return False

    async def _call(
        self,
        then: Further,
        job: Job,
        line: Line,
        lease: Lease,
        loop: asyncio.AbstractEventLoop | None,
        *,
        pending: Pending | None = None,
        record: Record | None = None,
    ) -> Exchange:
        """Another exchange, from its beginning to its end."""
        found = Exchange(
            then.target,
            then.dialect,
            then.transport,
            line,
            pending=pending or Pending(),
            slots=self._slots,
            record=record,
            health=self._health,
        )
        timeouts = replace(job.timeouts, total=min(job.timeouts.total, self._left_s))
        self.job = found.job = msgspec.structs.replace(job, timeouts=timeouts)
        self._line = line
        self._exchanges.append(found)
        found.hear()
        await found.run(lease, loop)
        return found

    async def _resized(self, lease: Lease, amount: int, orphan: int, draft: Draft, *, joins: bool = True) -> bool:
        """Give the hold what it now is for; False where it does not fit, or nobody can tell."""
        self._resizes += 1
        is_first, joined = draft is self._draft, ceilings.joined(self._scope, self._then.scope) if joins else None
        resize = Resize(id=self.job.id, attempt=self._resizes, amount=amount, orphan_amount=orphan, draft=draft)
        if joined is not None:
            draft = msgspec.structs.replace(draft, also=joined.accounts[1:])
            resize = msgspec.structs.replace(resize, accounts=joined.accounts, limits=joined.limits, draft=draft)
        try:
            (result,) = await lease.apply([resize])
        except StoreError:
            if not is_first:  # it may have been done: the entry is to be the smaller model's again
                await self._resized(lease, self.job.hold, 0, self._draft)
            return False
        return result.id == resize.id and result.status == "done"

    async def _give_held(self) -> None:
        """The smaller model's answer, at what all calls come to."""
        self._gave_held = True
        cost = dict(self._given.job.headers(cost=self.settlement().amount))[_DEAR]
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


def _is_whole(exchange: Exchange) -> bool:
    return exchange.end is End.COMPLETED and exchange.error is None


def _why(then: Further, fault: str) -> Draft:
    """The entry to be of the second call, which says why there is one."""
    draft = then.operation.draft
    if draft.routed is None:
        return draft
    reason = f"the smaller model's answer was found wanting: {fault}"
    return msgspec.structs.replace(draft, routed=msgspec.structs.replace(draft.routed, reason=reason))
