"""Several processes take turns at writing one SQLite file, and are warned where their SQLite has the WAL-reset bug."""

import logging
import sqlite3
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from test_sqlite_processes import START, _apply, _begin, _line, _worker

from hpp_middleware import SQLiteStore
from hpp_middleware.stores.sqlite.turn import Turn, has_wal_reset_bug
from hpp_middleware.types.operations import Grant

LINES = 1200


def test_no_process_is_passed_over_while_four_write(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"
    _apply(path, Grant(id="start", account="alice", amount=10**12))
    names = "abcd"
    workers = [_worker(path, name, "spend") for name in names]
    processes = [worker.__enter__() for worker in workers]
    try:
        for process in processes:
            assert _line(process) == "ready"
        for process in processes:
            _begin(process)
        lines = 0
        while lines < LINES:
            anyio.run(anyio.sleep, 0.2)
            _, found = _apply(path)
            lines = len(found)
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)
    order = [line.hold.partition("-")[0] for line in found]
    first = max(order.index(name) for name in names)  # from here on, all of them write
    for name in names:
        own = [place for place, owner in enumerate(order) if owner == name and place >= first]
        gaps = [after - before for before, after in pairwise(own)]
        assert max(gaps) < LINES / 3, f"{name} was passed over"


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ((3, 6, 23), False),
        ((3, 7, 0), True),
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: tuple[int, ...], bug: bool) -> None:  # noqa: FBT001
    assert has_wal_reset_bug(version) is bug


@pytest.mark.parametrize(("version", "told"), [((3, 40, 1), True), ((3, 51, 3), False)])
def test_a_second_process_is_warned_and_the_first_is_not(
    version: tuple[int, ...],
    told: bool,  # noqa: FBT001
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "hpp.db"
    caplog.set_level(logging.WARNING, "hpp_middleware")
    _apply(path, START)
    alone = Turn(path, busy_s=1)
    alone.open(version)
    alone.close()
    assert not caplog.messages
    with _worker(path, "other", "spend") as other:
        assert _line(other) == "ready"
        turn = Turn(path, busy_s=1)
        turn.open(version)
        turn.close()
    assert len(caplog.messages) == told
    assert all("WAL-reset" in message for message in caplog.messages)


def test_a_writer_that_does_not_let_go_is_an_error_in_the_end(tmp_path: Path) -> None:
    path = tmp_path / "hpp.db"
    _apply(path, START)
    holder = (
        "import sqlite3, sys, pathlib\n"
        "from hpp_middleware.stores.sqlite.turn import Turn\n"
        "turn = Turn(pathlib.Path(sys.argv[1]), busy_s=5)\n"
        "turn.open()\n"
        "turn.begin(sqlite3.connect(sys.argv[1], isolation_level=None))\n"
        "print('holds', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    command = [sys.executable, "-c", holder, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert _line(process) == "holds"
        turn = Turn(path, busy_s=0.05)
        turn.open((3, 53, 0))
        connection = sqlite3.connect(path, isolation_level=None)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            turn.begin(connection)
        process.kill()
        process.wait(30)
        turn.begin(connection)  # its locks ended with it
        connection.execute("COMMIT")
        turn.end()
        turn.close()
        connection.close()


async def _both(path: Path) -> None:
    stores = [SQLiteStore(path) for _ in range(2)]
    for store in stores:
        await store.open()
    for number, store in enumerate(stores * 3):
        await store.apply([Grant(id=f"g-{number}", account="alice", amount=1)])
    for store in stores:
        await store.aclose()


def test_two_stores_of_one_process_do_not_stand_in_each_others_way(tmp_path: Path) -> None:
    anyio.run(_both, tmp_path / "hpp.db")
    balance, _ = _apply(tmp_path / "hpp.db")
    assert balance.quota == 6
