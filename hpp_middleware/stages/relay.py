"""
Relay: one exchange between a client and a provider, from the first byte sent to the last one passed on.

Whatever happens, the exchange ends with an :class:`~hpp_middleware.core.settlement.End`, closes its upstream, and
leaves the settling to the path. A departure of the client and every deadline cancel one scope; what ended it is read
off afterwards.
"""

from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

from hpp_middleware.core import relay, reply, settlement
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Client, Dialect, StreamReader, Transport
from hpp_middleware.stages.lease import Lease
from hpp_middleware.stages.settle import Pending
from hpp_middleware.stages.upstream import Upstream
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import Headers, HTTPCall
from hpp_middleware.types.provider import Limits, MissingUsage

__all__ = ["Exchange", "Job"]

LAST_WORDS_S = 5.0
TAIL_S = 0.5

STREAM_HEADERS: Headers = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an exchange is given: the request, where it goes, and what was held for it."""

    account: str
    request: Request
    target: Target
    call: HTTPCall
    bound: Bound
    hold: int
    cap: int
    limits: Limits
    missing_usage: MissingUsage


class Exchange:
    """
    One exchange.

    Args:
        job: What to do.
        dialect: What the provider speaks.
        transport: How to reach it.
        client: Where the answer goes.
        pending: Told when the response is about to end.

    Attributes:
        end: How it ended; None while it runs, and where the host cancelled it.
        error: What the client is to be told, or was told as the last event of its stream.
        ending: Whether ``pending`` was told.
        duration_s: How long it took.
        first_byte_s: How long the provider took to begin its answer; None where it did not.
    """

    def __init__(self, job: Job, dialect: Dialect, transport: Transport, client: Client, pending: Pending) -> None:
        self.job = job
        self.end: End | None = None
        self.error: UpstreamError | None = None
        self.ending = False
        self.duration_s = 0.0
        self.first_byte_s: float | None = None
        self._started = 0.0
        self._dialect = dialect
        self._upstream = Upstream(job.target, transport, self._wait)
        self._client = client
        self._pending = pending
        self._reader: StreamReader | None = None
        self._seen = Seen()
        self._left = False
        self._over = False
        self._sending = False
        self._raised: Exception | None = None
        self._scope: anyio.CancelScope
        self._last_moment = float("inf")

    @property
    def status(self) -> int | None:
        """The upstream's status; None where it gave none."""
        return self._upstream.status

    @property
    def seen(self) -> Seen:
        """What the answer has shown so far."""
        return self._reader.seen if self._reader is not None else self._seen

    def settlement(self, *, host_left: End = End.LEFT) -> Settlement:
        """
        What this exchange is charged.

        Args:
            host_left: What it counts as that the host cancelled it.
        """
        job = self.job
        end = self.end or (host_left if self._upstream.sent else End.UNSENT)
        return settlement.settle(
            end,
            self.seen,
            price=job.target.price,
            hold=job.hold,
            prompt_estimate=job.bound.prompt_estimate,
            # What is thought or spoken is not in the relayed text: an estimate from it would be far too low.
            hidden_reasoning=job.request.hidden_reasoning
            or bool(job.target.model.reasoning or job.request.output_modalities),
            missing_usage=job.missing_usage,
        )

    async def run(self, lease: Lease, *, keep_lease: bool) -> None:
        """
        Carry it out.

        Args:
            lease: The worker's lease, which must not run out meanwhile.
            keep_lease: Whether this exchange has to renew it, since no timer does.
        """
        timeouts = self.job.target.provider.timeouts
        self._started = anyio.current_time()
        self._last_moment = self._started + timeouts.total
        async with anyio.create_task_group() as tasks:
            self._scope = tasks.cancel_scope
            tasks.start_soon(self._watch)
            if keep_lease:
                tasks.start_soon(lease.keep)
            await checkpoint()  # the watch runs once: a client that has left already is not sent for
            if not self._left:
                await self._converse()
            self._over = True
            tasks.cancel_scope.cancel()
        self.duration_s = anyio.current_time() - self._started
        if self._raised is not None:
            raise self._raised
        if self.end is None:
            self._interrupted()
        if self.error is not None and self._client.started and not self._left:
            await self._last_words(self.error)

    async def _watch(self) -> None:
        """Hear of the client's departure; then stop, or read on as far as the settlement table says."""
        await self._client.gone()
        if self._over:
            return
        self._left = True
        self._begin_ending()
        if not self._upstream.sent:
            self._scope.cancel()  # nothing is paid for yet
        elif not self.job.request.stream and self._client.patient:
            self._limit(self.job.limits.json_wait_s)
        elif self.seen.finished:
            self._limit(self.job.limits.usage_wait_s)
        else:
            self._scope.cancel()

    async def _converse(self) -> None:
        upstream = self._upstream
        try:
            await upstream.send(self.job.call)
            self.first_byte_s = anyio.current_time() - self._started
            await self._receive()
        except UpstreamError as error:
            late = error.status == 504 and upstream.sent and upstream.status is None
            self._fail(error, End.DEADLINE if late else self._broken())
        except relay.ProtocolError:
            self._fail(upstream.unintelligible(), self._broken())
        except relay.StreamedError as error:
            self._seen = error.args[1] if len(error.args) > 1 else self._seen
            end = self._broken() if self.seen.relayed_bytes else End.REFUSED
            self._fail(reply.streamed_error(self.job.target.provider_name, error.args[0]), end)
        except Exception as error:  # noqa: BLE001  # the client's; raised again where no task group wraps it
            self._raised = error
        finally:
            await upstream.aclose()

    async def _deliver(self, data: bytes, *, more: bool = True) -> None:
        """Pass a piece of a stream on; a client that takes it for as long as an upstream may be silent has left."""
        if self._left or (more and not data):
            return
        self._wait(self.job.target.provider.timeouts.idle)
        self._sending = True
        await self._client.send(data, more=more)
        self._sending = False

    async def _receive(self) -> None:
        upstream = self._upstream
        if not upstream.is_readable:
            self._fail(upstream.unintelligible(), End.REFUSED)
        elif upstream.status != 200:
            error, body = await upstream.refusal()
            self._seen = relay.usage_in(body)
            self._fail(error, End.REFUSED)
        elif not self.job.request.stream:
            await self._json()
        elif upstream.is_stream:
            await self._stream()
        else:
            self._seen = relay.usage_in(await upstream.read_all(self.job.limits.response_bytes, or_cut=True))
            self._fail(upstream.unintelligible(), End.REFUSED)

    async def _json(self) -> None:
        job = self.job
        body = await self._upstream.read_all(job.limits.response_bytes)
        if not body.lstrip().startswith(b"{"):
            self._fail(self._upstream.unintelligible(), End.REFUSED)  # a page of somebody else's: no model has run
            return
        try:
            answer, self._seen = self._dialect.answer(body, job.request, job.target)
        except relay.ProtocolError:
            self._seen = relay.usage_in(body)
            raise
        self.end = End.LEFT if self._left else End.COMPLETED
        headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer))),
            *self._headers(self.settlement().amount),
        ]
        self._over = True
        self._begin_ending()
        if not self._left:
            await self._client.start(200, headers)
            await self._client.send(answer, more=False)

    async def _stream(self) -> None:
        job = self.job
        reader = self._reader = self._dialect.stream(
            job.request, job.target, event_bytes=job.limits.event_bytes, cap=job.cap
        )
        if not self._left:
            self._sending = True
            await self._client.start(200, [*STREAM_HEADERS, *self._headers(None)])
            self._sending = False
        done = False
        while not done:
            chunk = await self._upstream.read()
            try:
                data = reader.feed(chunk) if chunk else reader.close()
            except (relay.ProtocolError, relay.StreamedError) as error:
                await self._deliver(error.before)
                raise
            done = reader.done
            if done:
                self.end = End.LEFT if self._left else End.CUT if reader.cut else End.COMPLETED
                self._over = True
                self._begin_ending()
            await self._deliver(data, more=not done)
        if not reader.cut:
            self._limit(TAIL_S)
            await self._upstream.drain()

    def _broken(self) -> End:
        """How an upstream's fault counts: by whether an answer had begun, and whether we waited too long for it."""
        if self.end is not None:
            return self.end
        if self._left:
            return End.LEFT
        return End.BROKEN if self._upstream.begun else End.REFUSED

    def _fail(self, error: UpstreamError, end: End) -> None:
        """The first failure counts; one after the end mark changes nothing."""
        if self.end is None:
            self.end, self.error = end, error

    def _interrupted(self) -> None:
        """The scope was cancelled: by the client's departure, or by a deadline."""
        if self._left or self._sending:  # a reader that stands still has left, too
            self._left = True
            waited = not self.job.request.stream and self._client.patient
            self.end = (End.UNAWAITED if waited else End.LEFT) if self._upstream.sent else End.UNSENT
            return
        self._fail(self._upstream.late(), End.DEADLINE if self._upstream.sent else End.REFUSED)

    async def _last_words(self, error: UpstreamError) -> None:
        """One error event, and no end mark."""
        self._begin_ending()
        stub = self._reader.stub() if self._reader is not None else {}
        with anyio.move_on_after(LAST_WORDS_S):
            await self._client.send(reply.error_event(error, stub), more=False)

    def _begin_ending(self) -> None:
        if not self.ending:
            self.ending = True
            self._pending.begin(self.job.account)

    def _wait(self, seconds: float) -> None:
        """Wait for the upstream at most so long from now."""
        self._scope.deadline = min(anyio.current_time() + seconds, self._last_moment)

    def _limit(self, seconds: float) -> None:
        """Whatever is waited for, not longer than this."""
        self._last_moment = min(self._last_moment, anyio.current_time() + seconds)
        self._scope.deadline = min(self._scope.deadline, self._last_moment)

    def _headers(self, cost: int | None) -> Headers:
        return reply.completion_headers(self.job.target, cost=cost)
