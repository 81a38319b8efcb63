"""
HTTP/1.1 for one connection of a fake upstream: h11 over a non-blocking socket.

A plain socket, since the faults are the point: a reset in the place of an orderly end, and hearing at once that the
peer has left, are not to be had through a stream that tidies up.
"""

import contextlib
import socket
import struct

import anyio
import h11

__all__ = ["HTTP1Connection"]

RECEIVE_BYTES = 65536
LINGER_NOT = struct.pack("ii", 1, 0)  # on, for 0 seconds: close() sends RST


class HTTP1Connection:
    """One accepted connection; requests come one after another."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._http = h11.Connection(h11.SERVER)

    async def head(self) -> h11.Request | None:
        """The head of the next request; None when the client has closed, or speaks no HTTP."""
        if self._http.our_state is not h11.IDLE:
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return None
            self._http.start_next_cycle()
        try:
            event = await self._next_event()
        except (OSError, h11.RemoteProtocolError):
            return None
        return event if isinstance(event, h11.Request) else None

    async def body(self, most: int | None = None) -> bytes:
        """
        The rest of the request.

        Args:
            most: Read no further once there are so many bytes.
        Raises:
            OSError: The client broke off.
            h11.RemoteProtocolError: So it did, or it speaks no HTTP.
        """
        if self._http.they_are_waiting_for_100_continue:
            await self.send(h11.InformationalResponse(status_code=100, headers=[]))
        parts, size = list[bytes](), 0
        while (most is None or size < most) and isinstance(event := await self._next_event(), h11.Data):
            parts.append(bytes(event.data))
            size += len(event.data)
        return b"".join(parts)

    async def send(self, *events: h11.Event, most: int | None = None) -> None:
        """
        Write events in one go.

        Args:
            events: Of a response.
            most: No more bytes of them than that.
        Raises:
            OSError: The client has left.
        """
        await self.write(b"".join(self._http.send(event) or b"" for event in events)[:most])

    async def write(self, raw: bytes) -> None:
        """
        Write bytes as they are.

        Raises:
            OSError: The client has left.
        """
        data = memoryview(raw)
        while data:
            try:
                data = data[self._sock.send(data) :]
            except BlockingIOError:
                await anyio.wait_writable(self._sock)

    async def gone(self) -> None:
        """Return when the client has closed or reset the connection."""
        with contextlib.suppress(OSError):
            while data := await self._receive():
                self._http.receive_data(data)  # of its next request

    def close(self, *, reset: bool = False) -> None:
        """Close; by RST if ``reset``."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        anyio.notify_closing(self._sock)
        self._sock.close()

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._receive())
        return event

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._sock)
