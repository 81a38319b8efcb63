"""The head of a request, written."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from hpp_middleware.types.http import HTTPCall

__all__ = ["Origin", "Place", "Start", "ended", "place", "start"]

_SAFE = "/?:@!$&'()*+,;=~-._%[]"
_METHOD = re.compile(r"[A-Z]+\Z")
_ENDS = re.compile("[\r\n\0]")


class Origin(NamedTuple):
    """Where a connection goes."""

    host: str
    port: int
    is_secure: bool


class Place(NamedTuple):
    """
    A URL, taken apart once.

    Attributes:
        origin: Where to connect.
        target: The path and the query, as they are sent.
        host: The ``Host`` header.
    """

    origin: Origin
    target: str
    host: str


def place(url: str) -> Place:
    """
    Take a URL apart.

    Raises:
        ValueError: It is none of ``http`` or ``https``, or names a user.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("the URL is none of http or https")
    name = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode("ascii")
    is_secure = parts.scheme == "https"
    usual = 443 if is_secure else 80
    port = parts.port or usual
    shown = f"[{name}]" if ":" in name else name
    target = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return Place(Origin(name, port, is_secure), target, shown if port == usual else f"{shown}:{port}")


class Start(NamedTuple):
    """
    How the head of a request begins: what every call of a kind has.

    Attributes:
        shared: The headers in it, by which such a call is known.
        place: Where it goes.
        head: Bytes.
    """

    url: str
    method: str
    shared: tuple[tuple[str, str], ...]
    place: Place
    head: bytes


def start(call: HTTPCall, where: Place) -> Start:
    """
    How the head of a call begins: ``Host``, and the headers that it shares with others.

    Raises:
        ValueError: A header is none: it would end its line, or the head.
    """
    if not _METHOD.match(call.method):
        raise ValueError("the method is none")
    text = f"{call.method} {where.target} HTTP/1.1\r\n" + _lines([("Host", where.host), *call.shared])
    return Start(call.url, call.method, call.shared, where, text.encode("latin-1"))


def ended(call: HTTPCall) -> bytes:
    """
    The rest of the head: the call's own headers, and ``Content-Length``.

    Raises:
        ValueError: As above.
    """
    own = call.headers[len(call.shared) :]
    return f"{_lines(own)}Content-Length: {len(call.body)}\r\n\r\n".encode("latin-1")


def _lines(headers: Sequence[tuple[str, str]]) -> str:
    lines = ""
    for name, value in headers:
        line = f"{name}: {value}"
        if _ENDS.search(line):
            raise ValueError("a header would end its line")
        lines += f"{line}\r\n"
    return lines
