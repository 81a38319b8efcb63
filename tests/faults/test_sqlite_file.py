"""A SQLite file that cannot be written, or is not what it was: 503, or no start; and no half of anything is kept."""

import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import msgspec
import pytest
from rig import ALICE, KEY, USAGE_NANO, read_chat

from faults.confined import small_disk, unprivileged
from faults.disks import FILLED, Filled, copied, filled
from faults.fail_closed import opened, quick, reconciled, survives
from faults.workers import Settings, Worker, asked, running_worker
from hpp_middleware import SQLiteStore, StoreError
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.limits import Ask, Slot
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

OFTEN = (30.0, 0.4, 5.0)
PATIENCE_S = 30
SLOW = Script(texts=("word ",) * 10, delay_between_s=0.2)


@asynccontextmanager
async def _exclusive(path: Path) -> AsyncGenerator[None]:
    """Some other program has the file to itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


async def test_a_file_that_another_program_has_locked_costs_nobody_anything(
    fake_upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    path = tmp_path / "books.db"
    async with opened(SQLiteStore(path, busy_s=0.3), fake_upstream, tmp_path) as found:
        await survives(found, fake_upstream, _exclusive(path))


@contextmanager
def _removed(path: Path) -> Iterator[None]:
    """Somebody has moved it away, and later puts it back."""
    aside = path.rename(path.with_name("aside.db"))
    yield
    aside.rename(path)


@contextmanager
def _replaced(path: Path) -> Iterator[None]:
    """Somebody has put a backup in its place, and later takes it away again."""
    aside, backup = path.with_name("aside.db"), path.with_name("backup.db")
    with closing(sqlite3.connect(path)) as found, closing(sqlite3.connect(backup)) as to:
        found.backup(to)
    path.rename(aside)
    backup.rename(path)
    yield
    aside.rename(path)


@pytest.mark.parametrize("moved", [_removed, _replaced], ids=lambda moved: moved.__name__)
async def test_a_file_that_is_not_there_any_more_takes_nothing_and_no_other_is_taken_for_it(
    moved: Any,
    fake_upstream: FakeUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    quick(monkeypatch)
    path = tmp_path / "books.db"
    async with opened(SQLiteStore(path), fake_upstream, tmp_path) as found:
        await survives(found, fake_upstream, _later(moved(path)))
    assert sum("books.db was removed or replaced" in message for message in caplog.messages) == 1


async def test_what_a_gateway_opens_anew_is_not_the_books_that_it_had(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    path = tmp_path / "books.db"
    store = SQLiteStore(path, busy_s=0.05)
    async with opened(store, fake_upstream, tmp_path) as found:
        assert (await read_chat(found))[0] == 200
        await found.balance(ALICE)
        async with _exclusive(path):
            assert (await read_chat(found))[0] == 503, "its connection was given up"
        path.unlink()
        assert (await read_chat(found))[0] == 503
        assert not path.exists()
    assert len(fake_upstream.log) == 1


async def test_a_log_that_is_removed_under_a_router_is_no_loss(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    path = tmp_path / "books.db"
    async with opened(SQLiteStore(path), fake_upstream, tmp_path) as found:
        assert (await read_chat(found))[0] == 200
        for name in ("books.db-wal", "books.db-shm"):
            (tmp_path / name).unlink()
        assert (await read_chat(found))[0] == 200
        with closing(sqlite3.connect(path)) as other:  # who comes later sees all of it
            assert other.execute("SELECT COUNT(*) FROM ledger").fetchone() == (2,)
        await reconciled(found.store)


async def test_what_counts_limits_may_be_removed(tmp_path: Path) -> None:
    ask = Ask("alice", (), (Slot("places", 1, "one"),), 60.0)
    store = SQLiteStore(tmp_path / "books.db")
    await store.open()
    assert (await store.take(ask)).admitted
    for name in ("books.db.limits", "books.db.limits-wal", "books.db.limits-shm"):
        (tmp_path / name).unlink()
    assert (await store.take(msgspec.structs.replace(ask, slots=(Slot("places", 1, "two"),)))).admitted
    assert (tmp_path / "books.db.limits").exists()
    await store.aclose()


@pytest.mark.parametrize("full", FILLED, ids=lambda full: full.__name__)
async def test_a_disk_that_is_full_costs_nobody_anything(
    full: Filled, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    settings = _settings(disk, fake_upstream)
    before = small_disk(disk) if full is filled else []
    async with httpx2.AsyncClient(timeout=60) as client:
        with running_worker(tmp_path, settings, before=before) as worker:
            assert (await client.post(**asked(worker))).status_code == 200
            fake_upstream.next(SLOW)
            async with client.stream("POST", **asked(worker, stream=True)) as response:
                assert response.status_code == 200
                with full(worker, disk):
                    await _is_unsure(client, worker)
                    assert len(fake_upstream.log) == 2
                    assert (await response.aread()).endswith(b"data: [DONE]\n\n")
                    await _has_written_down(client, worker)
            assert (await client.post(**asked(worker))).status_code == 200
            await _has_paid_up(client, worker)
            lines = await _lines(copied(worker, disk, tmp_path), 3)
            assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)] * 3
            assert {line.report.outcome for line in lines} == {"completed"}
    assert len(fake_upstream.log) == 3


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_what_may_only_be_read_is_no_place_to_start_in(
    what: str, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    settings = _settings(place, fake_upstream)
    async with httpx2.AsyncClient(timeout=60) as client:
        with running_worker(tmp_path, settings, before=unprivileged()) as worker:
            assert (await client.post(**asked(worker))).status_code == 200
        refused = pytest.raises(RuntimeError, match="did not start")
        with _read_only(place, what), refused, running_worker(tmp_path, settings, before=unprivileged()):
            pass
        with running_worker(tmp_path, settings, before=unprivileged()) as worker:
            assert (await client.post(**asked(worker))).status_code == 200
            assert [line.amount for line in await _lines(place / "books.db", 2)] == [USAGE_NANO] * 2


async def test_a_log_that_was_removed_while_nobody_ran_leaves_older_books_and_no_half(
    tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    settings = _settings(tmp_path, fake_upstream)
    books = tmp_path / "books.db"
    async with httpx2.AsyncClient(timeout=60) as client:
        with running_worker(tmp_path, settings) as worker:  # ends in order, and leaves no log
            assert (await client.post(**asked(worker))).status_code == 200
        with running_worker(tmp_path, settings) as worker:
            assert (await client.post(**asked(worker))).status_code == 200
            worker.kill()
        for name in ("books.db-wal", "books.db-shm"):
            (tmp_path / name).unlink()
        with running_worker(tmp_path, settings) as worker:
            assert (await client.post(**asked(worker))).status_code == 200
            assert [line.seq for line in await _lines(books, 2)] == [1, 2], "what only the log had is gone, whole"


async def test_a_file_that_is_no_database_any_more_is_refused_and_left_alone(
    tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    path = tmp_path / "books.db"
    async with opened(SQLiteStore(path), fake_upstream, tmp_path) as found:
        assert (await read_chat(found))[0] == 200
    with path.open("r+b") as file:
        file.write(b"\xff" * 100)
    damaged = path.read_bytes()
    with pytest.raises(StoreError):
        async with opened(SQLiteStore(path), fake_upstream, tmp_path):
            pass
    assert path.read_bytes() == damaged
    assert len(fake_upstream.log) == 1


# --- the parts ------------------------------------------------------------------------------------


def _settings(folder: Path, upstream: FakeUpstream) -> Settings:
    return Settings(
        kind="sqlite",
        place=str(folder / "books.db"),
        upstream=upstream.url,
        journal=str(folder / "journal"),
        lease_s=OFTEN,
    )


@contextmanager
def _read_only(place: Path, what: str) -> Iterator[None]:
    """Nobody may write to the folder, or to the file; what SQLite makes meanwhile has the file's permissions."""
    path = place if what == "folder" else place / "books.db"
    path.chmod(path.stat().st_mode & ~0o222)
    try:
        yield
    finally:
        for each in (place, *place.glob("books.db*")):
            each.chmod(each.stat().st_mode | 0o200)


@asynccontextmanager
async def _later(fault: AbstractContextManager[None]) -> AsyncGenerator[None]:
    with fault:
        yield


async def _is_unsure(client: httpx2.AsyncClient, worker: Worker) -> None:
    """A request is a 503, and the gateway is alive, but not ready."""
    refused = await client.post(**asked(worker))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "quota_unavailable")
    with anyio.fail_after(PATIENCE_S):
        while (await client.get(f"{worker.url}/readyz")).status_code != 503:  # noqa: ASYNC110  # nobody tells
            await anyio.sleep(0.05)
    assert (await client.get(f"{worker.url}/healthz")).status_code == 200


async def _has_written_down(client: httpx2.AsyncClient, worker: Worker) -> None:
    """The settlement is in the journal, whose room was taken before; nobody reads figures that lack it."""
    with anyio.fail_after(PATIENCE_S):
        while not (await client.get(f"{worker.url}/readyz")).json()["journal"]["pending"]:  # noqa: ASYNC110  # as above
            await anyio.sleep(0.05)
    read = await client.get(f"{worker.url}/api/usage", headers={"apikey": KEY})
    assert read.status_code == 503


async def _has_paid_up(client: httpx2.AsyncClient, worker: Worker) -> None:
    """Nothing is owed any more, and the gateway is ready."""
    with anyio.fail_after(PATIENCE_S):
        while (await client.get(f"{worker.url}/readyz")).json()["journal"]["pending"]:  # noqa: ASYNC110  # as above
            await anyio.sleep(0.05)
    assert (await client.get(f"{worker.url}/readyz")).status_code == 200


async def _lines(path: Path, count: int) -> list[Entry]:
    """Alice's ledger, when it has so many lines; and the books agree with it."""
    store: Any = SQLiteStore(path)
    await store.open()
    try:
        found: list[Entry] = []
        with anyio.fail_after(PATIENCE_S):
            while len(found) < count:
                await anyio.sleep(0.05)
                found = await store.lines("alice")
        assert len(found) == count
        balance = await store.balance("alice")
        assert (balance.used, balance.held) == (sum(line.amount for line in found), 0)
        await reconciled(store)
        return found
    finally:
        await store.aclose()
