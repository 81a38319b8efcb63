"""Several processes at one listening socket: each opens the gateway for itself, and one that ends is replaced."""

import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

from hpp_middleware.cli import server
from hpp_middleware.cli.errors import guarded
from hpp_middleware.config import load

__all__ = ["run"]

MULTIPROC = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus-client's own variable: the folder through which processes are counted together."""

SETTLE_S = 30.0
"""How long a worker has after the grace, in which it settles what it has ended, however slow its store is."""

PAUSE_S = 1.0
"""Between the end of a worker and the start of the next, so that one which cannot start does not keep a core busy."""


def run(
    path: Path,
    listener: socket.socket,
    *,
    workers: int,
    announce: Callable[[], None],
    access_log: bool,
    grace_s: float,
    counted: bool = False,
) -> None:
    """
    Serve until SIGINT or SIGTERM, then let the answers in flight end.

    Args:
        path: The configuration file, which each worker reads for itself.
        listener: Where; the caller closes it.
        workers: How many processes.
        announce: Called when all of them are open.
        access_log: Whether each request is logged, and what it came to.
        grace_s: How long the answers in flight may take, in seconds.
        counted: Whether they are counted, all together.
    Raises:
        SystemExit: A worker could not open, and has said why; or a signal came.
    """
    _end_on_signals()
    with _counted_together() if counted else nullcontext():
        group = _Group(path, listener, access_log, grace_s)
        try:
            group.start(workers)
            announce()
            group.keep()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: group.stop(server.NOW))
            group.end()


@contextmanager
def _counted_together() -> Iterator[None]:
    """
    Have the workers' figures added up by whichever is asked for them, through a folder that ends with this process.

    prometheus-client of the workers, which are started anew, goes by the variable; an operator's own folder stays.
    """
    if MULTIPROC in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="hpp-metrics-") as folder:
        os.environ[MULTIPROC] = folder
        try:
            yield
        finally:
            del os.environ[MULTIPROC]


class _Group:
    """The workers."""

    def __init__(self, path: Path, listener: socket.socket, access_log: bool, grace_s: float) -> None:
        self._context = multiprocessing.get_context("spawn")
        # Its other end is never written to: it ends with this process, however that ends, and the workers with it.
        self._alive, self._ours = self._context.Pipe(duplex=False)
        self._settings = (path, listener, access_log)
        self._grace_s = grace_s
        self._running: list[SpawnProcess] = []

    def start(self, workers: int) -> None:
        """Start so many, and wait until all of them are open."""
        for process, ready in [self._start() for _ in range(workers)]:
            with ready:
                try:
                    ready.recv()
                except EOFError:  # it has ended, and said why
                    process.join()
                    raise SystemExit(process.exitcode or 1) from None

    def keep(self) -> None:
        """Replace whichever ends; never returns."""
        while True:
            wait([each.sentinel for each in self._running])
            for ended in [each for each in self._running if not each.is_alive()]:
                sys.stderr.write(
                    f"hpp-router: worker {ended.pid} ended with {ended.exitcode}: another one is started\n"
                )
                self._running.remove(ended)
                time.sleep(PAUSE_S)
                _, ready = self._start()
                ready.close()

    def end(self) -> None:
        """Let each end what it is answering."""
        self.stop()
        until = time.monotonic() + self._grace_s + SETTLE_S
        for each in self._running:
            each.join(max(0.0, until - time.monotonic()))
            if each.is_alive():
                each.kill()
                each.join()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Tell each that it is to end."""
        for each in self._running:
            if each.pid is not None and each.exitcode is None:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, number)

    def _start(self) -> tuple[SpawnProcess, Connection]:
        """A worker, and what it tells when it is open; nothing comes of one that cannot."""
        ready, told = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_work, args=(*self._settings, told, self._alive))
        process.start()
        told.close()
        self._running.append(process)
        return process, ready


def _work(path: Path, listener: socket.socket, access_log: bool, told: Connection, alive: Connection) -> None:
    """The life of a worker."""
    threading.Thread(target=_follow, args=(alive,), daemon=True).start()

    def announce() -> None:
        try:
            told.send(True)
        except BrokenPipeError:
            pass  # one that replaces another is not waited for
        finally:
            told.close()

    serve = partial(server.run, listener=listener, announce=announce, access_log=access_log, of_a_group=True)
    sys.exit(guarded(lambda: serve(load(path).gateway())))


def _follow(alive: Connection) -> None:
    """End with the process that started this one."""
    wait([alive])
    os.kill(os.getpid(), signal.SIGTERM)


def _end_on_signals() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
