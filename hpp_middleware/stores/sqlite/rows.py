"""The frozen nouns as SQLite rows, and back."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Account, Claimed, Draft, Entry, Hold

__all__ = [
    "CREDENTIAL",
    "HOLD",
    "SQLiteBooks",
    "as_json",
    "credential_from",
    "credential_row",
    "entry_from",
    "hold_from",
]

_encode = msgspec.json.Encoder().encode
_entry = msgspec.json.Decoder(Entry)
_draft = msgspec.json.Decoder(Draft)
_names = msgspec.json.Decoder(tuple[str, ...])
_consumer = msgspec.json.Decoder(Consumer)

_ACCOUNT = "id, quota, settled, held, declared, seq, requests, tokens"
HOLD = "id, accounts, amount, want, state, owner, deadline, orphan_amount, charged, draft, attempt, claim, resolved"
CREDENTIAL = "digest, id, consumer, created, expires, revoked, pepper"


class SQLiteBooks:
    """The rows of one open transaction; see :class:`hpp_middleware.stores.books.Books`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._execute = connection.execute
        self._execute_many = connection.executemany

    def account(self, account_id: str) -> Account | None:
        """One account."""
        row = self._execute(f"SELECT {_ACCOUNT} FROM account WHERE id = ?", (account_id,)).fetchone()  # noqa: S608  # constant
        return _account(row) if row else None

    def accounts(self, names: str) -> list[Account]:
        """Those of some accounts that there are; their names as a JSON array."""
        sql = f"SELECT {_ACCOUNT} FROM account WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  # constant
        return [_account(row) for row in self._execute(sql, (names,))]

    def holds(self, ids: str) -> list[Hold]:
        """Those of some holds that there are; their ids as a JSON array."""
        sql = f"SELECT {HOLD} FROM hold WHERE id IN (SELECT value FROM json_each(?))"  # noqa: S608  # constant
        return [hold_from(row) for row in self._execute(sql, (ids,))]

    def hold(self, hold_id: str) -> Hold | None:
        """One hold."""
        row = self._execute(f"SELECT {HOLD} FROM hold WHERE id = ?", (hold_id,)).fetchone()  # noqa: S608  # constant
        return hold_from(row) if row else None

    def granted(self, grant_id: str) -> tuple[str, int] | None:
        """To which account, and how much, was granted under an id."""
        row = self._execute('SELECT account, amount FROM "grant" WHERE id = ?', (grant_id,)).fetchone()
        return (row[0], row[1]) if row else None

    def lease(self, owner: str) -> float | None:
        """When a worker's lease ends."""
        row = self._execute("SELECT until FROM lease WHERE owner = ?", (owner,)).fetchone()
        return row[0] if row else None

    def due(self, now: float) -> Iterator[Hold]:
        """Live holds whose owner's lease or own deadline has run out, each read when it is wanted."""
        # Left to itself, SQLite looks through all holds of a week so as to have them in order.
        names = self._execute(
            "SELECT hold.id FROM hold INDEXED BY hold_live LEFT JOIN lease USING (owner)"
            " WHERE hold.state = 'held' AND (hold.deadline <= ? OR lease.until IS NULL OR lease.until <= ?)"
            " ORDER BY hold.id",
            (now, now),
        ).fetchall()
        for name in names:
            yield _due_from(self._execute(f"SELECT {HOLD} FROM hold WHERE id = ?", name).fetchone())  # noqa: S608  # constant

    def claim(self, key: str) -> Claimed | None:
        """One idempotency claim."""
        sql = "SELECT key, fingerprint, hold, account, expires, kept FROM claim WHERE key = ?"
        row = self._execute(sql, (key,)).fetchone()
        return Claimed(**dict(zip(Claimed.__struct_fields__, row, strict=True))) if row else None

    def kept_bytes(self, account_id: str) -> int:
        """How long the answers are that an account has kept."""
        row = self._execute("SELECT bytes FROM kept WHERE account = ?", (account_id,)).fetchone()
        return row[0] if row else 0

    def put_account(self, account: Account) -> None:
        """Write an account."""
        self.put_accounts([account])

    def put_accounts(self, accounts: Sequence[Account]) -> None:
        """Write accounts."""
        self._execute_many(
            f"INSERT OR REPLACE INTO account ({_ACCOUNT}) VALUES (?,?,?,?,?,?,?,?)",  # noqa: S608  # constant
            map(msgspec.structs.astuple, accounts),
        )

    def add_holds(self, holds: Sequence[Hold]) -> None:
        """
        Write new holds.

        Raises:
            sqlite3.IntegrityError: One is there already.
        """
        self._execute_many(f"INSERT INTO hold ({HOLD}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", map(_hold_row, holds))  # noqa: S608  # constant

    def put_hold(self, hold: Hold) -> None:
        """Write a hold."""
        self.put_holds([hold])

    def put_holds(self, holds: Sequence[Hold]) -> None:
        """Write holds."""
        self._execute_many(
            f"INSERT OR REPLACE INTO hold ({HOLD}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",  # noqa: S608  # constant
            map(_hold_row, holds),
        )

    def update_holds(self, holds: Sequence[Hold]) -> None:
        """Write what can become of holds whose drafts stay."""
        self._execute_many(
            "UPDATE hold SET amount = ?, state = ?, orphan_amount = ?, charged = ?, attempt = ?, resolved = ?"
            " WHERE id = ?",
            [
                (hold.amount, hold.state, hold.orphan_amount, hold.charged, hold.attempt, hold.resolved, hold.id)
                for hold in holds
            ],
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
        self.put_entries([entry])

    def put_entries(self, entries: Sequence[Entry]) -> None:
        """Append ledger lines."""
        self._execute_many(
            "INSERT INTO ledger (account, seq, hold, line, amount, created, model, outcome, entry)"
            " VALUES (?,?,?,?,?,?,?,?,?)",
            map(_entry_row, entries),
        )

    def put_claim(self, claimed: Claimed) -> None:
        """Write a claim."""
        self._execute(
            "INSERT INTO claim (key, fingerprint, hold, account, expires, kept) VALUES (?,?,?,?,?,?)"
            " ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, hold = excluded.hold,"
            " account = excluded.account, expires = excluded.expires, kept = excluded.kept",
            msgspec.structs.astuple(claimed),
        )

    def prune(self, now: float, before: float, most: int) -> bool:
        """Forget what is long over."""
        holds = self._execute(
            "DELETE FROM hold WHERE id IN (SELECT id FROM hold WHERE resolved < ? ORDER BY resolved LIMIT ?)",
            (before, most),
        )
        leases = self._execute(
            "DELETE FROM lease WHERE owner IN (SELECT owner FROM lease WHERE until < ? LIMIT ?)", (before, most)
        )
        claims = self._execute(
            "DELETE FROM claim WHERE key IN (SELECT key FROM claim WHERE expires <= ? AND NOT EXISTS"
            " (SELECT 1 FROM hold WHERE hold.id = claim.hold AND hold.state = 'held') ORDER BY expires LIMIT ?)",
            (now, most),
        )
        return most in (holds.rowcount, leases.rowcount, claims.rowcount)


def _account(row: tuple[Any, ...]) -> Account:
    name, quota, settled, held, declared, seq, requests, tokens = row
    return Account(
        id=name,
        quota=quota,
        settled=settled,
        held=held,
        declared=declared,
        seq=seq,
        requests=requests,
        tokens=tokens,
    )


def _hold_row(hold: Hold) -> tuple[Any, ...]:
    return (
        hold.id,
        as_json(hold.accounts),
        hold.amount,
        hold.want,
        hold.state,
        hold.owner,
        hold.deadline,
        hold.orphan_amount,
        hold.charged,
        as_json(hold.draft) if hold.draft is not None else None,
        hold.attempt,
        hold.claim,
        hold.resolved,
    )


def _entry_row(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.account,
        entry.seq,
        entry.hold,
        entry.line,
        entry.amount,
        entry.created,
        entry.draft.model,
        entry.report.outcome,
        as_json(entry),
    )


def entry_from(text: str) -> Entry:
    """A ledger line from its column."""
    return _entry.decode(text)


def credential_row(credential: Credential) -> tuple[Any, ...]:
    """A credential as a row."""
    return (
        credential.digest,
        credential.id,
        as_json(credential.consumer),
        credential.created,
        credential.expires,
        credential.revoked,
        credential.pepper,
    )


def credential_from(row: tuple[Any, ...]) -> Credential:
    """A credential from its row."""
    digest, key_id, consumer, created, expires, revoked, pepper = row
    return Credential(
        digest=digest,
        id=key_id,
        consumer=_consumer.decode(consumer),
        created=created,
        expires=expires,
        revoked=revoked,
        pepper=pepper,
    )


def hold_from(row: tuple[Any, ...]) -> Hold:
    """A hold from its row, whose columns are ``HOLD``."""
    values = dict(zip(Hold.__struct_fields__, row, strict=True))
    values["accounts"] = _names.decode(values["accounts"])
    values["draft"] = _draft.decode(values["draft"]) if values["draft"] is not None else None
    return Hold(**values)


def _due_from(row: tuple[Any, ...]) -> Hold:
    """A hold from its row, or one in no account, which nobody can resolve: a sweep goes on to the next."""
    try:
        return hold_from(row)
    except msgspec.DecodeError:
        values = dict(zip(Hold.__struct_fields__, row, strict=True))
        return Hold(**{**values, "accounts": (), "draft": None})


def as_json(value: Any) -> str:
    """A value as a JSON column."""
    return _encode(value).decode()
