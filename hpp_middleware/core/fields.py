"""Members of a request as values of a type, each error naming the field: what every client API's parsing shares."""

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from hpp_middleware.errors import RequestError

__all__ = ["NULL", "bad", "choice", "decoded", "decoder", "integer", "read"]

NULL = Raw(b"null")

_T = TypeVar("_T")
_whole = msgspec.json.Decoder(int)
_string = msgspec.json.Decoder(str)


def read(fields: Mapping[str, Raw], name: str, kind: msgspec.json.Decoder[_T], expected: str) -> _T | None:
    """
    A member as a value of this type; None where it is absent or null.

    Raises:
        RequestError: 400: it is no ``expected``.
    """
    raw = fields.get(name)
    if raw is None or raw == NULL:
        return None
    return decoded(raw, kind, name, expected)


def decoded(raw: Raw, kind: msgspec.json.Decoder[_T], where: str, expected: str) -> _T:
    """
    A value of this type.

    Raises:
        RequestError: 400: it is no ``expected``.
    """
    try:
        return kind.decode(raw)
    except (msgspec.DecodeError, RecursionError):  # ValidationError is one
        raise bad(where, f"must be {expected}") from None


@cache  # to make one of a union takes longer than most values that it reads
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """What reads values of a type; of the few types that requests have."""
    return msgspec.json.Decoder(kind)


def integer(fields: Mapping[str, Raw], name: str, least: int, most: int) -> int | None:
    """
    A whole number within bounds; None where it is absent or null.

    Raises:
        RequestError: 400: it is none.
    """
    raw = fields.get(name)
    if raw is None or raw == NULL:
        return None
    try:
        value = _whole.decode(raw)
    except msgspec.DecodeError:  # ValidationError is one
        value = least - 1
    if least <= value <= most:
        return value
    raise bad(name, f"must be an integer from {least} to {most}")


def choice(fields: Mapping[str, Raw], name: str, words: Collection[str]) -> str | None:
    """
    One of these words; None where it is absent or null.

    Raises:
        RequestError: 400: it is none of them.
    """
    expected = f"one of {', '.join(words)}"
    value = read(fields, name, _string, expected)
    if value is not None and value not in words:
        raise bad(name, f"must be {expected}")
    return value


def bad(field: str, problem: str) -> RequestError:
    """A 400 that names the field."""
    return RequestError(f"{field} {problem}.", param=field)
