"""Where the stores that several processes share are made, for processes that are told where."""

from typing import Any

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.ports import Store


async def sqlite(place: str) -> Store:
    """A SQLite file."""
    return SQLiteStore(place)


async def postgres(place: str) -> Any:
    """A PostgreSQL database."""
    from hpp_middleware.stores.postgres import PostgresStore

    return PostgresStore(place)


async def redis(place: str) -> Any:
    """A Valkey server."""
    from hpp_middleware.stores.redis import RedisStore

    return RedisStore(place)


async def alone(place: str) -> Store:  # every process has its own: that is what is wrong with it
    """A store that no two processes share."""
    return MemoryStore()
