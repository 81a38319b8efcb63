"""Starting and ending what is measured, and what measures: each a process of its own, on its core."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from bench.accounting import cores
from bench.orders import Order, Report
from bench.revisions import ROOT

if TYPE_CHECKING:
    from bench.contestants import Contestant

__all__ = ["Loader", "many_files", "module", "pinned", "running", "told"]

_HERE = Path(__file__).parent.parent
_MALLOC = {f"MALLOC_{name}_THRESHOLD_": str(16 * 1024 * 1024) for name in ("MMAP", "TRIM")}
"""For all of them as ``hpp-router serve`` has it."""


@contextmanager
def pinned(core: set[int]) -> Iterator[None]:
    """What is started in here stays on these cores."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def running(command: Sequence[str], *, core: set[int], package: Path = ROOT) -> "Iterator[subprocess.Popen[str]]":
    """A process on a core, with the package of a source tree; ended afterwards."""
    paths = os.pathsep.join([str(package), str(_HERE)])
    environment = {**_MALLOC, **os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "0"}
    with pinned(core):
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, cwd=_HERE
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def many_files() -> None:
    """Let this process and its children have as many connections as the system allows."""
    with suppress(ImportError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def module(name: str, *arguments: object) -> list[str]:
    """The command of one of our own modules."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def told(process: "subprocess.Popen[str]") -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} ended with {process.wait(5)}")
    return line


class Loader:
    """The load generator and the fake upstream, together on the other core."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        core = {cores()[0]}
        upstream = self._stack.enter_context(running(module("bench.upstream"), core=core))
        self.upstream, self.upstream_pid = int(told(upstream)), upstream.pid
        self._process = self._stack.enter_context(running(module("bench.load"), core=core))
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def run(self, target: "Contestant", order: dict[str, object]) -> Report:
        """One measurement of a contestant."""
        self.begin(target, order)
        return self.end()

    def begin(self, target: "Contestant", order: dict[str, object]) -> None:
        """Begin one; what else is to be done meanwhile is the caller's."""
        given = {**order, "port": target.port, "pids": target.pids, "upstream": self.upstream_pid}
        if given.get("steps"):
            given["steps"] = self.upstream
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(msgspec.convert(given, Order)).decode() + "\n")
        self._process.stdin.flush()

    def end(self) -> Report:
        """What came of it."""
        return msgspec.json.decode(told(self._process), type=Report)
