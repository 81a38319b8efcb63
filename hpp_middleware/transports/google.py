"""
Google's access tokens, fetched by google-auth (extra ``vertex``) and put into the calls to Vertex.

A token is fetched in a thread, by one call for all that wait, and kept until shortly before it runs out. The
credentials are those of the file that a provider's ``options.credentials`` names, or else the machine's own
("application default credentials", https://cloud.google.com/docs/authentication/application-default-credentials).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import httpx2
from google.auth import default, load_credentials_from_file
from google.auth.credentials import Credentials, TokenState
from google.auth.exceptions import TransportError
from google.auth.transport import Request, Response
from msgspec.structs import replace

from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.transports.tls import context
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["GoogleTransport", "signed"]

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TIMEOUT_S = 30.0


def signed(provider: Provider, transport: Transport) -> Transport:
    """A transport whose calls carry the token of these credentials."""
    asks = _Asks(proxy=provider.proxy, ca_file=provider.ca_file)
    return GoogleTransport(transport, partial(_credentials, provider.options.get("credentials"), asks), asks)


class GoogleTransport:
    """
    A transport in front of another one.

    Args:
        transport: What sends the calls; closed with this one.
        load: What makes the credentials: run in a thread, once.
        asks: What fetches tokens with them.
    """

    def __init__(self, transport: Transport, load: Callable[[], Credentials], asks: Request) -> None:
        self._transport = transport
        self._load = load
        self._asks = asks
        self._credentials: Credentials | None = None
        self._refreshing = anyio.Lock()

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        """
        See :class:`hpp_middleware.ports.Transport`.

        Raises:
            UpstreamError: As there; also where no token can be had, and then nothing was sent.
        """
        token = await self._token(provider)
        headers = [*call.headers, ("Authorization", f"Bearer {token}")]
        return await self._transport.send(replace(call, headers=headers), provider=provider, sent=sent)

    async def aclose(self) -> None:
        """Close the pool behind."""
        await self._transport.aclose()

    async def _token(self, provider: str) -> str:
        found = self._credentials
        state = TokenState.INVALID if found is None else found.token_state
        if state is TokenState.INVALID or (state is TokenState.STALE and not self._refreshing.locked()):
            async with self._refreshing:
                await self._refresh(provider)
        if self._credentials is None or not self._credentials.token:
            raise _unsigned(provider)
        return str(self._credentials.token)

    async def _refresh(self, provider: str) -> None:
        """Fetch a token, unless somebody has meanwhile; one that still holds is kept where none can be had."""
        if self._credentials is not None and self._credentials.token_state is TokenState.FRESH:
            return
        try:
            self._credentials = await anyio.to_thread.run_sync(self._fetched, abandon_on_cancel=True)
        except Exception as error:  # google-auth's own, and what it lets through
            found = self._credentials
            if found is None or found.token_state is TokenState.INVALID:
                raise _unsigned(provider) from error

    def _fetched(self) -> Credentials:
        """The credentials, with a token; in a thread."""
        found = self._credentials or self._load()
        found.refresh(self._asks)  # type: ignore[no-untyped-call]  # google-auth is typed in part
        return found


def _unsigned(provider: str) -> UpstreamError:
    return UpstreamError(
        "The router could not prove to the provider who it is.", provider=provider, retryable=True, unsent=True
    )


def _credentials(file: str | None, asks: Request) -> Credentials:
    """Those of a file, or else the machine's own."""
    found: tuple[Credentials, Any]
    if file is None:
        found = default(scopes=[SCOPE], request=asks)
    else:
        found = load_credentials_from_file(file, scopes=[SCOPE], request=asks)  # type: ignore[no-untyped-call]  # as above
    return found[0]


class _Asks(Request):
    """How google-auth asks for a token: by the client that is installed anyway, with the provider's proxy and CAs."""

    def __init__(self, *, proxy: str | None, ca_file: str | None) -> None:
        self._settings: dict[str, Any] = {"proxy": proxy, "verify": True if ca_file is None else context(ca_file)}

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Response:
        """
        Ask.

        Raises:
            TransportError: There was no answer.
        """
        try:
            with httpx2.Client(trust_env=False, timeout=timeout or TIMEOUT_S, **self._settings) as client:
                return _Answer(client.request(method, url, content=body, headers=headers))
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise TransportError(type(error).__name__) from error  # type: ignore[no-untyped-call]  # as above


class _Answer(Response):
    """What came back."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        return self._response.headers

    @property
    def data(self) -> bytes:
        """The body."""
        return self._response.content
