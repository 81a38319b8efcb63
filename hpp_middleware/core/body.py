"""
A request body's top level: members whose values stay raw bytes, each key once, within bounds that are checked first.

So router and upstream can never read two different bodies, and no body costs far more than its size.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.errors import RequestError
from hpp_middleware.types.provider import Limits

__all__ = ["HEAD", "LARGE", "LONG", "STAND_IN", "brief", "decoded", "members", "unescaped", "words"]

# A string that never ends counts as one to the end of the body, so that no byte is looked at twice.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)

_HIDING = re.compile(rb"\\(?:u00|/)")

SMALL = 16 * 1024
FEW = 200
"""In a body that is larger, so many marks are sought one by one, which is faster as long as they are far apart."""

LONG, HEAD = 4096, 64
"""Of what is longer between two quotes, such as an image, so much is enough to see what it is."""

_BETWEEN = b" \t\r\n:,"
"""What does not begin a string that is worth cutting: it may as well stand between two of them."""

STAND_IN = "\x7f"
"""What stands for data that :func:`brief` leaves out, before its length."""

STAND_IN_ESCAPED = b"\\u007"
"""With how an escape of it begins: where a string has one, a length could be the client's own words, too."""

LARGE = 1024 * 1024
"""A larger body is looked at mark by mark, up to the first that breaks a bound."""

_AS_BRACES = bytes.maketrans(b"[]", b"{}")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


_members = msgspec.json.Decoder(dict[str, Raw])


def brief(body: bytes) -> bytes:
    """
    JSON without the data of long data URLs, whose lengths stand in for it: an image is a megabyte, and each look at it
    would take as long as reading it does.

    A body where a length could be the client's own words is left as it is. So is what may be no string, or has an
    escape: what goes is inside of one string for certain, if this is JSON at all.
    """
    if len(body) < SMALL or body.find(STAND_IN.encode()) >= 0:
        return body
    kept, start, at = [], 0, body.find(b'"')
    while at >= 0:
        near = body.rfind(b'"', at + 1, at + LONG)
        if near > at:
            at = near
            continue
        end = body.find(b'"', at + 1)
        head = body[at + 1 : at + HEAD]
        is_data = end > at + LONG and head[:5].lower() == b"data:" and head.isascii()  # no letter is cut in two
        if is_data and body.find(b"\\", at, end) < 0:
            kept.append(body[start : at + HEAD] + f"{STAND_IN}{end - at - HEAD}".encode())
            start = end
        at = end
    short = b"".join((*kept, body[start:])) if kept else body
    return short if short.find(STAND_IN_ESCAPED) < 0 else body


def members(body: bytes, limits: Limits, short: bytes | None = None) -> dict[str, Raw]:
    """
    The top level of a JSON object, each key once (the last), each value raw.

    Args:
        body: The JSON.
        limits: Bounds on it.
        short: What :func:`brief` makes of it, where that is known.
    Raises:
        RequestError: 400: it is no UTF-8, no JSON, no object, or too deep.
    """
    try:
        if not body.isascii():
            body.decode("utf-8")
        _bounded(short or body, limits)
        return _members.decode(body)
    except UnicodeDecodeError:
        raise RequestError("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise RequestError("The body must be a JSON object.") from None
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("The body is not valid JSON.") from None


def decoded(value: bytes | Raw) -> Any:
    """
    A value of the body whole, of which :func:`members` has seen that it is JSON, but not what its numbers are.

    Raises:
        RequestError: 400: a number in it is none that can be read.
    """
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("The body is not valid JSON.") from None


def unescaped(raw: Raw) -> bytes:
    """
    The JSON with no escape that could hide a word from a search of its bytes.

    Raises:
        RequestError: 400: a number in it is none that can be read.
    """
    value = bytes(raw)  # of which ``find`` is the quicker half of ``in``: that takes bytes for a number first
    if value.find(b"\\") < 0 or _HIDING.search(value) is None:
        return value
    return msgspec.json.encode(decoded(value))


def words(raw: Raw) -> bytes:
    """
    As :func:`unescaped`, with of each long string no more than how it begins: for a search of names and short values.

    An image is a megabyte in which none of them can be, and each search of it would take as long as reading it does.

    Raises:
        RequestError: As there.
    """
    value = unescaped(raw)
    if len(value) < SMALL:
        return value
    kept, start, at = [], 0, value.find(b'"')
    while at >= 0:
        near = value.rfind(b'"', at + 1, at + LONG)
        if near > at:
            at = near
            continue
        end = value.find(b'"', at + 1)
        if end > at + LONG and value[at + 1] not in _BETWEEN:
            kept.append(value[start : at + HEAD])
            start = end
        at = end
    return b"".join((*kept, value[start:])) if kept else value


def _bounded(body: bytes, limits: Limits) -> None:
    """
    Nesting, and the number of values, so that no body costs far more than its size.

    Neither can be too large where there are not even so many of the marks that make them, in text or not; only where
    there are, the ones that are not text are looked at: at first all at once, and then, of a body that is too large for
    that or breaks a bound, one by one.
    """
    if len(body) < SMALL:  # of which a copy takes less time than a look at each byte
        nested = 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
    else:
        nested = _count(body, b"[") + _count(body, b"{")
    if nested <= limits.depth and (
        len(body) <= limits.values or nested + _count(body, b",") + _count(body, b":") <= limits.values
    ):
        return
    if len(body) <= LARGE and _is_shallow(body, limits):
        return
    depth = values = 0
    for token in _TOKENS.finditer(body):
        mark = body[token.start()]
        values += mark in b"[{,:"
        if values > limits.values:
            raise RequestError(f"The body has more than {limits.values} values.")
        if mark in b"[{":
            depth += 1
            if depth > limits.depth:
                raise RequestError(f"The body is nested more than {limits.depth} levels deep.")
        elif mark in b"]}":
            depth -= 1


def _is_shallow(body: bytes, limits: Limits) -> bool:
    """Whether a body keeps both bounds for certain."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(body.split(b'"')[::2])  # of every string
    if sum(map(outside.count, (b"[", b"{", b",", b":"))) > limits.values:
        return False
    brackets = outside.translate(_AS_BRACES, _NO_BRACKETS)
    for _ in range(limits.depth):
        brackets = brackets.replace(b"{}", b"")  # the innermost ones, of every value
        if not brackets:
            return True
    return False


def _count(body: bytes, mark: bytes) -> int:
    """How often a mark stands in a body: of a large one with few, such as an image, seeking is faster."""
    found, at = 0, body.find(mark)
    while at >= 0:
        found += 1
        if found == FEW:
            return found + body.count(mark, at + 1)
        at = body.find(mark, at + 1)
    return found
