"""
Who is measured, by name.

``direct`` is the upstream itself. ``noop`` answers and does nothing, ``rawproxy`` passes TCP on, and ``bare`` requests;
``bare-sqlite`` commits twice for each.
``ours`` and ``ours-sqlite`` are the gateway as a host mounts it; ``router`` is the command, and ``workers1`` and
``workers2`` are it with that many workers at one SQLite file. ``ours-native``, ``ours-aiohttp`` and ``ours-httpx`` name
their HTTP client, and with ``-tls`` behind it reach the upstream over TLS. ``NAME@REVISION`` is the package as a
revision has it.
"""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # ships no types

from bench import nginx, router, wire
from bench.accounting import cores, every_core
from bench.contestant import TRANSPORTS
from bench.processes import module, running, told
from bench.revisions import package_of

__all__ = ["ALL", "Contestant", "connected", "contestant"]

ALL = (
    *("direct", "noop", "bare", "bare-sqlite", "rawproxy", "nginx"),
    *("ours", "ours-sqlite", "router", "naive", "workers1", "workers2"),
    *TRANSPORTS,
)
START_S = 30
ANSWER_S = 600  # a ledger in memory may be filled first


class Contestant:
    """
    A server that runs.

    Attributes:
        name: What it is called in the tables.
        port: Where it listens.
        start_s: How long it took from exec to the end of its first request.
    """

    def __init__(self, name: str, port: int, process: "subprocess.Popen[str] | None") -> None:
        self.name, self.port = name, port
        self.start_s = 0.0
        self._process = process

    @property
    def pids(self) -> list[int]:
        """Its process, and those that it has started."""
        if self._process is None:
            return []
        return [self._process.pid, *(each.pid for each in psutil.Process(self._process.pid).children(recursive=True))]


@contextmanager
def contestant(name: str, upstream: int, folder: Path, *, options: tuple[str, ...] = ()) -> Iterator[Contestant]:
    """One of the contestants, its first request answered; options are :mod:`bench.contestant`'s."""
    if name == "direct":
        yield Contestant(name, upstream, None)
        return
    folder.mkdir(parents=True, exist_ok=True)
    kind, package = name.partition("@")[0], package_of(name, folder)
    port, command = _command(kind, upstream, folder, options)
    begun = time.monotonic()
    core = every_core() if kind == "workers2" else {cores()[1]}
    with running(command, core=core, package=package) as process:
        found = Contestant(name, port or int(told(process)), process)
        _first_request(found.port)
        found.start_s = time.monotonic() - begun
        yield found


def _command(kind: str, upstream: int, folder: Path, options: tuple[str, ...]) -> tuple[int, list[str]]:
    """What starts it, and its port; 0 where it tells that itself."""
    port = _free_port()
    match kind:
        case "nginx":
            return port, nginx.command(folder, port=port, upstream=upstream)
        case "router":
            return port, router.command(folder, port=port, upstream=upstream, store="memory:", workers=0)
        case "workers1" | "workers2":
            store = f"sqlite:///{folder / 'hpp.db'}"
            return port, router.command(folder, port=port, upstream=upstream, store=store, workers=int(kind[-1]))
    return 0, module("bench.contestant", kind, upstream, folder, *options)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def connected(port: int, seconds: float = START_S) -> socket.socket:
    """A connection to a server that may not listen yet."""
    end = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), ANSWER_S)
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.002)


def _first_request(port: int) -> None:
    with connected(port) as connection:
        connection.sendall(wire.request(wire.json_question()))
        answer = b""
        while wire.ANSWER[-20:] not in answer:
            piece = connection.recv(65536)
            answer += piece
            if not piece or not answer.startswith(b"HTTP/1.1 200"[: len(answer)]):
                raise RuntimeError(f"the first request was answered with {answer[:300]!r}")
