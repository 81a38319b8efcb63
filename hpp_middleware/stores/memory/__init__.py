"""Accounts, holds, ledger and credentials in one process's memory: for tests and for one worker. Nothing is durable."""

from hpp_middleware.stores.memory.books import MemoryBooks
from hpp_middleware.stores.memory.limits import MemoryLimits
from hpp_middleware.stores.memory.store import MemoryStore

__all__ = ["MemoryBooks", "MemoryLimits", "MemoryStore"]
