"""
Cascade: a smaller model first, and a stronger one where its answer is found wanting: one hold, one ledger entry.

The first answer is kept back until it is judged. Where that is wished for, the smaller model is asked once more, and
two answers that contradict each other are found wanting too. A further call is made only if the hold can be raised for
it, by the same atomic step as any other, to what the earlier ones came to and all that it can cost; else, and where the
stronger model fails, the smaller one's answer is given after all. Where the smaller model gives none, the stronger one
is asked as well. What all calls cost is charged, each at its own model's price.
"""

import asyncio
import time
from dataclasses import replace

import anyio
import msgspec

from hpp_middleware.core import attempts, ceilings
from hpp_middleware.core.auto import agree, verify
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError
from hpp_middleware.stages.attempts.buffered import Buffered
from hpp_middleware.stages.attempts.carried import Carried
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.attempts.means import Means
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.relay.exchange import Exchange
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.types.completion import Request
from hpp_middleware.types.http import Headers
from hpp_middleware.types.operations import Reserve
from hpp_middleware.types.quota import Draft
from hpp_middleware.types.replay import Answer

__all__ = ["Cascade"]


class Cascade(Carried):
    """
    An exchange whose answer is kept back, and others where it does not do.

    Args:
        means: What it is carried out with.
        planned: The smaller model's part.
        reserved: What is reserved for that.
        asked: The request, as the client has written it.
        second: The stronger model's part.
        twice: Whether the smaller one is asked twice; else its first answer is believed.
    """

    priced = True  # there may be several calls
    _gave_kept = False

    def __init__(
        self, means: Means, planned: Plan, reserved: Reserve, *, asked: Request, second: Plan, twice: bool
    ) -> None:
        super().__init__(means, planned, reserved)
        self.exchanges = []
        self._keyed = means.keyed
        self._asked = asked
        self._then = second
        self._twice = twice
        self._draft = reserved.draft
        self._kept = Buffered(patient=means.client.patient)
        self._given = self._exchange(planned, self._kept, kept=True)

    @property
    def error(self) -> GatewayError | None:
        """What the client is to be told."""
        return None if self._gave_kept else super().error

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None where it was not recorded, or broke off."""
        if self._gave_kept:
            return self._keyed.record.answer if self._keyed.record is not None else None
        found = self.last.answer
        # Whoever has left may ask again, and then gets what there was to give, though nobody has weighed it.
        return found if found is not None or not self._is_told_whole else self._given.answer

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """What all are charged; an answer that was given is complete, whatever became of another call, and no other."""
        found = self.last.settlement(host_left=host_left)
        if self._gave_kept:
            return found if len(self.exchanges) == 1 else msgspec.structs.replace(found, outcome="completed")
        if found.outcome == "completed" and not self._client.started:  # nobody was there to be given it
            return msgspec.structs.replace(found, outcome="abandoned")
        return found

    def _goes_on(self) -> bool:
        return not self._is_over and (self._gives or self._given.end in attempts.FAILED)

    async def _go_on(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """Give the answer that is kept back, or ask for others."""
        if not self._gives:
            await self._asked_instead(lease, loop)
            return
        fault = verify.fault(self._kept.body, self._asked)
        again = fault is None and self._twice and not self._expired
        if again and agree.is_comparable(self._kept.body, self._asked):
            fault = await self._asked_again(lease, loop)
        if fault is not None and await self._escalated(lease, loop, fault):
            return
        if not self._is_over and self._is_told_whole:  # else what is told is the error of the call that cost more
            await self._give_kept()

    @property
    def _is_over(self) -> bool:
        return self._left or self._dismissed

    @property
    def _left_s(self) -> float:
        """How long what is still to come may take, where the client has said so of all; 0 where nobody waits."""
        if self._is_over or self._expired:
            return 0.0
        within_s = self._then.lower.total if self._then.lower is not None else None
        return max(0.0, self._started + (within_s or float("inf")) - time.monotonic())

    @property
    def _gives(self) -> bool:
        """Whether there is an answer that is kept back."""
        return _is_whole(self._given)

    @property
    def _is_told_whole(self) -> bool:
        """Whether the answer that is kept back says what all calls cost, where answers do."""
        return self.job.cost_in != "usage" or self._given.settlement().amount == self.last.settlement().amount

    async def _asked_instead(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """Ask the stronger model, since the smaller one has failed: an attempt like any other."""
        if not self._worker.budget.take(time.monotonic()):
            return
        made = await self._escalated(lease, loop, "there is none")
        if not made or self.last.error is None:  # or it brought an answer
            self._worker.budget.give_back()

    async def _asked_again(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> str | None:
        """Ask the smaller model once more; what is wrong with its answers, taken together."""
        one, before, again = self._kept.body, self.last.settlement(), self._now
        amount, orphan = before.amount + again.bound.want, before.amount + again.bound.orphan_amount
        if not self._left_s or not await self._resized(lease, amount, orphan, self._draft):
            return None  # one answer is what there is
        if not (left_s := self._left_s):
            return None  # nothing more is sent
        second = Buffered(patient=self._client.patient)
        asked = self._exchange(again, second, _within(self._nth(again, amount, before), left_s), kept=True)
        await asked.run(lease, loop)
        if not _is_whole(asked):
            return None if self._is_told_whole else "there is no second one"
        fault = verify.fault(second.body, self._asked)
        if fault is None or not self._is_told_whole:
            self._kept, self._given = second, asked
        if fault is None and not agree.agree(one, second.body, self._asked):
            return "another one contradicts it"
        return fault

    async def _escalated(self, lease: Lease, loop: asyncio.AbstractEventLoop | None, fault: str) -> bool:
        """Ask the stronger model, under a hold for all calls; False where that was no answer, nor the end."""
        before, then = self.last.settlement(), self._then
        amount, orphan = before.amount + then.bound.want, before.amount + then.bound.orphan_amount
        if not self._left_s or not await self._admits(then):
            return False
        draft = _why(then.draft(self._draft), fault)
        # A smaller model that has cost nothing, and is not to be given, has no part in what the stronger one costs.
        both = ceilings.joined(self._now.scope, then.scope)
        done = await self._resized(lease, amount, orphan, draft, both if before.amount or self._gives else then.scope)
        left_s = self._left_s
        if not done or not left_s:  # nothing more is sent, and the entry is the smaller model's
            if done:
                await self._resized(lease, min(self.job.hold, amount), 0, self._draft, self._now.scope)
            await self._without()
            return False
        job = msgspec.structs.replace(self._nth(then, amount, before), routed=draft.routed)
        second = self._exchange(then, self._client, _within(job, left_s))
        await second.run(lease, loop)
        if second.unsent:
            await self._without()
        elif second.error is None or self._client.started or self._is_over:
            return True
        elif not self._gives or not self._is_told_whole:
            return True  # there is no other answer, or it says of itself that it costs less
        if self._gives:
            self.job = msgspec.structs.replace(self._given.job, hold=amount)
        paid = both if second.settlement().amount > before.amount else self._now.scope
        await self._resized(lease, amount, 0, self._draft, paid)
        return False

    def _nth(self, planned: Plan, hold: int, before: Settlement) -> Job:
        """One more call."""
        return self._job(planned, hold, before, attempts=len(self.exchanges) + 1)

    async def _resized(self, lease: Lease, amount: int, orphan: int, draft: Draft, scope: Scope | None = None) -> bool:
        """Give the hold what it now is for, and is to be in; False where it does not fit, or nobody can tell."""
        resize, is_first = self._resize(amount, orphan, draft, scope), draft is self._draft
        least = min(self.job.hold, amount)  # it has that either way: what it gave back may be gone
        back = None if is_first else self._resize(least, 0, self._draft, self._now.scope)
        result = await self._apply(lease, resize, back)
        if result is None and not is_first:  # it may have been done: the entry is to be the smaller model's again
            await self._resized(lease, least, 0, self._draft, self._now.scope)
        return result is not None and result.status == "done"

    async def _give_kept(self) -> None:
        """The smaller model's answer, at what all calls come to."""
        self._gave_kept = True
        made = sum(each.end is not End.UNSENT for each in self.exchanges)
        told = dict(msgspec.structs.replace(self._given.job, attempts=made).headers(cost=self.settlement().amount))
        headers: Headers = [(name, told.get(name, value)) for name, value in self._kept.headers]
        if self._keyed.record is not None:
            self._keyed.record.start(self._kept.status, headers)
            self._keyed.record.add(self._kept.body)
        self.ending.begin()
        with anyio.move_on_after(self.job.limits.send_s):  # who takes nothing for so long has left
            await self._client.start(self._kept.status, headers)
            await self._client.send(self._kept.body, more=False)


def _is_whole(exchange: Exchange) -> bool:
    return exchange.end is End.COMPLETED and exchange.error is None


def _within(job: Job, left_s: float) -> Job:
    """A job that is done in the time that is left."""
    return msgspec.structs.replace(job, timeouts=replace(job.timeouts, total=min(job.timeouts.total, left_s)))


def _why(draft: Draft, fault: str) -> Draft:
    """The entry to be of the second call, which says why there is one."""
    if draft.routed is None:
        return draft
    reason = f"the smaller model's answer was found wanting: {fault}"
    return msgspec.structs.replace(draft, routed=msgspec.structs.replace(draft.routed, reason=reason))
