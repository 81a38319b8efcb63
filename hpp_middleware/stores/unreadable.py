"""
What another version, a bug or somebody's hand has written, and cannot be read: a StoreError, as any other fault.

In a list it is named, and the others are listed beside it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from hpp_middleware.errors import StoreError
from hpp_middleware.types.consumer import Consumer, Credential

__all__ = ["listed", "reading"]

T = TypeVar("T")


@contextmanager
def reading() -> Iterator[None]:
    """
    Read rows of one account or hold.

    Raises:
        StoreError: One of them is none; its cause is msgspec's.
    """
    try:
        yield
    except msgspec.DecodeError as error:
        raise StoreError("Something in the books cannot be read.") from error


def listed(row: T, read: Callable[[T], Credential], *, digest: bytes, key_id: str) -> Credential:
    """
    A credential as it is listed: from its row, or as a damaged one.

    Args:
        row: What cannot be relied on.
        read: Reads it.
        digest: What it is kept under.
        key_id: Its id.
    """
    try:
        return read(row)
    except msgspec.DecodeError:
        return Credential(digest=digest, id=key_id, consumer=Consumer(id=""), damaged=True)
