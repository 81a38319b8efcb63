"""
Chain: one request, and as many attempts as it takes and may have: one hold, one deadline, one ledger entry.

A failed attempt is followed by another as long as the client has seen nothing of an answer; which, is
:mod:`hpp_middleware.core.attempts`' to decide. Another model is asked only under a hold for what was spent so far and
all that it can cost, by the same atomic step as any other. What each attempt cost is charged, at its own model's price.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import anyio
import msgspec

from hpp_middleware.core import attempts, ceilings, quota
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError, RequestError, UpstreamError
from hpp_middleware.stages.attempts.carried import Carried
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.attempts.means import Means
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.relay.exchange import Exchange
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.route.lineup import Lineup
from hpp_middleware.stages.tasks.guard import guard
from hpp_middleware.types.operations import Reserve, Result

__all__ = ["Chain"]


class Chain(Carried):
    """
    One exchange, and others where it fails.

    Args:
        means: What it is carried out with.
        planned: Whom to ask first.
        reserved: What is reserved for that.
        lineup: Whom to ask then, each planned when its turn comes.
    """

    _scope: Scope | None  # what the hold is in, once there is more than one attempt
    _paid: Scope | None = None  # what it is in for those attempts that cost something
    _ahead: Plan | None = None
    _tried = 1  # how often who is asked now was asked
    _extra = False  # whether the attempt that runs was taken from the worker's budget

    def __init__(self, means: Means, planned: Plan, reserved: Reserve, lineup: Lineup) -> None:
        Carried.__init__(self, means, planned, reserved)
        self._lineup = lineup
        self._is_counted = (planned.target.provider.retries > 0 and means.transport is None) or lineup.has_others()
        self.last = first = Exchange(means, planned, means.client, self.ending, means.keyed.record)
        first.late = self._is_counted
        self.exchanges = [first]

    @property
    def _is_over(self) -> bool:
        return self._left or self._dismissed or self._expired

    @property
    def _until(self) -> float:
        """When the request's deadline is: that of its first job."""
        return self._started + self.exchanges[0].job.timeouts.total

    @property
    def _is_late(self) -> bool:
        return time.monotonic() >= self._until

    def _goes_on(self) -> bool:
        return self._is_counted and self.last.error is not None

    async def _go_on(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """Ask again or otherwise, for as long as it fails and may be."""
        self._scope = self._now.scope
        while (step := self._step()).kind != "stop":
            job = await (self._again(step.after_s, lease, loop) if step.kind == "again" else self._next(lease))
            if job is None:
                self._answers()  # there is no attempt after all
                break
            self._tried += 1
            self._exchange(self._now, self._client, job, late=True, began=self._answers)
            await self.last.run(lease, loop)
            if self.last.unsent:
                await self._unsent()
        paid, scope = self._paid, self._scope
        if paid is not None and scope is not None and paid.accounts != scope.accounts and not self._cost:
            # The budgets of a model that has failed for nothing pay for no other.
            await self._resized(lease, self._now, self.job.hold, 0, paid)

    def _in_time(self, planned: Plan, hold: int, before: Settlement) -> Job | None:
        """
        One more attempt, in the time that is left; None where there is none, or nobody waits.

        Raises:
            RequestError: It cannot do with so little output.
        """
        left_s = self._until - time.monotonic()
        if self._is_over or left_s <= 0:
            return None
        calls = sum(not each.unsent for each in self.exchanges) + 1
        job = self._job(planned, hold, before, attempts=calls)
        timeouts = replace(job.timeouts, total=min(job.timeouts.total, left_s))
        return msgspec.structs.replace(job, timeouts=timeouts)

    def _answers(self) -> None:
        """An attempt besides the first that brings an answer, or is not made, makes no outage worse."""
        if self._extra:
            self._extra = False
            self._worker.budget.give_back()

    async def _unsent(self) -> None:
        """The attempt was not made: it used up nothing, nor did its model, where that was not asked before."""
        self._answers()
        if self._tried == 1:
            await self._without()

    def _step(self) -> attempts.Step:
        """What follows the last attempt."""
        last, error = self.last, self.last.error
        if error is None or last.end is None or self._is_over or self._client.started:
            return attempts.STOP
        now, target = time.monotonic(), self._now.target
        # An upstream that is to be left alone since a moment ago was not asked: another one may be.
        end = End.REFUSED if last.end is End.UNSENT and isinstance(error, UpstreamError) else last.end
        status = error.upstream_status if isinstance(error, UpstreamError) else None
        cost = self._cost
        self._look_ahead(alike=bool(cost) or error.status in attempts.ITS_OWN_FAULT)
        rests_s = self._worker.health.admits(target.key, target.model_name)
        again = not self._is_elsewhere and (not rests_s or status == 429)
        may = self._worker.budget.take(now)
        step = attempts.decide(
            attempts.Failure(
                end=end,
                status=status,
                retryable=error.retryable,
                retry_after_s=max(_retry_after_s(error) or 0.0, rests_s) if rests_s else _retry_after_s(error),
                cost=cost,
            ),
            attempts.Left(
                retries=target.provider.retries + 1 - self._tried if again else 0,
                others=0 if self._ahead is None else 1,
                seconds=self._until - now,
                budget=may,
            ),
            tried=self._tried,
            chance=self._worker.chance(),
        )
        self._extra = may and step.kind != "stop"
        if may and not self._extra:
            self._worker.budget.give_back()
        return step

    @property
    def _cost(self) -> int:
        """What the last attempt is charged."""
        return self.settlement().amount - (self.job.before.amount if self.job.before is not None else 0)

    def _look_ahead(self, *, alike: bool) -> None:
        """Who would be next: where ``alike``, not another upstream of the same model, which would do no better."""
        if self._ahead is None:
            self._ahead = self._lineup.next()
        while alike and self._is_elsewhere:
            self._ahead = self._lineup.next()

    @property
    def _is_elsewhere(self) -> bool:
        """Whether who would be next is another upstream of the same model: to ask it is a retry that need not wait."""
        return self._ahead is not None and self._ahead.target.id == self._now.target.id

    async def _again(self, after_s: float, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> Job | None:
        """Wait, and ask the same target again, under the hold that is there; None where it is not any more."""
        waiting = self._waiting = guard(loop)
        try:
            await waiting.run(anyio.sleep(after_s))
        finally:
            waiting.close()
        return self._in_time(self._now, self.job.hold, self.settlement()) if lease.covers(self._term) else None

    async def _next(self, lease: Lease) -> Job | None:
        """Hold for the next target that there is room for; None where there is none."""
        before = self.settlement()
        if self._cost:
            self._paid = ceilings.joined(self._paid, self._now.scope)
        while self._ahead is not None:
            then, self._ahead = self._ahead, None
            if not await self._admits(then):
                self._ahead = self._lineup.next()
                continue
            # What was spent on the attempts before stays charged where it was, beside what the next one is held in.
            scope = ceilings.joined(self._paid, then.scope)
            result = await self._held(lease, then, before, scope)
            job = None
            if result is not None and result.status == "done":
                with suppress(RequestError):  # it cannot do with so little output as there is room for
                    job = self._in_time(then, result.amount, before)
            if job is not None:
                self._now, self._tried, self._scope = then, 0, scope
                return job
            if result is None or result.status == "done":  # nothing is sent: the entry is the last attempt's again
                await self._put_back(lease, before.amount + min(then.bound.want, then.bound.floor), scope)
            await self._without()
            if self._is_over or self._is_late or result is None or result.status not in {"done", "refused"}:
                return None
            self._ahead = self._lineup.next()
        return None

    async def _held(self, lease: Lease, then: Plan, before: Settlement, scope: Scope | None) -> Result | None:
        """
        Give the hold what was spent and what a target can cost, or as much as there is room for where its cap is ours,
        or is clamped.

        Returns:
            ``done`` with what it is now; None where nobody can tell.
        """
        want, floor, rest = then.bound.want, then.bound.floor, then.bound.clamped
        orphan = before.amount + then.bound.orphan_amount
        result = await self._resized(lease, then, before.amount + want, orphan, scope)
        if result is not None and result.status == "refused" and floor < want:
            least = quota.granted(want, floor, self.job.hold + result.available - before.amount, rest=rest)
            if least is not None:
                result = await self._resized(lease, then, before.amount + least, orphan, scope)
        return result

    async def _resized(self, lease: Lease, whose: Plan, amount: int, orphan: int, scope: Scope | None) -> Result | None:
        """Give the hold another amount, for another target; None where nobody can tell what became of it."""
        first, back = self._reserved.draft, None
        resize = self._resize(amount, orphan, whose.draft(first), scope)
        if whose is not self._now:  # no more than it has either way, since somebody may take what is given back
            least, pays = min(self.job.hold, amount), self._paid or self._scope
            back = self._resize(least, 0, self._now.draft(first), pays)
        return await self._apply(lease, resize, back)

    async def _put_back(self, lease: Lease, least: int, scope: Scope | None) -> None:
        """
        Make the hold the last attempt's again, so that no model pays which was not asked.

        Args:
            lease: The worker's.
            least: What it has at least now: where the room that it gave back is gone meanwhile, it keeps this, in those
                accounts that pay, which always fits.
            scope: What it is in now.
        """
        draft = self._now.draft(self._reserved.draft)
        lesser = self._resize(min(self.job.hold, least), 0, draft, self._paid or scope)
        result = await self._apply(lease, self._resize(self.job.hold, 0, draft, self._scope), lesser)
        if result is not None and result.status == "refused":
            await self._apply(lease, msgspec.structs.replace(lesser, attempt=self._resizes + 1))


def _retry_after_s(error: GatewayError) -> float | None:
    """How long an upstream wants to be left alone; it was read as a number before it got here."""
    found = error.headers.get("Retry-After")
    return float(found) if found is not None else None
