"""The head of a request, written."""

import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from hpp_middleware.types.http import HTTPCall

__all__ = ["Origin", "Place", "head", "place"]

_SAFE = "/?:@!$&'()*+,;=~-._%[]"
_METHOD = re.compile(r"[A-Z]+\Z")


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


def head(call: HTTPCall, where: Place) -> bytes:
    """
    The head of a request: ``Host``, what the call says, and ``Content-Length``.

    Raises:
        ValueError: A header is none: it would end its line, or the head.
    """
    lines = [f"{call.method} {where.target} HTTP/1.1\r\nHost: {where.host}"]
    lines += [f"{name}: {value}" for name, value in call.headers]
    text = "\r\n".join(lines) + f"\r\nContent-Length: {len(call.body)}\r\n\r\n"
    ends = len(lines) + 3
    if text.count("\r") != ends or text.count("\n") != ends or "\0" in text or not _METHOD.match(call.method):
        raise ValueError("a header would end its line")
    return text.encode("latin-1")
