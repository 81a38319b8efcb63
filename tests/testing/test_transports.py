"""The transports' conformance suite: whoever breaks a promise is told which."""

import ssl
from collections.abc import Callable

import pytest

from hpp_middleware.errors import UpstreamError
from hpp_middleware.testing import TRANSPORT_PROMISES, check_transport
from hpp_middleware.testing.transports import TransportPromise, bench, keeping, promises_of, reaching
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.transports.native import NativeTransport, connection, reading, transport
from hpp_middleware.transports.native.connection import Connection
from hpp_middleware.transports.native.reading import Reading
from hpp_middleware.types.http import HTTPCall

pytestmark = pytest.mark.anyio
asyncio_only = pytest.mark.parametrize("anyio_backend", ["asyncio"])


class Eager(NativeTransport):
    """Says that it has sent before it knows whether it can."""

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> transport.NativeResponse:
        sent()
        return await super().send(call, provider=provider, sent=sent)


class Stubborn(NativeTransport):
    """Sends again what broke."""

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> transport.NativeResponse:
        try:
            return await super().send(call, provider=provider, sent=sent)
        except UpstreamError:
            return await super().send(call, provider=provider, sent=sent)


def trusting(_ca_file: str | None) -> ssl.SSLContext:
    found = ssl.create_default_context()
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    return found


def framed_anyhow(self: Reading, *given: object, **named: object) -> None:
    self.headers = {name: value for name, value in self.headers.items() if name != "transfer-encoding"}
    framed(self, *given, **named)  # type: ignore[arg-type]


framed = Reading._frame

BREACHES = {
    "a_connection_that_was_closed_is_not_used": (Connection, "is_quiet", lambda self: True),
    "what_is_half_read_is_not_used_again": (Connection, "ended", lambda self: True),
    "a_slow_reader_slows_the_provider_down": (connection, "MOST_UNREAD", 2**40),
    "interim_responses_without_end_are_refused": (reading, "INTERIM", 2**40),
    "what_is_ambiguous_is_refused": (Reading, "_frame", framed_anyhow),
    "a_server_that_nobody_vouches_for_is_told_nothing": (transport, "context", trusting),
    "a_server_of_another_name_is_told_nothing": (transport, "context", trusting),
    "no_more_connections_are_made_than_allowed": (transport, "Room", lambda number: _Endless()),
}


class _Endless:
    left = 0

    async def take(self) -> None: ...

    def give(self) -> None: ...


@asyncio_only
@pytest.mark.parametrize("name", BREACHES)
async def test_a_breach_is_told_by_its_promise(anyio_backend: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*BREACHES[name])
    monkeypatch.setattr(bench, "PATIENCE_S", 1.0)
    (promise,) = [each for each in TRANSPORT_PROMISES if each.__name__ == name]
    with pytest.raises((AssertionError, UpstreamError)):
        await promise(NativeTransport)


@asyncio_only
@pytest.mark.parametrize(
    ("make", "promise", "words"),
    [
        (Eager, reaching.sent_is_called_once_and_before_the_first_byte, "sent is called once"),
        (Stubborn, keeping.a_request_that_was_sent_is_not_sent_again, "a request without an answer is an error"),
    ],
)
async def test_who_says_it_wrong_or_sends_twice_is_told(
    anyio_backend: str, make: Callable[..., NativeTransport], promise: TransportPromise, words: str
) -> None:
    with pytest.raises(AssertionError, match=words):
        await promise(make)


@asyncio_only
async def test_a_good_one_passes_as_a_whole(anyio_backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "CANCELLED", 500)  # each promise is kept in full beside the transports themselves
    await check_transport(NativeTransport)


def test_who_takes_no_certificates_or_proxy_is_not_asked_for_them() -> None:
    def bare(*, connections: int = 1000) -> HttpxTransport:
        return HttpxTransport(connections=connections)

    kept = {promise.__name__ for promise in promises_of(bare)}
    assert "requests_go_through_the_proxy" not in kept
    assert "a_server_that_nobody_vouches_for_is_told_nothing" not in kept
    assert "a_handshake_has_a_deadline" in kept
    assert len(promises_of(HttpxTransport)) == len(TRANSPORT_PROMISES)
