"""
Relay: one exchange between a client and a provider, from the first byte sent to the last one passed on.

Whatever happens, the exchange ends with an :class:`~hpp_middleware.core.settlement.End`, closes its upstream, and
leaves the settling to the path. A departure (the client's, or that of a host which cancels what it no longer waits for:
both are one thing here) and every deadline stop one guard; what ended it is read off afterwards.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hpp_middleware.core import relay, relay_cost, reply, sse
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.core.verdict import verdict
from hpp_middleware.errors import GatewayError, OverloadedError, StoreError, UpstreamError
from hpp_middleware.ports import Client, StreamReader
from hpp_middleware.stages.attempts.job import Job
from hpp_middleware.stages.relay.delivery import Delivery
from hpp_middleware.stages.relay.drain import Drain
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle.replay import Record
from hpp_middleware.stages.settle.settling import Ending
from hpp_middleware.stages.tasks.guard import NEVER, Guard, guard
from hpp_middleware.stages.upstream.call import Upstream
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.replay import Answer

if TYPE_CHECKING:
    from hpp_middleware.stages.attempts.means import Means
    from hpp_middleware.stages.attempts.plan import Plan

__all__ = ["Exchange"]


class Exchange:
    """
    One exchange.

    Args:
        means: What the request is carried out with.
        planned: The call.
        client: Where the answer goes; its departure is told by :meth:`depart`.
        ending: Told when the response is about to end.
        record: Keeps the answer, that it can be given again.

    Attributes:
        job: What to do; to be set when there is a hold.
        planned: How it was planned.
        end: How it ended; None while it runs, and where the host cancelled it.
        status: The upstream's; None where it gave none.
        seen: What the answer has shown: once it is over, or what of it is no stream.
        error: What the client is to be told, or was told as the last event of its stream.
        duration_s: How long it took.
        first_byte_s: How long the provider took to begin its answer; None where it did not.
        late: Whether the head of a stream waits for its first event, so that one which breaks before that may be begun
            anew; but not for longer than the client is left without a sign of life.
        began: Called when there is an answer: of a stream, its first event, and not a sign of life before it.
    """

    job: Job
    end: End | None = None
    status: int | None = None
    seen = Seen()
    error: GatewayError | None = None
    duration_s = 0.0
    first_byte_s: float | None = None
    late = False
    began: Callable[[], None] | None = None
    _started = 0.0
    _reader: StreamReader | None = None
    _settled: Settlement | None = None
    _over = _no_slot = _dismissed = False
    _expired: GatewayError | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _guard: Guard | None = None  # there once there is a hold
    _drain: Drain | None = None
    _raised: Exception | None = None

    def __init__(self, means: "Means", planned: "Plan", client: Client, ending: Ending, record: Record | None) -> None:
        worker, transport, target = means.worker, means.transport, planned.target
        if transport is None:
            self._upstream = Upstream(target, worker.transports[target.key], worker.health)
        else:
            self._upstream = Upstream(target, transport)  # of a host's app in process there is no health
        self.planned = planned
        self._worker = worker
        self._client = client
        self._ending = ending
        self._delivery = Delivery(client, record)

    @property
    def unsent(self) -> bool:
        """Whether nothing was to be sent any more when its turn came; not so where its provider was not reached."""
        return self.end is End.UNSENT or (self.end is None and not self._upstream.sent)

    def seen_so_far(self) -> Seen:
        """What the answer has shown by now."""
        reader = self._reader
        return self.seen if reader is None or self._over else reader.seen

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """
        What this exchange is charged.

        Args:
            host_left: What it counts as that the host cancelled it.
        """
        end = self.end or (host_left if self._upstream.sent else End.UNSENT)
        return self._settled or self.job.charge(end, self.seen_so_far())

    @property
    def answer(self) -> Answer | None:
        """The whole answer, sent or not; None where it was not recorded, or broke off."""
        whole = self.error is None and (self._reader.done if self._reader is not None else self._over)
        record = self._delivery.record
        return record.answer if record is not None and whole else None

    def so_far(self) -> int:
        """What it would be charged if it broke off now, in nano-dollars, as far as it is held for."""
        return min(self.job.hold, self.job.charge(End.DEADLINE, self.seen_so_far()).amount)

    async def run(self, lease: Lease, loop: asyncio.AbstractEventLoop | None) -> None:
        """
        Carry out the job, in a task beside the request's own.

        Args:
            lease: It must not run out meanwhile.
            loop: The event loop that runs, where it is asyncio's or takes its place.
        """
        job, upstream, delivery = self.job, self._upstream, self._delivery
        self._started = time.monotonic()
        self._loop = loop
        around = self._guard = guard(loop)
        upstream.within(job.timeouts, around, lease)
        try:
            if not delivery.left and (shut := upstream.closed_off()) is not None:
                self._fail(shut, End.UNSENT)
            elif not delivery.left:
                delivery.begin(around, guard(loop) if job.drains() else None, job.limits.send_s, self.depart)
                await around.run(self._converse())
        finally:
            self._close(around)
            await upstream.aclose()
        if self._raised is not None:
            raise self._raised
        if self.error is not None and self._client.started and not self._delivery.left:
            await self._last_words(self.error)

    def _close(self, around: Guard) -> None:
        if self._reader is not None and not self._over:
            self.seen = self._reader.seen
        self._over = True
        self.duration_s = time.monotonic() - self._started
        around.close()
        self._delivery.close()
        if self._drain is not None:
            self._worker.slots.end(self._drain)
        if self.end is None:
            self._interrupted()
        self._tell()

    def _tell(self) -> None:
        """What the provider's health is to go by."""
        usage, wrote_s, first_byte_s = self.seen.usage, self.duration_s, self.first_byte_s
        wrote_s -= (first_byte_s or 0.0) if self.job.request.stream else 0.0
        tokens = usage.completion if usage is not None else 0
        ok = True if self.end is End.COMPLETED else self._verdict()
        token_s = wrote_s / tokens if tokens else None
        self._upstream.ended(self.error, ok=ok, first_byte_s=first_byte_s, token_s=token_s)

    def _verdict(self) -> bool | None:
        own, kept, flowing = self.job.target.provider.timeouts, self.job.timeouts, self._upstream.flowing
        return verdict(self.end, self.error, own=own, kept=kept, flowing=flowing, duration_s=self.duration_s)

    def dismiss(self) -> None:
        """The host has cancelled the request: a departure, of a client or of a caller who waits for nothing more."""
        if self._client.patient and not self._over:
            reader = self._reader
            if reader is not None and self._client.started:  # a server that stops cancels what it does not await
                self._delivery.at_once(lambda: reader.failed(OverloadedError("The server has given up this answer.")))
            self.depart()
        else:
            self._dismissed = True
            self._delivery.left = self._delivery.left or self._guard is None
            self._stop()

    def expire(self, error: GatewayError) -> None:
        """Our own time is up: what was sent is charged as at any deadline, and the client is told why it is all."""
        if not self._over:
            self._expired = error
            self._stop()

    def depart(self) -> None:
        """The client has left: stop, or read on as far as the settlement table says."""
        if self._delivery.left or self._over:
            return
        self._delivery.left = True
        if self._guard is None:
            return  # there is no hold yet, and nothing is going to be sent
        self._ending.begin()
        limits = self.job.limits
        if not self._upstream.sent or not self._client.patient:
            self._stop()  # nothing is paid for yet; or nobody is to wait
        elif not self.job.request.stream:
            self._upstream.around.limit(limits.json_wait_s)
        elif self.seen_so_far().finished:
            self._upstream.around.limit(limits.usage_wait_s)
        else:
            self._read_on(self._guard)
        self._delivery.stop()

    def _read_on(self, around: Guard) -> None:
        """Drain the stream, where its provider bills it either way and a slot is free; else close it."""
        provider = self.job.target.provider
        if self.job.drains():
            self._drain = self._worker.slots.begin(self.job.account, most_bytes=provider.drain_bytes, stop=around.stop)
            self._no_slot = self._drain is None
        if self._drain is not None:
            self._upstream.around.limit(provider.drain_s)
        else:
            around.stop()

    def _stop(self) -> None:
        self._upstream.unwanted = True  # a request that is about to go out is not overtaken by a cancellation
        if self._guard is not None:
            self._guard.stop()

    async def _converse(self) -> None:
        upstream = self._upstream
        try:
            await upstream.send(self.job.call)
            self.first_byte_s, self.status = time.monotonic() - self._started, upstream.status
            job, stream = self.job, self.job.request.stream
            unlike = stream and not upstream.is_stream(job.call.stream_type)
            if self.status != 200 or unlike or not upstream.is_readable:
                await self._refused()
            elif stream:
                reader, rest = self._stream()
                if rest is not None:
                    await rest
                await self._delivery.kept_up(self._flow(reader), reader, job.keep_alive, self._loop)
            elif (rest := self._json(await upstream.read_all(job.response_bytes()))) is not None:
                await rest
        except StoreError as unsent:  # the lease ran out, or the client left, before anything was sent
            self._fail(self._expired or unsent, End.UNSENT)
        except UpstreamError as fault:
            upstream.tell(fault, self.job.id)
            late = fault.status == 504 and upstream.sent and upstream.status is None
            self._fail(fault, self._lapse() if late else self._broken())
        except relay.ProtocolError:
            self._fail(upstream.unintelligible(), self._broken())
        except relay.StreamedError as told:
            self.seen = told.args[1] if len(told.args) > 1 else self.seen
            end = self._broken() if self.seen_so_far().relayed_bytes else End.REFUSED
            self._fail(reply.streamed_error(self.job.target.provider_name, told.args[0]), end)
        except Exception as raised:  # noqa: BLE001  # the client's; raised again where no task group wraps it
            self._raised = raised

    async def _refused(self) -> None:
        """What is no answer, by its head."""
        upstream = self._upstream
        if not upstream.is_readable or self.status == 200:
            if upstream.is_readable:
                self.seen = self.planned.usage_in(await upstream.read_all(self.job.limits.response_bytes, or_cut=True))
            self._fail(upstream.unintelligible(), End.REFUSED)
            return
        error, body = await upstream.refusal(getattr(self.planned.dialect, "refusal", None))
        self.seen = self.planned.usage_in(body)
        self._fail(error, End.REFUSED)

    def _json(self, body: bytes) -> Awaitable[None] | None:
        """Pass a whole answer on; what is left to be awaited for that, which mostly is nothing."""
        job = self.job
        if not body.lstrip().startswith(b"{"):
            self.seen = self.planned.usage_in(body)  # of a page of somebody else's nothing: no model has run
            self._fail(self._upstream.unintelligible(), End.REFUSED)
            return None
        try:
            answer, self.seen = self.planned.dialect.answer(
                body, job.request, job.target, charge=self._shown(), request_id=job.id
            )
        except relay.ProtocolError:
            self.seen = self.planned.usage_in(body)
            raise
        self.end = End.LEFT if self._delivery.left else End.COMPLETED
        self._settled = job.charge(self.end, self.seen)  # nothing that comes changes it any more
        if self.began is not None:
            self.began()
        head = [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))]
        head += job.headers(self._settled.amount)
        self._over = True
        self._ending.begin()
        return self._delivery.whole(head, answer)

    def _stream(self) -> tuple[StreamReader, Awaitable[None] | None]:
        """Begin to pass a stream on: what reads it, and what is left to be awaited for its head."""
        job = self.job
        reader = self._reader = job.reader(self.planned.dialect, self._shown())
        headers = [*reply.STREAM_HEADERS, *job.headers()]
        quiet_s = job.keep_alive.after if job.keep_alive is not None else NEVER
        return reader, self._delivery.start(headers, quiet_s if self.late else None)

    async def _flow(self, reader: StreamReader) -> None:
        """Pass the stream on, to its end."""
        upstream, delivery = self._upstream, self._delivery
        while not self._over:
            chunk = await upstream.read()
            drain = self._drain
            piece = chunk if drain is None else drain.within(chunk)
            try:
                data = reader.feed(piece) if chunk else reader.close()
            except (relay.ProtocolError, relay.StreamedError) as error:
                if (rest := delivery.send(error.before)) is not None:
                    await rest
                raise
            if not upstream.flowing and sse.has_event(data):  # a comment is no beginning
                upstream.begins(time.monotonic() - self._started)
                if self.began is not None:
                    self.began()
            if reader.done:
                self._ends(reader)
            elif drain is not None and self._is_drained(drain, reader):
                return
            if (rest := delivery.send(data, more=not self._over)) is not None:
                await rest
        await self._worker.answering.give_way(self._loop)
        if not reader.cut:
            await upstream.drain()

    def _ends(self, reader: StreamReader) -> None:
        """The end mark is about to be passed on."""
        whole, left = (End.CUT, End.UNAWAITED) if reader.cut else (End.COMPLETED, End.LEFT)
        self.end = left if self._delivery.left else whole
        self.seen, self._over = reader.seen, True
        self._ending.begin()

    def _is_drained(self, drain: Drain, reader: StreamReader) -> bool:
        """Whether no more is read of what nobody waits for."""
        if drain.exceeded:
            self.end = self._unawaited()
        elif reader.seen.finished:
            self._upstream.around.limit(self.job.limits.usage_wait_s)
        return drain.exceeded

    def _broken(self) -> End:
        """How an upstream's fault counts: by whether an answer had begun, and whether we waited too long for it."""
        if self.end is not None:
            return self.end
        if self._delivery.left and (self._upstream.begun or self._upstream.around.stopped):
            return End.LEFT
        return End.BROKEN if self._upstream.begun else End.REFUSED  # that nobody waits makes no answer of none

    def _fail(self, error: GatewayError, end: End) -> None:
        """The first failure counts; one after the end mark changes nothing."""
        if self.end is None:
            self.end, self.error = end, error

    def _interrupted(self) -> None:
        """The scope was cancelled: by a departure, or by a deadline."""
        if self._dismissed:
            return  # not a client: the path knows what it counts as
        if self._expired is not None and not self._delivery.left:
            self._fail(self._expired, End.DEADLINE if self._upstream.sent else End.UNSENT)
            return
        delivery = self._delivery
        is_late = delivery.opened and time.monotonic() >= self._started + self.job.timeouts.total
        if delivery.left or (delivery.sending and not is_late):  # a reader that stands still has left, too
            delivery.left = True
            self.end = self._unawaited() if self._upstream.sent else End.UNSENT
            return
        self._fail(self._upstream.late(self._raised), self._lapse() if self._upstream.sent else End.REFUSED)

    def _lapse(self) -> End:
        """How it counts that a deadline ran out after sending."""
        return self.planned.lapse(self.job, time.monotonic() - self._started, flowing=self._upstream.flowing)

    def _unawaited(self) -> End:
        """How it counts that an answer was not read to its end."""
        if not self.job.request.stream:
            return End.UNAWAITED if self._client.patient else End.LEFT
        bills_all = self.job.target.provider.on_disconnect == "drain"  # which a key alone does not change
        drained = bills_all and (self._drain is not None or self._no_slot)
        return End.UNAWAITED if drained and not self.seen_so_far().finished else End.LEFT

    async def _last_words(self, error: GatewayError) -> None:
        """One error event, and no end mark."""
        self._ending.begin()
        usage = relay_cost.priced(self.seen, self.settlement()) if self._shown() is not None else None
        last = self._reader.failed(error, usage) if self._reader is not None else b""
        await self._delivery.last(last)

    def _shown(self) -> relay_cost.Charge | None:
        """What the answer is charged by, where its usage is to say so: the very function that settles it."""
        return None if self.job.cost_in == "header" else self._charged

    def _charged(self, end: End, seen: Seen) -> Settlement:
        return self.job.charge(End.LEFT if self._delivery.left else end, seen)
