"""Redis or Valkey: accounts, holds, ledger and credentials for many hosts, fast; asyncio only."""

from hpp_middleware.stores.redis.mover import MovedLedger, Mover
from hpp_middleware.stores.redis.store import RedisStore

__all__ = ["MovedLedger", "Mover", "RedisStore"]
