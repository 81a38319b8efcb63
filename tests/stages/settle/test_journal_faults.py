"""The journal in processes that are killed, and on disks that are full."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from background import BackgroundUpstream
from journals import names
from rig import ALICE, USAGE_NANO, Delegate, Witness, check_books, gateway, question

from hpp_middleware import MemoryStore, SQLiteStore, StoreError
from hpp_middleware.stages.settle import journal
from hpp_middleware.stages.settle.slotfile import SLOT_BYTES
from hpp_middleware.testing import FakeUpstream

TESTS = Path(__file__).parent.parent.parent
WORKER = Path(__file__).parent / "journal_worker.py"


class Process:
    """A worker, and what it says."""

    def __init__(self, running: "subprocess.Popen[str]") -> None:
        self._running = running

    def said(self) -> Any:
        """The next line."""
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        assert line, "it ended"
        return json.loads(line)

    def until(self, word: str) -> Any:
        """The next line that says this."""
        while True:
            found = self.said()
            if word in found:
                return found

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._running.kill()
        self._running.wait()

    def go_on(self) -> None:
        """Let it go on from where it waits."""
        assert self._running.stdin is not None
        self._running.stdin.write("\n")
        self._running.stdin.flush()

    def end(self) -> None:
        """Let it go on to its end."""
        self.go_on()
        assert self._running.wait(30) == 0


@contextmanager
def worker(url: str, folder: Path, what: str) -> Iterator[Process]:
    """A process of :mod:`journal_worker`, which is gone at the end."""
    paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    with subprocess.Popen(
        [sys.executable, str(WORKER), url, str(folder), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as running:
        try:
            yield Process(running)
        finally:
            running.kill()


def test_a_process_that_is_killed_between_journal_and_replay_loses_nothing_and_charges_once(
    background_upstream: BackgroundUpstream, tmp_path: Path
) -> None:
    with worker(background_upstream.url, tmp_path, "locked") as process:
        told = process.until("answered")
        assert told["pending"] == 3
        process.kill()
    assert len(background_upstream.log) == 3

    async def next_process() -> None:
        for _ in range(2):  # the second finds nothing left to do
            witness = Witness()
            async with gateway(
                background_upstream.url, store=SQLiteStore(tmp_path / "hpp.db"), observers=[witness]
            ) as found:
                lines = await check_books(found)
                assert sorted(line.hold for line in lines) == sorted(told["answered"])
                assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)] * 3
                assert not any(line.report.estimated for line in lines)  # it was no sweeper
                assert found.journal.pending == 0
                assert witness.alarms == []

    anyio.run(next_process)


def test_what_a_process_leaves_that_is_killed_is_settled_by_another_one_that_runs(
    background_upstream: BackgroundUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOOK_AFTER_S", 0.0)

    async def survivor() -> None:
        store = SQLiteStore(tmp_path / "hpp.db", busy_s=0.05)
        async with gateway(background_upstream.url, store=store) as found:
            with worker(background_upstream.url, tmp_path, "locked") as process:
                told = process.until("answered")
                process.kill()
            with anyio.fail_after(30):
                while True:
                    with suppress(StoreError):  # what is owed for an account keeps its figures back
                        if (await found.balance(ALICE)).used == 3 * USAGE_NANO:
                            break
                    await anyio.sleep(0.05)
            lines = await check_books(found)
            assert sorted(line.hold for line in lines) == sorted(told["answered"])
            assert {line.report.outcome for line in lines} == {"completed"}
            assert found.journal.pending == 0
            assert names(tmp_path / "hpp.db.settle") == ["settle-0.journal"]

    anyio.run(survivor)


def test_a_settlement_that_is_found_after_its_hold_was_swept_is_one_correction(
    background_upstream: BackgroundUpstream, tmp_path: Path
) -> None:
    with worker(background_upstream.url, tmp_path, "locked") as process:
        process.until("answered")
        process.kill()

    async def next_process() -> None:
        later = SQLiteStore(tmp_path / "hpp.db", clock=lambda: 4 * 10**9)  # another host, without the journal
        async with gateway(background_upstream.url, store=later, journal=None) as found:
            lines = await check_books(found)
            assert [line.report.outcome for line in lines] == ["orphaned"] * 3
        async with gateway(background_upstream.url, store=SQLiteStore(tmp_path / "hpp.db")) as found:
            lines = await check_books(found)
            assert [line.line for line in lines] == ["resolution"] * 3 + ["correction"] * 3
            assert sum(line.amount for line in lines) == 3 * USAGE_NANO
            assert found.journal.pending == 0

    anyio.run(next_process)


def test_where_the_disk_takes_nothing_more_nothing_more_is_admitted_until_it_does(
    background_upstream: BackgroundUpstream, tmp_path: Path
) -> None:
    with worker(background_upstream.url, tmp_path, "full") as process:
        assert process.said() == {"alarm": "journal", "detail": "cannot be written: EFBIG"}
        assert process.said()["alarm"] == "settle_failed"
        assert process.said() == {"answered": 200, "pending": 1}
        assert process.said() == {"refused": "quota_unavailable"}
        ready = process.said()
        assert ready["ready"] == 503
        assert ready["standing"]["status"] == "unavailable"
        assert ready["standing"]["journal"] == {"pending": 1, "slots": 1024}
        assert len(background_upstream.log) == 1
        process.go_on()
        assert process.until("answered") == {"answered": 200, "pending": 2}
        assert len(background_upstream.log) == 2
        records = (tmp_path / "journal" / "settle-0.journal").read_bytes()
        assert [records[n * SLOT_BYTES :][:4] for n in range(3)].count(b"HPPJ") == 2  # both are on the disk now
        process.end()


def test_where_there_is_no_room_for_a_journal_nothing_is_admitted_until_there_is(
    background_upstream: BackgroundUpstream, tmp_path: Path
) -> None:
    with worker(background_upstream.url, tmp_path, "unopened") as process:
        assert process.said() == {"alarm": "journal", "detail": "cannot be opened: EFBIG"}
        assert process.until("refused") == {"refused": "quota_unavailable"}
        assert process.until("ready")["ready"] == 503
        assert background_upstream.log == []
        process.go_on()
        assert process.until("answered") == {"answered": 200, "pending": 0}
        process.end()


@pytest.mark.anyio
async def test_a_locked_database_is_settled_once_it_is_free_again(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "hpp.db", busy_s=0.05)
    async with gateway(fake_upstream, store=store) as found:
        await found.balance(ALICE)
        thief = sqlite3.connect(tmp_path / "hpp.db", isolation_level=None)

        async def steal(_: bytes) -> None:
            if not thief.in_transaction:
                thief.execute("BEGIN EXCLUSIVE")

        await found.complete(ALICE, question(stream=True), send=steal)
        assert found.journal.pending == 1
        thief.rollback()
        thief.close()
        assert (await found.balance(ALICE)).used == USAGE_NANO
        assert found.journal.pending == 0
        assert len(await check_books(found)) == 1


def test_a_memory_store_has_no_file_and_no_file_is_made_before_it_is_opened(tmp_path: Path) -> None:
    url, database = "http://127.0.0.1:9/v1", tmp_path / "hpp.db"
    assert gateway(url).setup.journal is None
    assert gateway(url, store=Delegate(MemoryStore())).setup.journal is None
    assert gateway(url, store=SQLiteStore(database)).setup.journal == tmp_path / "hpp.db.settle"
    assert names(tmp_path) == []
