"""
What carries out a request: one exchange with a model, or several, one after the other; one hold, one ledger entry.

What there is to do after the first exchange is the affair of a :class:`~hpp_middleware.stages.attempts.chain.Chain`, or
a :class:`~hpp_middleware.stages.attempts.cascade.Cascade`. Here stands what both are to the path: it hears one client
for all exchanges, and the last one speaks for all.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import msgspec

from hpp_middleware.core.ceilings import Scope
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import GatewayError, StoreError
from hpp_middleware.ports import Client
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.attempts.means import Means
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.relay.exchange import Exchange
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle.settling import Ending, Pending
from hpp_middleware.stages.tasks.guard import Guard
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.types.operations import Reserve, Resize, Result
from hpp_middleware.types.quota import Draft
from hpp_middleware.types.replay import Answer

__all__ = ["Carried"]


class Carried(ABC):
    """
    One request, as it is carried out.

    Args:
        means: What it is carried out with.
        planned: The first call.
        reserved: What is reserved for it.

    Attributes:
        exchanges: Those that there were so far.
        last: The one that runs, or was the last to.
        job: What it is to do; there once there is a hold.
        ending: The end of the response: who reads the account then waits until it is settled.
        amends: What puts the hold back for who was asked last, where nobody knows whether it has left there; else None.
    """

    exchanges: list[Exchange]
    last: Exchange
    job: Job
    amends: Resize | None = None
    _left = _dismissed = _expired = False
    _raised: Exception | None = None
    _waiting: Guard | None = None  # for the next exchange
    _resizes = 0
    _is_counted = True  # whether there may be other calls behind the first
    _started = 0.0
    _took_s: float | None = None  # where the first exchange was not all
    _term = 0

    def __init__(self, means: Means, planned: Plan, reserved: Reserve) -> None:
        self._means = means
        self._client = means.client
        self._now = planned
        self._reserved = reserved
        claim = reserved.claim
        self.ending = Ending(means.worker.pending, reserved.accounts[0], claim.key if claim is not None else None)

    def under(self, hold: int) -> None:
        """
        The hold is there, of so many nano-dollars.

        Raises:
            RequestError: It cannot do with so little output.
        """
        self.job = self.last.job = self._job(self._now, hold, attempts=1 if self._is_counted else 0)
        self._started = time.monotonic()
        if self._is_counted:
            self._means.worker.budget.request(self._started)

    @property
    def _worker(self) -> Worker:
        return self._means.worker

    @property
    def duration_s(self) -> float:
        """How long it took, all in all."""
        return self.last.duration_s if self._took_s is None else self._took_s

    @property
    def priced(self) -> bool:
        """Whether each attempt is kept with its price: else the entry's own is the only one that there was."""
        return len(self.exchanges) > 1 or self._resizes > 0

    @property
    def error(self) -> GatewayError | None:
        """What the client is to be told: the last provider's error, where the last call was not sent at all."""
        error = self.last.error
        if isinstance(error, StoreError) and len(self.exchanges) > 1:
            return self.exchanges[-2].error or error
        return error

    @property
    def answer(self) -> Answer | None:
        """The whole answer; None where it was not recorded, or broke off."""
        return self.last.answer

    def so_far(self) -> int:
        """What it would be charged if it broke off now."""
        return self.last.so_far() if self.last.end is None else self.last.settlement().amount

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """
        What all exchanges are charged.

        Args:
            host_left: What it counts as that the host cancelled it.
        """
        return self.last.settlement(host_left=host_left)

    def tokens(self, ended: Settlement) -> dict[str, int]:
        """
        How many tokens each model came to, by its id.

        Args:
            ended: What all exchanges are charged.
        """
        found: dict[str, int] = {}
        for each in self.exchanges:
            charged, before = ended if each is self.last else each.settlement(), each.job.before
            own = charged.usage.total - (before.usage.total if before is not None else 0)
            found[each.job.target.id] = found.get(each.job.target.id, 0) + own
        return found

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
        self._ends()
        self.last.dismiss()
        self._wake()

    def expire(self, error: GatewayError) -> None:
        """Our own time is up: nothing more is asked."""
        self._expired = True
        self.last.expire(error)
        self._wake()

    async def run(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Carry out the job, and what follows from how it ended.

        Args:
            lease: It must not run out meanwhile.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        """
        self._term = lease.term
        await self.last.run(lease, loop)
        if self._goes_on():
            try:
                await self._go_on(lease, loop)
            finally:
                self._took_s = time.monotonic() - self._started
        if self._raised is not None:
            raise self._raised

    @abstractmethod
    def _goes_on(self) -> bool:
        """Whether the first exchange may not have been all."""

    @abstractmethod
    async def _go_on(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """What there is to do after the first exchange."""

    def _wake(self) -> None:
        """What waits between two exchanges need not."""
        if self._waiting is not None:
            self._waiting.stop()

    def _depart(self) -> None:
        """The client has left."""
        self._left = True
        self._ends()
        self.last.depart()
        self._wake()

    def _ends(self) -> None:
        """Nobody waits for more, be it that a call runs, or one whose answer is kept back, or none at the moment."""
        if self._started:  # before that nothing was held
            self.ending.begin()

    async def _admits(self, then: Plan) -> bool:
        """Take what a further model's own limits ask; False where one of them is reached."""
        admission = self._means.admission
        return admission is None or await admission.also(then.target.id, then.bound)

    async def _without(self) -> None:
        """Give that back: the model is not asked after all."""
        if self._means.admission is not None:
            await self._means.admission.without()

    def _resize(self, amount: int, orphan: int, draft: Draft, scope: Scope | None) -> Resize:
        """The next resize: what the hold is to be, whose the entry is, and in which accounts, where that changes."""
        resize = Resize(id=self.job.id, attempt=self._resizes + 1, amount=amount, orphan_amount=orphan, draft=draft)
        if scope is None:
            return resize
        draft = msgspec.structs.replace(draft, also=scope.accounts[1:])
        return msgspec.structs.replace(resize, accounts=scope.accounts, limits=scope.limits, draft=draft)

    async def _apply(self, lease: Lease, resize: Resize, back: Resize | None = None) -> Result | None:
        """
        Carry a resize out.

        Args:
            lease: The worker's.
            resize: What to do.
            back: What undoes it, should nobody know whether it was done; by default the same once more.
        Returns:
            None where nobody can tell what became of it.
        """
        self._resizes += 1
        self.amends = resize if back is None else msgspec.structs.replace(back, attempt=self._resizes + 1)
        try:
            (result,) = await lease.apply([resize])
        except StoreError:
            return None
        if result.id != resize.id:
            return None
        self.amends = None
        return result

    def _job(self, planned: Plan, hold: int, before: Settlement | None = None, *, attempts: int = 0) -> Job:
        """What to do by a plan, under a hold, after what the calls before it were charged."""
        setup = self._means.setup
        return planned.job(
            self._reserved.accounts[0],
            hold,
            missing_usage=setup.missing_usage,
            cost_in=setup.cost_in,
            keyed=self._means.keyed.claim is not None,
            before=before,
            keep_alive=setup.keep_alive,
            attempts=attempts,
        )

    def _exchange(
        self,
        planned: Plan,
        client: Client,
        job: Job | None = None,
        *,
        kept: bool = False,
        late: bool = False,
        began: Callable[[], None] | None = None,
    ) -> Exchange:
        """
        One more exchange, which is not begun yet.

        Args:
            planned: The call.
            client: Where its answer goes.
            job: What it is to do; the first one's is there once there is a hold.
            kept: Whether the answer is kept back: then it is not the response that ends with it.
            late: See :class:`~hpp_middleware.stages.relay.exchange.Exchange`.
            began: Likewise.
        """
        ending, record = self.ending, self._means.keyed.record
        if kept:
            ending, record = Ending(Pending(), ""), self._means.keyed.another()
        found = Exchange(self._means, planned, client, ending, record)
        found.late, found.began = late, began
        if job is not None:
            self.job = found.job = job
        self.last = found  # which speaks for all from here on, and so knows what it is to do
        self.exchanges.append(found)
        return found
