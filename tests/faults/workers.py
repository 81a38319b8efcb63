"""Gateways in processes of their own, which share a store, and are paused, killed and given wrong clocks."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types
from rig import CHAT, KEY, question
from servers import free_port

from faults.worker import STOP_HERE

__all__ = ["Clock", "Jumps", "Settings", "Worker", "asked", "running_worker"]

Clock = Literal["right", "an hour ahead", "an hour behind", "frozen", "backwards"]
Jumps = Literal["before it starts", "when told"]

START_S = 30.0
STOP_S = 15.0
TESTS = Path(__file__).parents[1]


class Settings(msgspec.Struct, kw_only=True):
    """
    What a worker is told.

    Attributes:
        kind: Of store.
        place: A path or a URL.
        upstream: The provider's.
        journal: Where it keeps what its store does not take.
        nano: What each of the two accounts is given.
        lease_s: How long its lease is, when it is renewed, and how much of it is not trusted.
        clock: How its wall clock goes wrong.
        jumps: When that is.
        stops: Where it stops itself, for the request with that id.
        limits: What consumers may ask for, as fields of a :class:`~hpp_middleware.types.limits.RateLimit`.
        slot_s: How long a place of theirs is held that nobody extends.
    """

    kind: str
    place: str
    upstream: str
    journal: str
    port: int = 0
    nano: int = 10 * 10**9
    lease_s: tuple[float, float, float] = (30.0, 10.0, 5.0)
    clock: Clock = "right"
    jumps: Jumps = "when told"
    stops: Literal["never", "once held", "before sending"] = "never"
    limits: Sequence[dict[str, Any]] = ()
    slot_s: float = 60.0


class Worker:
    """
    A running gateway.

    Attributes:
        url: Where it is.
        process: What it is.
    """

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self.process = process

    @property
    def is_stopped(self) -> bool:
        """Whether it is paused."""
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    def pause(self) -> None:
        """``SIGSTOP``."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """``SIGCONT``."""
        self.process.send_signal(signal.SIGCONT)

    def let_the_clock_jump(self) -> None:
        """Its wall clock goes wrong, as it was told."""
        self.process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_worker(folder: Path, settings: Settings, *, before: Sequence[str] = ()) -> Generator[Worker]:
    """
    A worker, until the block ends.

    Args:
        folder: Where its log goes.
        settings: What it is told; it gets a port of its own.
        before: What is put before its command.
    """
    settings = msgspec.structs.replace(settings, port=free_port())
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
    log_path = folder / f"worker-{uuid4().hex[:8]}.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "faults.worker", msgspec.json.encode(settings).decode()],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if not _opens_its_port(process, settings.port):
            raise RuntimeError(f"the worker did not start:\n{log_path.read_text(errors='replace')}")
        yield Worker(f"http://127.0.0.1:{settings.port}", process)
    finally:
        _end(process)


def asked(worker: Worker, *, key: str = KEY, stop_here: bool = False, **fields: Any) -> dict[str, Any]:
    """What an HTTP client needs to ask a worker a question, as keywords; at some questions the worker stops."""
    headers = {"apikey": key}
    if stop_here:
        headers["x-request-id"] = fields["user"] = STOP_HERE
    return {"url": worker.url + CHAT, "json": question(**fields), "headers": headers}


def _opens_its_port(process: "subprocess.Popen[bytes]", port: int) -> bool:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
        return
    process.kill()
    process.wait()
