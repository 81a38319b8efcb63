"""Where no request ever arrives: nobody is there, or the TLS handshake fails."""

import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import trustme
from anyio.from_thread import start_blocking_portal
from tcp_proxy import Ending, TCPProxy, tcp_proxy

from chaos.bench import absent, blackhole
from hpp_middleware.testing.transports.bench import HELLO, Peer, always, server

__all__ = ["running_places"]


@contextmanager
def running_places(folder: Path) -> Iterator[tuple[dict[str, str], str]]:
    """The base URLs by name, and the file of the authority that is trusted, until the block ends."""
    authority, stranger = trustme.CA(), trustme.CA()
    ca_file = str(folder / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        plain = stack.enter_context(portal.wrap_async_context_manager(server(_plain)))
        good = stack.enter_context(portal.wrap_async_context_manager(server(always(HELLO), tls=_context(authority))))
        bad = stack.enter_context(portal.wrap_async_context_manager(server(always(HELLO), tls=_context(stranger))))

        def cut(after: int, how: Ending) -> str:
            proxy: TCPProxy = stack.enter_context(tcp_proxy(f"https://127.0.0.1:{good.port}"))
            proxy.end_after(after, how=how)
            return proxy.url

        yield (
            {
                "absent": absent(),
                "blackhole": stack.enter_context(blackhole()),
                "nowhere": "http://no-such-host.invalid/v1",
                "tls-fin": cut(0, "close"),
                "tls-rst": cut(0, "reset"),
                "tls-half": cut(300, "close"),
                "tls-stall": cut(300, "stall"),
                "tls-plain": f"https://127.0.0.1:{plain.port}",
                "tls-untrusted": f"https://127.0.0.1:{bad.port}",
            },
            ca_file,
        )


async def _plain(peer: Peer) -> None:
    """What a server of plain HTTP says to a handshake."""
    await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await peer.gone()


def _context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context
