"""
Python processes that need not import everything first: forks of one that has.

To import the package's command line takes longer than most commands do. So one process imports it, and each program
that is asked for is a fork of that: with a folder, an environment, arguments and outputs of its own, from the first
line of its module to the interpreter's end. It may be killed as any other. In a soak, and on anything but Linux, each
is started from nothing.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from rounds import SOAK

__all__ = ["FORKS", "Forked", "forked"]

FORKS = sys.platform == "linux" and not SOAK
"""Whether programs are forked here, or started from nothing."""

MODULES = (
    "hpp_middleware.cli.app",
    "hpp_middleware.stores.postgres",
    "hpp_middleware.stores.redis",
    "rig",
    "faults.places",
)
"""What is imported before; none of them is a program itself."""

_MOST_BYTES = 200_000
_STATUS = b"%12d"


class Forked:
    """
    A program that runs.

    Attributes:
        stdout: What it says.
        stderr: What it complains of.
        returncode: Its exit code, or less than 0, the number of the signal that it died of; None while it runs.
    """

    def __init__(self, stdout: IO[str], stderr: IO[str], status: IO[bytes]) -> None:
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._status = status
        self._pid = self._told()

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        if self.returncode is None:
            self.returncode = self._told()
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """What it says, and complains of, until it has ended."""
        said = self.stdout.read(), self.stderr.read()
        self.wait()
        return said

    def kill(self) -> None:
        """``kill -9``."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    def _told(self) -> int:
        return int(self._status.read(len(_STATUS % 0)))


@contextmanager
def forked(
    module: str, *arguments: str, folder: Path, environment: Mapping[str, str], path: Sequence[str] = ()
) -> Iterator[Forked]:
    """
    ``python -m MODULE ARGUMENTS``, until the block ends.

    Args:
        module: Which.
        arguments: As a command line has them.
        folder: Where.
        environment: All of it.
        path: Where modules are looked for besides.
    """
    order = json.dumps([module, arguments, str(folder), dict(environment), list(path)]).encode()
    pipes = [os.pipe() for _ in range(3)]
    socket.send_fds(_server(), [order], [write for _, write in pipes])
    for _, write in pipes:
        os.close(write)
    out, err, status = (read for read, _ in pipes)
    with (
        os.fdopen(out, encoding="utf-8") as stdout,
        os.fdopen(err, encoding="utf-8") as stderr,
        os.fdopen(status, "rb", 0) as ends,
    ):
        program = Forked(stdout, stderr, ends)
        try:
            yield program
        finally:
            program.kill()


@cache
def _server() -> socket.socket:
    """To the process that is forked, which ends with this one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, __file__, str(theirs.fileno()), *MODULES]
    with theirs:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(orders: socket.socket) -> None:
    """Return in each process that is to become a program, having become it but for its module; and at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    while True:
        order, files, _, _ = socket.recv_fds(orders, _MOST_BYTES, 3)
        if not order:
            os._exit(0)
        if os.fork() == 0:
            break
        for file in files:
            os.close(file)
    orders.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *outputs, status = files
    if child := os.fork():
        for file in outputs:
            os.close(file)
        os.write(status, _STATUS % child)
        os.write(status, _STATUS % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)
    os.close(status)
    for number, file in enumerate(outputs, start=1):
        os.dup2(file, number)
        os.close(file)
    _become(*json.loads(order))


def _become(module: str, arguments: list[str], folder: str, environment: dict[str, Any], path: list[str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:1] = [folder, *path]
    sys.argv = [module, *arguments]
    if environment.get("PYTHONWARNINGS") == "error":
        warnings.simplefilter("error")


if __name__ == "__main__":
    for _name in sys.argv[2:]:
        importlib.import_module(_name)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
