"""
An upstream that does so much at once, as a model's server does: the rest waits, and who has left is served as well.

    python -m bench.limited SLOTS MILLISECONDS

Prints its port. Each answer takes a slot for so long; its capacity is slots / time.
"""

import argparse
import asyncio
import contextlib
import socket
from collections import deque
from typing import cast

import uvloop

from bench import wire

_ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(wire.ANSWER)
) + wire.ANSWER


class Slots:
    """What is answered at once."""

    def __init__(self, slots: int, seconds: float) -> None:
        self._free = slots
        self._seconds = seconds
        self._waiting: deque[asyncio.Transport] = deque()

    def ask(self, transport: asyncio.Transport) -> None:
        """One more request."""
        if self._free:
            self._free -= 1
            self._serve(transport)
        else:
            self._waiting.append(transport)

    def _serve(self, transport: asyncio.Transport) -> None:
        asyncio.get_running_loop().call_later(self._seconds, self._answer, transport)

    def _answer(self, transport: asyncio.Transport) -> None:
        if not transport.is_closing():
            transport.write(_ANSWER)
        if self._waiting:
            self._serve(self._waiting.popleft())
        else:
            self._free += 1


class Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The gateway has connected."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """A request, or a piece of one."""
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._data[:end].lower()
        start = head.find(b"content-length:") + 15
        length = int(head[start:].split(b"\r\n")[0])
        if len(self._data) >= end + 4 + length:
            self._data = self._data[end + 4 + length :]
            self._slots.ask(self._transport)


async def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("slots", type=int)
    parser.add_argument("milliseconds", type=float)
    given = parser.parse_args()
    slots = Slots(given.slots, given.milliseconds / 1000)
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(slots), sock=listener)
    print(listener.getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(main())
