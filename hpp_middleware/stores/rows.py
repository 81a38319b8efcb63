"""The frozen nouns as SQLite rows, and back."""

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec

from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Draft, Entry, Hold

__all__ = ["SQLiteBooks", "credential_from", "credential_row", "entry_from"]

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)
_draft = msgspec.json.Decoder(Draft)
_names = msgspec.json.Decoder(tuple[str, ...])
_consumer = msgspec.json.Decoder(Consumer)

_ACCOUNT = "id, quota, settled, held, declared, seq, requests, tokens"
_HOLD = "id, accounts, amount, want, state, owner, deadline, orphan_amount, charged, draft"


class SQLiteBooks:
    """The rows of one open transaction; see :class:`hpp_middleware.stores.books.Books`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute

    def account(self, account_id: str) -> Account | None:
        """One account."""
        row = self._execute(f"SELECT {_ACCOUNT} FROM account WHERE id = ?", (account_id,)).fetchone()  # noqa: S608  # constant
        return Account(**dict(zip(Account.__struct_fields__, row, strict=True))) if row else None

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        row = self._execute(f"SELECT {_HOLD} FROM hold WHERE id = ?", (hold_id,)).fetchone()  # noqa: S608  # constant
        return _hold_from(row) if row else None

    def granted(self, grant_id: str) -> int | None:
        """The amount granted under an id."""
        row = self._execute('SELECT amount FROM "grant" WHERE id = ?', (grant_id,)).fetchone()
        return row[0] if row else None

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        row = self._execute("SELECT until FROM lease WHERE owner = ?", (owner,)).fetchone()
        return row[0] if row else None

    def due(self, now: float) -> Iterable[Hold]:
        """Live holds whose owner's lease or own deadline has run out."""
        columns = ", ".join(f"hold.{name.strip()}" for name in _HOLD.split(","))
        rows = self._execute(
            f"SELECT {columns} FROM hold LEFT JOIN lease USING (owner)"  # noqa: S608  # constant
            " WHERE hold.state = 'held' AND (hold.deadline <= ? OR lease.until IS NULL OR lease.until <= ?)"
            " ORDER BY hold.id",
            (now, now),
        )
        return [_hold_from(row) for row in rows]

    def put_account(self, account: Account) -> None:
        """Write an account."""
        self._execute(
            f"INSERT OR REPLACE INTO account ({_ACCOUNT}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608  # constant
            msgspec.structs.astuple(account),
        )

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        self._execute(
            f"INSERT OR REPLACE INTO hold ({_HOLD}) VALUES (?,?,?,?,?,?,?,?,?,?)",  # noqa: S608  # constant
            (
                hold.id,
                _json(hold.accounts),
                hold.amount,
                hold.want,
                hold.state,
                hold.owner,
                hold.deadline,
                hold.orphan_amount,
                hold.charged,
                _json(hold.draft) if hold.draft is not None else None,
            ),
        )

    def put_grant(self, grant: Grant, now: float) -> None:
        """Keep a grant."""
        self._execute(
            'INSERT INTO "grant" (id, account, amount, created) VALUES (?,?,?,?)',
            (grant.id, grant.account, grant.amount, now),
        )

    def put_lease(self, owner: str, until: float) -> None:
        """Extend a lease."""
        self._execute(
            "INSERT INTO lease (owner, until) VALUES (?,?)"
            " ON CONFLICT (owner) DO UPDATE SET until = max(until, excluded.until)",
            (owner, until),
        )

    def put_entry(self, entry: Entry) -> None:
        """Append a ledger line."""
        self._execute(
            "INSERT INTO ledger (account, seq, hold, line, amount, created, model, outcome, entry)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            (
                entry.account,
                entry.seq,
                entry.hold,
                entry.line,
                entry.amount,
                entry.created,
                entry.draft.model,
                entry.report.outcome,
                _json(entry),
            ),
        )


def entry_from(text: str) -> Entry:
    """A ledger line from its column."""
    return _entry.decode(text)


def credential_row(credential: Credential) -> tuple[Any, ...]:
    """A credential as a row."""
    return (
        credential.digest,
        credential.id,
        _json(credential.consumer),
        credential.created,
        credential.expires,
        credential.revoked,
    )


def credential_from(row: tuple[Any, ...]) -> Credential:
    """A credential from its row."""
    digest, key_id, consumer, created, expires, revoked = row
    return Credential(
        digest=digest,
        id=key_id,
        consumer=_consumer.decode(consumer),
        created=created,
        expires=expires,
        revoked=revoked,
    )


def _hold_from(row: tuple[Any, ...]) -> Hold:
    values = dict(zip(Hold.__struct_fields__, row, strict=True))
    values["accounts"] = _names.decode(values["accounts"])
    values["draft"] = _draft.decode(values["draft"]) if values["draft"] is not None else None
    return Hold(**values)


def _json(value: Any) -> str:
    return _encode(value).decode()
