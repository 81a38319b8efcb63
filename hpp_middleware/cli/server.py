"""One listening socket, one process, uvicorn: the process that was started is the one that serves."""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.cli.common import Fault

__all__ = ["listen", "run", "url"]

GRACE_S = 25
"""How long answers in flight may take to end after a signal: under the 30 s after which Kubernetes kills."""
KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that it is the client that closes them and no request meets a close."""


def listen(host: str, port: int) -> socket.socket:
    """
    A socket that takes connections from now on.

    Raises:
        Fault: The port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else "there is no such host"  # the resolver counts downwards
        if error.errno == errno.EADDRINUSE:
            reason += "; --port takes another"
        raise Fault(f"cannot listen on {host} port {port}: {reason}") from None
    except OverflowError:
        raise Fault(f"cannot listen on {host} port {port}: a port is at most 65535") from None


def url(listener: socket.socket) -> str:
    """Where a client on this machine reaches it."""
    host, port = listener.getsockname()[:2]
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(gateway: Gateway, listener: socket.socket, *, announce: Callable[[], None], access_log: bool = False) -> None:
    """
    Serve until SIGINT or SIGTERM, then let the answers in flight end.

    Args:
        gateway: What to serve; opened here, so that what keeps it from opening is a plain error.
        listener: Where; the caller closes it.
        announce: Called when everything is open, before the first request is read.
        access_log: Whether each request is logged, and what it came to.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("hpp_middleware").setLevel(logging.INFO if access_log else logging.WARNING)
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.app,
            lifespan="off",  # the gateway is open before and until after
            log_level="warning",
            access_log=False,  # the gateway logs requests itself, with what they came to
            server_header=False,
            date_header=True,
            ws="none",
            timeout_graceful_shutdown=GRACE_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )

    async def serve() -> None:
        async with gateway:
            _leave_in_peace()
            announce()
            await server.serve(sockets=[listener])

    _end_quietly(server)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


def _leave_in_peace() -> None:
    """
    Look for garbage less often: a request leaves none that has to be looked for.

    What is there when it begins to serve stays, and need not be looked at again; what open streams hold is looked at
    rarely, since that takes tens of milliseconds in which none of them goes on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


def _end_quietly(server: uvicorn.Server) -> None:
    """
    A signal ends the process with code 0.

    While it opens, at once. Later uvicorn handles it, and raises it again when the answers have ended: to no effect.
    """

    def stop(_number: int, _frame: FrameType | None) -> None:
        if not server.should_exit:
            raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
