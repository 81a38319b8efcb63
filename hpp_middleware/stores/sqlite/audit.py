"""What an auditor reads of a SQLite store, and what a mover archives in one."""

import sqlite3
from collections.abc import Sequence

import msgspec

from hpp_middleware.core.ledger import OVERDUE_S
from hpp_middleware.errors import StoreError
from hpp_middleware.stores.sqlite.rows import HOLD, SQLiteBooks, as_json, hold_from
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Entry, Hold, Seal, Statement

__all__ = ["accounts", "add_seals", "archive", "grants", "holds", "seals", "statement"]


def accounts(connection: sqlite3.Connection, after: str, most: int) -> list[str]:
    """Account ids in order."""
    rows = connection.execute("SELECT id FROM account WHERE id > ? ORDER BY id LIMIT ?", (after, most))
    return [row[0] for row in rows]


def statement(connection: sqlite3.Connection, account_id: str, now: float) -> Statement:
    """An account and what its rows add up to; the caller's transaction is the snapshot."""
    granted = connection.execute('SELECT SUM(amount) FROM "grant" WHERE account = ?', (account_id,)).fetchone()[0]
    held, overdue = connection.execute(
        "SELECT SUM(amount), SUM(deadline < ?) FROM hold"
        " WHERE state = 'held' AND EXISTS (SELECT 1 FROM json_each(accounts) AS name WHERE name.value = ?)",
        (now - OVERDUE_S, account_id),
    ).fetchone()
    charged, lines, seq, resolutions = connection.execute(
        "SELECT SUM(amount), COUNT(*), MAX(seq), SUM(line = 'resolution') FROM ledger WHERE account = ?", (account_id,)
    ).fetchone()
    return Statement(
        account=SQLiteBooks(connection).account(account_id) or Account(id=account_id),
        granted=granted or 0,
        held=held or 0,
        charged=charged or 0,
        lines=lines,
        seq=seq or 0,
        resolutions=resolutions or 0,
        overdue=overdue or 0,
    )


def holds(connection: sqlite3.Connection, ids: Sequence[str]) -> list[Hold]:
    """The holds that are still known, in the order asked for."""
    sql = f"SELECT {HOLD} FROM hold WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  # constant
    found = {hold.id: hold for hold in map(hold_from, connection.execute(sql, (as_json(ids),)))}
    return [found[hold_id] for hold_id in ids if hold_id in found]


def seals(connection: sqlite3.Connection, account_id: str, after: int, most: int) -> list[Seal]:
    """An account's seals, in order."""
    rows = connection.execute(
        "SELECT account, seq, mac, key, created FROM seal WHERE account = ? AND seq > ? ORDER BY seq LIMIT ?",
        (account_id, after, most),
    )
    return [Seal(**dict(zip(Seal.__struct_fields__, row, strict=True))) for row in rows]


def add_seals(connection: sqlite3.Connection, given: Sequence[Seal]) -> None:
    """Append seals, each once."""
    for seal in given:
        connection.execute(
            "INSERT OR IGNORE INTO seal (account, seq, mac, key, created) VALUES (?,?,?,?,?)",
            msgspec.structs.astuple(seal),
        )
        there = connection.execute("SELECT mac FROM seal WHERE account = ? AND seq = ?", (seal.account, seal.seq))
        if there.fetchone()[0] != seal.mac:
            raise StoreError("Another seal stands there already.")


def archive(connection: sqlite3.Connection, items: Sequence[Entry | Grant], now: float) -> None:
    """Keep lines and grants that are not there yet, and add them to their accounts' sums."""
    books = SQLiteBooks(connection)
    for item in items:
        account = books.account(item.account) or Account(id=item.account)
        if isinstance(item, Grant):
            if books.granted(item.id) is None:
                books.put_grant(item, now)
                books.put_account(msgspec.structs.replace(account, quota=account.quota + item.amount))
        elif not _is_there(connection, item):
            books.put_entry(item)
            books.put_account(_with_line(account, item))


def grants(connection: sqlite3.Connection, account_id: str, after: str, most: int) -> list[Grant]:
    """An account's grants, by their ids."""
    rows = connection.execute(
        'SELECT id, amount FROM "grant" WHERE account = ? AND id > ? ORDER BY id LIMIT ?', (account_id, after, most)
    )
    return [Grant(id=grant_id, account=account_id, amount=amount) for grant_id, amount in rows]


def _is_there(connection: sqlite3.Connection, entry: Entry) -> bool:
    found = connection.execute("SELECT 1 FROM ledger WHERE hold = ? AND line = ?", (entry.hold, entry.line))
    return found.fetchone() is not None


def _with_line(account: Account, entry: Entry) -> Account:
    return msgspec.structs.replace(
        account,
        settled=account.settled + entry.amount,
        seq=max(account.seq, entry.seq),
        requests=account.requests + (entry.line == "resolution"),
        tokens=account.tokens + (entry.report.usage.total if entry.line != "overage" else 0),
    )
