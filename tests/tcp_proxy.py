"""
A TCP proxy on loopback between a client and a server, for faults of the network: lost replies, cuts, silence, delay.

Blocking sockets in threads, so that it serves tests of either event loop, and of processes.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

__all__ = ["Ending", "TCPProxy", "tcp_proxy"]

PIECE = 65_536
LINGER_NOT = struct.pack("ii", 1, 0)  # on, for 0 seconds: closing sends RST
Ending = Literal["close", "reset", "stall"]
PORTS = {"http": 80, "https": 443, "postgres": 5432, "postgresql": 5432, "redis": 6379, "valkey": 6379}


@contextmanager
def tcp_proxy(url: str) -> Iterator["TCPProxy"]:
    """
    A proxy before the server of a URL, until the block ends.

    Args:
        url: Such as ``postgresql://user@127.0.0.1:5432/name``; the proxy's own ``url`` differs in its address alone.
    """
    proxy = TCPProxy(url)
    try:
        yield proxy
    finally:
        proxy.close()


class TCPProxy:
    """
    Passes bytes on, and fails as it is told.

    Attributes:
        url: What a client is given instead of the server's URL.
        delay: Seconds that each piece waits, in either direction.
        dropped: How many requests or replies were swallowed so far.
        connections: How many were made so far.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.hostname is None:
            raise ValueError("the proxy needs a server with a host in its URL")
        self.delay = 0.0
        self.dropped = 0
        self.connections = 0
        self._server = (parts.hostname, parts.port or PORTS[parts.scheme])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        user, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = self._closing = False
        self._to_drop = self._to_lose = 0
        self._marker = b""
        self._most: int | None = None
        self._how: Ending = "close"
        self._links: set[_Link] = set()
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept, name="tcp-proxy")
        self._acceptor.start()

    def drop_replies(self, times: int = 1, *, to: bytes = b"") -> None:
        """
        Let the next requests through, swallow what the server answers, and cut those connections.

        Args:
            times: How many replies.
            to: Only replies to a request in which these bytes are, such as ``b"EVALSHA"``.
        """
        with self._lock:
            self._to_drop, self._marker = times, to

    def lose_requests(self, times: int = 1, *, of: bytes) -> None:
        """
        Swallow the next requests in which these bytes are, and cut their connections: the server never sees them.

        Args:
            times: How many.
            of: Such as ``b"EVALSHA"``; looked for in each piece that comes.
        """
        with self._lock:
            self._to_lose, self._marker = times, of

    def end_after(self, count: int | None, *, how: "Ending" = "close") -> None:
        """
        Pass on so many bytes of the server's on each connection, and then end it.

        Args:
            count: How many; None for as many as come.
            how: Close it, reset it, or let it stand with nothing more coming.
        """
        with self._lock:
            self._most, self._how = count, how

    def cut(self) -> None:
        """Close every connection that there is; new ones are served."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.close()

    def refuse(self) -> None:
        """Cut, and close new connections at once."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        """Serve new connections again."""
        self._refusing = False

    def stall(self) -> None:
        """Pass nothing on; connections stay, and new ones are taken."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what was kept back, and what comes."""
        self._flowing.set()

    def close(self) -> None:
        """End it, with all its connections and threads."""
        self._closing = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        self.cut()
        self._flowing.set()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing or self._closing:
                client.close()
                continue
            self.connections += 1
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, timeout=10)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        link = _Link(client, server)
        with self._lock:
            self._links.add(link)
        for pump in (self._outwards, self._inwards):
            thread = threading.Thread(target=pump, args=(link,), name="tcp-proxy-pump")
            self._threads.append(thread)
            thread.start()

    def _outwards(self, link: "_Link") -> None:
        with link.half():
            while piece := self._next(link, link.client):
                if self._loses(piece):
                    break
                with self._lock:
                    link.request += piece
                link.server.sendall(piece)
        self._done(link)

    def _inwards(self, link: "_Link") -> None:
        with link.half():
            while piece := self._next(link, link.server):
                if self._drops(link):
                    break
                if not self._passes(link, piece):
                    break
        self._done(link)

    def _next(self, link: "_Link", source: socket.socket) -> bytes:
        """What comes next and may pass; nothing at the end."""
        piece = source.recv(PIECE)
        if self.delay:
            time.sleep(self.delay)
        self._flowing.wait()
        return b"" if link.closed else piece

    def _passes(self, link: "_Link", piece: bytes) -> bool:
        """Hand the client what it may have; whether there may be more."""
        with self._lock:
            most, how = self._most, self._how
        if most is None or link.passed + len(piece) < most:
            link.client.sendall(piece)
            link.passed += len(piece)
            return True
        link.client.sendall(piece[: most - link.passed])
        link.passed = most
        if how == "stall":
            link.over.wait()
        elif how == "reset":
            link.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            link.reset = True
        return False

    def _loses(self, piece: bytes) -> bool:
        with self._lock:
            if not self._to_lose or self._marker not in piece:
                return False
            self._to_lose -= 1
            self.dropped += 1
            return True

    def _drops(self, link: "_Link") -> bool:
        with self._lock:
            request, link.request = link.request, b""
            if not self._to_drop or not request or self._marker not in request:
                return False
            self._to_drop -= 1
            self.dropped += 1
            return True

    def _done(self, link: "_Link") -> None:
        link.close()
        with self._lock:
            self._links.discard(link)


class _Link:
    """
    One connection, and its continuation.

    Attributes:
        request: What the client has sent since the server's last word.
        passed: How much of the server's has been passed on.
        over: Set when it is closed.
        reset: Whether it ends by RST.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.request = b""
        self.closed = self.reset = False
        self.passed = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._halves = 2

    @contextmanager
    def half(self) -> Iterator[None]:
        """One direction; the sockets are freed when both have ended, so that no number is reused under the other."""
        try:
            with suppress(OSError):
                yield
        finally:
            self.close()
            with self._lock:
                self._halves -= 1
                last = not self._halves
            if last:
                self.client.close()
                self.server.close()

    def close(self) -> None:
        """End both sides; whoever reads sees the end."""
        self.closed = True
        self.over.set()
        for end in (self.client, self.server):
            # To shut a socket down both ways is to say FIN: what is to be reset is closed without, by the last half.
            way = socket.SHUT_RD if self.reset and end is self.client else socket.SHUT_RDWR
            with suppress(OSError):
                end.shutdown(way)
