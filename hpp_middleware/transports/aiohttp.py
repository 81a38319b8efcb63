"""
aiohttp, the well-kept asyncio client for streams: where httptools is not installed, or a proxy is set.

Only asyncio. The pool is opened at first use; nothing is taken from the environment, redirects are not followed,
cookies are not kept, and nothing is decompressed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
from yarl import URL

from hpp_middleware.errors import UpstreamError
from hpp_middleware.transports.errors import fault
from hpp_middleware.transports.framing import is_clear
from hpp_middleware.transports.tls import context
from hpp_middleware.types.http import HTTPCall

__all__ = ["AiohttpTransport"]

IDLE_S = 30.0
MOST_LINE = 32 * 1024
MOST_READ = 64 * 1024
"""Bytes of a body that are passed on at once: all that waits could be half a megabyte, and as much would wait again."""
MOST_JOINED = 1024 * 1024
"""Bytes of a body that go out at once; aiohttp warns of larger ones."""

_VERSIONS = {(1, 0), (1, 1)}


@dataclass(slots=True)
class _Sending:
    """One request on its way: what the pool is to tell of it."""

    sent: Callable[[], None]
    is_queued: bool = False
    has_begun: bool = False
    refusal: Exception | None = None
    connection: Any = None

    async def attached(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """For aiohttp: a middleware, which is the way to the request that it builds."""
        cast("_Request", request).sending = self
        return await handler(request)

    def begin(self) -> None:
        """A connection is there, and the next thing that goes out is the request."""
        if self.has_begun:  # aiohttp sends some requests again whose connection broke; this one may have cost money
            raise aiohttp.ServerDisconnectedError
        self.has_begun = True
        try:
            self.sent()
        except Exception as error:
            self.refusal = error
            raise


class _StaleError(Exception):
    """Something has come over an idle connection that nobody asked for; nothing was sent."""


class _Request(aiohttp.ClientRequest):
    """One that tells when it goes out; what is raised then closes its connection, unlike in a trace."""

    sending: _Sending

    async def send(self, conn: Any) -> aiohttp.ClientResponse:
        if conn.protocol.should_close:
            raise _StaleError
        self.sending.connection = conn.protocol
        self.sending.begin()
        return await super().send(conn)


class AiohttpTransport:
    """
    A pooled client of one event loop.

    Args:
        connections: How many there are at most; a request that finds none free waits for one, as long as it may take
            to connect.
        proxy: The URL of an HTTP proxy to go through.
        ca_file: Whom to trust instead of the usual authorities: a file of certificates.
    """

    def __init__(self, *, connections: int = 1000, proxy: str | None = None, ca_file: str | None = None) -> None:
        self._connections = connections
        self._proxy = proxy
        self._ca_file = ca_file
        self._session: aiohttp.ClientSession | None = None

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "AiohttpResponse":
        """See :class:`hpp_middleware.ports.Transport`."""
        sending = _Sending(sent)
        try:
            response = await self._request(call, sending)
        except Exception as error:
            if sending.refusal is not None:
                raise sending.refusal from None
            raise _translated(error, provider, is_queued=sending.is_queued) from error
        if response.version not in _VERSIONS or not is_clear(response.raw_headers):
            response.close()
            sending.connection.close()  # what was read to an end, whichever, is back in the pool
            raise fault("unreadable", provider)
        return AiohttpResponse(response, provider)

    async def aclose(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def _request(self, call: HTTPCall, sending: _Sending) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        while True:
            try:
                return await session.request(
                    call.method,
                    URL(call.url, encoded=True),
                    headers=call.headers,
                    data=call.body if len(call.body) <= MOST_JOINED else BytesIO(call.body),
                    allow_redirects=False,
                    proxy=self._proxy,
                    timeout=aiohttp.ClientTimeout(total=None, connect=call.connect_s),
                    trace_request_ctx=sending,
                    middlewares=(sending.attached,),
                )
            except _StaleError:
                continue  # that connection is closed now

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections, keepalive_timeout=IDLE_S, ssl=context(self._ca_file), ttl_dns_cache=10
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            trace_configs=[_tracing()],
            request_class=_Request,
            max_line_size=MOST_LINE,
            max_field_size=MOST_LINE,
        )
        return self._session


class AiohttpResponse:
    """
    The head of a response, and its body piece by piece.

    Attributes:
        status: The status code.
        headers: Found in any letter case.
    """

    def __init__(self, response: aiohttp.ClientResponse, provider: str) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._provider = provider

    async def read(self) -> bytes:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        try:
            return await self._response.content.read(MOST_READ)
        except Exception as error:
            raise _translated(error, self._provider) from error

    async def aclose(self) -> None:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        self._response.close()  # one that was read to its end has given its connection back


def _tracing() -> aiohttp.TraceConfig:
    found = aiohttp.TraceConfig()

    async def on_queued(_session: Any, about: SimpleNamespace, _params: Any) -> None:
        about.trace_request_ctx.is_queued = True

    async def on_unqueued(_session: Any, about: SimpleNamespace, _params: Any) -> None:
        about.trace_request_ctx.is_queued = False

    found.on_connection_queued_start.append(on_queued)
    found.on_connection_queued_end.append(on_unqueued)
    return found


def _translated(error: Exception, provider: str, *, is_queued: bool = False) -> UpstreamError:
    """What the library raises; its text stays here."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return fault("crowded" if is_queued else "slow_to_reach", provider)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError):
        return fault("unreachable", provider)
    return fault("broken", provider)
