"""A pool of connections, and one exchange over one of them."""

import asyncio
import ssl
from collections import defaultdict
from collections.abc import Callable

from hpp_middleware.transports.errors import fault
from hpp_middleware.transports.native import request
from hpp_middleware.transports.native.connection import MOST_UNREAD, Connection
from hpp_middleware.transports.native.reading import BrokenResponseError, Reading
from hpp_middleware.transports.native.room import Room
from hpp_middleware.transports.tls import context
from hpp_middleware.types.http import HTTPCall

__all__ = ["NativeResponse", "NativeTransport"]

IDLE_S = 30.0
MOST_STARTS = 1000
MOST_TURNS = 10


class NativeTransport:
    """
    A pooled client of one event loop, asyncio's or uvloop's.

    The connection that was used last is used first, so that the others can grow old and be closed. A request that may
    have been sent is never sent again.

    Args:
        connections: How many there are at most; a request that finds none free waits for one, as long as it may take
            to connect.
        ca_file: Whom to trust instead of the usual authorities: a file of certificates.
    """

    def __init__(self, *, connections: int = 1000, ca_file: str | None = None) -> None:
        self._free = Room(connections)
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None
        self._starts: dict[int, request.Start] = {}  # by the id of their shared headers, which each keeps alive
        self._idle: defaultdict[request.Origin, list[Connection]] = defaultdict(list)
        self._open: set[Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "NativeResponse":
        """See :class:`hpp_middleware.ports.Transport`."""
        start = self._starts.get(id(call.shared))
        if start is None or start.url != call.url or start.method != call.method:
            start = self._start(call)
        head = start.head + request.ended(call)
        origin = start.place.origin
        connection = self._at_hand(origin) or await self._connection(origin, call.connect_s, provider)
        response = NativeResponse(self, connection, provider)
        try:
            sent()
            connection.ask(head, call.body, response)
            while not response.status:
                await connection.more()
        except BrokenResponseError as error:
            self.give_back(connection)
            raise fault("broken", provider) from error
        except BaseException:
            self.give_back(connection)
            raise
        return response

    async def aclose(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        closing = list(self._open)
        self._idle.clear()
        for connection in closing:
            self._close(connection)
        for _ in range(MOST_TURNS):  # of the event loop, which closes their sockets
            if all(connection.gone for connection in closing):
                break
            await asyncio.sleep(0)

    def _start(self, call: HTTPCall) -> request.Start:
        if len(self._starts) >= MOST_STARTS:
            self._starts.clear()
        found = self._starts[id(call.shared)] = request.start(call, request.place(call.url))
        return found

    def _at_hand(self, origin: request.Origin) -> Connection | None:
        """The connection that was used last, to be given back; None where it is lost, or others wait for one."""
        idle = self._idle[origin]
        if idle and self._free.left > 0 and idle[-1].is_quiet():
            self._free.left -= 1
            return idle.pop()
        return None

    async def _connection(self, origin: request.Origin, seconds: float, provider: str) -> Connection:
        """
        A connection of one's own, to be given back.

        Raises:
            UpstreamError: There is none; nothing was sent.
        """
        if self._closed:
            raise fault("unreachable", provider)
        loop = self._loop or asyncio.get_running_loop()
        self._loop = loop
        deadline = loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.take()
        except TimeoutError as error:
            raise fault("crowded", provider) from error
        try:
            connection = self._idle_one(origin) or await self._connect(loop, origin, deadline, provider)
        except BaseException:
            self._free.give()
            raise
        return connection

    def _idle_one(self, origin: request.Origin) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if connection.is_quiet():
                return connection
            self._close(connection)
        return None

    async def _connect(
        self, loop: asyncio.AbstractEventLoop, origin: request.Origin, deadline: float, provider: str
    ) -> Connection:
        try:
            tls = self._context() if origin.is_secure else None
            async with asyncio.timeout_at(deadline):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, origin), origin.host, origin.port, ssl=tls
                )
        except TimeoutError as error:
            raise fault("slow_to_reach", provider) from error
        except (OSError, UnicodeError) as error:
            raise fault("unreachable", provider) from error
        if self._closed:
            connection.close()
            raise fault("unreachable", provider)
        self._open.add(connection)
        return connection

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = context(self._ca_file)
        return self._tls

    def give_back(self, connection: Connection) -> None:
        """End an exchange: its connection is kept, or closed."""
        if connection.ended() and not self._closed:
            loop = connection.loop
            connection.since = loop.time()
            self._idle[connection.origin].append(connection)
            if self._timer is None:
                self._timer = loop.call_later(IDLE_S, self._close_old, loop)
        else:
            self._close(connection)
        self._free.give()

    def _close(self, connection: Connection) -> None:
        self._open.discard(connection)
        connection.close()

    def _close_old(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close what nobody has used for a while."""
        idle = [connection for each in self._idle.values() for connection in each]
        self._idle.clear()
        for connection in idle:
            if connection.lost or loop.time() - connection.since >= IDLE_S:
                self._close(connection)
            else:
                self._idle[connection.origin].append(connection)
        self._timer = loop.call_later(IDLE_S / 2, self._close_old, loop) if self._idle else None


class NativeResponse(Reading):
    """
    A response: its head, and its body piece by piece.

    Args:
        pool: Given the connection back.
        connection: What it comes by.
        provider: Named in errors.
    """

    _over = False

    def __init__(self, pool: NativeTransport, connection: Connection, provider: str) -> None:
        super().__init__()
        self._pool = pool
        self._connection = connection
        self._provider = provider

    @property
    def ended(self) -> bool:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        return self._over or (self.complete and not self.pieces)

    async def read(self) -> bytes:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        if self._over:
            return b""
        connection = self._connection
        try:
            while not self.pieces:
                if self.complete:
                    return b""
                await connection.more()
        except BrokenResponseError as error:
            raise fault("broken", self._provider) from error
        data = self.take()
        if connection.paused and self.size <= MOST_UNREAD:
            connection.go_on()
        return data

    async def aclose(self) -> None:
        """See :class:`hpp_middleware.ports.UpstreamResponse`."""
        if not self._over:
            self._over = True
            self._pool.give_back(self._connection)
