"""
The fake upstream: canned bytes from an ``asyncio.Protocol`` under uvloop, in a process of its own.

    python -m bench.upstream

Prints its port. It reads no HTTP but the length of a body and the order in it (see :mod:`bench.wire`), and stamps each
event of a stream with the time at which it leaves, so that the client can tell how long it was held up.
"""

import asyncio
import socket
import time
from typing import cast

import uvloop

from bench import tls, wire

_JSON = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: req-bench\r\n\r\n"
    % len(wire.ANSWER)
) + wire.ANSWER
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\nx-request-id: req-bench\r\n\r\n"
)


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_BEFORE, _AFTER = _framed(wire.event({"content": f"@{0:019}@"})).split(b"%019d" % 0)
_LAST = _framed(wire.last_events()) + b"0\r\n\r\n"
_KEPT = 4096
_stepped: "dict[int, _Stream]" = {}


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._head = b""
        self._body = b""
        self._left = 0
        self._paused = False
        self._stream: _Stream | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The gateway has connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        if self._stream is not None:
            self._stream.over = True

    def data_received(self, data: bytes) -> None:
        """A request, or a piece of one; or steps."""
        if not self._left:
            data = self._head + data
            if data.startswith(wire.STEPS):
                self._head = _step(data)
                return
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head, self._body = b"", b""
            self._left = _content_length(data[: end + 2])
            data = data[end + 4 :]
        if len(self._body) < _KEPT:
            self._body += data[:_KEPT]
        self._left -= len(data)
        if self._left <= 0:
            self._left = 0
            self._answer()

    def _answer(self) -> None:
        start = self._body.find(b"~") + 1
        kind, *figures = self._body[start : self._body.find(b"~", start)].split()
        if kind == b"json":
            self._transport.write(_JSON)
            return
        self._transport.write(_STREAM_HEAD)
        self._stream = _Stream(self._loop, self._transport, int(figures[0]), int(figures[1]) / 1e6)
        self._stream.paused = self._paused
        if len(figures) > 2:
            self._stream.stepped = True
            _stepped[int(figures[2])] = self._stream
        self._loop.call_soon(self._stream.tick)  # the head leaves first, on its own

    def pause_writing(self) -> None:
        """The gateway does not read as fast."""
        self._paused = True
        if self._stream is not None:
            self._stream.paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self._paused = False
        if self._stream is not None:
            self._stream.resume()


class _Stream:
    """One stream: an event a turn of the loop, or one at each time it is due."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, events: int, gap_s: float):
        self._loop, self._transport = loop, transport
        self._left, self._gap_s = events, gap_s
        self._due = loop.time()
        self.paused = False
        self.over = False
        self.stepped = False
        self._waiting = False

    def resume(self) -> None:
        """Go on."""
        self.paused = False
        if self._waiting:
            self._waiting = False
            self.tick()

    def tick(self) -> None:
        """One event, and when the next one is due."""
        if self.over:
            return
        if self.paused:
            self._waiting = True
            return
        if not self._left:
            self.over = True
            self._transport.write(_LAST)
            return
        self._left -= 1
        self._transport.write(b"%b%019d%b" % (_BEFORE, time.monotonic_ns(), _AFTER))
        if self._gap_s:
            self._due += self._gap_s
            self._loop.call_at(self._due, self.tick)
        elif not self.stepped:
            self._loop.call_soon(self.tick)


def _step(data: bytes) -> bytes:
    """One event of each stream that is named; what is left is kept for the next piece."""
    begun = len(wire.STEPS)
    end = len(data) - (len(data) - begun) % 4
    for at in range(begun, end, 4):
        _stepped[int.from_bytes(data[at : at + 4], "big")].tick()
    return wire.STEPS + data[end:]


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:") + 15
    return int(lower[start : lower.find(b"\r\n", start)])


async def main() -> None:
    """Serve until it is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = await asyncio.get_running_loop().create_server(Upstream, sock=listener)
    if (secured := tls.server_context()) is not None:
        context, place = secured
        other = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, ssl=context)
        place.write_text(str(other.sockets[0].getsockname()[1]))
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
