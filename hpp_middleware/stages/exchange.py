"""
Upstream and relay: one exchange with a provider, from the first byte sent to the last one passed on.

Whatever happens, the exchange ends with an :class:`~hpp_middleware.core.settlement.End`, closes its upstream, and
leaves the settling to the path. A departure of the client and every deadline cancel one scope; what ended it is read
off afterwards.
"""

from contextlib import suppress
from dataclasses import dataclass

import anyio
from anyio.lowlevel import checkpoint

from hpp_middleware.core import relay, reply, settlement
from hpp_middleware.core.bound import Bound
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Client, Dialect, StreamReader, Transport, UpstreamResponse
from hpp_middleware.stages.lease import Lease
from hpp_middleware.stages.settle import Pending
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import Headers, HTTPCall
from hpp_middleware.types.provider import Limits, MissingUsage

__all__ = ["Exchange", "Job"]

ERROR_BYTES = 64 * 1024
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
        status: The upstream's status.
        ending: Whether ``pending`` was told.
        duration_s: How long it took.
        first_byte_s: How long the provider took to begin its answer; None where it did not.
    """

    def __init__(self, job: Job, dialect: Dialect, transport: Transport, client: Client, pending: Pending) -> None:
        self.job = job
        self.end: End | None = None
        self.error: UpstreamError | None = None
        self.status: int | None = None
        self.ending = False
        self.duration_s = 0.0
        self.first_byte_s: float | None = None
        self._started = 0.0
        self._dialect = dialect
        self._transport = transport
        self._client = client
        self._pending = pending
        self._reader: StreamReader | None = None
        self._seen = Seen()
        self._sent = False
        self._left = False
        self._over = False
        self._begun = False
        self._sending = False
        self._raised: Exception | None = None
        self._scope: anyio.CancelScope
        self._last_moment = float("inf")

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
        end = self.end or (host_left if self._sent else End.UNSENT)
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
            self._wait(timeouts.connect + timeouts.first_byte)
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
        if not self._sent:
            self._scope.cancel()  # nothing is paid for yet
        elif not self.job.request.stream and self._client.patient:
            self._limit(self.job.limits.json_wait_s)
        elif self.seen.finished:
            self._limit(self.job.limits.usage_wait_s)
        else:
            self._scope.cancel()

    async def _converse(self) -> None:
        response: UpstreamResponse | None = None
        try:
            response = await self._send()
            self._sent = True
            self.first_byte_s = anyio.current_time() - self._started
            self.status = response.status
            await self._receive(response)
        except UpstreamError as error:
            late = error.status == 504 and self._sent
            self._fail(error, End.DEADLINE if late and response is None else self._broken())
        except relay.ProtocolError:
            self._fail(self._protocol_error(), self._broken())
        except relay.StreamedError as error:
            self._seen = error.args[1] if len(error.args) > 1 else self._seen
            end = self._broken() if self.seen.relayed_bytes else End.REFUSED
            self._fail(reply.streamed_error(self._provider, error.args[0]), end)
        except Exception as error:  # noqa: BLE001  # the client's; raised again where no task group wraps it
            self._raised = error
        finally:
            if response is not None:
                with anyio.CancelScope(shield=True), suppress(Exception):  # what matters has been read
                    await response.aclose()

    async def _send(self) -> UpstreamResponse:
        try:
            return await self._transport.send(self.job.call, provider=self._provider, sent=self._on_sent)
        except UpstreamError:
            raise
        except Exception as error:  # a host's own transport may raise anything
            raise self._connection_error() from error

    async def _read(self, response: UpstreamResponse) -> bytes:
        """The next piece: the first may take as long as the head, the others not so long."""
        timeouts = self.job.target.provider.timeouts
        self._wait(timeouts.idle if self._begun else timeouts.first_byte)
        try:
            piece = await response.read()
        except UpstreamError:
            raise
        except Exception as error:
            raise self._connection_error() from error
        self._begun = self._begun or bool(piece)
        return piece

    async def _deliver(self, data: bytes, *, more: bool = True) -> None:
        """Pass a piece of a stream on; a client that takes it for as long as an upstream may be silent has left."""
        if self._left or (more and not data):
            return
        self._wait(self.job.target.provider.timeouts.idle)
        self._sending = True
        await self._client.send(data, more=more)
        self._sending = False

    async def _receive(self, response: UpstreamResponse) -> None:
        if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            self._fail(self._protocol_error(), End.REFUSED)  # identity was asked for; nothing else is decoded here
        elif response.status != 200:
            await self._refused(response)
        elif self.job.request.stream:
            await self._stream(response)
        else:
            await self._json(response)

    async def _refused(self, response: UpstreamResponse) -> None:
        body = await self._read_all(response, ERROR_BYTES, or_cut=True)
        self._seen = relay.usage_in(body)
        retry_after = response.headers.get("retry-after")
        secrets = [self.job.target.provider.api_key or "", *self.job.target.provider.headers.values()]
        error = reply.upstream_error(self._provider, response.status, body, retry_after=retry_after, secrets=secrets)
        self._fail(error, End.REFUSED)

    async def _json(self, response: UpstreamResponse) -> None:
        job = self.job
        body = await self._read_all(response, job.limits.response_bytes)
        if not body.lstrip().startswith(b"{"):
            self._fail(self._protocol_error(), End.REFUSED)  # a page of somebody else's: no model has run
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

    async def _stream(self, response: UpstreamResponse) -> None:
        job = self.job
        if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
            self._seen = relay.usage_in(await self._read_all(response, job.limits.response_bytes, or_cut=True))
            self._fail(self._protocol_error(), End.REFUSED)
            return
        reader = self._reader = self._dialect.stream(
            job.request, job.target, event_bytes=job.limits.event_bytes, cap=job.cap
        )
        if not self._left:
            self._sending = True
            await self._client.start(200, [*STREAM_HEADERS, *self._headers(None)])
            self._sending = False
        done = False
        while not done:
            chunk = await self._read(response)
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
            await self._tail(response)

    async def _tail(self, response: UpstreamResponse) -> None:
        """Read to the end what usually is there already, so that the connection can be used again."""
        self._limit(TAIL_S)
        with suppress(Exception):  # whatever breaks here, the answer is whole
            while await response.read():
                pass

    async def _read_all(self, response: UpstreamResponse, most: int, *, or_cut: bool = False) -> bytes:
        """A whole body; past the bound it is cut, or a fault of the upstream."""
        pieces: list[bytes] = []
        size = 0
        while size <= most:
            piece = await self._read(response)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
        if or_cut:
            return b"".join(pieces)[:most]
        raise relay.ProtocolError("the body is too large")

    def _broken(self) -> End:
        """How an upstream's fault counts: by whether an answer had begun, and whether we waited too long for it."""
        if self.end is not None:
            return self.end
        if self._left:
            return End.LEFT
        return End.BROKEN if self._begun else End.REFUSED

    def _fail(self, error: UpstreamError, end: End) -> None:
        """The first failure counts; one after the end mark changes nothing."""
        if self.end is None:
            self.end, self.error = end, error

    def _interrupted(self) -> None:
        """The scope was cancelled: by the client's departure, or by a deadline."""
        if self._left or self._sending:  # a reader that stands still has left, too
            self._left = True
            waited = not self.job.request.stream and self._client.patient
            self.end = (End.UNAWAITED if waited else End.LEFT) if self._sent else End.UNSENT
            return
        error = UpstreamError(
            "The provider did not answer in time.",
            provider=self._provider,
            upstream_status=self.status,
            status=504,
            code="timeout",
            retryable=True,
        )
        self._fail(error, End.DEADLINE if self._sent else End.REFUSED)

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

    def _on_sent(self) -> None:
        self._sent = True

    def _wait(self, seconds: float) -> None:
        """Wait for the upstream at most so long from now."""
        self._scope.deadline = min(anyio.current_time() + seconds, self._last_moment)

    def _limit(self, seconds: float) -> None:
        """Whatever is waited for, not longer than this."""
        self._last_moment = min(self._last_moment, anyio.current_time() + seconds)
        self._scope.deadline = min(self._scope.deadline, self._last_moment)

    def _headers(self, cost: int | None) -> Headers:
        return reply.completion_headers(self.job.target, cost=cost)

    def _connection_error(self) -> UpstreamError:
        return UpstreamError(
            "The connection to the provider broke.",
            provider=self._provider,
            upstream_status=self.status,
            retryable=True,
        )

    def _protocol_error(self) -> UpstreamError:
        return UpstreamError(
            "The provider's answer could not be understood.",
            provider=self._provider,
            upstream_status=self.status,
            retryable=True,
        )

    @property
    def _provider(self) -> str:
        return self.job.target.provider_name
