"""The numbered migrations that bring a database up to date, once each, whoever comes first."""

from importlib import resources
from typing import Any, NamedTuple

from hpp_middleware.errors import ConfigurationError, StoreError

__all__ = ["Migration", "migrate", "migrations"]

_LOCK = 0x6870705F
"""Two that migrate one database at once wait for each other on this number."""

_STATE = "SELECT current_setting('transaction_isolation') AS isolation, current_setting('server_encoding') AS encoding"

# Not to_regclass(), which in a transaction that waited for the lock may still answer as before the wait.
_BEGUN = "SELECT FROM pg_catalog.pg_class WHERE relname = 'hpp_migration' AND pg_catalog.pg_table_is_visible(oid)"

# As JSON, since what was made before the first release with PostgreSQL has no names.
_DONE = "SELECT version, to_json(m) ->> 'name' AS name FROM hpp_migration AS m ORDER BY version"


class Migration(NamedTuple):
    """One file: a number, a name that no other one ever has, and its statements."""

    number: int
    name: str
    text: str


def migrations() -> list[Migration]:
    """All there are, in order."""
    folder = resources.files("hpp_middleware.stores.postgres") / "migrations"
    files = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    found = []
    for file in files:
        number, _, name = file.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), name, (folder / file).read_text("utf-8")))
    return found


async def migrate(connection: Any) -> None:
    """
    Apply what is missing, each in a transaction of its own.

    Args:
        connection: One of asyncpg's; nothing stays set in its session.
    Raises:
        StoreError: The database belongs to a newer version of this package, or to one that was never released.
        ConfigurationError: It cannot be used as it is set up.
    """
    (state,) = await connection.fetch(_STATE)
    if state["isolation"] != "read committed":
        raise ConfigurationError("PostgreSQL must be used with default_transaction_isolation = 'read committed'.")
    if state["encoding"] != "UTF8":
        raise ConfigurationError("The PostgreSQL database must have the encoding UTF8.")
    known = migrations()
    version = await _version(connection, known)
    for migration in known:
        if version < migration.number:
            version = await _apply(connection, migration, known)
    if version > known[-1].number:
        raise StoreError("The database belongs to a newer version of hpp_middleware.")


async def _apply(connection: Any, migration: Migration, known: list[Migration]) -> int:
    """Apply one migration unless somebody has meanwhile, and return the version that the database then has."""
    async with connection.transaction():
        await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")
        # A statement of its own, behind the lock, so that it sees what whoever had the lock has committed.
        version = await _version(connection, known)
        if version < migration.number:
            await connection.execute(migration.text)  # of many statements; writes its own number
            version = migration.number
        return version


async def _version(connection: Any, known: list[Migration]) -> int:
    if not await connection.fetch(_BEGUN):
        return 0
    done = await connection.fetch(_DONE)
    names = {migration.number: migration.name for migration in known}
    if any(row["name"] != names.get(row["version"], row["name"]) for row in done):
        raise StoreError(
            "The database was made by a version of hpp_middleware that was not released, and cannot be brought up to "
            "date: give it an empty database, or a schema of its own in search_path."
        )
    return int(done[-1]["version"]) if done else 0
