"""Real servers on free loopback ports: uvicorn in a thread, and granian and hypercorn in processes of their own."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import uvicorn

__all__ = ["COMMANDS", "free_port", "serve", "serve_module", "stop"]

START_S = 30.0
STOP_S = 10.0
_PART = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
PORTS = range(10_240 + 2_500 * _PART, 10_240 + 2_500 * (_PART + 1))
"""What this process gives away: Linux chooses from 32768 up, macOS and Windows from 49152."""
_numbers = count(os.getpid())  # two runs side by side start in different places

COMMANDS: dict[str, list[str]] = {
    "uvicorn": ["-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", "{app}"],
    "granian": ["-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}", "{app}"],
    "hypercorn": ["-m", "hypercorn", "--workers", "0", "--bind", "127.0.0.1:{port}", "{app}"],
    # Without a parent process its trio worker knows no SIGTERM, and would be killed by it.
    "hypercorn-trio": [
        *("-m", "hypercorn", "--workers", "1", "--worker-class", "trio", "--bind", "127.0.0.1:{port}", "{app}"),
    ],
}


@contextmanager
def serve(app: Any, **settings: Any) -> Iterator[str]:
    """
    Uvicorn around an app, in a thread; yields its URL, ``http://127.0.0.1:PORT``.

    Args:
        app: Any ASGI app.
        settings: Of ``uvicorn.Config``.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(uvicorn.Config(app, **{"log_level": "warning", "ws": "none", **settings}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="uvicorn")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.005)
        if not server.started:
            raise RuntimeError("uvicorn did not start")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(STOP_S)
        server.force_exit = True
        thread.join()
        listener.close()


@contextmanager
def serve_module(kind: str, app: str, folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """
    A server in a process of its own; yields its URL.

    Args:
        kind: One of ``COMMANDS``.
        app: ``module:attribute``.
        folder: Where the module is, and the working directory.
        options: Of the server's, besides our own.
        environment: Variables besides our own.
    """
    port = free_port()
    command = [sys.executable, *(part.format(port=port, app=app) for part in COMMANDS[kind]), *options]
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    with (folder / f"{kind}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_until_open(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)


def free_port() -> int:
    """
    A port that nobody listens on, and that nobody else is given before it is used.

    A port of the system's choice is free again once it is known, and so may be the next one a neighbour gets: then a
    test finds a stranger's server where it expected its own. These lie below the range that systems choose from, each
    process of a run counts through a part of them, and no port is handed out twice before all others were.
    """
    while True:
        port = PORTS[0] + next(_numbers) % len(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process that was started in a session of its own, and whatever it started."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_open(process: "subprocess.Popen[bytes]", port: int) -> None:
    give_up = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not open its port")
