"""
A reader who stands still, under every server and over every transport: what it costs us, and how it ends.

The upstream never stops, and counts what it could send. What of that is in nobody's socket, by the kernel's own tables,
is in our process.
"""

import json
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from background import BackgroundUpstream, running_upstream
from servers import COMMANDS, serve_module

from hpp_middleware.testing import Script

HERE = Path(__file__).parent
SOCKETS = Path("/proc/net/tcp")
MOST = 1536 * 1024
"""Bytes that a frozen reader may cost; a starved machine reads more at once, and then it was 1.01 MiB under granian."""
READ_AT_ONCE = 32 * 256_000
"""Bytes that uvloop, by libuv, gives in one turn to a client that says stop in a later one, as httpx2's does."""
STILL = 6
"""So many looks, a fifth of a second apart, show the same where nothing moves."""
SECONDS = 30
"""A bound on waiting for what must happen; nothing is measured by it."""
NEVER_S = 10 * SECONDS
"""A deadline for sending that does not run out while somebody looks."""

WAYS = [*((server, "auto") for server in COMMANDS), ("uvicorn", "aiohttp"), ("uvicorn", "httpx")]
CUTTING = [each for each in WAYS if each[0] != "hypercorn-trio"]
"""The other one shields what it sends: nothing but its client's leaving ends that."""
everywhere = pytest.mark.parametrize(("server", "transport"), WAYS)


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def wait_until(happened: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.05)


@contextmanager
def asked(
    server: str, transport: str, folder: Path, upstream: BackgroundUpstream, send_s: float
) -> Iterator[socket.socket]:
    """A client that has asked for an endless answer, and has read no more than its head."""
    upstream.fake.script = Script(endless=True, texts=("x" * 8000,))
    settings = {
        "PYTHONPATH": str(HERE),
        "HPP_DB": str(folder / "hpp.db"),
        "UPSTREAM_URL": upstream.url,
        "TRANSPORT": transport,
        "SEND_S": str(send_s),
    }
    body = json.dumps(
        {
            "model": "fake/fake-1",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 9_000_000,
            "stream": True,
        }
    ).encode()
    head = (
        b"POST /llm/v1/chat/completions HTTP/1.1\r\nHost: x\r\napikey: alice-shows-this-key-of-hers\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    )
    with serve_module(server, "flooded:app", folder, **settings) as url, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(SECONDS)
        client.connect(("127.0.0.1", port_of(url)))
        client.sendall(head + body)
        assert client.recv(16).startswith(b"HTTP/1.1 200")
        yield client


def queued(*ports: int) -> dict[tuple[str, str], list[int]]:
    """Bytes that wait in the kernel, to be sent and to be read, of all connections of these ports."""
    found = {}
    for line in SOCKETS.read_text("ascii").splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if {int(local.split(":")[1], 16), int(remote.split(":")[1], 16)}.intersection(ports):
            found[local, remote] = [int(queue, 16) for queue in queues.split(":")]
    return found


def settled_as(folder: Path, upstream: BackgroundUpstream) -> tuple[str, int]:
    """Outcome and amount of the one line, once the upstream was left."""
    upstream.wait_until_idle()
    assert upstream.last.closed_early

    def lines() -> list[tuple[str, int]]:
        with sqlite3.connect(folder / "hpp.db") as connection:
            rows = connection.execute("SELECT outcome, amount FROM ledger").fetchall()
        connection.close()
        return rows

    wait_until(lambda: len(lines()) == 1)
    (line,) = lines()
    return line


@pytest.mark.skipif(not SOCKETS.exists(), reason="what waits in sockets is told by Linux alone")
@everywhere
def test_a_reader_who_stands_still_costs_a_bounded_room(server: str, transport: str, tmp_path: Path) -> None:
    with running_upstream() as upstream, asked(server, transport, tmp_path, upstream, send_s=NEVER_S) as client:
        ports = port_of(upstream.url), client.getpeername()[1]
        seen: list[tuple[int, dict[tuple[str, str], list[int]]]] = []

        def stands_still() -> bool:
            seen.append((upstream.last.bytes_sent, queued(*ports)))
            time.sleep(0.2)
            return seen[-STILL:] == [seen[-1]] * STILL and seen[-1][0] > 0

        wait_until(stands_still)  # the kernel's tables are no picture of one moment: while bytes move, some are in none
        sent, in_sockets = seen[-1]
        ours = sent - sum(map(sum, in_sockets.values()))
        assert not upstream.last.closed_early
        assert ours <= MOST + (READ_AT_ONCE if transport == "httpx" else 0), seen[-1]
        client.close()
        wait_until(lambda: upstream.last.closed_early)  # long before the deadline for sending
        outcome, amount = settled_as(tmp_path, upstream)
        assert (outcome, amount > 0) == ("abandoned", True)


@pytest.mark.parametrize(("server", "transport"), CUTTING)
def test_a_reader_who_stands_still_is_cut_off(server: str, transport: str, tmp_path: Path) -> None:
    with running_upstream() as upstream, asked(server, transport, tmp_path, upstream, send_s=1):
        outcome, amount = settled_as(tmp_path, upstream)
        assert (outcome, amount > 0) == ("abandoned", True)
