"""Every limit store keeps its promises: alone, among four processes, and when one of them is killed."""

import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import pytest
import redis
from databases import Server, emptied, running_valkey
from servers import free_port

from hpp_middleware import MemoryStore, SQLiteStore, StoreError
from hpp_middleware.ports import LimitStore
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.stores.memory import limits as memory_limits
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.postgres import limits as postgres_limits
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.stores.sqlite import limits as sqlite_limits
from hpp_middleware.testing import LIMIT_PROMISES, check_limits, check_shared_limits
from hpp_middleware.testing.stores.bench import Clock, Make, Promise
from hpp_middleware.testing.stores.limiting import ask, draw, slot

pytestmark = pytest.mark.anyio

SHARED = ["sqlite", "postgres", "redis"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of them are served on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture(scope="module")
def cluster_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A cluster of one node, which refuses keys of two slots in one script all the same."""
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with running_valkey(tmp_path_factory.mktemp("cluster"), *options) as server:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while client.cluster("INFO")["cluster_state"] != "ok":
                pass
        yield server


@pytest.fixture(params=["memory", "memory store", *SHARED, "cluster"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., LimitStore]:
    """Makes a fresh store of a kind, which goes by the clock that it is given."""
    kind: str = request.param
    if kind.startswith("memory"):
        return MemoryLimits if kind == "memory" else MemoryStore
    if kind == "sqlite":
        return lambda **clock: SQLiteStore(tmp_path / uuid4().hex, **clock)
    if kind == "postgres":
        dsn: str = request.getfixturevalue("postgres_dsn")
        return lambda **clock: PostgresStore(dsn, **clock)
    if kind == "cluster":
        url = emptied(request.getfixturevalue("cluster_server").url)
        return lambda **clock: RedisStore(url, cluster=True, shards=4, **clock)
    found: str = request.getfixturevalue("redis_url")
    return lambda **clock: RedisStore(found, **clock)


def with_clock(made: Callable[..., LimitStore]) -> Make:
    async def make(*, clock: Callable[[], float]) -> LimitStore:
        return made(clock=clock)

    return make


@pytest.mark.parametrize("promise", LIMIT_PROMISES, ids=lambda promise: promise.__name__)
async def test_a_limit_store_keeps_its_promise_that(promise: Promise, made: Callable[..., LimitStore]) -> None:
    await promise(with_clock(made))


async def test_by_its_own_clock_a_limit_store_keeps_them_too(made: Callable[..., LimitStore]) -> None:
    async def make() -> LimitStore:
        return made()

    for promise in LIMIT_PROMISES:
        if promise.__name__ != "homes_and_keys_are_kept_apart":  # which is not about time, and leaves none full
            await promise(make)
            store: Any = made()
            if isinstance(store, PostgresStore | RedisStore):
                await forgotten(store)


async def forgotten(store: Any) -> None:
    """Nothing is left of what the last promise drew, where the next one gets the same place."""
    await store.open()
    if isinstance(store, PostgresStore):
        await store._fetch("TRUNCATE hpp_window, hpp_place")
    else:
        client = (await store.server.ready()).client
        for key in await client.keys("*limits*"):
            await client.delete(key)
    await store.aclose()


@pytest.mark.parametrize("kind", SHARED)
async def test_four_processes_share_it(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    place = str(tmp_path / "shared.db")
    if kind != "sqlite":
        place = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    await check_shared_limits(f"places:{kind}", place)


async def test_one_that_is_not_shared_is_found_out() -> None:
    with pytest.raises(AssertionError, match="draw no more than there is"):
        await check_shared_limits("places:alone", "nowhere")


async def test_windows_that_are_full_again_are_forgotten_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_limits, "LEAST_KEPT", 10)
    clock = Clock()
    store = MemoryLimits(clock=clock)
    for number in range(200):
        await store.take(ask(draw(1), slot("died"), home=f"home-{number}", ttl_s=1))
        clock.now += 2
    assert len(store._levels) + len(store._holders) <= 20


def _count(table: str, connection: sqlite3.Connection) -> int:
    return int(connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0])  # one of two


async def test_windows_that_are_full_again_are_forgotten_by_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_limits, "TIDY_US", 10**6)
    clock = Clock()
    store = SQLiteStore(tmp_path / "hpp.db", clock=clock)
    for number in range(10):
        await store.take(ask(draw(1), slot("died"), home=f"home-{number}", ttl_s=1))
        clock.now += 2
    found = store._limits._writer
    for table in ("window", "place"):
        counted = await found.run(partial(_count, table))
        assert counted == 1
    await store.aclose()


async def test_windows_that_are_full_again_are_forgotten_by_postgres(
    postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_limits, "TIDY_S", -1.0)
    clock = Clock()
    store = PostgresStore(postgres_dsn, clock=clock)
    await store.open()
    for number in range(5):
        await store.take(ask(draw(1), slot("died"), home=f"home-{number}", ttl_s=1))
        clock.now += 2
    for table in ("hpp_window", "hpp_place"):
        (row,) = await store._fetch(f"SELECT count(*) AS count FROM {table}")
        assert row["count"] == 1, table
    await store.aclose()


async def test_what_redis_keeps_of_limits_expires_by_itself(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.open()
    await store.take(ask(draw(1), slot("a", 3), ttl_s=30))
    await store.take(ask(slot("b", 3), ttl_s=10))
    client: Any = (await store.server.ready()).client
    times = {key.rpartition(b":")[2]: await client.pttl(key) for key in await client.keys("*limits*")}
    assert 0 < times[b"w"] <= 1_125
    assert 10_000 < times[b"p"] <= 31_000
    await store.take(ask(draw(1), home="nobody's"))
    while await client.keys("*nobody*"):  # noqa: ASYNC110  # the server tells nobody
        await anyio.sleep(0.05)
    await store.aclose()


async def test_a_redis_server_that_forgot_its_scripts_is_told_them_again(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.open()
    client: Any = (await store.server.ready()).client
    await client.script_flush()
    assert (await store.take(ask(draw(1), slot("a")))).admitted
    await client.script_flush()
    await store.extend([ask(slot("a"), home=home) for home in ("alice", "bob")])
    await client.script_flush()
    await store.correct(ask(slot("a")))
    await store.aclose()


async def test_a_file_of_limits_is_made_only_where_there_are_any(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "hpp.db")
    await store.open()
    assert not (tmp_path / "hpp.db.limits").exists()
    await store.take(ask(draw(1)))
    assert (tmp_path / "hpp.db.limits").exists()
    await store.aclose()
    assert (await store.take(ask(draw(1, each=10**10)))).admitted  # opened again
    await store.aclose()


async def test_a_file_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "hpp.db.limits") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = SQLiteStore(tmp_path / "hpp.db")
    with pytest.raises(StoreError, match="newer version"):
        await store.take(ask(draw(1)))
    await store.aclose()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_a_name_that_no_server_can_keep_is_a_store_error(kind: str, request: pytest.FixtureRequest) -> None:
    store: Any
    if kind == "postgres":
        store = PostgresStore(request.getfixturevalue("postgres_dsn"))
    else:
        store = RedisStore(request.getfixturevalue("redis_url"))
    await store.open()
    with pytest.raises(StoreError):
        await store.take(ask(draw(1), home="\ud800"))
    assert (await store.take(ask(draw(1)))).admitted
    await store.aclose()


async def test_the_suite_takes_a_store_without_a_clock() -> None:
    async def make() -> LimitStore:
        return MemoryLimits()

    await check_limits(make)
