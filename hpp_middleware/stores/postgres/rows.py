"""The statements besides ``hpp_apply``, and the frozen nouns as rows."""

from typing import Any

import msgspec

from hpp_middleware.stores.postgres.wire import as_json
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.quota import Account, Draft, Hold, Statement

__all__ = ["account_from", "credential_from", "credential_row", "hold_from", "statement_from"]

_draft = msgspec.json.Decoder(Draft)
_consumer = msgspec.json.Decoder(Consumer)

ACCOUNT = "SELECT id, quota, settled, held, declared, seq, requests, tokens FROM hpp_account WHERE id = $1"
ACCOUNTS = "SELECT id FROM hpp_account WHERE id > $1 ORDER BY id LIMIT $2"

ENTRIES = "SELECT entry FROM hpp_ledger WHERE hold = $1 AND account = $2 ORDER BY seq"
LINES = "SELECT entry FROM hpp_ledger WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT $3"

FIND = "SELECT digest, id, consumer, created, expires, revoked, pepper FROM hpp_credential WHERE digest = $1"
CREDENTIALS = "SELECT digest, id, consumer, created, expires, revoked, pepper FROM hpp_credential ORDER BY created, id"
ADD = "SELECT hpp_add_credential($1, $2, $3, $4, $5, $6, $7)"
REVOKE = "UPDATE hpp_credential SET revoked = least(revoked, $2) WHERE id = $1 RETURNING id"
EXPIRE = "UPDATE hpp_credential SET expires = least(expires, $2) WHERE id = $1 RETURNING id"
REASSIGN = "UPDATE hpp_credential SET consumer = $2 WHERE id = $1 RETURNING id"
EPOCH = "SELECT epoch FROM hpp_credential_epoch"
REHASH = "UPDATE hpp_credential SET digest = $2, pepper = $3 WHERE digest = $1 RETURNING id"

HOLDS = """
    SELECT h.id, accounts, amount, want, state, owner, deadline, orphan_amount, charged, draft, attempt, claim, resolved
    FROM unnest($1::text[]) WITH ORDINALITY AS asked (id, place) JOIN hpp_hold AS h ON h.id = asked.id ORDER BY place
"""

# One statement, so one snapshot.
STATEMENT = """
    SELECT a.quota, a.settled, a.held, a.declared, a.seq, a.requests, a.tokens,
        (SELECT coalesce(sum(amount), 0)::bigint FROM hpp_grant WHERE account = $1) AS granted,
        (SELECT coalesce(sum(amount), 0)::bigint FROM hpp_hold WHERE state = 'held' AND $1 = ANY (accounts)) AS live,
        l.charged, l.lines, l.last, l.resolutions,
        (SELECT count(*) FROM hpp_hold WHERE state = 'held' AND $1 = ANY (accounts)
            AND deadline < coalesce($2, extract(epoch FROM clock_timestamp())::double precision) - $3) AS overdue
    FROM (SELECT coalesce(sum(amount), 0)::bigint AS charged, count(*) AS lines, coalesce(max(seq), 0) AS last,
            count(*) FILTER (WHERE line = 'resolution') AS resolutions FROM hpp_ledger WHERE account = $1) AS l
        LEFT JOIN hpp_account AS a ON a.id = $1
"""

SEALS = "SELECT account, seq, mac, key, created FROM hpp_seal WHERE account = $1 AND seq > $2 ORDER BY seq LIMIT $3"
ADD_SEALS = "SELECT hpp_add_seals($1)"
ARCHIVE = "SELECT hpp_archive($1, $2, $3)"
GRANTS = "SELECT id, account, amount FROM hpp_grant WHERE account = $1 AND id > $2 ORDER BY id LIMIT $3"


def account_from(row: Any) -> Account:
    """An account from its row."""
    return Account(**dict(row))


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


def credential_from(row: Any) -> Credential:
    """A credential from its row."""
    return Credential(**{**row, "consumer": _consumer.decode(row["consumer"])})


def hold_from(row: Any) -> Hold:
    """A hold from its row."""
    draft = _draft.decode(row["draft"]) if row["draft"] is not None else None
    return Hold(**{**row, "accounts": tuple(row["accounts"]), "draft": draft})


def statement_from(account: str, row: Any) -> Statement:
    """An account and what its rows add up to."""
    columns = ("quota", "settled", "held", "declared", "seq", "requests", "tokens")
    return Statement(
        account=Account(id=account, **{name: row[name] or 0 for name in columns}),
        granted=row["granted"],
        held=row["live"],
        charged=row["charged"],
        lines=row["lines"],
        seq=row["last"],
        resolutions=row["resolutions"],
        overdue=row["overdue"],
    )
