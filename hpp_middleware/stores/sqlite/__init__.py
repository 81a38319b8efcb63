"""SQLite, the embedded default: durable, on one host, without a server."""

from hpp_middleware.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
