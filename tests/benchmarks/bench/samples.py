"""Whose time it is: samples of a process by py-spy, which sees Python, and by perf, which sees the kernel."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

__all__ = ["Samples", "by_library", "perf", "py_spy", "read"]

_FRAME = re.compile(r"(?P<name>.+) \((?P<path>.+?)(:\d+)?\)$")
_OWNERS = (
    ("ours: the upstream client", ("hpp_middleware/transports/",)),
    ("ours", ("hpp_middleware/", "benchmarks/bench/")),
    ("the server (uvicorn)", ("/uvicorn/",)),
    ("the framework (starlette, fastapi)", ("/starlette/", "/fastapi/")),
    ("anyio", ("/anyio/",)),
    ("the upstream client's library", ("/httpx2/", "/httpcore2/", "/h11/", "/aiohttp/", "/yarl/", "/multidict/")),
    ("the event loop, and what it calls (uvloop, httptools, kernel)", ("/uvloop/", "asyncio/runners.py")),
)


class Samples:
    """
    Samples by owner, by module and by function, each by the innermost frame.

    Attributes:
        within: By function, whatever it calls counted too.
    """

    def __init__(self) -> None:
        self.owners: Counter[str] = Counter()
        self.modules: Counter[str] = Counter()
        self.functions: Counter[str] = Counter()
        self.within: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """All of them."""
        return self.owners.total()

    def add(self, frames: list[str], count: int) -> None:
        """A stack, the outermost frame first."""
        places = [_place(frame) for frame in frames]
        name, path = places[-1]
        if path.endswith("/threading.py"):
            return  # a thread that waits
        self.owners[_owner(path)] += count
        self.modules[_short(path)] += count
        self.functions[f"{_short(path)} {name}"] += count
        for each in {f"{_short(path)} {name}" for name, path in places}:
            self.within[each] += count


def py_spy(pid: int, seconds: float, target: Path) -> "subprocess.Popen[bytes]":
    """Begin to sample a process."""
    found = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if found is None:
        raise SystemExit("py-spy is not installed: `make profile` does so, or `pip install py-spy`.")
    command = [found, "record", "--pid", str(pid), "--duration", str(int(seconds)), "--rate", "250"]
    options = ["--format", "raw", "--full-filenames", "--output", str(target)]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def perf(pid: int, seconds: float, target: Path) -> "subprocess.Popen[bytes] | None":
    """The same with perf, where it is installed."""
    found = shutil.which("perf")
    if found is None:
        return None
    command = [found, "record", "-q", "-e", "cpu-clock", "-F", "997", "-p", str(pid), "-o", str(target)]
    return subprocess.Popen(
        [*command, "--", "sleep", str(seconds)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def read(collapsed: Path) -> Samples:
    """What py-spy wrote."""
    samples = Samples()
    for line in collapsed.read_text("utf-8").splitlines():
        stack, _, count = line.rpartition(" ")
        samples.add(stack.split(";"), int(count))
    return samples


def by_library(recorded: Path) -> list[tuple[float, str]]:
    """Percent by kernel, interpreter and shared library; nothing where perf could not record."""
    command = ["perf", "report", "-i", str(recorded), "--no-children", "--sort", "dso", "--stdio", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"^\s*([\d.]+)%\s+(\S+)", done.stdout, re.MULTILINE)
    return [(float(percent), name) for percent, name in found if float(percent) >= 0.5]


def _place(frame: str) -> tuple[str, str]:
    match = _FRAME.match(frame)
    return (match["name"], match["path"]) if match else (frame, "")


def _owner(path: str) -> str:
    for owner, marks in _OWNERS:
        if any(mark in path for mark in marks):
            return owner
    return "the standard library, and others"


def _short(path: str) -> str:
    for mark in ("hpp_middleware/", "site-packages/", f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/"):
        before, found, after = path.rpartition(mark)
        if found:
            return after if mark != "hpp_middleware/" or "site-packages" in before else f"hpp_middleware/{after}"
    return path
