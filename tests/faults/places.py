"""The four stores, each at a place: a path or a URL; and one that is worse than any of them."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
from rig import Delegate

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.types.operations import Operation, Result

__all__ = ["PEPPER", "made"]

PEPPER = b"a pepper for the tests"


def made(kind: str, place: str, clock: Callable[[], float] | None = None) -> Any:
    """
    A store.

    Args:
        kind: Which.
        place: Where; the same place is the same store, but for memory.
        clock: Seconds since the epoch, instead of its own.
    """
    own: dict[str, Any] = {} if clock is None else {"clock": clock}
    if kind == "memory":
        return MemoryStore(**own)
    if kind == "fragile":
        return Fragile(MemoryStore(**own))
    if kind == "sqlite":
        return SQLiteStore(place, **own)
    if kind == "postgres":
        from hpp_middleware.stores.postgres import PostgresStore

        return PostgresStore(place, **own)
    from hpp_middleware.stores.redis import RedisStore

    return RedisStore(place, **own)


class Fragile(Delegate):
    """
    A store in memory that a cancellation stops wherever it is.

    Ours carry out what they were given, though nobody waits for it any more; this one forgets it before, or does it and
    never says so.
    """

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Wait, do it, and wait."""
        await anyio.sleep(0.0001)
        results = await self.inner.apply(operations)
        await anyio.sleep(0.0001)
        return results
