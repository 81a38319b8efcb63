"""An SQLite file as it is opened, closed and brought up to date, and what it is set to."""

import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from hpp_middleware import SQLiteStore, StoreError
from hpp_middleware.stores.sqlite import schema
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Sweep

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "hpp.db"


@pytest.fixture
async def store(path: Path) -> AsyncGenerator[SQLiteStore]:
    store = SQLiteStore(path)
    await store.open()
    yield store
    await store.aclose()


# --- open and closed ------------------------------------------------------------------------------


async def test_reopening_keeps_everything(path: Path) -> None:
    clock = Clock()
    first = SQLiteStore(path, clock=clock)
    await first.open()
    await first.apply([Renew(owner="worker", ttl_s=600), Renew(owner="sleeper", ttl_s=1)])
    await first.apply([Grant(id="start", account="alice", amount=10**6), Declare(account="alice", quota=500)])
    await first.apply([reserve("over", 100), settle("over", 170), reserve("live", 40), Release(id="tombstone")])
    await first.apply([reserve("late", 30, owner="sleeper", orphan=20)])
    credential = Credential(digest=b"\x01" * 32, id="key-1", consumer=Consumer(id="alice"), created=7.5)
    await first.add(credential)
    before = (await first.balance("alice"), await first.lines("alice"), first.pepper())
    await first.aclose()

    clock.now += 2
    second = SQLiteStore(path, clock=clock)
    await second.open()
    assert (await second.balance("alice"), await second.lines("alice"), second.pepper()) == before
    assert await second.credentials() == [credential]
    results = await second.apply(
        [
            Grant(id="start", account="alice", amount=10**6),
            Declare(account="alice", quota=500),
            settle("over", 170),
            reserve("live", 40),
            reserve("tombstone", 1),
            reserve("next", 1, owner="sleeper"),
            Sweep(),
            settle("late", 25),
        ]
    )
    statuses = [result.status for result in results]
    assert statuses == ["done", "done", "done", "done", "conflict", "fenced", "done", "done"]
    assert [entry.amount for result in results for entry in result.entries] == [20, 5]
    assert (await second.balance("alice")).quota == before[0].quota
    await second.aclose()


async def test_opening_and_closing_can_be_repeated(path: Path) -> None:
    store = SQLiteStore(path)
    await store.aclose()
    for _ in range(2):
        await store.open()
        await store.open()
        assert await store.credentials() == []
        await store.aclose()
        await store.aclose()


async def use(store: SQLiteStore) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: store.apply([Sweep()]),
        lambda: store.balance("alice"),
        lambda: store.lines("alice"),
        lambda: store.entries("alice", "hold"),
        lambda: store.find(b"digest"),
        store.credentials,
    ]


async def test_a_closed_store_is_a_store_error(path: Path) -> None:
    store = SQLiteStore(path)
    for call in await use(store):
        with pytest.raises(StoreError):
            await call()
    await store.open()
    await store.aclose()
    for call in await use(store):
        with pytest.raises(StoreError):
            await call()


async def test_a_file_that_cannot_be_opened_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("This is no database. " * 100)
    for path in (tmp_path / "no such folder" / "hpp.db", tmp_path / "text.db"):
        store = SQLiteStore(path)
        with pytest.raises(StoreError):
            await store.open()
        await store.aclose()


# --- migrations and settings ----------------------------------------------------------------------


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [number for number, _ in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


async def test_migrations_are_applied_once(path: Path, anyio_backend_name: str) -> None:
    stores = [SQLiteStore(path) for _ in range(4)]
    async with anyio.create_task_group() as group:
        for store in stores:  # each in a thread of its own, on a new file
            group.start_soon(store.open)
    first = _schema(path)
    for store in stores:
        await store.aclose()
    again = SQLiteStore(path)
    await again.open()
    await again.aclose()
    assert _schema(path) == first
    assert first[0] == len(schema.migrations())


async def test_a_file_of_a_newer_version_is_refused(store: SQLiteStore, path: Path) -> None:
    await store.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.migrations()) + 1}")
    connection.close()
    newer = SQLiteStore(path)
    with pytest.raises(StoreError):
        await newer.open()
    await newer.aclose()
    assert _schema(path)[0] == len(schema.migrations()) + 1


def test_an_acknowledged_commit_survives_a_power_cut(path: Path) -> None:
    connection = schema.connect(path, busy_s=1)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    full = 2
    assert connection.execute("PRAGMA synchronous").fetchone() == (full,)
    connection.close()


async def test_the_ledger_is_append_only(store: SQLiteStore, path: Path) -> None:
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=1000)])
    await store.apply([reserve("hold", 100), settle("hold", 70)])
    connection = sqlite3.connect(path)
    for statement in ("UPDATE ledger SET amount = 1", "DELETE FROM ledger"):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()
    assert [line.amount for line in await store.lines("alice")] == [70]


def _schema(path: Path) -> tuple[int, list[tuple[str, str]]]:
    connection = sqlite3.connect(path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return version, tables
