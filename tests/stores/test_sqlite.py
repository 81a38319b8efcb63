"""The SQLite store keeps every promise of a store, and those of a file that several share, in threads and processes."""

import os
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest
from msgspec.structs import replace

from hpp_middleware import SQLiteStore, StoreError
from hpp_middleware.testing import AUDIT_PROMISES, STORE_PROMISES
from hpp_middleware.testing.stores import Promise
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Declare, Grant, Operation, Release, Renew, Result, Sweep
from hpp_middleware.types.quota import Balance

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


@pytest.mark.parametrize("promise", [*STORE_PROMISES, *AUDIT_PROMISES], ids=lambda promise: promise.__name__)
async def test_the_sqlite_store_keeps_its_promise_that(promise: Promise, path: Path) -> None:
    async def make(clock: Callable[[], float] = time.time) -> SQLiteStore:
        return SQLiteStore(path, clock=clock)

    await promise(make)


IS_ORDINARY = sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(not IS_ORDINARY, reason="only an ordinary thread of Linux is given another policy")
async def test_the_writers_thread_stops_no_event_loop_when_it_is_woken(store: SQLiteStore) -> None:
    await store.apply([Grant(id="start", account="alice", amount=5)])
    (writer,) = [thread.native_id for thread in threading.enumerate() if thread is store._writer._thread]
    assert writer is not None
    assert (os.sched_getscheduler(0), os.sched_getscheduler(writer)) == (os.SCHED_OTHER, os.SCHED_BATCH)


# --- shared ---------------------------------------------------------------------------------------


async def test_two_stores_on_one_file_never_oversell(store: SQLiteStore, path: Path) -> None:
    other = SQLiteStore(path)
    await other.open()
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10 * 100)])
    results: list[Result] = []

    async def one(number: int) -> None:
        results.extend(await (store, other)[number % 2].apply([reserve(f"hold-{number}", 100)]))

    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(one, number)
    assert sorted(result.status for result in results) == ["done"] * 10 + ["refused"] * 54
    assert await store.balance("alice") == await other.balance("alice")
    assert (await store.balance("alice")).held == 1000
    await other.aclose()


async def test_one_store_of_two_settles_what_the_other_reserved_once(store: SQLiteStore, path: Path) -> None:
    other = SQLiteStore(path)
    await other.open()
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**6)])
    for number in range(25):
        (held,) = await store.apply([reserve(f"hold-{number}", 100)])
        assert held.status == "done"
        statuses: list[str] = []

        async def one(store: SQLiteStore, amount: int, hold: str, statuses: list[str]) -> None:
            statuses += [result.status for result in await store.apply([settle(hold, amount)])]

        async with anyio.create_task_group() as group:
            group.start_soon(one, store, 1, f"hold-{number}", statuses)
            group.start_soon(one, other, 2, f"hold-{number}", statuses)
        assert sorted(statuses) == ["conflict", "done"]
    lines = await other.lines("alice")
    assert [line.seq for line in lines] == list(range(1, 26))
    assert (await store.balance("alice")).used == sum(line.amount for line in lines)
    await other.aclose()


async def test_one_store_serves_several_event_loops(store: SQLiteStore) -> None:
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**6)])

    async def ten(prefix: str) -> None:
        for number in range(10):
            await store.apply([reserve(f"{prefix}-{number}", 1)])

    async with anyio.create_task_group() as group:
        group.start_soon(ten, "here")
        for backend in ("asyncio", "trio"):
            group.start_soon(
                anyio.to_thread.run_sync, lambda backend: anyio.run(ten, f"in {backend}", backend=backend), backend
            )
    assert (await store.balance("alice")).held == 30


async def test_a_file_that_another_process_has_locked_is_a_store_error_and_then_well_again(path: Path) -> None:
    store = SQLiteStore(path, busy_s=0.05)
    await store.open()
    intruder = sqlite3.connect(path, isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError):
        await store.apply([Grant(id="start", account="alice", amount=5)])
    intruder.execute("ROLLBACK")
    intruder.close()
    assert await store.balance("alice") == Balance(account="alice")
    (result,) = await store.apply([Grant(id="start", account="alice", amount=5)])
    assert result.status == "done"
    await store.aclose()


async def test_work_that_cannot_be_done_leaves_its_neighbours_alone(store: SQLiteStore) -> None:
    outcomes: dict[str, str] = {}

    async def one(account: str) -> None:
        try:
            (result,) = await store.apply([Grant(id=account, account=account, amount=5)])
            outcomes[account] = result.status
        except StoreError:
            outcomes[account] = "error"

    unspeakable = "\ud800"  # no text that a database can keep
    async with anyio.create_task_group() as group:
        for account in ("alice", unspeakable, "bob", "carol"):
            group.start_soon(one, account)
    assert outcomes == {"alice": "done", unspeakable: "error", "bob": "done", "carol": "done"}


async def test_what_waits_together_is_carried_out_in_order_and_as_if_it_were_alone(store: SQLiteStore) -> None:
    names = [f"account-{number}" for number in range(5)]
    await store.apply(
        [Renew(owner="worker", ttl_s=600), *(Grant(id=name, account=name, amount=1000) for name in names)]
    )
    blocked, go_on = threading.Event(), threading.Event()

    def hold_up(_connection: sqlite3.Connection) -> None:
        blocked.set()
        go_on.wait(10)

    results: dict[str, list[Result]] = {}

    async def one(name: str, number: int) -> None:
        hold = f"{name}-{number}"
        results[hold] = await store.apply(
            [reserve(hold, 100, name), settle(hold, 60), settle(hold, 60), settle(hold, 61), Release(id=hold)]
        )

    async with anyio.create_task_group() as group:
        group.start_soon(store._writer.run, hold_up)
        await anyio.to_thread.run_sync(blocked.wait)
        for number in range(8):
            for name in names:
                group.start_soon(one, name, number)
        group.start_soon(store.apply, [Sweep()])
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert len(results) == 40
    for told in results.values():
        assert [result.status for result in told] == ["done", "done", "done", "conflict", "conflict"]
    for name in names:
        statement = await store.statement(name)
        assert (statement.account.settled, statement.account.held, statement.account.requests) == (480, 0, 8)
        assert (statement.charged, statement.lines, statement.seq) == (480, 8, 8)


async def test_what_fails_among_work_of_all_kinds_is_told_to_its_caller_alone_and_the_rest_is_done_once(
    store: SQLiteStore,
) -> None:
    told: dict[str, object] = {}

    async def one(name: str, ask: Awaitable[object]) -> None:
        try:
            told[name] = await ask
        except StoreError:
            told[name] = "error"

    alice, bob = Credential(digest=b"a" * 32, id="a", consumer=Consumer(id="alice"), created=1.0), b"b" * 32
    unspeakable = "\ud800"  # no text that a database can keep
    async with _held_up(store) as group:
        for name, ask in (
            ("first", store.apply([Grant(id="1", account="alice", amount=5), Declare(account="alice", quota=10)])),
            ("key", store.add(alice)),
            ("read", store.balance("alice")),
            (
                "bad grant",
                store.apply([Grant(id="2", account="alice", amount=1), Declare(account=unspeakable, quota=1)]),
            ),
            ("bad key", store.add(replace(alice, id=unspeakable, digest=bob))),
            ("last", store.apply([Grant(id="3", account="alice", amount=7)])),
            ("end", store.balance("alice")),
        ):
            group.start_soon(one, name, ask)
            await anyio.wait_all_tasks_blocked()
    assert (told["bad grant"], told["bad key"]) == ("error", "error")
    assert (told["read"], told["end"]) == (Balance(account="alice", quota=15), Balance(account="alice", quota=22))
    assert await store.balance("alice") == told["end"]
    assert await store.credentials() == [alice]
    assert await store.epoch() == 1


async def test_what_others_write_and_other_work_are_heeded_by_the_next_operation(
    store: SQLiteStore, path: Path
) -> None:
    async def room(hold: str) -> int:
        (result,) = await store.apply([reserve(hold, 10**9)])
        assert result.status == "refused"
        return result.available

    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=1000)])
    assert await room("first") == 1000
    by_hand = sqlite3.connect(path)
    by_hand.execute("UPDATE account SET quota = 2000 WHERE id = 'alice'")
    by_hand.commit()
    by_hand.close()
    assert await room("by hand") == 2000
    await store.archive([Grant(id="archived", account="alice", amount=500)])
    assert await room("archived") == 2500
    told: list[int] = []

    async def tell(hold: str) -> None:
        told.append(await room(hold))

    async with _held_up(store) as group:
        group.start_soon(tell, "before")
        await anyio.wait_all_tasks_blocked()
        group.start_soon(store.archive, [Grant(id="in between", account="alice", amount=1)])
        await anyio.wait_all_tasks_blocked()
        group.start_soon(tell, "after")
        await anyio.wait_all_tasks_blocked()
    assert sorted(told) == [2500, 2501]
    assert await room("last") == 2501


async def test_what_was_undone_with_its_neighbour_is_not_taken_for_done(store: SQLiteStore) -> None:
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=1000)])
    await store.apply([reserve("known", 100)])
    results: list[Result] = []
    failures: list[StoreError] = []

    async def one(*operations: Operation) -> None:
        try:
            results.extend(await store.apply(operations))
        except StoreError as error:
            failures.append(error)

    async with _held_up(store) as group:
        group.start_soon(one, settle("known", 70))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(one, reserve("new", 50), Grant(id="bad", account="\ud800", amount=1))
        await anyio.wait_all_tasks_blocked()
    assert (len(results), len(failures)) == (1, 1)
    statement = await store.statement("alice")
    assert (statement.account.held, statement.held, statement.account.settled, statement.charged) == (0, 0, 70, 70)
    assert [hold.id for hold in await store.holds(["known", "new"])] == ["known"]
    (again, placed) = await store.apply([settle("known", 70), reserve("new", 50)])
    assert (again.status, placed.status) == ("done", "done")
    assert await store.balance("alice") == Balance(account="alice", quota=1000, used=70, held=50, requests=1, tokens=6)


@asynccontextmanager
async def _held_up(store: SQLiteStore) -> AsyncGenerator[anyio.abc.TaskGroup]:
    """What is asked in here waits together, and is done at the end."""
    blocked, go_on = threading.Event(), threading.Event()

    def hold_up(_connection: sqlite3.Connection) -> None:
        blocked.set()
        go_on.wait(10)

    async with anyio.create_task_group() as group:
        group.start_soon(store._writer.run, hold_up)
        await anyio.to_thread.run_sync(blocked.wait)
        yield group
        go_on.set()


async def test_a_name_that_json_would_carry_otherwise_is_the_same_account_alone_and_among_others(
    store: SQLiteStore,
) -> None:
    strange = "a\0b"
    await store.apply([Grant(id="one", account=strange, amount=5)])
    await store.apply([Grant(id=name, account=name, amount=1) for name in ("a", "b", "c", "d")])
    await store.apply([Grant(id=f"again-{name}", account=name, amount=1) for name in ("a", "b", strange, "c")])
    assert [(await store.balance(name)).quota for name in (strange, "a", "d")] == [6, 2, 1]


async def test_giving_up_the_wait_does_not_take_the_work_back(store: SQLiteStore) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await store.apply([Grant(id="start", account="alice", amount=5)])
    assert scope.cancelled_caught
    assert (await store.balance("alice")).quota == 5


# --- what it reads --------------------------------------------------------------------------------


async def test_a_sweep_and_the_lines_of_one_request_are_found_without_looking_through_those_of_a_week(
    store: SQLiteStore,
) -> None:
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**9)])
    for start in range(0, 5000, 500):
        ids = [f"hold-{number:04}" for number in range(start, start + 500)]
        await store.apply([operation for name in ids for operation in (reserve(name, 100), settle(name, 70))])
    at_most = 2000  # of the virtual machine's steps: five thousand rows take five times as many at least
    assert await _steps(store, lambda: store.apply([Sweep()])) < at_most
    assert await _steps(store, lambda: store.entries("alice", "hold-2500")) < at_most
    assert [line.seq for line in await store.entries("alice", "hold-2500")] == [2501]


async def _steps(store: SQLiteStore, ask: Callable[[], Awaitable[object]]) -> int:
    """How much SQLite does for it."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    await store._writer.run(lambda connection: connection.set_progress_handler(count, 1), writes=False)
    await ask()
    await store._writer.run(lambda connection: connection.set_progress_handler(None, 0), writes=False)
    return steps
