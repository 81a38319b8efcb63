"""
httpx2, the portable default: both event loops, a host's own client, mocks.

The pool is opened at first use and belongs to one event loop. Nothing is taken from the environment, redirects are not
followed, cookies are not kept, and only identity encoding is accepted.
"""

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol

import anyio
import httpx2

from hpp_middleware.errors import UpstreamError
from hpp_middleware.transports.errors import Fault, fault, foreign
from hpp_middleware.transports.framing import is_clear
from hpp_middleware.transports.tls import context
from hpp_middleware.types.http import HTTPCall

__all__ = ["HTTPClient", "HttpxTransport"]

MOST_IDLE = 100
IDLE_S = 30.0

_KEYS = {"authorization", "x-api-key", "api-key", "x-goog-api-key"}
"""The headers in which providers are shown a key."""

_VERSIONS = {"HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"}  # the last two of a host's own client


class HTTPClient(Protocol):
    """What is asked of a host's own client: httpx's names, whichever of its versions, and whatever else they take."""

    @property
    def build_request(self) -> Callable[..., Any]:
        """Make a request."""
        ...

    @property
    def send(self) -> Callable[..., Awaitable[Any]]:
        """Send it."""
        ...


class HttpxTransport:
    """
    A pooled client.

    Args:
        client: A host's own ``httpx.AsyncClient`` (httpx or httpx2), which it opens and closes itself; None for one of
            our own.
        connections: How many our own client has at most; a request that finds none free waits for one, as long as it
            may take to connect.
        proxy: The URL of a proxy that our own client goes through.
        ca_file: Whom our own client trusts instead of the usual authorities: a file of certificates.
    """

    def __init__(
        self,
        client: HTTPClient | None = None,
        *,
        connections: int = 1000,
        proxy: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._own = _own_client(connections, proxy, ca_file) if client is None else None
        self._client: HTTPClient = client or self._own  # type: ignore[assignment]  # one of the two is there

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "HttpxResponse":
        """See :class:`hpp_middleware.ports.Transport`."""
        extensions: dict[str, Any] = {}
        signing: dict[str, Any] = {}
        begun = _Begun(sent)
        if self._own is not None:
            extensions["trace"] = begun.trace
        else:
            if getattr(self._client, "auth", None) is not None and _has_key(call):
                signing["auth"] = None  # the operator's key for this provider wins
            sent()  # a host's client may have any transport: whether it has sent anything cannot be known
        timeout = (call.connect_s, None, call.connect_s, call.connect_s)  # connect, read, write, pool
        request = self._client.build_request(
            call.method, call.url, headers=call.headers, content=call.body, timeout=timeout, extensions=extensions
        )
        try:
            response = await self._client.send(request, stream=True, follow_redirects=False, **signing)
        except Exception as error:
            if begun.refusal is not None:
                raise begun.refusal from None
            raise self._translated(error, provider) from error
        found = HttpxResponse(response, provider, self._translated)
        if not _is_clear(response):
            _shut_down(response)  # what was read to an end, whichever, would go back to the pool
            await found.aclose()
            raise fault("unreadable", provider)
        return found

    async def aclose(self) -> None:
        """Close the pool, unless it is the host's."""
        if self._own is not None:
            await self._own.aclose()

    def _translated(self, error: Exception, provider: str) -> UpstreamError:
        """Whatever a client raises, of whichever library, told by its class's name; its text stays here."""
        names = [kind.__name__ for kind in type(error).__mro__]
        known = next((_FAULTS[name] for name in names if name in _FAULTS), None)
        if known is None and self._own is None:
            return foreign(error, provider, closed=getattr(self._client, "is_closed", False) is True)
        return fault(known or "broken", provider)


class HttpxResponse:
    """
    The head of a response, and its body piece by piece.

    Attributes:
        status: The status code.
        headers: Names in lower case.
    """

    def __init__(self, response: Any, provider: str, translated: Callable[[Exception, str], UpstreamError]) -> None:
        self.status: int = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._provider = provider
        self._translated = translated
        self._pieces: AsyncGenerator[bytes, None] = response.aiter_raw()
        self._ended = False

    async def read(self) -> bytes:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        try:
            piece = await anext(self._pieces, b"")
        except Exception as error:
            raise self._translated(error, self._provider) from error
        self._ended = not piece
        return piece

    async def aclose(self) -> None:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        if not self._ended:
            await self._break_off()
        await self._pieces.aclose()
        await self._response.aclose()

    async def _break_off(self) -> None:
        # Cancelled in its innermost read, every generator between us and the socket ends in order; closing the
        # outermost would leave the others to the garbage collector, which trio reports.
        with anyio.CancelScope() as scope:
            scope.cancel()
            with suppress(Exception):
                while await anext(self._pieces, b""):
                    pass


def _own_client(connections: int, proxy: str | None, ca_file: str | None) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        trust_env=False,
        proxy=proxy,
        verify=context(ca_file),
        follow_redirects=False,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=MOST_IDLE, keepalive_expiry=IDLE_S),
    )


def _is_clear(response: Any) -> bool:
    """Whether a response says in one way where it ends, as far as the client tells what came."""
    version, raw = getattr(response, "http_version", "HTTP/1.1"), getattr(response.headers, "raw", ())
    return version in _VERSIONS and is_clear(raw)


def _shut_down(response: Any) -> None:
    """Let the pool find a connection at its end."""
    stream = getattr(response, "extensions", {}).get("network_stream")
    found = None if stream is None else stream.get_extra_info("socket")
    if found is not None:
        with suppress(OSError), socket.socket(fileno=os.dup(found.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


class _Begun:
    """Told by the pool of each step of a request; the first byte goes out at ``send_request_headers.started``."""

    def __init__(self, sent: Callable[[], None]) -> None:
        self.refusal: Exception | None = None
        self._sent = sent

    async def trace(self, event: str, _info: Any) -> None:
        """For httpx: one step."""
        if event.endswith("send_request_headers.started"):
            try:
                self._sent()
            except Exception as error:
                self.refusal = error
                raise


_FAULTS: dict[str, Fault] = {
    "ConnectTimeout": "slow_to_reach",
    "PoolTimeout": "crowded",
    "ConnectError": "unreachable",
    "ProxyError": "unreachable",
    "WriteTimeout": "slow_to_take",
    "ReadTimeout": "slow_to_answer",
    "DecodingError": "unreadable",
    "HTTPError": "broken",
}


def _has_key(call: HTTPCall) -> bool:
    return any(name.lower() in _KEYS for name, _ in call.headers)
