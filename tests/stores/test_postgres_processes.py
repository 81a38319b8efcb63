"""What is left in a PostgreSQL when a process is killed that had batches under way."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import Grant, Operation, Sweep
from hpp_middleware.types.quota import Entry, Statement

WORKER = Path(__file__).with_name("postgres_worker.py")


@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_killed_process_loses_no_acknowledged_settlement(after: int, postgres_dsn: str) -> None:
    _apply(postgres_dsn, Grant(id="start", account="alice", amount=10**9))
    with _worker(postgres_dsn) as worker:
        acknowledged = [_line(worker) for _ in range(after)]
        worker.kill()
        assert worker.stdout is not None
        acknowledged += worker.stdout.read().split()  # what it said before it died
        worker.wait(30)
    _, lines = _apply(postgres_dsn)
    assert set(acknowledged) <= {line.hold for line in lines}
    statement, lines = _apply(postgres_dsn, Sweep(), later_s=60.0)
    assert (statement.account.held, statement.held) == (0, 0)
    assert statement.account.settled == statement.charged == sum(line.amount for line in lines)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    orphans = [line.hold for line in lines if line.report.outcome == "orphaned"]
    assert len(orphans) <= 4  # one for each of its tasks
    assert not set(orphans) & set(acknowledged)


def _apply(dsn: str, *operations: Operation, later_s: float | None = None) -> tuple[Statement, list[Entry]]:
    """Carry out operations in this process, and read alice's account."""

    async def work() -> tuple[Statement, list[Entry]]:
        store = PostgresStore(dsn, clock=Clock(time.time() + later_s) if later_s is not None else None)
        await store.open()
        try:
            for result in await store.apply(operations):
                assert result.status == "done"
            return await store.statement("alice"), await store.lines("alice", most=10**6)
        finally:
            await store.aclose()

    return anyio.run(work)


@contextmanager
def _worker(dsn: str) -> "Iterator[subprocess.Popen[str]]":
    with subprocess.Popen([sys.executable, str(WORKER), dsn, "worker"], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
