"""The command line as a user has it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from forking import FORKS, forked

__all__ = ["SECONDS", "Done", "Running", "command", "environment", "router"]

SECONDS = 60
"""Enough for any command on a slow machine; who waits longer waits for ever."""


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        assert self.code == 0, self.err
        return json.loads(self.out)


class Running:
    """
    A router that serves.

    Attributes:
        head: The lines it printed before it served.
        url: Where.
        client: An HTTP client of it.
    """

    def __init__(self, process: "subprocess.Popen[str]", errors: Path, head: list[str], client: httpx2.Client) -> None:
        self.head = head
        self.client = client
        self._process = process
        self._errors = errors

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    def get(self, path: str, key: str | None = None) -> httpx2.Response:
        return self.client.get(path, headers={} if key is None else {"apikey": key})

    def chat(self, key: str, body: Mapping[str, Any]) -> httpx2.Response:
        return self.client.post("/llm/v1/chat/completions", headers={"apikey": key}, json=dict(body))

    def page_faults(self) -> int:
        """How many pages the kernel has given it, as Linux counts them."""
        return int(Path(f"/proc/{self._process.pid}/stat").read_text("utf-8").rpartition(")")[2].split()[7])

    def stop(self, number: int = signal.SIGTERM) -> Done:
        """End it as an operator does."""
        self._process.send_signal(number)
        out, _ = self._process.communicate(timeout=SECONDS)
        return Done(self._process.returncode, out, self._errors.read_text("utf-8"))


def environment(**variables: str) -> dict[str, str]:
    """A clean environment: nobody's real keys."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONWARNINGS": "error", **variables}


def command(folder: Path, *arguments: str, **variables: str) -> Done:
    """Run a command to its end, in a folder; it is one of many, so that it is forked but in a soak."""
    if FORKS:
        with forked("hpp_middleware", *arguments, folder=folder, environment=environment(**variables)) as program:
            out, err = program.communicate()
            return Done(program.wait(), out, err)
    done = subprocess.run(
        [sys.executable, "-m", "hpp_middleware", *arguments],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


@contextmanager
def router(folder: Path, *arguments: str, last: str = "listens on", **variables: str) -> Iterator[Running]:
    """
    A router in a folder, on a free port, once it has said that it listens; it is ended in order at the end.

    Args:
        last: What the last line of its head contains.
    """
    errors = folder / "stderr.txt"
    with (
        errors.open("w") as file,
        subprocess.Popen(
            [sys.executable, "-m", "hpp_middleware", *arguments, "--port", "0"],
            cwd=folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            head: list[str] = []
            while not head or last not in head[-1]:
                line = process.stdout.readline()
                assert line, f"it ended with {process.wait()}: {errors.read_text('utf-8')}"
                head.append(line.rstrip("\n"))
            url = next(line for line in head if "listens on " in line).split("listens on ")[1].split()[0]
            with httpx2.Client(base_url=url, trust_env=False, timeout=SECONDS) as client:
                yield Running(process, errors, head, client)
            process.terminate()  # what it has answered may not be settled yet
            process.communicate(timeout=SECONDS)
        finally:
            process.kill()
