"""The numbered migrations that bring a database up to date, once each, whoever comes first."""

from importlib import resources
from typing import Any

from hpp_middleware.errors import ConfigurationError, StoreError

__all__ = ["migrate", "migrations"]

_LOCK = 0x6870705F
"""Two that migrate one database at once wait for each other on this number."""

_STATE = "SELECT current_setting('transaction_isolation') AS isolation, current_setting('server_encoding') AS encoding"

# Not to_regclass(), which in a transaction that waited for the lock may still answer as before the wait.
_BEGUN = "SELECT FROM pg_catalog.pg_class WHERE relname = 'hpp_migration' AND pg_catalog.pg_table_is_visible(oid)"


def migrations() -> list[tuple[int, str]]:
    """Number and text of each migration, in order."""
    folder = resources.files("hpp_middleware.stores.postgres") / "migrations"
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), (folder / name).read_text("utf-8")) for name in names]


async def migrate(connection: Any) -> None:
    """
    Apply what is missing, each in a transaction of its own.

    Args:
        connection: One of asyncpg's; nothing stays set in its session.
    Raises:
        StoreError: The database belongs to a newer version of this package.
        ConfigurationError: It cannot be used as it is set up.
    """
    (state,) = await connection.fetch(_STATE)
    if state["isolation"] != "read committed":
        raise ConfigurationError("PostgreSQL must be used with default_transaction_isolation = 'read committed'.")
    if state["encoding"] != "UTF8":
        raise ConfigurationError("The PostgreSQL database must have the encoding UTF8.")
    known = migrations()
    version = await _version(connection)
    for number, text in known:
        if version < number:
            version = await _apply(connection, number, text)
    if version > known[-1][0]:
        raise StoreError("The database belongs to a newer version of hpp_middleware.")


async def _apply(connection: Any, number: int, text: str) -> int:
    """Apply one migration unless somebody has meanwhile, and return the version that the database then has."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        # A statement of its own, behind the lock, so that it sees what whoever had the lock has committed.
        version = await _version(connection)
        if version < number:
            await connection.execute(text)  # of many statements; writes its own number
            version = number
        return version


async def _version(connection: Any) -> int:
    if not await connection.fetch(_BEGUN):
        return 0
    (row,) = await connection.fetch("SELECT coalesce(max(version), 0) AS version FROM hpp_migration")
    return int(row["version"])
