"""Several processes at one SQLite file, and what is left when one is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import pytest

from hpp_middleware import SQLiteStore
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import Grant, Operation, Sweep
from hpp_middleware.types.quota import Balance, Entry

FORKING = """
import os, signal, sys
import anyio
from rig import ALICE, gateway, question
from hpp_middleware import SQLiteStore, StoreError

found = gateway("http://127.0.0.1:9/v1", store=SQLiteStore(sys.argv[1]))
anyio.run(found.worker)  # as a first request does: nothing closes it
forked = os.fork()
if not forked:
    signal.alarm(30)
    for use in (lambda: found.complete(ALICE, question()), found.__aenter__, found.store.aclose):
        try:
            print(anyio.run(use))
        except StoreError as error:
            print(error.status, error)
    sys.exit()
print(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))
print(anyio.run(found.store.balance, "alice").remaining)
anyio.run(found.store.aclose)
"""
"""A process that opens the file, and another one that it becomes."""

WORKER = Path(__file__).with_name("sqlite_worker.py")
START = Grant(id="start", account="alice", amount=10 * 100)


def test_four_processes_on_room_for_ten_never_oversell(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"
    _apply(path, START)
    with ExitStack() as stack:
        workers = [stack.enter_context(_worker(path, name, "race", "16")) for name in "abcd"]
        for worker in workers:
            assert _line(worker) == "ready"
        for worker in workers:
            _begin(worker)
        granted = [int(_line(worker)) for worker in workers]
        assert [worker.wait(30) for worker in workers] == [0, 0, 0, 0]
    assert sum(granted) == 10
    balance, _ = _apply(path)
    assert (balance.held, balance.available) == (1000, 0)


@pytest.mark.parametrize("after", [1, 5, 20])
def test_a_killed_process_loses_no_acknowledged_settlement(after: int, tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"
    _apply(path, Grant(id="start", account="alice", amount=10**9))
    with _worker(path, "worker", "spend") as worker:
        assert _line(worker) == "ready"
        _begin(worker)
        acknowledged = [_line(worker) for _ in range(after)]
        worker.kill()
        assert worker.stdout is not None
        acknowledged += worker.stdout.read().split()  # what it said before it died
        worker.wait(30)

    balance, lines = _apply(path)
    assert set(acknowledged) <= {line.hold for line in lines}
    assert balance.held in {0, 10}  # at most the hold that it was about to settle
    balance, lines = _apply(path, Sweep(), later_s=31.0)
    assert balance.held == 0
    assert balance.used == sum(line.amount for line in lines)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    orphans = [line.hold for line in lines if line.report.outcome == "orphaned"]
    assert len(orphans) <= 1
    assert not set(orphans) & set(acknowledged)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_fork_of_a_process_that_has_it_open_is_told_so_and_harms_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FORKING, str(tmp_path / "hpp.db")]
    path = str(Path(__file__).parents[1])
    ended = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False)
    *refused, closed, code, remaining = ended.stdout.splitlines() or [ended.stderr]
    assert len(refused) == 2
    assert all(words.startswith("503 ") and "store.url" in words and "forked" in words for words in refused)
    assert (closed, code, remaining) == ("None", "0", str(10 * 10**9))


def _apply(path: Path, *operations: Operation, later_s: float = 0.0) -> tuple[Balance, list[Entry]]:
    """Carry out operations in this process, and read alice's account."""

    async def work() -> tuple[Balance, list[Entry]]:
        store = SQLiteStore(path, clock=Clock(time.time() + later_s))
        await store.open()
        try:
            for result in await store.apply(operations):
                assert result.status == "done"
            return await store.balance("alice"), await store.lines("alice", most=10**6)
        finally:
            await store.aclose()

    return anyio.run(work)


@contextmanager
def _worker(path: Path, name: str, *task: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, str(WORKER), str(path), name, *task]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _begin(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("begin\n")
    process.stdin.flush()
