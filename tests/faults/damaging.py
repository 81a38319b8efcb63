"""Rows that somebody has damaged, in each store that others can reach: by hand, with its own client."""

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import redis
from databases import psql

__all__ = ["HOLDS", "Forbidden", "damage_account", "damage_credential", "damage_drafts", "damage_hold", "damage_lines"]

HOLDS: Mapping[str, Mapping[str, Any]] = {
    "without a draft": {"draft": None},
    "with a draft that is none": {"draft": "{"},
    "with a draft of something else": {"draft": "[1]"},
    "in no account": {"accounts": []},
    "in an account that there is not": {"accounts": ["nobody"]},
    "of more than there is": {"amount": 9 * 10**18},
    "of less than nothing": {"amount": -5},
    "that costs less than nothing": {"orphan_amount": -5000},
    "that costs more than it holds": {"orphan_amount": 9 * 10**18},
}
"""What is written into a hold's columns."""

_PLACES = {"amount": 1, "owner": 3, "orphan_amount": 5, "accounts": 10, "draft": 13}
_POSTGRES_LEDGER = (
    "ALTER TABLE hpp_ledger DISABLE TRIGGER ALL; UPDATE hpp_ledger SET entry = '{' WHERE account = 'alice'"
)


class Forbidden(Exception):  # it is the database that refuses
    """The database does not let such a row be."""


def damage_hold(kind: str, place: str, hold: str, columns: Mapping[str, Any]) -> None:
    """Write these into one hold's row."""
    ((name, value),) = columns.items()
    if kind == "redis":

        def changed(packed: bytes) -> bytes:
            row = msgspec.msgpack.decode(packed)
            row[_PLACES[name]] = value
            return msgspec.msgpack.encode(row)

        _redis(place, "holds", hold, changed)
    elif kind == "sqlite":
        text = msgspec.json.encode(value).decode() if name == "accounts" else value
        _sqlite(place, f"UPDATE hold SET {name} = ? WHERE id = ?", text, hold)
    else:
        text = {"accounts": f"'{{{','.join(value or ())}}}'"} if name == "accounts" else {}
        _postgres(place, f"UPDATE hpp_hold SET {name} = {text.get(name, _literal(value))} WHERE id = '{hold}'")


def damage_drafts(kind: str, place: str, owner: str) -> None:
    """Make the drafts of all that an owner holds none."""
    if kind == "redis":
        with redis.Redis.from_url(place) as client:
            holds: Any = client.hgetall("hpp{hpp:0}:holds")
            for hold, packed in holds.items():
                row = msgspec.msgpack.decode(packed)
                if row[_PLACES["owner"]] == owner:
                    row[_PLACES["draft"]] = "{"
                    client.hset("hpp{hpp:0}:holds", hold, msgspec.msgpack.encode(row))
    elif kind == "sqlite":
        _sqlite(place, "UPDATE hold SET draft = '{' WHERE owner = ?", owner)
    else:
        _postgres(place, f"UPDATE hpp_hold SET draft = '{{' WHERE owner = '{owner}'")


def damage_account(kind: str, place: str, account: str, column: str, value: int) -> None:
    """Write this into an account's row."""
    if kind == "redis":
        _redis(place, "accounts", f"{column}:{account}", lambda _: str(value).encode())
    elif kind == "sqlite":
        _sqlite(place, f"UPDATE account SET {column} = ? WHERE id = ?", value, account)
    else:
        _postgres(place, f"UPDATE hpp_account SET {column} = {value} WHERE id = '{account}'")


def damage_credential(kind: str, place: str, key_id: str, digest: bytes) -> None:
    """Make whom a key names nobody."""
    if kind == "redis":
        with redis.Redis.from_url(place) as client:
            client.hset("hpp{hpp:0}:credentials", digest, b'{"digest":"","id":"')
    elif kind == "sqlite":
        _sqlite(place, "UPDATE credential SET consumer = '{' WHERE id = ?", key_id)
    else:
        _postgres(place, f"UPDATE hpp_credential SET consumer = '{{' WHERE id = '{key_id}'")


def damage_lines(kind: str, place: str) -> None:
    """Make Alice's ledger lines none."""
    if kind == "redis":
        _redis(place, "lines", "1:alice", lambda _: b"{")
    elif kind == "sqlite":
        _sqlite(place, "DROP TRIGGER ledger_is_append_only_update")
        _sqlite(place, "UPDATE ledger SET entry = '{' WHERE account = 'alice'")
    else:
        _postgres(place, _POSTGRES_LEDGER)


def _literal(value: Any) -> str:
    return "NULL" if value is None else f"'{value}'"


def _sqlite(place: str, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(place, isolation_level=None)
    try:
        connection.execute(statement, values)
    except sqlite3.IntegrityError as error:
        raise Forbidden from error
    finally:
        connection.close()


def _postgres(place: str, statement: str) -> None:
    try:
        psql(place, statement)
    except Exception as error:
        if "violates check constraint" in str(getattr(error, "stderr", "")):
            raise Forbidden from error
        raise


def _redis(place: str, key: str, field: str, changed: Callable[[bytes], bytes]) -> None:
    with redis.Redis.from_url(place) as client:
        where = f"hpp{{hpp:0}}:{key}"
        found: Any = client.hget(where, field)
        client.hset(where, field, changed(found))
