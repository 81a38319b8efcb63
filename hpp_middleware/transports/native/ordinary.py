"""
The head of an ordinary answer: found by one expression, and taken apart only where somebody asks for all of it.

It leaves nothing open: printable ASCII, ``name: value`` in each line, one word of where the body ends, and none by
which a parser takes what follows for something else. Any other head is left to a parser, be it good or not.
"""

import re
from collections.abc import Iterator, Mapping

from hpp_middleware.transports.framing import LENGTH_DIGITS

__all__ = ["HEADERS", "ORDINARY", "Headers"]

HEADERS = 200

_OTHERS = (
    rb"(?:(?!(?i:connection: (?!keep-alive\r)|content-length:|proxy-connection:|transfer-encoding:|upgrade:))"
    rb"[A-Za-z0-9-]+: [!-~][ -~]*+(?<! )\r\n){,%d}+" % (HEADERS // 2 - 1)
)
_FRAMING = rb"(?i:content-length: ([0-9]{1,%d})|transfer-encoding: chunked)\r\n" % LENGTH_DIGITS

ORDINARY = re.compile(rb"HTTP/1\.1 200 OK\r(\n" + _OTHERS + _FRAMING + _OTHERS + rb")\r\n")
"""Finds such a head: what :class:`Headers` takes of it, and how long the body is, if it is not in chunks."""


class Headers(Mapping[str, str]):
    """
    The headers of an ordinary head.

    Args:
        lines: Each ends with CRLF; before the first stands LF.
    """

    __slots__ = ("_fields", "_lines")

    def __init__(self, lines: bytes) -> None:
        self._lines = lines
        self._fields: dict[str, str] | None = None

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # one kind of default
        """See :class:`Mapping`."""
        before = f"\n{name}: ".encode()
        lines = self._lines.lower()
        at = lines.find(before)
        if at < 0:
            return default
        start = at + len(before)
        if lines.find(before, start) >= 0:
            return self._all()[name]
        return self._lines[start : lines.find(b"\r", start)].decode("ascii")

    def __getitem__(self, name: str) -> str:
        """See :class:`Mapping`."""
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        """See :class:`Mapping`."""
        return iter(self._all())

    def __len__(self) -> int:
        """See :class:`Mapping`."""
        return len(self._all())

    def _all(self) -> dict[str, str]:
        if self._fields is None:
            fields: dict[str, str] = {}
            for line in self._lines[1:-2].decode("ascii").split("\r\n"):
                name, _, value = line.partition(": ")
                key = name.lower()
                fields[key] = f"{fields[key]}, {value}" if key in fields else value
            self._fields = fields
        return self._fields
