"""
A response, read from bytes: no IO.

An :mod:`ordinary <hpp_middleware.transports.native.ordinary>` head is read in one pass. httptools parses every other
one, and the chunks. What it lets pass and what two readers could understand differently is refused here: a response
whose end is in doubt could give one consumer's answer to another.
"""

from collections.abc import Mapping
from types import MappingProxyType

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from hpp_middleware.transports.framing import is_length
from hpp_middleware.transports.native.ordinary import HEADERS, ORDINARY, Headers

__all__ = ["BrokenResponseError", "Reading"]

HEAD_BYTES = 64 * 1024
INTERIM = 10
MOST_TAKEN = 64 * 1024
"""Bytes of a body that are passed on at once: uvloop reads four times as many, and what is passed on may wait again."""

_BODYLESS = frozenset({204, 304})
_FRAMING = frozenset({"content-length", "transfer-encoding"})
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"\r\n\r\n"


class BrokenResponseError(Exception):
    """What came is no response, or not a whole one; its text holds nothing that came."""


class Reading:
    """
    One response, fed with what comes.

    Attributes:
        status: The status; 0 until the head is there.
        headers: Names in lower case.
        pieces: What has come of the body and has not been taken.
        size: How many bytes that is.
        complete: Whether the end has come.
        reusable: Once complete, whether another response may follow on the same connection.
    """

    headers: Mapping[str, str] = MappingProxyType({})
    reusable = False
    _head = b""  # while it is not whole
    _left: int | None = None  # of a body with a length; None where it goes on until the connection ends
    _ordinary = ORDINARY.match
    _fields: dict[str, str]  # the headers, while they are parsed
    _interim = _count = 0  # of interim responses; of headers, then of trailers
    _parsed = False
    _parser: HttpResponseParser | None = None  # of a chunked body
    _overhead = 0  # bytes since the last that belong to the body
    _last = b""

    def __init__(self) -> None:
        self.status = 0
        self.pieces: list[bytes] = []
        self.size = 0
        self.complete = False

    def feed(self, data: bytes) -> None:
        """
        Take what has come.

        Raises:
            BrokenResponseError: It is no response.
        """
        if not self.status:
            found = self._ordinary(data) if not self._head else None
            if found is not None and found.end() <= HEAD_BYTES:
                lines, length = found.groups()
                self.status, self.headers, self.reusable = 200, Headers(lines), True
                self._go_on(length, data[found.end() :])
                return
            data = self._feed_head(data)
        if not data:
            return
        if self.complete:
            self.reusable = False  # nobody has asked for more
        elif self._left is not None:
            self._feed_counted(self._left, data)
        elif self._parser is not None:
            self._feed_chunks(self._parser, data)
        else:
            self.on_body(data)

    def end(self) -> None:
        """
        The connection has ended in order.

        Raises:
            BrokenResponseError: The response has not.
        """
        if not self.complete:
            if not self.status or self._parser is not None or self._left is not None:
                raise BrokenResponseError("the connection ended before the response")
            self.complete = True

    def take(self) -> bytes:
        """What has come of the body since the last time, or as much of it as is passed on at once."""
        data = b"".join(self.pieces)
        self.pieces.clear()
        self.size = 0
        if len(data) > MOST_TAKEN:
            data, rest = data[:MOST_TAKEN], data[MOST_TAKEN:]
            self.pieces.append(rest)
            self.size = len(rest)
        return data

    def on_header(self, name: bytes, value: bytes) -> None:
        """For httptools: a header, or after the head a trailer, which is not kept."""
        self._count += 1
        if self._count > HEADERS:
            raise BrokenResponseError("too many headers")
        if self._parsed:
            return
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").strip(" \t")
        if key in self._fields:
            if key in _FRAMING:
                raise BrokenResponseError("the framing is told twice")
            text = f"{self._fields[key]}, {text}"
        self._fields[key] = text

    def on_headers_complete(self) -> None:
        """For httptools: the head has been read."""
        self._parsed = True

    def on_body(self, data: bytes) -> None:
        """For httptools: a piece of the body; what follows its end is another's."""
        if not self.complete:
            self.pieces.append(data)
            self.size += len(data)
            self._overhead = 0

    def on_message_begin(self) -> None:
        """For httptools: a response begins; within a body it is one that nobody has asked for."""
        if self.complete:
            self.reusable = False

    def on_message_complete(self) -> None:
        """For httptools: a chunked body has ended."""
        if self._parser is not None:
            self.complete = True

    def _feed_head(self, data: bytes) -> bytes:
        """What follows the head, if it is there."""
        head = self._head + data if self._head else data
        while not self.status and (end := head.find(_END)) >= 0:
            if end > HEAD_BYTES:
                break
            self._parse(head[: end + 4])
            head = head[end + 4 :]
        if self.status:
            self._head = b""
            return head
        self._head = head
        if len(head) > HEAD_BYTES or not b"HTTP/1.".startswith(head[:7]) or b"\n\n" in head:
            raise BrokenResponseError("the head is none, or too large")
        return b""

    def _go_on(self, length: bytes | None, rest: bytes) -> None:
        """An ordinary head has been read; take what has come of its body."""
        if length is not None:
            self._feed_counted(int(length), rest)
            return
        self._parsed = True
        parser = self._parser = HttpResponseParser(self)
        parser.feed_data(_CHUNKED)
        self._count = 0
        if rest:
            self._feed_chunks(parser, rest)

    def _parse(self, head: bytes) -> None:
        if head[:8] not in {b"HTTP/1.1", b"HTTP/1.0"}:
            raise BrokenResponseError("the protocol is another")
        self.headers = self._fields = {}
        self._count = 0
        self._parsed = False
        parser = HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except (HttpParserError, HttpParserUpgrade):
            raise BrokenResponseError("the head is malformed") from None
        status = parser.get_status_code()
        if not self._parsed or not 100 <= status <= 999:
            raise BrokenResponseError("the head is malformed")
        self._count = 0
        if status >= 200:
            self._frame(parser, status, is_old=head[7:8] == b"0")
            return
        self._interim += 1
        if status == 101 or self._interim > INTERIM:
            raise BrokenResponseError("an interim response too many")

    def _frame(self, parser: HttpResponseParser, status: int, *, is_old: bool) -> None:
        """Where the body ends; the head itself leaves only one way to tell."""
        coding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if coding is not None:
            if coding.lower() != "chunked" or length is not None or is_old:
                raise BrokenResponseError("the framing is ambiguous")
            self._parser = parser
        elif length is not None:
            if not is_length(length):
                raise BrokenResponseError("the length is none")
            self._left = int(length)
        self.reusable = not is_old
        if "connection" in self.headers:
            options = {option.strip() for option in self.headers["connection"].lower().split(",")}
            self.reusable = "keep-alive" in options if is_old else "close" not in options
        self.status = status
        if status in _BODYLESS:
            # Never a body, whatever its head says; where it says something, the peer may think otherwise.
            self.reusable = self.reusable and self._parser is None and not self._left
            self._finish()
        elif self._left == 0:
            self._finish()
        elif self._left is None and self._parser is None:
            self.reusable = False

    def _feed_counted(self, left: int, data: bytes) -> None:
        left -= len(data)
        if left < 0:
            data, left = data[:left], 0
            self.reusable = False
        if data:
            self.pieces.append(data)
            self.size += len(data)
        self._left = left
        self.complete = not left

    def _feed_chunks(self, parser: HttpResponseParser, data: bytes) -> None:
        self._overhead += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            if not self.complete:
                raise BrokenResponseError("a chunk is malformed") from None
            self.reusable = False  # what is malformed came after the end
        if self.complete:
            # An empty line after the end is skipped by the parser without a word.
            if (self._last + data)[-5:-4] in {b"\r", b"\n"}:
                self.reusable = False
            self._finish()
            return
        self._last = data[-5:]
        if self._overhead > HEAD_BYTES:
            raise BrokenResponseError("the trailers are too large")

    def _finish(self) -> None:
        self.complete = True
        self._parser = None  # which holds this object: let neither wait for the garbage collector
        self._last = b""
