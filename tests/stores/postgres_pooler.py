"""
A transaction pooler, as strict as one can be: a client's transaction goes to another session than the one before.

It speaks enough of PostgreSQL's protocol to see where a transaction ends, hands the next one to the next session, and
counts round trips and the statements that were given a name.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

__all__ = ["Pooler", "pooled"]

SSL_REQUEST = 80877103
SESSIONS = 3


class Pooler:
    """
    What a pooler saw.

    Attributes:
        url: Where it listens.
        trips: Round trips, those of the start of a session excepted.
        named: Statements that a client gave a name.
    """

    def __init__(self, dsn: str) -> None:
        self._server = urlsplit(dsn)
        self.url = ""
        self.trips = 0
        self.named: list[bytes] = []
        self.transactions: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        sessions: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            hello = await _hello(reader, writer)
            for number in range(SESSIONS):
                session = await asyncio.open_connection(self._server.hostname, self._server.port)
                sessions.append(session)
                session[1].write(hello)
                await _answer(session[0], writer if number == 0 else None)
            await self._relay(reader, writer, sessions)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # one of them is gone
        finally:
            for _, out in sessions:
                out.close()
            writer.close()

    async def _relay(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        sessions: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> None:
        current = 0
        while True:
            kind, request = b"", b""
            while kind not in {b"S", b"Q", b"H"}:  # until the client waits for an answer
                kind, message = await _message(reader)
                if kind == b"X":
                    return
                if kind == b"P" and message[5:6] != b"\0":
                    self.named.append(message[5:])
                request += message
            self.trips += 1
            sessions[current][1].write(request)
            # A statement that was only described has ended no transaction; otherwise the server says whether it has.
            ends = b"TnE" if kind == b"H" else b"Z"
            if await _answer(sessions[current][0], writer, ends) == b"I":
                self.transactions.append(current)
                current = (current + 1) % SESSIONS


@asynccontextmanager
async def pooled(dsn: str) -> AsyncGenerator[Pooler]:
    """A pooler before a database."""
    pooler = Pooler(dsn)
    clients: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(pooler.serve(reader, writer))
        clients.add(task)
        task.add_done_callback(clients.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(dsn)
    pooler.url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl() + "?sslmode=disable"
    try:
        yield pooler
    finally:
        server.close()
        for client in clients:  # a test that failed has left its store open
            client.cancel()
        if clients:
            await asyncio.wait(clients)
        await server.wait_closed()


async def _hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The message that starts a session; whoever asks for TLS first is told no."""
    while True:
        head = await reader.readexactly(8)
        length, code = struct.unpack("!II", head)
        if code != SSL_REQUEST:
            return head + await reader.readexactly(length - 8)
        writer.write(b"N")


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    (length,) = struct.unpack("!I", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None, ends: bytes = b"Z") -> bytes:
    """Pass an answer on up to its last message, and return what that says first: of a ``Z`` the transaction's state."""
    while True:
        kind, message = await _message(reader)
        if writer is not None:
            writer.write(message)
        if kind in ends:
            return message[5:6]
