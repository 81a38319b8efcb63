"""One listening socket, one process, uvicorn: the process that was started is the one that serves."""

import asyncio
import contextlib
import ctypes
import errno
import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import anyio
import uvicorn

from hpp_middleware.asgi.app import Gateway
from hpp_middleware.cli.common import Fault

__all__ = ["listen", "run", "url"]

LAST_S = 10
"""
How long a server has to stop when all answers have ended: whoever asks for something else meanwhile is answered. The
grace of ``[load]`` and this are not to be more than the time after which the process is killed.
"""
NOW = getattr(signal, "SIGUSR2", signal.SIGTERM)
"""What a process of a group is told where it is to wait for nothing any more."""
KEEP_ALIVE_S = 75
"""Longer than clients keep idle connections, so that it is the client that closes them and no request meets a close."""
KEPT_BYTES = 16 * 1024 * 1024
"""So much free memory is kept for the next large bodies: more than one of them may have."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What ``malloc.h`` calls ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD``."""
_TOLD_BY = {"GLIBC_TUNABLES", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"}


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


def run(
    gateway: Gateway,
    listener: socket.socket,
    *,
    announce: Callable[[], None],
    access_log: bool = False,
    of_a_group: bool = False,
) -> None:
    """
    Serve until SIGINT or SIGTERM, then let the answers in flight end.

    Meanwhile it listens: who comes is told by a 503, and by ``/readyz``, to go elsewhere. A second signal ends the
    answers at once, with an error event in each stream; they are settled all the same.

    Args:
        gateway: What to serve; opened here, so that what keeps it from opening is a plain error.
        listener: Where; the caller closes it.
        announce: Called when everything is open, before the first request is read.
        access_log: Whether each request is logged, and what it came to.
        of_a_group: Whether another process says when to stop, by SIGTERM, and when at once, by :data:`NOW`. Terminals
            and service managers signal both: what the head of the group has heard already does not count twice.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("hpp_middleware").setLevel(logging.INFO if access_log else logging.WARNING)
    server = _Server(
        uvicorn.Config(
            gateway.app,
            lifespan="off",  # the gateway is open before and until after
            log_level="warning",
            access_log=False,  # the gateway logs requests itself, with what they came to
            server_header=False,
            date_header=True,
            ws="none",
            timeout_graceful_shutdown=LAST_S,
            timeout_keep_alive=KEEP_ALIVE_S,
        ),
        gateway,
        of_a_group=of_a_group,
    )

    async def serve() -> None:
        async with gateway:
            _leave_in_peace()
            _keep_memory()
            announce()
            async with anyio.create_task_group() as beside:
                beside.start_soon(server.drain)
                await server.serve(sockets=[listener])
                beside.cancel_scope.cancel()

    _end_quietly(server)
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


class _Server(uvicorn.Server):
    """Uvicorn, which stops when the gateway has."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway, *, of_a_group: bool) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._of_a_group = of_a_group
        self._told = 0  # once: stop; twice: at once
        self._loop: asyncio.AbstractEventLoop | None = None
        self._heard = asyncio.Event()
        if of_a_group:
            signal.signal(NOW, self.handle_exit)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: begin to stop, or, a second time, stop."""
        if self._of_a_group and sig == signal.SIGINT:
            return
        self._told += 1
        if self._of_a_group:
            self._told = 2 if sig == NOW else 1
        if self._loop is None:  # it does not serve yet
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._heard.set)

    async def drain(self) -> None:
        """Wait for signals, and carry them out."""
        self._loop = asyncio.get_running_loop()
        await self._heard.wait()
        self._say_what_it_waits_for()
        async with anyio.create_task_group() as both:

            async def end(grace_s: float | None) -> None:
                await self._gateway.drain(grace_s)
                both.cancel_scope.cancel()

            both.start_soon(end, None)
            while self._told < 2:
                self._heard.clear()
                await self._heard.wait()
            await self._gateway.drain(0)
        self.should_exit = True

    def _say_what_it_waits_for(self) -> None:
        """Whoever has pressed Ctrl-C is not to think that it hangs."""
        running, grace_s = self._gateway.standing().running, self._gateway.setup.load.grace_s
        if running:
            what = "an answer" if running == 1 else f"{running} answers"
            sys.stderr.write(
                f"hpp-router: waits for {what} to end, {grace_s:g} s at most; a second signal ends all at once\n"
            )
            sys.stderr.flush()


def _leave_in_peace() -> None:
    """
    Look for garbage less often: a request leaves none that has to be looked for.

    What is there when it begins to serve stays, and need not be looked at again; what open streams hold is looked at
    rarely, since that takes tens of milliseconds in which none of them goes on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 100)


def _keep_memory() -> None:
    """
    Keep what a large body took for the next one, under glibc; unless the operator has told that otherwise.

    Else it goes back to the kernel as soon as it is free, and comes again page by page, each of them cleared:
    a third of the CPU of a request with an image.
    """
    if sys.platform == "linux" and not _TOLD_BY & os.environ.keys():
        with contextlib.suppress(AttributeError):  # musl knows of no such thing
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
            mallopt(_TRIM_THRESHOLD, KEPT_BYTES)


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
