"""The PostgreSQL store keeps every promise of a store, shared by event loops, stores and a host's own pool."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable

import anyio
import anyio.to_thread
import asyncpg
import msgspec
import pytest

from hpp_middleware import ConfigurationError, StoreError
from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.testing import AUDIT_PROMISES, STORE_PROMISES
from hpp_middleware.testing.stores import Promise
from hpp_middleware.testing.stores.bench import DRAFT, REPORT, Clock, reserve, settle
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Reserve, Result, Settle, Sweep
from hpp_middleware.types.price import Usage
from hpp_middleware.types.quota import Report

pytestmark = pytest.mark.anyio

EXOTIC = 'Ålice "\\/\b\f\n\r\t\x01\x1f\x7f\u2028 \U0001f600'


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """It is served on asyncio only."""
    return "asyncio"


@pytest.fixture
async def store(postgres_dsn: str) -> AsyncGenerator[PostgresStore]:
    store = PostgresStore(postgres_dsn)
    await store.open()
    await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**6)])
    yield store
    await store.aclose()


@pytest.mark.parametrize("promise", [*STORE_PROMISES, *AUDIT_PROMISES], ids=lambda promise: promise.__name__)
async def test_the_postgres_store_keeps_its_promise_that(promise: Promise, postgres_dsn: str) -> None:
    async def make(clock: Callable[[], float] | None = None) -> PostgresStore:
        return PostgresStore(postgres_dsn, clock=clock)

    await promise(make)


# --- shared ---------------------------------------------------------------------------------------


async def test_two_stores_on_one_database_never_oversell(store: PostgresStore, postgres_dsn: str) -> None:
    other = PostgresStore(postgres_dsn)
    await other.open()
    await store.apply([Grant(id="ten", account="bob", amount=10 * 100)])
    results: list[Result] = []

    async def one(number: int) -> None:
        results.extend(await (store, other)[number % 2].apply([reserve(f"hold-{number}", 100, "bob")]))

    async with anyio.create_task_group() as group:
        for number in range(64):
            group.start_soon(one, number)
    assert sorted(result.status for result in results) == ["done"] * 10 + ["refused"] * 54
    assert (await other.balance("bob")).held == 1000
    await other.aclose()


async def test_of_two_stores_that_settle_one_hold_one_wins(store: PostgresStore, postgres_dsn: str) -> None:
    other = PostgresStore(postgres_dsn)
    await other.open()
    for number in range(25):
        await store.apply([reserve(f"hold-{number}", 100)])
        (mine,), (its,) = await asyncio.gather(
            store.apply([settle(f"hold-{number}", 1)]), other.apply([settle(f"hold-{number}", 2)])
        )
        assert sorted((mine.status, its.status)) == ["conflict", "done"]
        assert mine.amount == its.amount
    lines = await other.lines("alice")
    assert [line.seq for line in lines] == list(range(1, 26))
    assert (await store.balance("alice")).used == sum(line.amount for line in lines)
    await other.aclose()


async def test_stores_that_race_for_one_id_place_it_once(store: PostgresStore, postgres_dsn: str) -> None:
    others = [PostgresStore(postgres_dsn) for _ in range(3)]
    for other in others:
        await other.open()
    await store.apply([Grant(id="bob", account="bob", amount=10**6)])
    for number in range(20):
        hold = f"hold-{number}"
        answers = await asyncio.gather(
            store.apply([reserve(hold, 100)]),
            others[0].apply([reserve(hold, 100, "bob")]),
            others[1].apply([Release(id=hold)]),
            others[2].apply([Sweep(), reserve(hold, 100)]),
        )
        assert {answer[-1].status for answer in answers} <= {"done", "conflict"}
        await store.apply([Release(id=hold)])
    for account in ("alice", "bob"):
        statement = await store.statement(account)
        assert (statement.account.held, statement.held) == (0, 0)
    for other in others:
        await other.aclose()


async def test_batches_that_name_the_same_accounts_in_another_order_never_deadlock(
    store: PostgresStore, postgres_dsn: str
) -> None:
    other = PostgresStore(postgres_dsn)
    await other.open()
    names = [f"account-{number}" for number in range(12)]
    await store.apply([Grant(id=name, account=name, amount=10**6) for name in names])

    async def work(store: PostgresStore, prefix: str, names: list[str]) -> None:
        for turn in range(15):
            pairs = [(f"{prefix}-{turn}-{name}", name) for name in names]
            results = await store.apply([reserve(hold, 10, name, names[0]) for hold, name in pairs])
            results += await store.apply([*(settle(hold, 5) for hold, _ in pairs), Sweep()])
            assert {result.status for result in results} == {"done"}

    admin = await asyncpg.connect(postgres_dsn)
    async with anyio.create_task_group() as group:
        group.start_soon(work, store, "forth", names)
        group.start_soon(work, other, "back", names[::-1])
        group.start_soon(work, store, "odd", names[1::2] + names[::2])
    assert await admin.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    await admin.close(timeout=5)
    for name in names:
        statement = await store.statement(name)
        assert (statement.held, statement.account.held, statement.account.seq) == (0, 0, statement.lines)
    await other.aclose()


async def test_one_store_serves_several_event_loops(store: PostgresStore) -> None:
    async def ten(prefix: str, closes: bool) -> None:  # noqa: FBT001
        for number in range(10):
            await store.apply([reserve(f"{prefix}-{number}", 1)])
        if closes:
            await store.aclose()

    await anyio.to_thread.run_sync(lambda: anyio.run(ten, "there", True))
    with pytest.raises(StoreError):  # it was closed for every loop
        await ten("here", closes=False)
    await store.open()
    await ten("here", closes=False)
    assert (await store.balance("alice")).held == 20


async def test_closing_the_store_closes_what_another_loop_has_of_it(store: PostgresStore, postgres_dsn: str) -> None:
    ready, done = anyio.Event(), asyncio.Event()
    here = asyncio.get_running_loop()

    async def stay() -> None:
        await store.balance("alice")
        loop = asyncio.get_running_loop()
        closed = asyncio.Event()
        here.call_soon_threadsafe(ready.set)
        asyncio.run_coroutine_threadsafe(done.wait(), here).add_done_callback(
            lambda _: loop.call_soon_threadsafe(closed.set)
        )
        await closed.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, lambda: anyio.run(stay))
        try:
            await ready.wait()
            admin = await asyncpg.connect(postgres_dsn)
            assert await _sessions(admin) == 2
            await store.aclose()
            with anyio.fail_after(10):
                while await _sessions(admin):  # noqa: ASYNC110  # a session ends a moment after its connection
                    await anyio.sleep(0.01)
            await admin.close(timeout=5)
        finally:
            done.set()  # a thread is waited for, whatever the test has come to


async def _sessions(admin: "asyncpg.Connection[asyncpg.Record]") -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return int(await admin.fetchval(sql))


async def test_a_host_lends_its_pool_and_gets_it_back(postgres_dsn: str) -> None:
    async with asyncpg.create_pool(postgres_dsn, min_size=1, max_size=2) as pool:
        store = PostgresStore(pool=pool)
        await store.open()
        await store.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=100)])
        results = await asyncio.gather(*(store.apply([reserve(f"hold-{number}", 20)]) for number in range(8)))
        assert sorted(result.status for (result,) in results) == ["done"] * 5 + ["refused"] * 3
        assert (await store.balance("alice")).held == 100

        async def elsewhere() -> None:
            with pytest.raises(ConfigurationError):
                await store.balance("alice")

        await anyio.to_thread.run_sync(lambda: anyio.run(elsewhere))
        await store.aclose()
        assert await pool.fetchval("SELECT held FROM hpp_account") == 100


async def test_a_unix_socket_and_a_schema_are_named_by_the_url(postgres_dsn: str) -> None:
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute("CREATE SCHEMA billing")
    directory, name, port = await admin.fetchrow(  # type: ignore[misc]  # one row is always there
        "SELECT current_setting('unix_socket_directories'), current_database(), current_setting('port')"
    )
    store = PostgresStore(f"postgresql://postgres@/{name}?host={directory}&port={port}&search_path=billing")
    await store.open()
    await store.apply([Grant(id="start", account="alice", amount=5)])
    assert await admin.fetchval("SELECT quota FROM billing.hpp_account") == 5
    assert await admin.fetchval("SELECT to_regclass('public.hpp_account')") is None
    await admin.close(timeout=5)
    await store.aclose()


# --- batches and data -----------------------------------------------------------------------------


async def test_what_cannot_be_kept_leaves_its_neighbours_alone(store: PostgresStore) -> None:
    outcomes: dict[str, str] = {}
    accounts = ["bob", "\ud800", "carol", "nul\0", "dave", "x" * 100_000 + "".join(map(chr, range(1, 9000)))]

    async def one(account: str) -> None:
        try:
            (result,) = await store.apply([Grant(id=account, account=account, amount=5)])
            outcomes[account] = result.status
        except StoreError:
            outcomes[account] = "error"

    async with anyio.create_task_group() as group:
        for account in accounts:
            group.start_soon(one, account)
    assert [outcomes[account] for account in accounts] == ["done", "error", "done", "error", "done", "error"]
    for account in ("nul\0", "\ud800"):
        with pytest.raises(StoreError):
            await store.balance(account)


async def test_an_entry_is_stored_as_msgspec_encodes_it(postgres_dsn: str) -> None:
    for now in (1_750_000_000.0, 1_750_000_000.25, 1_750_000_000.123457):
        store = PostgresStore(postgres_dsn, clock=Clock(now))
        await store.open()
        account, hold = f"{EXOTIC}{now}", f"hold {EXOTIC}{now}"
        draft = msgspec.structs.replace(DRAFT, consumer=EXOTIC, client_request_id="nul \0", model="model\0")
        raw = msgspec.Raw(b'{"a": 1e2,  "b":"\\u0000 \\ud83d\\ude00", "c":[1.10, null]}')
        report = msgspec.structs.replace(REPORT, usage_raw=raw)
        asked = Reserve(
            id=hold, accounts=(account,), want=9, floor=9, owner="w", ttl_s=60, orphan_amount=0, draft=draft
        )
        results = await store.apply(
            [
                Renew(owner="w", ttl_s=60),
                Grant(id=account, account=account, amount=100),
                asked,
                Settle(id=hold, amount=12, report=report),
            ]
        )
        entries = results[-1].entries
        assert [(entry.id, entry.draft, entry.report) for entry in entries] == [
            (hold, draft, report),
            (f"{hold}:overage", draft, report),
        ]
        assert await store.lines(account) == list(entries)
        assert await store.entries(account, hold) == list(entries)
        admin = await asyncpg.connect(postgres_dsn)
        texts = await admin.fetch("SELECT entry FROM hpp_ledger WHERE account = $1 ORDER BY seq", account)
        assert [text["entry"].encode() for text in texts] == [msgspec.json.encode(entry) for entry in entries]
        await admin.close(timeout=5)
        await store.aclose()


async def test_tokens_that_no_column_can_count_do_not_stop_a_settlement(store: PostgresStore) -> None:
    report = Report(outcome="completed", usage=Usage(input=2**62 - 1, output=2**61))
    for number in range(3):
        (held, settled) = await store.apply(
            [reserve(f"hold-{number}", 1), Settle(id=f"hold-{number}", amount=1, report=report)]
        )
        assert (held.status, settled.status) == ("done", "done")
    assert (await store.balance("alice")).used == 3
    assert (await store.lines("alice"))[0].report == report


async def test_a_refused_operation_leaves_no_account_behind(store: PostgresStore) -> None:
    results = await store.apply(
        [
            Grant(id="none", account="bob", amount=-1),
            Grant(id="many", account="carol", amount=MAX_NANO + 1),
            reserve("hold", 1, "dave"),
            Declare(account="eve", quota=-1),
            Declare(account="frank", quota=0),
            reserve("free", 0, "grace"),
        ]
    )
    assert [result.status for result in results] == ["refused"] * 4 + ["done"] * 2
    assert await store.accounts() == ["alice", "frank", "grace"]


async def test_accounts_sort_as_they_do_in_python(store: PostgresStore) -> None:
    names = ["Zoe", "aaron", "Ålice", "a b", "a-b", "a_b", "\U0001f600", "\uffee", "AA", "a", "1"]
    await store.apply([Grant(id=name, account=name, amount=1) for name in names])
    listed = await store.accounts()
    assert listed == sorted([*names, "alice"])
    assert await store.accounts(after=listed[3], most=2) == listed[4:6]


# --- open and closed ------------------------------------------------------------------------------


async def test_reopening_keeps_everything(postgres_dsn: str) -> None:
    clock = Clock()
    first = PostgresStore(postgres_dsn, clock=clock)
    await first.open()
    await first.apply([Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**6)])
    await first.apply([reserve("over", 100), settle("over", 170), reserve("live", 40), Release(id="tombstone")])
    credential = Credential(digest=b"\x01" * 32, id="key-1", consumer=Consumer(id="alice"), created=7.5)
    await first.add(credential)
    before = (await first.balance("alice"), await first.lines("alice"), await first.statement("alice"))
    await first.aclose()
    second = PostgresStore(postgres_dsn, clock=clock)
    await second.open()
    assert (await second.balance("alice"), await second.lines("alice"), await second.statement("alice")) == before
    assert await second.credentials() == [credential]
    results = await second.apply([settle("over", 170), reserve("live", 40), reserve("tombstone", 1)])
    assert [result.status for result in results] == ["done", "done", "conflict"]
    await second.aclose()


async def test_opening_and_closing_can_be_repeated(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    await store.aclose()
    for _ in range(2):
        await store.open()
        await store.open()
        assert await store.credentials() == []
        await store.aclose()
        await store.aclose()


async def test_a_closed_store_is_a_store_error(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.apply([Sweep()]),
        lambda: store.balance("alice"),
        lambda: store.lines("alice"),
        lambda: store.find(b"digest"),
        lambda: store.statement("alice"),
    ]
    for call in calls:
        with pytest.raises(StoreError):
            await call()
    await store.open()
    await store.aclose()
    for call in calls:
        with pytest.raises(StoreError):
            await call()


async def test_a_server_that_is_not_there_is_a_store_error(postgres_dsn: str) -> None:
    for dsn in ("postgresql://postgres@127.0.0.1:1/x", f"{postgres_dsn}_of_another_name"):
        store = PostgresStore(dsn)
        with pytest.raises(StoreError) as raised:
            await store.open()
        assert "postgres@" not in raised.value.message
        await store.aclose()


async def test_a_url_that_cannot_be_understood_is_a_configuration_error() -> None:
    for dsn in ("postgresql://user:secret@[::1/x", "mysql://user:secret@host/x", "postgresql://u:secret@h:port/x"):
        with pytest.raises(ConfigurationError) as raised:
            await PostgresStore(dsn).open()
        assert "secret" not in raised.value.message
    with pytest.raises(ConfigurationError):
        PostgresStore()


def test_trio_is_a_configuration_error(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    with pytest.raises(ConfigurationError):
        anyio.run(store.open, backend="trio")
    with pytest.raises(ConfigurationError):
        anyio.run(store.balance, "alice", backend="trio")
    anyio.run(store.aclose, backend="trio")


@pytest.mark.parametrize(("driver", "store"), [("asyncpg", "postgres"), ("redis", "redis")])
def test_a_missing_driver_is_named(driver: str, store: str) -> None:
    code = (
        f"import sys; sys.modules[{driver!r}] = None\n"
        "from hpp_middleware.errors import ConfigurationError\n"
        f"try:\n    import hpp_middleware.stores.{store}\n"
        "except ConfigurationError as error:\n    print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"hpp_middleware[{store}]" in done.stdout


def test_a_shared_store_has_no_pepper_of_its_own(postgres_dsn: str) -> None:
    assert PostgresStore(postgres_dsn).pepper() is None  # type: ignore[func-returns-value]  # that it is None is the point
