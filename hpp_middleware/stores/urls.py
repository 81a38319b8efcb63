"""
The one place that knows what a store's URL may be.

No message repeats a URL: it may hold a password. Nothing is opened here, and a library is imported only where it is
used.
"""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Store

if TYPE_CHECKING:
    from hpp_middleware.stores.archived import ArchivedLedger

__all__ = ["Kind", "check_url", "file_of", "kind_of", "open_archived", "open_store"]

Kind = Literal["memory", "sqlite", "postgres", "redis"]

_SQLITE = "sqlite:///"
_SCHEMES: dict[str, Kind] = {
    "postgres": "postgres",
    "postgresql": "postgres",
    "redis": "redis",
    "rediss": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "unix": "redis",
}
_EXTRAS = {"postgres": ("PostgreSQL", "asyncpg"), "redis": ("Redis", "redis")}
_MOST_SHARDS = 1024
_MOST_PORT = 65_535
_KNOWN = (
    'must be "sqlite:///FILE" (relative to this file), "sqlite:////FILE" (absolute), "memory:", "postgresql://...", '
    '"redis://...", "rediss://...", "valkey://..." or "unix://..."'
)


class _Redis(NamedTuple):
    """What a URL says to the driver, and to the store."""

    url: str
    settings: dict[str, Any]


def kind_of(url: str) -> Kind:
    """
    Which store a URL names.

    Raises:
        ConfigurationError: There is none of this kind.
    """
    if url == "memory:":
        return "memory"
    if url.startswith(_SQLITE):
        return "sqlite"
    scheme, found, _ = url.partition("://")
    if not found or scheme not in _SCHEMES:
        raise ConfigurationError(_KNOWN)
    return _SCHEMES[scheme]


def check_url(url: str, directory: Path) -> Kind:
    """
    Check what can be checked without a library, a file's contents or a connection.

    Args:
        url: Where a store is.
        directory: Where a relative SQLite path begins.
    Raises:
        ConfigurationError: It cannot be a store's.
    """
    kind = kind_of(url)
    if kind == "sqlite":
        _file(url, directory)
    elif kind == "redis":
        _redis(url)
    return kind


def open_store(url: str, directory: Path) -> Store:
    """
    The store that a URL names, to be opened with ``await store.open()``.

    Args:
        url: ``memory:``, ``sqlite:///FILE``, ``postgresql://`` (any libpq URI), or ``redis://``, ``rediss://``,
            ``valkey://``, ``valkeys://`` and ``unix://``, in whose query ``cluster=true``, ``shards=N`` and
            ``prefix=NAME`` are the store's own.
        directory: Where a relative SQLite path begins.
    Raises:
        ConfigurationError: There is no such store, or a library is missing for it.
    """
    return _open(url, directory, {})


def open_archived(url: str, archive_url: str, directory: Path) -> "tuple[Store, ArchivedLedger]":
    """
    A Redis store, and its ledger in the durable store that its lines are moved to.

    Args:
        url: The Redis store's.
        archive_url: A SQLite or PostgreSQL store's.
        directory: Where a relative SQLite path begins.
    Raises:
        ConfigurationError: They are no such stores, or a library is missing for one of them.
    """
    if kind_of(url) != "redis" or kind_of(archive_url) not in {"sqlite", "postgres"}:
        raise ConfigurationError("only a Redis store has its ledger moved, and only to SQLite or PostgreSQL")
    from hpp_middleware.stores.archived import ArchivedLedger, OpenedWhenUsed

    durable = open_store(archive_url, directory)
    store = _open(url, directory, {"archive": OpenedWhenUsed(durable)})
    return store, ArchivedLedger(store, durable)


def _open(url: str, directory: Path, settings: dict[str, Any]) -> Store:
    kind = check_url(url, directory)
    try:
        return _make(kind, url, directory, settings)
    except ImportError as error:
        name, library = _EXTRAS.get(kind, ("", ""))
        if error.name is None or error.name.partition(".")[0] != library:
            raise
        raise ConfigurationError(f"{name} needs {library}: pip install 'hpp_middleware[{kind}]'") from error


def _make(kind: Kind, url: str, directory: Path, settings: dict[str, Any]) -> Store:
    if kind == "memory":
        from hpp_middleware.stores.memory import MemoryStore

        return MemoryStore()
    if kind == "sqlite":
        from hpp_middleware.stores.sqlite import SQLiteStore

        return SQLiteStore(_file(url, directory))
    if kind == "postgres":
        from hpp_middleware.stores.postgres import PostgresStore

        _check_dsn(url)
        return PostgresStore(url)
    from hpp_middleware.stores.redis import RedisStore

    server = _redis(url)
    if not server.settings.get("cluster"):
        _check_driver(server.url)
    return RedisStore(server.url, **server.settings, **settings)


def file_of(url: str, directory: Path) -> Path | None:
    """The file of a SQLite store's URL that was found good; None of any other's."""
    return _file(url, directory) if kind_of(url) == "sqlite" else None


def _file(url: str, directory: Path) -> Path:
    rest = url.removeprefix(_SQLITE)
    if rest in {"", "/"} or ":memory:" in rest:
        raise ConfigurationError(_KNOWN)
    path = directory / rest
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no directory {path.parent}")
    if path.is_dir():
        raise ConfigurationError(f"{path} is a directory")
    return path


def _redis(url: str) -> _Redis:
    """The store's own settings, taken out of the query."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.path if parts.scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError("must name a server, such as redis://HOST:6379/0 or unix:///PATH")
    settings: dict[str, Any] = {}
    others: list[tuple[str, str]] = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name == "cluster" and value in {"true", "false"}:
            settings[name] = value == "true"
        elif name == "shards" and value.isascii() and value.isdigit() and 1 <= int(value) <= _MOST_SHARDS:
            settings[name] = int(value)
        elif name == "prefix" and value and not set("{}") & set(value):
            settings[name] = value
        elif name in {"cluster", "shards", "prefix"}:
            raise ConfigurationError(
                f"{name} in the query must be as in ?cluster=true&shards=16&prefix=hpp (1 to {_MOST_SHARDS} shards)"
            )
        else:
            others.append((name, value))
    bare = url.partition("?")[0]
    return _Redis(f"{bare}?{urlencode(others)}" if others else bare, settings)


def _check_dsn(url: str) -> None:
    """What the driver makes of a URL, without a connection; it has no public way to say so, and may lose this one."""
    from asyncpg import connect_utils

    parse = getattr(connect_utils, "_parse_connect_dsn_and_args", None)
    if parse is None:
        return
    try:
        servers, *_ = parse(**{**dict.fromkeys(inspect.signature(parse).parameters), "dsn": url})
        usable = not urlsplit(url).fragment and all(
            isinstance(server, str) or 0 < server[1] <= _MOST_PORT for server in servers
        )
    except (ValueError, OSError):  # which name the URL: nobody is shown them
        usable = False
    if not usable:
        raise ConfigurationError(
            "is not understood by the PostgreSQL driver; must be as in postgresql://USER:PASSWORD@HOST:5432/DATABASE, "
            "with %40, %2F, %3A, %23 for @, /, : and # in a password"
        )


def _check_driver(url: str) -> None:
    """What the driver makes of the rest, without a connection: it would fail at the first request only."""
    import redis.asyncio as driver

    scheme, colon, rest = url.partition(":")
    url = {"valkey": "redis", "valkeys": "rediss"}.get(scheme, scheme) + colon + rest
    try:
        pool = driver.ConnectionPool.from_url(url)
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError, driver.RedisError) as error:
        raise ConfigurationError("has something in it that the Redis driver does not know") from error
