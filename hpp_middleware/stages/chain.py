"""
Chain: one request, and as many attempts as it takes and may have: one hold, one deadline, one ledger entry.

A failed attempt is followed by another as long as the client has seen nothing of an answer; which, is
:mod:`hpp_middleware.core.attempts`' to decide. Another model is asked only under a hold for what was spent so far and
all that it can cost, by the same atomic step as any other. What each attempt cost is charged, at its own model's price.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import anyio
import msgspec

from hpp_middleware.core import attempts, ceilings, quota
from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError, RequestError, StoreError, UpstreamError
from hpp_middleware.ports import Client
from hpp_middleware.stages.further import Further
from hpp_middleware.stages.guard import Guard, guard
from hpp_middleware.stages.health import Health
from hpp_middleware.stages.job import Job
from hpp_middleware.stages.lease import Lease
from hpp_middleware.stages.limits import Admission
from hpp_middleware.stages.line import Line
from hpp_middleware.stages.relay import Exchange
from hpp_middleware.stages.replay import Record
from hpp_middleware.stages.worker import Worker
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.operations import Resize, Result
from hpp_middleware.types.replay import Answer

__all__ = ["Chain"]

LEAST_S = 0.001
"""A deadline that has just run out is one still."""


class Chain:
    """
    Several exchanges in the place of one: see :class:`~hpp_middleware.stages.relay.Exchange`, whose words it has.

    Args:
        first: Whom to ask first.
        others: Whom to ask then, each ready to be asked when its turn comes.
        client: Where the answer goes.
        worker: This event loop's.
        record: Keeps the answer, that it can be given again.
        health: Whether the providers may be asked.
        admission: Takes what another model's own limits ask; None where nothing is limited.

    Attributes:
        exchanges: The attempts so far.
        duration_s: How long it took, all in all.
    """

    duration_s = 0.0
    _job: Job
    _until = 0.0

    def __init__(
        self,
        first: Further,
        others: Iterator[Further],
        client: Client,
        *,
        worker: Worker,
        record: Record | None = None,
        health: Health | None = None,
        admission: Admission | None = None,
    ) -> None:
        self._now = first
        self._scope = first.scope  # what the hold is in
        self._others = others
        self._client = client
        self._worker = worker
        self._record = record
        self._health = health
        self._admission = admission
        self._ahead: Further | None = None
        self._tried = 0
        self._extra = False  # whether the attempt that runs was taken from the worker's budget
        self._left = self._dismissed = self._expired = False
        self._waiting: Guard | None = None
        self._raised: Exception | None = None
        self._resizes = 0
        self.exchanges: list[Exchange] = []
        self._begin()

    @property
    def job(self) -> Job:
        """What to do now; the first is to be set when there is a hold."""
        return self._job

    @job.setter
    def job(self, job: Job) -> None:
        self._job = self._last.job = msgspec.structs.replace(job, attempts=len(self.exchanges))
        self._line.quiet_s = None if job.keep_alive is None else job.keep_alive.after

    @property
    def _last(self) -> Exchange:
        return self.exchanges[-1]

    @property
    def priced(self) -> bool:
        """Whether each attempt is kept with its price: else the entry's own is the only one that there was."""
        return self._resizes > 0 or len(self.exchanges) > 1

    @property
    def error(self) -> GatewayError | None:
        """What the client is to be told: the last provider's error, where the last attempt was not sent at all."""
        error = self._last.error
        if isinstance(error, StoreError) and len(self.exchanges) > 1:
            return self.exchanges[-2].error
        return error

    @property
    def ending(self) -> bool:
        """Whether the worker was told that the response is about to end."""
        return any(each.ending for each in self.exchanges)

    @property
    def seen(self) -> Seen:
        """What the last answer showed."""
        return self._last.seen

    @property
    def first_byte_s(self) -> float | None:
        """How long the last provider took to begin its answer."""
        return self._last.first_byte_s

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None where it was not recorded, or broke off."""
        return self._last.answer

    def so_far(self) -> int:
        """What it would be charged if it broke off now."""
        return self._last.so_far() if self._last.end is None else self._last.settlement().amount

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """What all attempts are charged."""
        return self._last.settlement(host_left=host_left)

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
        self._wake()

    def expire(self, error: GatewayError) -> None:
        """Our own time is up: nothing more is tried."""
        self._expired = True
        self._last.expire(error)
        self._wake()

    def _depart(self) -> None:
        self._left = True
        self._line.leave()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()

    @property
    def _is_over(self) -> bool:
        return self._left or self._dismissed or self._expired

    async def run(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Carry out the job, again or otherwise where it fails.

        Args:
            lease: It must not run out meanwhile.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        """
        started = time.monotonic()
        term = lease.term
        self._until = started + self.job.timeouts.total
        self._worker.budget.request(started)
        try:
            await self._last.run(lease, loop)
            while (step := self._step()).kind != "stop":
                following = self._again(step.after_s, lease, loop, term) if step.kind == "again" else self._next(lease)
                job = await following
                if job is None or self._is_over:
                    self._answers()  # there is no attempt after all
                    break
                self._begin(job)
                await self._last.run(lease, loop)
        finally:
            self.duration_s = time.monotonic() - started
        if self._raised is not None:
            raise self._raised

    def _begin(self, job: Job | None = None) -> None:
        """The next attempt is about to be made; the first has its job later."""
        now = self._now
        self._tried += 1
        self._line = Line(self._client, late=True, began=self._answers)
        exchange = Exchange(
            now.target,
            now.dialect,
            now.transport,
            self._line,
            pending=self._worker.pending,
            slots=self._worker.slots,
            record=self._record,
            health=self._health,
        )
        exchange.hear()
        self.exchanges.append(exchange)
        if job is not None:
            left_s = max(self._until - time.monotonic(), LEAST_S)
            timeouts = replace(job.timeouts, total=min(job.timeouts.total, left_s))
            self.job = msgspec.structs.replace(job, timeouts=timeouts)

    def _answers(self) -> None:
        """An attempt besides the first that brings an answer, or is not made, makes no outage worse."""
        if self._extra:
            self._extra = False
            self._worker.budget.give_back()

    def _step(self) -> attempts.Step:
        """What follows the last attempt."""
        last, error = self._last, self._last.error
        if error is None or last.end is None or self._is_over or self._line.started:
            return attempts.STOP
        now, target = time.monotonic(), self._now.target
        # An upstream that is to be left alone since a moment ago was not asked: another one may be.
        end = End.REFUSED if last.end is End.UNSENT and isinstance(error, UpstreamError) else last.end
        status = error.upstream_status if isinstance(error, UpstreamError) else None
        cost = self.settlement().amount - (self.job.before.amount if self.job.before is not None else 0)
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

    def _look_ahead(self, *, alike: bool) -> None:
        """Who would be next: where ``alike``, not another upstream of the same model, which would do no better."""
        if self._ahead is None:
            self._ahead = next(self._others, None)
        while alike and self._is_elsewhere:
            self._ahead = next(self._others, None)

    @property
    def _is_elsewhere(self) -> bool:
        """Whether who would be next is another upstream of the same model: to ask it is a retry that need not wait."""
        return self._ahead is not None and self._ahead.target.id == self._now.target.id

    async def _again(
        self, after_s: float, lease: Lease, loop: asyncio.AbstractEventLoop | None, term: int
    ) -> Job | None:
        """Wait, and ask the same target again, under the hold that is there; None where it is not any more."""
        waiting = self._waiting = guard(loop)
        try:
            await waiting.run(anyio.sleep(after_s))
        finally:
            waiting.close()
        return self._now.job(self.job.hold, self.settlement()) if lease.covers(term) else None

    async def _next(self, lease: Lease) -> Job | None:
        """Hold for the next target that there is room for; None where there is none."""
        before = self.settlement()
        while self._ahead is not None:
            then, self._ahead = self._ahead, None
            if self._admission is not None and not await self._admission.also(then.target.id, then.bound):
                self._ahead = next(self._others, None)
                continue
            # What was spent on the attempts before stays charged where it was, beside what the next one is held in.
            scope = ceilings.joined(self._scope, then.scope) if before.amount else then.scope
            result = await self._held(lease, then, before, scope)
            done = result is not None and result.status == "done"
            if self._is_over or result is None or result.status not in {"done", "refused"}:
                if done or result is None:  # nothing is sent: the entry is the last attempt's again
                    await self._resized(lease, self._now, self.job.hold, 0, self._scope)
                return None
            if done:
                try:
                    job = then.job(result.amount, before)
                except RequestError:  # it cannot do with so little output as there is room for
                    await self._resized(lease, self._now, self.job.hold, 0, self._scope)
                else:
                    self._now, self._tried, self._scope = then, 0, scope
                    return job
            if self._admission is not None:
                await self._admission.without(then.target.id)
            self._ahead = next(self._others, None)
        return None

    async def _held(self, lease: Lease, then: Further, before: Settlement, scope: Scope | None) -> Result | None:
        """
        Give the hold what was spent and what a target can cost, or as much as there is room for where its cap is ours,
        or is clamped.

        Returns:
            ``done`` with what it is now; None where nobody can tell.
        """
        want, floor, rest = then.operation.want, then.operation.floor, then.operation.rest
        orphan = before.amount + then.operation.orphan_amount
        result = await self._resized(lease, then, before.amount + want, orphan, scope)
        if result is not None and result.status == "refused" and floor < want:
            least = quota.granted(want, floor, self.job.hold + result.available - before.amount, rest=rest)
            if least is not None:
                result = await self._resized(lease, then, before.amount + least, orphan, scope)
        return result

    async def _resized(
        self, lease: Lease, whose: Further, amount: int, orphan: int, scope: Scope | None
    ) -> Result | None:
        """Give the hold another amount, for another target; None where nobody can tell what became of it."""
        self._resizes += 1
        resize = Resize(
            id=self.job.id,
            attempt=self._resizes,
            amount=amount,
            orphan_amount=orphan,
            draft=whose.operation.draft,
        )
        if scope is not None:
            draft = msgspec.structs.replace(resize.draft, also=scope.accounts[1:])
            resize = msgspec.structs.replace(resize, draft=draft, accounts=scope.accounts, limits=scope.limits)
        try:
            (result,) = await lease.apply([resize])
        except StoreError:
            return None
        return result if result.id == resize.id else None


def _retry_after_s(error: GatewayError) -> float | None:
    """How long an upstream wants to be left alone; it was read as a number before it got here."""
    found = error.headers.get("Retry-After")
    return float(found) if found is not None else None
