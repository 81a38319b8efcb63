"""An upstream that says nothing unless the test lets it: what has arrived at the client then needs no clock to tell."""

import json
import queue
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["COMPLETION", "DONE", "PacedUpstream", "paced_upstream", "text_event", "usage_event"]

SECONDS = 30
"""A bound on waiting for what must happen; nothing is measured by it."""

USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
COMPLETION = json.dumps(
    {
        "id": "paced-1",
        "object": "chat.completion",
        "created": 1,
        "model": "paced-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
DONE = b"data: [DONE]\n\n"


def text_event(text: str, finish_reason: str | None = None) -> bytes:
    """An event that brings a piece of text."""
    return _event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


def usage_event() -> bytes:
    """The event that brings the usage."""
    return _event(choices=[], usage=USAGE)


def _event(**fields: Any) -> bytes:
    head = {"id": "paced-1", "object": "chat.completion.chunk", "created": 1, "model": "paced-1"}
    return b"data: " + json.dumps({**head, **fields}).encode() + b"\n\n"


class PacedUpstream:
    """
    One exchange at a time, each piece of its body released by the test.

    Attributes:
        url: The base URL.
        requests: The bodies that came, parsed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Any] = []
        self._pieces: queue.Queue[bytes | None] = queue.Queue()
        self._left = threading.Semaphore(0)

    def say(self, *pieces: bytes) -> None:
        """Release pieces of the body."""
        for piece in pieces:
            self._pieces.put(piece)

    def end(self) -> None:
        """Release the end of the body."""
        self._pieces.put(None)

    def wait_until_left(self) -> None:
        """Wait until the client of an exchange has closed its connection in the middle, one for each call."""
        assert self._left.acquire(timeout=SECONDS), "the client did not close its connection"

    def answer(self, request: Any, handler: BaseHTTPRequestHandler) -> None:
        """One exchange."""
        self.requests.append(request)
        try:
            while (piece := self._next(handler)) is not None:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            handler.close_connection = True
            self._left.release()

    def _next(self, handler: BaseHTTPRequestHandler) -> bytes | None:
        while True:
            try:
                return self._pieces.get(timeout=0.01)
            except queue.Empty:
                if select.select([handler.connection], [], [], 0)[0]:
                    raise ConnectionResetError from None  # it says no more before we have answered: it closes


@contextmanager
def paced_upstream() -> Iterator[PacedUpstream]:
    """A paced upstream on a free port, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "text/event-stream" if request.get("stream") else "application/json")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            upstream.answer(request, self)

        def log_message(self, *_: Any) -> None:
            """Nothing to standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        upstream = PacedUpstream(f"http://127.0.0.1:{server.server_port}/v1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="paced upstream")
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join()
