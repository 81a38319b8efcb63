"""
Server-sent events, on bytes.

Lines end in CR, LF or CRLF and in nothing else: never ``str.splitlines``, which also splits on U+2028 and its like, and
so loses usage. The framer is correct when cut at every byte, and never holds more than one event of bounded size.
"""

import re
from typing import NamedTuple

__all__ = ["DONE", "KEEP_ALIVE", "Event", "EventTooLarge", "Framer", "data_event", "has_event"]

DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
"""A comment, which every reader of server-sent events skips (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""


class EventTooLarge(ValueError):
    """An event exceeds the bound: the stream is broken. ``events`` are those before it in the same bytes."""

    def __init__(self, events: list["Event"]) -> None:
        super().__init__("an event is too large")
        self.events = events


_CR, _LF = b"\r\n"  # as numbers: ``in`` takes bytes for a number first, and fails, which costs as much as the search
_BOM = b"\xef\xbb\xbf"
_PING = re.compile(rb"(?:\A|\n)event: ?ping\n")


class Event(NamedTuple):
    """
    One event, or a comment.

    Attributes:
        data: Its data lines, joined by LF; None where it has none (a comment, a lone ``event:``).
        other: Its other lines (``event:``, ``id:``, ``retry:``, comments), each ending in LF.
    """

    data: bytes | None
    other: bytes = b""

    def encode(self) -> bytes:
        """The event as bytes, its data in one ``data:`` line each."""
        if self.data is None:
            return self.other + b"\n"
        return self.other + data_event(self.data)


def data_event(data: bytes) -> bytes:
    """An event that is only data."""
    if _LF in data:
        return b"".join(b"data: " + line + b"\n" for line in data.split(b"\n")) + b"\n"
    return b"data: " + data + b"\n\n"


def has_event(events: bytes) -> bool:
    """Whether there is data among whole events, and not signs of life alone: comments, or pings in Messages."""
    if _PING.search(events):
        events = b"\n\n".join(each for each in events.split(b"\n\n") if not _PING.search(each))
    return events.startswith(b"data:") or b"\ndata:" in events


class Framer:
    """
    Bytes in, events out.

    Args:
        most: The largest event, in bytes.

    Attributes:
        between_events: Whether the next byte begins an event, and no mark of the byte order can come before it.
    """

    __slots__ = ("_data", "_first", "_line_size", "_other", "_pieces", "_size", "_skip_lf", "between_events", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._pieces: list[bytes] = []  # of the line that has not ended: joined once, however small they are
        self._line_size = 0
        self._data: list[bytes] = []
        self._other: list[bytes] = []
        self._size = 0
        self._skip_lf = False
        self._first = True
        self.between_events = False

    def feed(self, chunk: bytes) -> list[Event]:
        """
        The events that these bytes complete.

        Raises:
            EventTooLarge: An event exceeds the bound.
        """
        if self._first and chunk and not self._pieces and chunk[0] != _BOM[0]:
            self._first, self.between_events = False, True
        if _CR not in chunk and self.between_events:
            return self._whole(chunk)
        return self._fed(chunk)

    def _whole(self, chunk: bytes) -> list[Event]:
        """The events of bytes that begin with one, and have no CR: a blank line ends each."""
        events: list[Event] = []
        *wholes, rest = chunk.split(b"\n\n")
        for whole in wholes:
            if whole.startswith(b"data: ") and _LF not in whole and len(whole) <= self.most:
                events.append(Event(whole[6:]))
            else:
                self._add(events, whole + b"\n\n")
        if rest:
            self._add(events, rest)
        return events

    def _add(self, events: list[Event], chunk: bytes) -> None:
        try:
            events += self._fed(chunk)
        except EventTooLarge as error:
            raise EventTooLarge([*events, *error.events]) from None

    def _fed(self, chunk: bytes) -> list[Event]:
        """Line by line."""
        self.between_events = False
        events: list[Event] = []
        for line in self._lines(chunk):
            event = self._line(line)
            if event is not None:
                events.append(event)
            if self._size > self.most:
                raise EventTooLarge(events)
        if self._size + self._line_size > self.most:
            raise EventTooLarge(events)
        self.between_events = not (self._first or self._skip_lf or self.pending)
        return events

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that these bytes complete."""
        if self._skip_lf and chunk:
            # The CR of a CRLF ended the last chunk; its LF is no line of its own.
            self._skip_lf = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if chunk.endswith(b"\r"):
            self._skip_lf = True
        if _CR in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._pieces, lines[0]))
            self._pieces.clear()
            self._line_size = 0
        if rest:
            self._pieces.append(rest)
            self._line_size += len(rest)
        return lines

    @property
    def pending(self) -> bool:
        """Whether bytes wait that are no whole event."""
        return bool(self._pieces or self._data or self._other)

    def _line(self, line: bytes) -> Event | None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            return self._dispatch()
        self._size += len(line)
        if line.startswith(b"data:"):
            self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            self._data.append(b"")
        else:
            self._other.append(line + b"\n")
        return None

    def _dispatch(self) -> Event | None:
        if not self._data and not self._other:
            return None
        data = b"\n".join(self._data) if self._data else None
        event = Event(data, b"".join(self._other))
        self._data.clear()
        self._other.clear()
        self._size = 0
        return event
