"""What another version, a bug or somebody's hand has written, and cannot be read: a StoreError, as any other fault."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hpp_middleware.errors import StoreError

__all__ = ["reading"]


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
