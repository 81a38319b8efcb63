"""
What no gateway over this server and this client can cost less than: a request is read and sent on, and its answer.

No key, no price, no hold, no JSON is read. With a file, two transactions a request are committed to SQLite all the
same, many requests' together: a row before the upstream is asked, and behind the answer the row's end, what its account
has left, and a line of the ledger.
"""

import asyncio
import contextlib
import itertools
import queue
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bench import wire
from hpp_middleware.transports.native import NativeTransport
from hpp_middleware.types.http import HTTPCall

__all__ = ["Commits", "build"]

_SHARED = (("content-type", "application/json"), ("authorization", "Bearer of-the-operator"))
_TABLES = """
PRAGMA journal_mode=WAL;
PRAGMA synchronous=FULL;
CREATE TABLE accounts (id INTEGER PRIMARY KEY, left INTEGER NOT NULL);
CREATE TABLE holds (id INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL, state TEXT NOT NULL);
CREATE TABLE ledger (hold INTEGER PRIMARY KEY, account INTEGER NOT NULL, amount INTEGER NOT NULL);
"""
_ACCOUNT = "INSERT INTO accounts VALUES (?, 1000000000000000)"
_HOLD = "INSERT INTO holds VALUES (:id, :account, :amount, 'held')"
_SETTLE = (
    "UPDATE holds SET state = 'settled' WHERE id = :id",
    "UPDATE accounts SET left = left - :amount WHERE id = :account",
    "INSERT INTO ledger VALUES (:id, :account, :amount)",
)
_Job = tuple[Sequence[str], dict[str, int], "asyncio.Future[None]"]


class Commits:
    """One thread, one connection, one ``fdatasync`` for whatever waits."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def carried_out(self, statements: Sequence[str], values: dict[str, int]) -> None:
        """Wait until they are on the disk."""
        done = self._loop.create_future()
        self._jobs.put((statements, values, done))
        await done

    def stop(self) -> None:
        """End the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        with closing(sqlite3.connect(self._file, isolation_level=None)) as connection:
            connection.executescript(_TABLES)
            connection.executemany(_ACCOUNT, ((number,) for number in range(len(wire.KEYS))))
            while (job := self._jobs.get()) is not None:
                jobs = [job]
                with contextlib.suppress(queue.Empty):
                    while (other := self._jobs.get_nowait()) is not None:
                        jobs.append(other)
                connection.execute("BEGIN IMMEDIATE")
                for statements, values, _ in jobs:
                    for statement in statements:
                        connection.execute(statement, values)
                connection.execute("COMMIT")
                self._loop.call_soon_threadsafe(_tell, [done for _, _, done in jobs])


def _tell(waiting: Sequence["asyncio.Future[None]"]) -> None:
    for each in waiting:
        if not each.done():
            each.set_result(None)


def build(upstream: str, file: Path | None = None) -> Any:
    """
    An ASGI app before an upstream.

    Args:
        file: Where two transactions a request are committed; None for nowhere.
    """
    transport, url, numbers = NativeTransport(), f"{upstream}/v1/chat/completions", itertools.count()
    commits = Commits(file) if file is not None else None

    async def app(scope: Any, receive: Any, send: Any) -> None:  # ASGI's signature
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, commits)
            await transport.aclose()
            return
        number = next(numbers)
        values = {"id": number, "account": number % len(wire.KEYS), "amount": 1}
        body = await _body(receive)
        if commits is not None:
            await commits.carried_out((_HOLD,), values)
        await _relay(transport, HTTPCall(url=url, headers=list(_SHARED), shared=_SHARED, body=body, connect_s=30), send)
        if commits is not None:
            await commits.carried_out(_SETTLE, values)

    return app


async def _body(receive: Any) -> bytes:
    pieces, more = [], True
    while more:
        message = await receive()
        pieces.append(message["body"])
        more = message["more_body"]
    return b"".join(pieces)


async def _relay(transport: NativeTransport, call: HTTPCall, send: Any) -> None:
    response = await transport.send(call, provider="fake", sent=_nothing)
    headers = [
        (name.encode(), value.encode())
        for name, value in response.headers.items()
        if name in {"content-type", "content-length"}
    ]
    left = int(response.headers.get("content-length", 0))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    while piece := await response.read():
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left != 0})
    if left:
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    await response.aclose()


async def _lifespan(receive: Any, send: Any, commits: Commits | None) -> None:
    await receive()
    if commits is not None:
        commits.start()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    if commits is not None:
        commits.stop()
    await send({"type": "lifespan.shutdown.complete"})


def _nothing() -> None:
    """Nobody is told that the request is on its way."""
