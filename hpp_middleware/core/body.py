"""
A request body's top level: members whose values stay raw bytes, each key once, within bounds that are checked first.

So router and upstream can never read two different bodies, and no body costs far more than its size.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.errors import RequestError
from hpp_middleware.types.provider import Limits

__all__ = [
    "HEAD",
    "LARGE",
    "LONG",
    "SMALL",
    "STAND_IN",
    "brief",
    "check_nesting",
    "check_values",
    "decoded",
    "members",
    "unescaped",
    "words",
]

# A string that never ends counts as one to the end of the body, so that no byte is looked at twice.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)

_HIDING = re.compile(rb"\\(?:u00|/)")

SMALL = 16 * 1024
FEW, NEAR = 16, 32
"""Of a larger body so many marks are sought one by one; where they are nearer, on average, each byte is looked at."""

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

_QUOTE = ord('"')
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
    if not kept:
        return body
    short = b"".join((*kept, body[start:]))
    return short if short.find(STAND_IN_ESCAPED) < 0 else body


def members(body: bytes, limits: Limits, short: bytes | None = None, *, nested: bool = False) -> dict[str, Raw]:
    """
    The top level of a JSON object, each key once (the last), each value raw.

    Args:
        body: The JSON.
        limits: Bounds on it.
        short: What :func:`brief` makes of it, where that is known.
        nested: Whether it may be too deep: :func:`check_nesting` is asked later, where that is not seen otherwise.
    Raises:
        RequestError: 400: it is no UTF-8, no JSON, no object, or too deep.
    """
    short = short or body
    try:
        if not body.isascii():
            body.decode("utf-8")
        if not nested or not _is_small(short, limits):
            check_nesting(short, limits)
        return _members.decode(body)
    except UnicodeDecodeError:
        raise RequestError("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise RequestError("The body must be a JSON object.") from None
    except (msgspec.DecodeError, RecursionError):
        check_nesting(short, limits)  # which may be why it cannot be read
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


def check_nesting(body: bytes, limits: Limits, *, above: int = 0) -> None:
    """
    Nesting, and the number of values, so that no body costs far more than its size.

    Neither can be too large where there are not even so many of the marks that make them, in text or not; only where
    there are, the ones that are not text are looked at: at first all at once, and then, of a body that is too large for
    that or breaks a bound, one by one.

    Args:
        body: The JSON, or a value in it.
        limits: Bounds on it.
        above: How deep it is in what they are for.
    Raises:
        RequestError: 400: it is too deep, or has too many values.
    """
    if _nested(body) <= limits.depth - above and (len(body) <= limits.values or _is_small(body, limits)):
        return
    if len(body) <= LARGE and _is_shallow(body, limits, above):
        return
    depth, values = above, 0
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


def check_values(values: Iterable[tuple[int, Raw]], limits: Limits) -> None:
    """
    As :func:`check_nesting`, of values that a typed decoder passes over in a body which is known otherwise.

    Args:
        values: Each behind how deep it is in the body; one that is absent is empty.
        limits: Bounds on the body.
    Raises:
        RequestError: 400: one is too deep.
    """
    for above, value in values:
        if len(value) > 2 * (limits.depth - above) and memoryview(value)[0] != _QUOTE:  # each level takes two bytes
            check_nesting(bytes(value), limits, above=above)


def _nested(body: bytes) -> int:
    """How many arrays and objects a body has at most."""
    if len(body) < SMALL:  # of which a copy takes less time than a look at each byte
        return 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))
    return _count(body, b"[") + _count(body, b"{")


def _is_small(body: bytes, limits: Limits) -> bool:
    """Whether a body cannot have too many values, since so many of its bytes are no marks of one."""
    spare = len(body) - limits.values
    if spare <= 0:
        return True
    part = body[: 2 * spare]
    return len(part) - sum(_count(part, mark) for mark in (b"[", b"{", b",", b":")) >= spare


def _is_shallow(body: bytes, limits: Limits, above: int) -> bool:
    """Whether a body keeps both bounds for certain."""
    outside = b"".join(_without_escapes(body).split(b'"')[::2])  # of every string
    if sum(map(outside.count, (b"[", b"{", b",", b":"))) > limits.values:
        return False
    brackets = outside.translate(_AS_BRACES, _NO_BRACKETS)
    for _ in range(limits.depth - above):
        brackets = brackets.replace(b"{}", b"")  # the innermost ones, of every value
        if not brackets:
            return True
    return False


def _without_escapes(body: bytes) -> bytes:
    """The body without its backslashes, and what each of them escapes."""
    first, *parts = body.split(b"\\")  # to search for one byte is many times as fast as for two
    if b"" in parts:  # it escapes another one
        first, *parts = body.replace(b"\\\\", b"").split(b"\\")
    return b"".join((first, *[part[1:] for part in parts])) if parts else first


def _count(body: bytes, mark: bytes) -> int:
    """
    How often a mark stands in a body.

    To seek it, as ``replace`` does, is many times as fast as a look at each byte, as ``count`` has, while marks are far
    apart: in what is mostly text they are. Where they are few, as in an image, not even a copy is made.
    """
    found, at = 0, body.find(mark)
    while at >= 0 and found < FEW:
        found += 1
        at = body.find(mark, at + 1)
    if at < 0:
        return found
    most = len(body) // NEAR
    found = len(body) - len(body.replace(mark, b"", most))
    return found if found < most else body.count(mark)
