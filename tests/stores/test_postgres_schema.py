"""The tables of a PostgreSQL store are made once, whoever comes first, and keep what must not change."""

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import TypeAlias

import asyncpg
import pytest

from hpp_middleware import ConfigurationError, StoreError
from hpp_middleware.stores.postgres import PostgresStore, schema
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.operations import Claim, Grant, Kept, Renew, Sweep
from hpp_middleware.types.quota import Account, Seal

pytestmark = pytest.mark.anyio

Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """It is served on asyncio only."""
    return "asyncio"


@pytest.fixture
async def admin(postgres_dsn: str) -> AsyncGenerator[Admin]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close(timeout=5)


def test_migrations_are_numbered_without_a_gap() -> None:
    numbers = [each.number for each in schema.migrations()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert numbers


def test_migrations_say_what_they_are_and_define_each_function_once() -> None:
    defined: list[str] = []
    for each in schema.migrations():
        assert each.text.endswith(f"INSERT INTO hpp_migration (version, name) VALUES ({each.number}, '{each.name}');\n")
        defined += re.findall(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)", each.text)
    assert len(set(defined)) == len(defined) > 5


async def test_stores_that_open_an_empty_database_at_once_migrate_it_once(postgres_dsn: str, admin: Admin) -> None:
    stores = [PostgresStore(postgres_dsn) for _ in range(8)]
    await asyncio.gather(*(store.open() for store in stores))
    done = await admin.fetch("SELECT version, name FROM hpp_migration ORDER BY version")
    assert [tuple(row) for row in done] == [(each.number, each.name) for each in schema.migrations()]
    for store in stores:
        await store.aclose()


async def test_the_files_can_be_run_by_hand(postgres_dsn: str, admin: Admin) -> None:
    for each in schema.migrations():
        await admin.execute(each.text)
    name = await admin.fetchval("SELECT current_database()")
    await admin.execute("CREATE ROLE hpp_worker LOGIN")
    try:
        await admin.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO hpp_worker")
        store = PostgresStore(f"{postgres_dsn}?user=hpp_worker")
        await store.open()
        await store.apply([Renew(owner="worker", ttl_s=60), Grant(id="start", account="alice", amount=100)])
        results = await store.apply([reserve("hold", 50), settle("hold", 60), Sweep()])
        assert [result.status for result in results] == ["done"] * 3
        assert (await store.statement("alice")).charged == 60
        await store.aclose()
        assert await admin.fetchval(f"SELECT has_database_privilege('hpp_worker', '{name}', 'CREATE')") is False
    finally:
        await admin.execute("DROP OWNED BY hpp_worker; DROP ROLE hpp_worker")


async def test_a_migration_that_fails_leaves_nothing_behind(
    postgres_dsn: str, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = schema.migrations()
    broken = [*known[:1], known[1]._replace(text=known[1].text + "SELECT 1 / 0;")]
    with monkeypatch.context() as patched:
        patched.setattr(schema, "migrations", lambda: broken)
        store = PostgresStore(postgres_dsn)
        with pytest.raises(StoreError):
            await store.open()
        assert await admin.fetchval("SELECT max(version) FROM hpp_migration") == 1
        assert await admin.fetchval("SELECT count(*) FROM pg_proc WHERE proname = 'hpp_apply'") == 0
    await store.open()
    assert await admin.fetchval("SELECT max(version) FROM hpp_migration") == len(known)
    await store.aclose()


async def test_a_database_of_a_newer_version_is_refused(postgres_dsn: str, admin: Admin) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    await store.aclose()
    await admin.execute("INSERT INTO hpp_migration (version, name) VALUES (1000, 'later')")
    with pytest.raises(StoreError, match="newer version"):
        await store.open()
    with pytest.raises(StoreError):
        await store.balance("alice")
    await store.aclose()


@pytest.mark.parametrize("version", range(1, 10))
async def test_a_database_of_a_version_that_was_not_released_is_refused(
    version: int, postgres_dsn: str, admin: Admin
) -> None:
    await admin.execute(
        "CREATE TABLE hpp_migration (version int PRIMARY KEY, applied double precision NOT NULL DEFAULT 0);"
        f"INSERT INTO hpp_migration (version) SELECT generate_series(1, {version})"
    )
    store = PostgresStore(postgres_dsn)
    with pytest.raises(StoreError, match="not released"):
        await store.open()
    await store.aclose()
    assert await admin.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'hpp_account'") == 0


async def test_another_isolation_is_refused(postgres_dsn: str) -> None:
    store = PostgresStore(f"{postgres_dsn}?default_transaction_isolation=serializable")
    with pytest.raises(ConfigurationError):
        await store.open()
    await store.aclose()


async def test_commits_wait_for_the_disk(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    (setting,) = await store._fetch("SHOW synchronous_commit")
    assert setting["synchronous_commit"] == "on"
    await store.aclose()


async def test_what_was_written_is_never_changed(postgres_dsn: str, admin: Admin) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    await store.apply([Renew(owner="worker", ttl_s=60), Grant(id="start", account="alice", amount=100)])
    await store.apply([reserve("hold", 50), settle("hold", 50)])
    await store.add_seals([Seal(account="alice", seq=1, mac="aa", key="k", created=1.0)])
    for table, column in (("hpp_ledger", "amount"), ("hpp_grant", "amount"), ("hpp_seal", "seq")):
        for statement in (f"UPDATE {table} SET {column} = 7", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await admin.execute(statement)
    for statement in ("UPDATE hpp_account SET held = -1", "UPDATE hpp_hold SET state = 'gone'"):
        with pytest.raises(asyncpg.CheckViolationError):
            await admin.execute(statement)
    await store.aclose()


async def test_what_an_account_has_kept_is_a_running_sum(postgres_dsn: str, admin: Admin) -> None:
    clock = Clock()
    store = PostgresStore(postgres_dsn, clock=clock)
    await store.open()
    await store.apply(
        [Renew(owner="worker", ttl_s=60), *(Grant(id=n, account=n, amount=1000) for n in ("alice", "bob"))]
    )
    sums = "SELECT account, bytes FROM hpp_kept ORDER BY account"
    rows = "SELECT account, sum(octet_length(kept)) FROM hpp_claim WHERE kept IS NOT NULL GROUP BY account ORDER BY 1"

    async def keep(hold: str, account: str, ttl_s: float) -> None:
        claim = Claim(key=f"{account}-{ttl_s}-{hold[-1]}", fingerprint="asked", ttl_s=ttl_s)
        kept = Kept(body=b"x" * 40, most=100)
        for result in await store.apply([reserve(hold, 1, account, claim=claim), settle(hold, 1, kept=kept)]):
            assert result.status == "done"

    for number in range(3):
        await keep(f"hold-{number}", "alice", 10)  # the third does not fit
    await keep("his", "bob", 20)
    assert [tuple(row) for row in await admin.fetch(sums)] == [("alice", 80), ("bob", 40)]
    clock.now += 11
    await keep("anew-0", "alice", 10)  # takes a key over whose answer is out of date, and which is not pruned yet
    assert [tuple(row) for row in await admin.fetch(sums)] == [tuple(row) for row in await admin.fetch(rows)]
    await store.apply([Sweep()])
    assert [tuple(row) for row in await admin.fetch(sums)] == [("alice", 40), ("bob", 40)]
    assert [tuple(row) for row in await admin.fetch(rows)] == [("alice", 40), ("bob", 40)]
    clock.now += 30
    await store.apply([Sweep()])
    assert [tuple(row) for row in await admin.fetch(sums)] == [("alice", 0), ("bob", 0)]
    assert await admin.fetch(rows) == []
    await store.aclose()


async def test_another_seal_at_a_place_undoes_those_beside_it(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    first = Seal(account="alice", seq=1, mac="aa", key="k", created=1.0)
    await store.add_seals([first])
    other = Seal(account="alice", seq=1, mac="bb", key="k", created=1.0)
    with pytest.raises(StoreError):
        await store.add_seals([Seal(account="alice", seq=2, mac="cc", key="k", created=1.0), other])
    assert await store.seals("alice") == [first]
    await store.aclose()


async def test_movers_that_bring_the_same_at_once_archive_it_once(postgres_dsn: str, postgres_server: str) -> None:
    source = PostgresStore(f"{postgres_dsn}?search_path=source", clock=Clock())
    admin = await asyncpg.connect(postgres_dsn)
    await admin.execute("CREATE SCHEMA source")
    await admin.close(timeout=5)
    await source.open()
    grants = [Grant(id=f"start:{name}", account=name, amount=1000) for name in ("alice", "bob")]
    await source.apply([Renew(owner="worker", ttl_s=600), *grants])
    for number in range(10):
        await source.apply([reserve(f"a-{number}", 10), settle(f"a-{number}", 15), reserve(f"b-{number}", 10, "bob")])
        await source.apply([settle(f"b-{number}", 10)])
    lines = [*await source.lines("alice"), *await source.lines("bob")]
    target = PostgresStore(postgres_dsn)
    movers = [PostgresStore(postgres_dsn) for _ in range(3)]
    for store in (target, *movers):
        await store.open()
    await asyncio.gather(*(mover.archive([*lines[number::2], *grants]) for mover in movers for number in (0, 1)))
    await target.archive([*lines, *grants, *lines])
    for name in ("alice", "bob"):
        assert await target.totals(name) == await source.totals(name)
        assert await target.lines(name) == await source.lines(name)
        statement = await target.statement(name)
        assert (statement.charged, statement.granted) == (statement.account.settled, statement.account.quota)
    assert await target.totals("nobody") == Account(id="nobody")
    for store in (source, target, *movers):
        await store.aclose()


async def test_a_line_of_another_hold_at_the_same_number_is_not_archived(postgres_dsn: str) -> None:
    store = PostgresStore(postgres_dsn)
    await store.open()
    await store.apply([Renew(owner="worker", ttl_s=60), Grant(id="start", account="alice", amount=100)])
    (_, settled) = await store.apply([reserve("hold", 50), settle("hold", 50)])
    (line,) = settled.entries
    forged = type(line)(**{name: getattr(line, name) for name in line.__struct_fields__} | {"hold": "other"})
    with pytest.raises(StoreError):
        await store.archive([forged])
    assert await store.lines("alice") == [line]
    assert (await store.totals("alice")).settled == 50
    await store.aclose()
