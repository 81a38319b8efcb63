"""What goes wrong at a PostgreSQL is a StoreError, or nothing at all; and the store is well when the server is."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import asyncpg
import pytest
from databases import Server, running_postgres
from postgres_pooler import pooled

from hpp_middleware import StoreError
from hpp_middleware.stores.postgres import PostgresStore, connections
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.operations import Grant, Operation, Release, Renew, Result, Sweep

pytestmark = pytest.mark.anyio

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BACKENDS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """It is served on asyncio only."""
    return "asyncio"


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncGenerator[PostgresStore]:
    store = PostgresStore(postgres_dsn, timeout_s=0.5)
    await _begin(store)
    yield store
    await store.aclose()


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncGenerator[Admin]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close(timeout=5)


async def test_sessions_that_were_ended_while_idle_are_replaced_unnoticed(store: PostgresStore, admin: Admin) -> None:
    for number in range(5):
        await asyncio.gather(*(store.balance("alice") for _ in range(8)))
        assert await admin.fetchval(f"SELECT count(pg_terminate_backend(pid, 5000)) {BACKENDS}") > 0
        (result,) = await store.apply([reserve(f"hold-{number}", 1)])
        assert result.status == "done"
    assert (await store.balance("alice")).held == 5


async def test_sessions_that_are_ended_at_work_lose_nothing_acknowledged(store: PostgresStore, admin: Admin) -> None:
    settled: list[str] = []

    async def spend(name: str) -> None:
        for number in range(20):
            for operation in (reserve(f"{name}-{number}", 10), settle(f"{name}-{number}", 7)):
                result = await _until_known(store, operation)
                assert result.status == "done"
            settled.append(f"{name}-{number}")

    async def end_sessions(done: anyio.Event) -> None:
        while not done.is_set():
            await admin.execute(f"SELECT pg_terminate_backend(pid) {BACKENDS}")
            await anyio.sleep(0.02)

    done = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(end_sessions, done)
        async with anyio.create_task_group() as spenders:
            for name in "abcd":
                spenders.start_soon(spend, name)
        done.set()
    lines = await store.lines("alice")
    assert sorted(line.hold for line in lines) == sorted(settled)
    statement = await store.statement("alice")
    assert (statement.held, statement.account.held, statement.account.settled) == (0, 0, 7 * 80)


async def test_an_account_that_somebody_has_locked_is_a_store_error_and_then_well_again(
    store: PostgresStore, admin: Admin
) -> None:
    async with admin.transaction():
        await admin.execute("SELECT FROM hpp_account WHERE id = 'alice' FOR UPDATE")
        with pytest.raises(StoreError):
            await store.apply([reserve("hold", 100)])
        assert (await store.balance("alice")).held == 0
        with anyio.fail_after(10):  # nothing is left behind that would still be done later
            while await admin.fetchval(f"SELECT count(*) {BACKENDS} AND wait_event_type = 'Lock'"):  # noqa: ASYNC110
                await anyio.sleep(0.01)
    assert (await store.balance("alice")).held == 0
    (result,) = await store.apply([reserve("hold", 100)])
    assert result.status == "done"


async def test_a_sweep_does_not_wait_for_an_account_that_is_locked(postgres_dsn: str, admin: Admin) -> None:
    clock = Clock()
    store = PostgresStore(postgres_dsn, clock=clock)
    await _begin(store, "alice", "bob")
    await store.apply([reserve("hers", 100, orphan=10), reserve("his", 100, "bob", orphan=10)])
    clock.now += 1000
    async with admin.transaction():
        await admin.execute("SELECT FROM hpp_account WHERE id = 'alice' FOR UPDATE")
        (swept,) = await store.apply([Sweep()])
        assert [entry.hold for entry in swept.entries] == ["his"]
    (swept,) = await store.apply([Sweep()])
    assert [entry.hold for entry in swept.entries] == ["hers"]
    await store.aclose()


async def test_an_account_that_is_always_busy_is_swept_all_the_same(postgres_dsn: str) -> None:
    clock = Clock()
    stores = [PostgresStore(postgres_dsn, clock=clock) for _ in range(3)]
    await _begin(stores[0])
    for store in stores[1:]:
        await store.open()
    await stores[0].apply([Renew(owner="sleeper", ttl_s=1), reserve("orphan", 100, owner="sleeper", orphan=10)])
    clock.now += 10
    swept: list[str] = []

    async def keep_busy(store: PostgresStore, name: str) -> None:
        number = 0
        while not swept:
            number += 1
            await store.apply([reserve(f"{name}-{number}", 1), Release(id=f"{name}-{number}")])

    async with anyio.create_task_group() as group:
        for number, store in enumerate(stores[:2]):
            for name in "abcd":
                group.start_soon(keep_busy, store, f"{number}{name}")
        with anyio.fail_after(30):
            while not swept:
                (result,) = await stores[2].apply([Sweep()])
                swept += [entry.hold for entry in result.entries]
    assert swept == ["orphan"]
    for store in stores:
        await store.aclose()


async def test_a_database_that_is_read_only_is_a_store_error_for_writes_alone(
    store: PostgresStore, admin: Admin, postgres_dsn: str
) -> None:
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reader = PostgresStore(postgres_dsn)
    await reader.open()  # its tables are up to date
    assert (await reader.balance("alice")).quota == 10**6
    with pytest.raises(StoreError):
        await reader.apply([reserve("hold", 1)])
    await admin.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only", timeout=10)
    await reader.aclose()
    await reader.open()
    (result,) = await reader.apply([reserve("hold", 1)])
    assert result.status == "done"
    await reader.aclose()


async def test_a_statement_that_the_server_gives_up_is_a_store_error(postgres_dsn: str, admin: Admin) -> None:
    store = PostgresStore(f"{postgres_dsn}?statement_timeout=100")
    await _begin(store)
    async with admin.transaction():
        await admin.execute("SELECT FROM hpp_account WHERE id = 'alice' FOR UPDATE")
        with pytest.raises(StoreError):
            await store.apply([reserve("hold", 100)])
    (result,) = await store.apply([reserve("hold", 100)])
    assert result.status == "done"
    await store.aclose()


async def test_a_storm_of_cancelled_calls_leaves_connections_and_books_in_order(store: PostgresStore) -> None:
    async def call(number: int) -> None:
        hold = f"hold-{number}"
        await store.apply([reserve(hold, 1)])
        await store.balance("alice")
        await store.apply([settle(hold, 1)])
        await store.lines("alice", most=3)

    for turn in range(40):
        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(call, 100 * turn + number)
            await anyio.sleep(0.0005 * (turn % 12))
            group.cancel_scope.cancel()
    results = await asyncio.gather(*(store.apply([reserve(f"after-{number}", 1)]) for number in range(32)))
    assert {result.status for (result,) in results} == {"done"}
    await store.aclose()  # which waits for what those who were cancelled have left under way
    await store.open()
    balances = await asyncio.gather(*(store.balance("alice") for _ in range(32)))
    statement = await store.statement("alice")
    assert {balance.held for balance in balances} == {statement.held} == {statement.account.held}
    assert statement.account.settled == statement.charged == statement.lines == statement.seq


async def test_a_reserve_and_a_settlement_are_one_round_trip_each_behind_a_pooler(
    postgres_dsn: str,
) -> None:
    async with pooled(postgres_dsn) as pooler:
        store = PostgresStore(pooler.url, most_connections=1)
        await _begin(store)
        await store.apply([reserve("first", 10), settle("first", 5)])
        before = pooler.trips
        await store.apply([reserve("hold", 10)])
        await store.apply([settle("hold", 5)])
        assert pooler.trips == before + 2
        for number in range(20):
            await asyncio.gather(store.apply([reserve(f"hold-{number}", 1)]), store.balance("alice"))
        statement = await store.statement("alice")
        assert (statement.account.settled, statement.held) == (10, 20)
        assert set(pooler.transactions) == {0, 1, 2}
        assert not pooler.named
        await store.aclose()


async def test_a_session_that_is_wiped_between_transactions_is_not_missed(postgres_dsn: str) -> None:
    async def wipe(connection: Admin) -> None:
        await connection.execute("DISCARD ALL")

    pool = asyncpg.create_pool(postgres_dsn, min_size=1, max_size=2, reset=wipe, statement_cache_size=0)
    async with pool:
        store = PostgresStore(pool=pool)
        await _begin(store)
        for number in range(10):
            results = await store.apply([reserve(f"hold-{number}", 10), settle(f"hold-{number}", 5)])
            assert [result.status for result in results] == ["done", "done"]
        assert (await store.balance("alice")).used == 50
        await store.aclose()


# --- a server of one's own ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_server_that_goes_down_and_comes_back_has_all_that_was_acknowledged(how: str, tmp_path: Path) -> None:
    with running_postgres(tmp_path) as server:
        store = PostgresStore(server.url, timeout_s=2)
        await _begin(store)
        acknowledged: list[str] = []

        async def spend(name: str) -> None:
            for number in range(10**6):
                hold = f"{name}-{number}"
                try:
                    await store.apply([reserve(hold, 10)])
                    await store.apply([settle(hold, 7)])
                except StoreError:
                    return
                acknowledged.append(hold)

        async with anyio.create_task_group() as group:
            for name in "abcd":
                group.start_soon(spend, name)
            while len(acknowledged) < 20:  # noqa: ASYNC110  # they go on while this looks
                await anyio.sleep(0.001)
            await anyio.to_thread.run_sync(getattr(server, how))
        with pytest.raises(StoreError):
            await store.apply([reserve("down", 1)])
        await anyio.to_thread.run_sync(server.start)
        lines = await store.lines("alice")
        assert set(acknowledged) <= {line.hold for line in lines}
        statement = await store.statement("alice")
        assert (statement.account.settled, statement.account.held) == (7 * len(lines), statement.held)
        assert statement.held <= 4 * 10
        await store.aclose()


async def test_a_server_that_is_paused_is_a_store_error_within_the_timeout(tmp_path: Path) -> None:
    with running_postgres(tmp_path) as server:
        store = PostgresStore(server.url, timeout_s=0.3)
        await _begin(store)
        await _pause(server, store)
        assert (await store.balance("alice")).quota == 10**6
        (result,) = await store.apply([reserve("hold", 1)])  # it may have been done by the paused server: by id, once
        assert result.status == "done"
        assert (await store.balance("alice")).held == 1
        await store.aclose()


async def test_closing_is_bounded_where_the_server_does_not_say_goodbye(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_S", 0.2)
    with running_postgres(tmp_path) as server:
        store = PostgresStore(server.url, timeout_s=0.3)
        await _begin(store)
        server.pause()
        try:
            with anyio.fail_after(10):
                with pytest.raises(StoreError):
                    await store.balance("alice")  # a statement that is cancelled, and one connection that is idle
                await store.aclose()
        finally:
            server.resume()


async def test_a_connection_that_never_ends_is_terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless:
        terminated = False

        def is_closed(self) -> bool:
            return False

        async def close(self, **_: object) -> None:
            await anyio.sleep_forever()

        def terminate(self) -> None:
            self.terminated = True

    made = Endless()

    async def connect() -> Any:
        return made

    async def nothing(_: object) -> None:
        pass

    monkeypatch.setattr(connections, "CLOSE_S", 0.01)
    own = connections.Own(connect, 1)
    await own.migrate(nothing, asyncio.get_running_loop().time() + 5)
    with anyio.fail_after(10):
        await own.aclose()
    assert made.terminated


async def _pause(server: Server, store: PostgresStore) -> None:
    server.pause()
    try:
        with anyio.fail_after(10):
            with pytest.raises(StoreError):
                await store.apply([reserve("hold", 1)])
            with pytest.raises(StoreError):
                await store.balance("alice")
    finally:
        server.resume()


async def _begin(store: PostgresStore, *accounts: str) -> None:
    await store.open()
    grants = [Grant(id=f"start:{name}", account=name, amount=10**6) for name in accounts or ("alice",)]
    await store.apply([Renew(owner="worker", ttl_s=600), *grants])


async def _until_known(store: PostgresStore, operation: Operation) -> Result:
    """As a caller does who is told that nothing is known: again, by id."""
    while True:
        try:
            (result,) = await store.apply([operation])
        except StoreError:
            continue
        return result
