"""A store to be sealed, altered behind its back, and checked."""

import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec

from hpp_middleware import SQLiteStore
from hpp_middleware.audit import Audited, Auditor, Heads, Sealed, Sealer, Sealing
from hpp_middleware.core import ledger
from hpp_middleware.core.ledger import Finding
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import Operation, Renew, Reserve
from hpp_middleware.types.quota import Entry

__all__ = [
    "DROP",
    "DROP_SEALS",
    "KEY",
    "KEY_ID",
    "NEXT_KEY",
    "altered",
    "checked",
    "opened",
    "renamed",
    "renewed",
    "rewritten",
    "sealed",
    "sealing",
]

KEY = b"the-seal-key-of-these-tests-0001"
NEXT_KEY = b"the-seal-key-of-these-tests-0002"
KEY_ID = ledger.key_id(KEY)


@asynccontextmanager
async def opened(path: Path, clock: Clock) -> AsyncGenerator[SQLiteStore]:
    store = SQLiteStore(path, clock=clock)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


def sealing(folder: Path, key: bytes = KEY, *previous: bytes) -> Sealing:
    return Sealing(key=key, previous=previous, heads=folder / "heads.jsonl")


async def sealed(store: Audited, how: Sealing) -> Sealed:
    """A pass by a sealer that has just started."""
    return await Sealer(store, how).seal()


async def checked(store: Audited, how: Sealing, clock: Clock) -> tuple[list[Finding], list[Finding]]:
    """All that ``verify`` and ``reconcile`` find."""
    assert how.heads is not None
    auditor = Auditor(store, keys=how.keys, known=await Heads(how.heads).read(), clock=clock)
    names = await auditor.accounts()
    verified = [finding for name in names for finding in (await auditor.verify(name)).findings]
    reconciled = [await auditor.reconcile(name) for name in names]
    shared = [await auditor.shared(each) for each in reconciled]
    return verified, [finding for each in shared for finding in each.findings]


def renewed(operation: Reserve) -> list[Operation]:
    return [Renew(owner=operation.owner, ttl_s=30)]


DROP = "DROP TRIGGER ledger_is_append_only_update; DROP TRIGGER ledger_is_append_only_delete;"
DROP_SEALS = "DROP TRIGGER seal_is_append_only_update; DROP TRIGGER seal_is_append_only_delete;"


def altered(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def rewritten(path: Path, change: Callable[[Entry], Entry], after: int = 4) -> None:
    """Change one line of alice's in every column that shows it: the next resolution that is no estimate."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER ledger_is_append_only_update")
        rows = connection.execute("SELECT entry FROM ledger WHERE account = 'alice' AND seq > ? ORDER BY seq", (after,))
        entries = [msgspec.json.decode(text, type=Entry) for (text,) in rows]
        exact = (each for each in entries if each.line == "resolution" and not each.report.estimated)
        entry = change(next(each for each in exact if each.report.usage.input))
        values = (entry.amount, msgspec.json.encode(entry).decode(), entry.seq)
        connection.execute("UPDATE ledger SET amount = ?, entry = ? WHERE account = 'alice' AND seq = ?", values)


def renamed(entry: Entry) -> Entry:
    draft = msgspec.structs.replace(entry.draft, model="fake/other")
    return msgspec.structs.replace(entry, draft=draft)
