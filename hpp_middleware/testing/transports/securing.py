"""What a transport promises of TLS and of proxies, where its factory takes ``ca_file`` and ``proxy``."""

import os
import ssl
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio

from hpp_middleware.testing.transports.bench import (
    HELLO,
    MakeTransport,
    Peer,
    Received,
    TransportPromise,
    always,
    pool,
    refused,
    server,
    whole,
)

__all__ = ["PROMISES", "PROXY_PROMISES", "TLS_PROMISES"]

_VARIABLES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")


class _Certified:
    """
    An authority of one's own, and a server that it vouches for.

    Attributes:
        ca_file: The authority's certificate.
        names: The names that clients asked for in their handshakes.
    """

    def __init__(self, folder: Path, name: str = "localhost") -> None:
        import trustme  # of the extra ``testing``: nothing else here needs it

        authority = trustme.CA()
        self.ca_file = str(folder / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self.tls)
        self.tls.set_alpn_protocols(["h2", "http/1.1"])
        self.names: list[str | None] = []
        self.tls.sni_callback = self._note

    def _note(self, _connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        self.names.append(name)


@contextmanager
def _certified(name: str = "localhost") -> Generator[_Certified]:
    with tempfile.TemporaryDirectory() as folder:
        yield _Certified(Path(folder), name)


async def a_server_that_is_vouched_for_is_talked_to(make: MakeTransport) -> None:
    with _certified() as authority:
        async with (
            server(always(HELLO), tls=authority.tls) as found,
            pool(make, ca_file=authority.ca_file) as transport,
        ):
            for _ in range(3):
                assert await whole(transport, found.url, b"x" * 200_000) == (200, b"hello"), (
                    "an answer is read over TLS"
                )
            assert found.connections == 1, "the connection is used again"
            assert authority.names == ["localhost"], "the server is asked for by its name"


async def a_server_that_nobody_vouches_for_is_told_nothing(make: MakeTransport) -> None:
    with _certified() as authority, _certified() as other:
        async with server(always(HELLO), tls=authority.tls) as found:
            for settings in ({}, {"ca_file": other.ca_file}):
                async with pool(make, **settings) as transport:
                    error = await refused(transport, found.url, promise="a certificate nobody vouches for is refused")
                    assert (error.status, error.unsent) == (502, True), "and nothing was sent"
            assert not found.log, "it is told nothing"


async def a_server_of_another_name_is_told_nothing(make: MakeTransport) -> None:
    with _certified("another.example") as authority:
        async with (
            server(always(HELLO), tls=authority.tls) as found,
            pool(make, ca_file=authority.ca_file) as transport,
        ):
            error = await refused(transport, found.url, promise="a certificate for another name is refused")
            assert (error.status, error.unsent) == (502, True), "and nothing was sent"
            assert not found.log, "it is told nothing"


async def a_handshake_has_a_deadline(make: MakeTransport) -> None:
    async def silent(peer: Peer) -> None:
        await peer.gone()

    async with server(silent) as found, pool(make) as transport:
        url = found.url.replace("http://127.0.0.1", "https://localhost")
        error = await refused(transport, url, connect_s=0.2, promise="a handshake has a deadline")
        assert (error.status, error.unsent) == (504, True), "and nothing was sent"
        await found.settled(open_=0, promise="and its connection is closed")


async def the_environment_names_no_proxy(make: MakeTransport) -> None:
    async with _proxy() as proxy, server(always(HELLO)) as found:
        with _environment(dict.fromkeys(_VARIABLES, proxy.url)):
            async with pool(make) as transport:
                assert await whole(transport, found.url) == (200, b"hello"), "an answer is read"
        assert not proxy.log, "variables of the environment are no proxy"


async def requests_go_through_the_proxy(make: MakeTransport) -> None:
    async with _proxy() as proxy, server(always(HELLO)) as found, pool(make, proxy=proxy.url) as transport:
        assert await whole(transport, found.url) == (200, b"hello"), "an answer is read through the proxy"
        assert [request.line for request in proxy.log] == [f"POST {found.url}/v1/x HTTP/1.1"], (
            "which is asked for the URL"
        )


async def tls_goes_through_a_tunnel(make: MakeTransport) -> None:
    with _certified() as authority:
        async with (
            _proxy() as proxy,
            server(always(HELLO), tls=authority.tls) as found,
            pool(make, proxy=proxy.url, ca_file=authority.ca_file) as transport,
        ):
            assert await whole(transport, found.url) == (200, b"hello"), "an answer is read through the tunnel"
            (request,) = proxy.log
            assert request.line.startswith(f"CONNECT localhost:{found.port} "), "the proxy is asked for a tunnel"
            told = {name for name, _ in request.headers}
            assert "authorization" not in told, "and is not shown the provider's key"


async def a_proxy_that_refuses_was_sent_nothing(make: MakeTransport) -> None:
    refusing = always(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    with _certified() as authority:
        async with (
            server(refusing) as proxy,
            server(always(HELLO), tls=authority.tls) as found,
            pool(make, proxy=proxy.url, ca_file=authority.ca_file) as transport,
        ):
            error = await refused(transport, found.url, promise="a proxy may refuse")
            assert (error.status, error.unsent) == (502, True), "and then nothing was sent"
            assert not found.log, "and the provider is told nothing"


@asynccontextmanager
async def _proxy() -> AsyncGenerator[Any]:
    """A proxy for one connection at a time: whole URLs, and tunnels."""

    async def serve(peer: Peer) -> None:
        asked = await peer.request()
        if asked is None:
            return
        method, target, _ = asked.line.split(" ")
        host, _, port = target.removeprefix("http://").partition("/")[0].partition(":")
        async with await anyio.connect_tcp("127.0.0.1", int(port)) as onward:
            if method == "CONNECT":
                await peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                await onward.send(_rewritten(asked, f"http://{host}:{port}"))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(peer.pass_on, onward)
                async for data in onward:
                    await peer.send(data)
                tasks.cancel_scope.cancel()

    async with server(serve) as found:
        yield found


def _rewritten(asked: Received, origin: str) -> bytes:
    lines = [asked.line.replace(origin, "", 1), *(f"{name}: {value}" for name, value in asked.headers)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + asked.body


@contextmanager
def _environment(values: dict[str, str]) -> Generator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


TLS_PROMISES: tuple[TransportPromise, ...] = (
    a_server_that_is_vouched_for_is_talked_to,
    a_server_that_nobody_vouches_for_is_told_nothing,
    a_server_of_another_name_is_told_nothing,
)
PROXY_PROMISES: tuple[TransportPromise, ...] = (
    requests_go_through_the_proxy,
    tls_goes_through_a_tunnel,
    a_proxy_that_refuses_was_sent_nothing,
)
PROMISES: tuple[TransportPromise, ...] = (a_handshake_has_a_deadline, the_environment_names_no_proxy)
