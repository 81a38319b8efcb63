"""What counts how much of its limits a consumer has used."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from hpp_middleware.types.limits import Ask, Standing

__all__ = ["LimitStore"]


@runtime_checkable
class LimitStore(Protocol):
    """
    Windows and places, by a consumer's name and their own.

    :mod:`hpp_middleware.core.windows` is the specification, in whole numbers; the time is the store's own, so that
    workers need not agree on one. Promises: what is asked together is taken all or not at all, in one step, across
    processes where the store is shared; nothing is kept that would not be there again by waiting, so that a store that
    loses all it has only lets its windows be full once more.
    """

    async def take(self, ask: Ask) -> Standing:
        """
        Draw from every window and take every place; or nothing, where one of them does not have it.

        A place that its holder has already is no other one.

        Raises:
            StoreError: It is not known whether it was taken.
        """
        ...

    async def correct(self, ask: Ask) -> None:
        """
        Draw from the windows whatever they have, and put back what is below 0; and give the places back.

        A window may be in debt then, and is never fuller than full. A place that nobody holds is given back, too.

        Raises:
            StoreError: It is not known whether that was done.
        """
        ...

    async def extend(self, asks: Sequence[Ask]) -> None:
        """
        Let places be held for another ``ttl_s``; one that nobody holds any more is not taken again.

        Raises:
            StoreError: It is not known whether they were.
        """
        ...
