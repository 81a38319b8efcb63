"""Whether a response says in one way only where it ends; clients take the one of two ways that they like better."""

from collections.abc import Iterable

__all__ = ["is_clear", "is_length"]

LENGTH_DIGITS = 18


def is_clear(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """
    Whether every reader finds the same end.

    Args:
        headers: As they came, each that came twice, twice.
    """
    lengths, codings = [], []
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            lengths.append(value.strip())
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            codings.append(value.strip().lower())
        elif name[-1:] in {b" ", b"\t"}:
            return False
    if codings:
        return codings == [b"chunked"] and not lengths
    return not lengths or (len(lengths) == 1 and is_length(lengths[0]))


def is_length(value: bytes | str) -> bool:
    """Whether a ``Content-Length`` is one: digits, and no more of them than a length can need."""
    return value.isascii() and value.isdigit() and len(value) <= LENGTH_DIGITS
