"""PostgreSQL, the durable store for many hosts; asyncio only."""

from hpp_middleware.errors import ConfigurationError

try:
    import asyncpg as _asyncpg  # noqa: F401  # only to say what is missing
except ImportError as error:
    raise ConfigurationError("PostgreSQL needs asyncpg: pip install 'hpp_middleware[postgres]'.") from error

from hpp_middleware.stores.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
