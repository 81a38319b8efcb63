"""
Upstream: one call to a provider, and its response read piece by piece.

Whatever a transport raises, a host's own one too, comes out as an :class:`~hpp_middleware.errors.UpstreamError`; the
deadlines are the exchange's.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType

import msgspec
from anyio.lowlevel import checkpoint

from hpp_middleware.core import relay, reply
from hpp_middleware.errors import GatewayError, OwnFaultError, UpstreamError, UpstreamUnavailableError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.stages.reserve.holds import unavailable
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.tasks.guard import Guard
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.stages.upstream.resets import retry_after_s
from hpp_middleware.stages.upstream.watched import Ticket
from hpp_middleware.transports.errors import foreign
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider, Timeouts

__all__ = ["Refusal", "Upstream"]

Refusal = Callable[[int, Mapping[str, str], bytes], bytes]
"""Status, headers and body of an upstream's error; the body in OpenAI's shape."""

_logger = logging.getLogger("hpp_middleware")

ERROR_BYTES = 64 * 1024

TAIL_S = 0.5
"""How long the end of a response may take behind its last event."""

_SECRET_OPTIONS = (
    "access_key_id",
    "secret_access_key",
    "session_token",
    "profile",
    "project",
    "resource",
    "credentials",
)


def secrets_of(provider: Provider) -> list[str]:
    """What a provider knows of its operator, and no client is to hear back from it."""
    options = (provider.options.get(name, "") for name in _SECRET_OPTIONS)
    return [provider.api_key or "", *provider.headers.values(), *options]


class Upstream:
    """
    One call.

    Args:
        target: Whom it goes to.
        transport: How to reach it.
        health: Whether it may be asked, and who is told how it did; None for a host's own, in process.

    Attributes:
        status: The response's status; None while there is none.
        sent: Whether a byte may have gone out: from there on it may cost money.
        begun: Whether a byte of the response's body has come.
        flowing: Whether the answer has begun; of a stream, to be set when its first event has come.
        unwanted: To be set when nothing is to be sent any more, unless it is out already.
        around: Runs the exchange, and is told how long the next piece may take.
    """

    status: int | None = None
    sent = False
    begun = flowing = False
    unwanted = False
    around: Guard
    _timeouts: Timeouts
    _first_by = 0.0
    _lease: Lease | None = None
    _term = 0
    _withheld = False
    _response: UpstreamResponse | None = None
    _headers: Mapping[str, str] = MappingProxyType({})
    _ticket: Ticket | None = None

    def __init__(self, target: Target, transport: Transport, health: Health | None = None) -> None:
        self._target = target
        self._transport = transport
        self._health = health

    def within(self, timeouts: Timeouts, around: Guard, lease: Lease | None = None) -> None:
        """
        Keep these deadlines, from now on.

        Args:
            timeouts: How long each part may take.
            around: What stops the exchange.
            lease: Nothing is sent once it has run out, in whose present term the hold was placed; None without a hold.
        """
        self._timeouts = timeouts
        self.around = around
        self._first_by = around.begin(timeouts.total, timeouts.connect + timeouts.first_byte)  # until it is sent
        if lease is not None:
            self._lease = lease
            self._term = lease.term

    def closed_off(self) -> UpstreamError | None:
        """Why it is not asked after all, since it has failed meanwhile; else the call counts from here on."""
        if self._health is None:
            return None
        asked = self._health.ask(self._target.key, self._target.model_name)
        if not isinstance(asked, Ticket):
            return UpstreamUnavailableError(self._target.provider_name, asked)
        self._ticket = asked
        return None

    def ended(
        self, error: GatewayError | None, *, ok: bool | None, first_byte_s: float | None, token_s: float | None
    ) -> None:
        """
        Tell of its health; to be called however it ended.

        Args:
            error: What went wrong.
            ok: Whether it did as it should; None where nobody knows.
            first_byte_s: How long it took to begin its answer, in seconds.
            token_s: How long it took to write a token of it, in seconds.
        """
        if self._ticket is None:
            return
        if ok and error is None:
            self._ticket.well(first_byte_s, token_s)
            return
        status, asked_s = self.status, None
        if isinstance(error, UpstreamError):
            status = error.upstream_status or status
        if ok is False and self._response is not None:
            asked_s = retry_after_s(self._headers, now=time.time(), limited=status == 429)
        self._ticket.ended(
            ok=ok,
            status=status,
            retry_after_s=asked_s,
            first_byte_s=first_byte_s,
            token_s=token_s,
        )

    def begins(self, first_byte_s: float) -> None:
        """The answer has begun: of a stream, its first event has come, after so many seconds."""
        self.flowing = True
        if self._ticket is not None:
            self._ticket.answering(first_byte_s)

    async def send(self, call: HTTPCall) -> None:
        """
        Send the request, and wait for the head of the response.

        Raises:
            UpstreamError: It could not be reached, or broke off.
            StoreError: The lease has run out, and nothing was sent.
        """
        name = self._target.provider_name
        if self._timeouts.connect < call.connect_s:
            call = msgspec.structs.replace(call, connect_s=self._timeouts.connect)
        try:
            self._response = await self._transport.send(call, provider=name, sent=self._on_sent)
        except Exception as error:
            if self._withheld:
                raise unavailable() from error
            told = self._told(error)
            if told is error:
                raise
            raise told from error
        self.sent = True
        self.status, self._headers = self._response.status, self._response.headers

    def tell(self, error: UpstreamError, request_id: str) -> None:
        """Tell the log what a client is not told."""
        if error.detail:
            level = logging.ERROR if isinstance(error, OwnFaultError) else logging.WARNING
            _logger.log(level, "%s cannot be asked: %s, in %s", error.provider, error.detail, request_id)

    def header(self, name: str) -> str:
        """A header of the response; empty where it has none of that name."""
        return self._headers.get(name, "")

    @property
    def is_readable(self) -> bool:
        """Whether the body comes as it is: identity was asked for, and nothing else is decoded here."""
        encoding = self._headers.get("content-encoding")
        return not encoding or encoding.strip().lower() in {"", "identity"}

    def is_stream(self, media_type: str) -> bool:
        """Whether the response is a stream of this type."""
        return self.header("content-type").lower().startswith(media_type)

    async def read(self, *, anew: bool = True) -> bytes:
        """
        The next piece; empty at the end.

        Until the answer flows, all of it has one deadline, which a sign of life does not move: neither the head nor a
        comment is a part of the answer. From then on every byte is one, a comment's too: a model that thinks says so.

        Args:
            anew: Whether its deadline is to be set: nothing else was waited for since the request was sent, where not.
        Raises:
            UpstreamError: The connection broke.
        """
        if self._response is None:
            return b""
        if anew:
            self.around.wait(self._timeouts.idle if self.flowing else self._first_by - time.monotonic())
        try:
            piece = await self._response.read()
        except UpstreamError:
            raise
        except Exception as error:
            told = foreign(error, self._target.provider_name)
            told.upstream_status = self.status
            raise told from error
        if self.around.stopped:
            await checkpoint()  # which ends it: under trio a piece may come that nobody waits for any more
        if piece:
            self.begun = True
        return piece

    async def read_all(self, most: int, *, or_cut: bool = False) -> bytes:
        """
        The whole body.

        Args:
            most: The bound, in bytes.
            or_cut: Whether what is past the bound is cut off.
        Raises:
            UpstreamError: The connection broke.
            ProtocolError: It is larger.
        """
        body = await self.read(anew=False)
        self.flowing = True
        if body and not getattr(self._response, "ended", False):
            pieces, size = [body], len(body)
            while size <= most and (piece := await self.read()):
                pieces.append(piece)
                size += len(piece)
            body = b"".join(pieces)
        if len(body) <= most:
            return body
        if or_cut:
            return body[:most]
        raise relay.ProtocolError("the body is too large")

    async def refusal(self, read: Refusal | None = None) -> tuple[UpstreamError, bytes]:
        """
        The error of a response that is none of an answer, and its body as it came.

        Args:
            read: What makes OpenAI's shape of the provider's; None where it has it.
        Raises:
            UpstreamError: The connection broke.
        """
        body = told = await self.read_all(ERROR_BYTES, or_cut=True)
        if read is not None and self._response is not None:
            with suppress(*relay.UNREADABLE):  # then the status alone speaks
                told = read(self.status or 0, self._headers, body)
        provider = self._target.provider
        error = reply.upstream_error(
            self._target.provider_name,
            self.status or 0,
            told,
            retry_after=self.header("retry-after") or None,
            secrets=secrets_of(provider),
        )
        return error, body

    async def drain(self) -> None:
        """Read to the end what usually is there already, so that the connection can be used again."""
        self.around.limit(TAIL_S)
        with suppress(Exception):  # whatever breaks here, the answer is whole
            while self._response is not None and await self._response.read():
                pass

    async def aclose(self) -> None:
        """Close the response; outside of every guard, so that nothing breaks it off."""
        if self._response is not None:
            try:
                await self._response.aclose()
            except Exception:  # noqa: BLE001  # what matters has been read
                return

    def unintelligible(self) -> UpstreamError:
        """The answer is none."""
        return self._error("The provider's answer could not be understood.")

    def late(self, raised: Exception | None = None) -> UpstreamError:
        """A deadline ran out; or what the client or a dialect raised ended it, which is no fault of the provider's."""
        if raised is not None:
            return OwnFaultError(self._target.provider_name, "")  # it is raised again, and told to the log then
        return self._error("The provider did not answer in time.", status=504, code="timeout")

    def _error(self, message: str, *, status: int | None = None, code: str | None = None) -> UpstreamError:
        return UpstreamError(
            message,
            provider=self._target.provider_name,
            upstream_status=self.status,
            status=status,
            code=code,
            retryable=True,
        )

    def _told(self, error: Exception) -> UpstreamError:
        """What a transport raised; a host's own one may raise anything."""
        if isinstance(error, UpstreamError):
            self.sent = self.sent and not error.unsent
            return error
        return foreign(error, self._target.provider_name)

    def _on_sent(self) -> None:
        """The last moment at which nothing has been sent: a worker that woke past its lease sends nothing."""
        if self.unwanted or (self._lease is not None and not self._lease.covers(self._term)):
            self._withheld = True
            raise unavailable()
        if not self.sent:
            self.sent = True
            self._first_by = self.around.wait(self._timeouts.first_byte)
