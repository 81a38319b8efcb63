"""Redis or Valkey: accounts, holds, ledger and credentials for many hosts, fast; asyncio only."""

from hpp_middleware.errors import ConfigurationError

try:
    import redis as _redis  # noqa: F401  # only to say what is missing
except ImportError as error:
    raise ConfigurationError("Redis needs redis-py: pip install 'hpp_middleware[redis]'.") from error

from hpp_middleware.stores.redis.mover import MovedLedger, Mover
from hpp_middleware.stores.redis.store import RedisStore

__all__ = ["MovedLedger", "Mover", "RedisStore"]
