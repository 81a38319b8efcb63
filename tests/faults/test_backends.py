"""A database server that fails, in whatever way: 503 and nothing forwarded, what was in flight charged once."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import redis
from databases import Server, emptied, fresh_database, running_postgres, running_valkey
from rig import BOB_KEY, USAGE_NANO, ask, read_chat

from faults.fail_closed import TIMEOUT_S, lines_once_settled, opened, quick, reconciled, survives
from faults.servers_failing import POSTGRES, VALKEY, end_sessions
from hpp_middleware import Gateway
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.testing import FakeUpstream

pytestmark = pytest.mark.anyio

Fault = Callable[[Server, str], AbstractAsyncContextManager[None]]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """These stores are served on asyncio only."""
    return "asyncio"


@pytest.fixture(scope="module")
def postgres_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL of this module's own, with few connections to give."""
    with running_postgres(tmp_path_factory.mktemp("postgres"), "-c", "max_connections=20") as server:
        yield server


@pytest.fixture(scope="module")
def valkey_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey of this module's own, which writes every command to disk before it answers."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with running_valkey(tmp_path_factory.mktemp("valkey"), *options) as server:
        yield server


@pytest.fixture
def database(postgres_alone: Server) -> Iterator[str]:
    with fresh_database(postgres_alone.url) as url:
        yield url


@pytest.fixture
async def on_postgres(
    database: str, fake_upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Gateway]:
    quick(monkeypatch)
    async with opened(PostgresStore(database, timeout_s=TIMEOUT_S), fake_upstream, tmp_path) as found:
        yield found


@pytest.fixture
async def on_valkey(
    valkey_alone: Server, fake_upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Gateway]:
    quick(monkeypatch)
    store = RedisStore(emptied(valkey_alone.url), timeout_s=TIMEOUT_S)
    async with opened(store, fake_upstream, tmp_path) as found:
        yield found


@pytest.mark.parametrize("fault", POSTGRES, ids=lambda fault: fault.__name__)
async def test_a_postgresql_that_fails_costs_nobody_anything(
    fault: Fault, on_postgres: Gateway, fake_upstream: FakeUpstream, postgres_alone: Server, database: str
) -> None:
    await survives(on_postgres, fake_upstream, fault(postgres_alone, database))


@pytest.mark.parametrize("fault", VALKEY, ids=lambda fault: fault.__name__)
async def test_a_valkey_that_fails_costs_nobody_anything(
    fault: Fault, on_valkey: Gateway, fake_upstream: FakeUpstream, valkey_alone: Server
) -> None:
    await survives(on_valkey, fake_upstream, fault(valkey_alone, valkey_alone.url))


async def test_an_account_that_somebody_has_locked_is_a_503_and_the_others_are_served(
    on_postgres: Gateway, fake_upstream: FakeUpstream, database: str
) -> None:
    admin = await asyncpg.connect(database)
    async with admin.transaction():
        await admin.execute("SELECT FROM hpp_account WHERE id = 'alice' FOR UPDATE")
        status, _ = await read_chat(on_postgres)
        assert status == 503
        async with ask(on_postgres, key=BOB_KEY) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
    await admin.close(timeout=5)
    assert len(fake_upstream.log) == 1
    assert (await read_chat(on_postgres))[0] == 200
    assert [line.amount for line in await lines_once_settled(on_postgres)] == [USAGE_NANO]
    await reconciled(on_postgres.store)


async def test_sessions_that_are_ended_all_the_time_charge_nobody_twice(
    on_postgres: Gateway, fake_upstream: FakeUpstream, postgres_alone: Server, database: str
) -> None:
    admin = await asyncpg.connect(postgres_alone.url)
    await _under_cuts(on_postgres, fake_upstream, lambda: end_sessions(admin, database.rpartition("/")[2]))
    await admin.close(timeout=5)


async def test_connections_that_are_cut_all_the_time_charge_nobody_twice(
    on_valkey: Gateway, fake_upstream: FakeUpstream, valkey_alone: Server
) -> None:
    with redis.Redis.from_url(valkey_alone.url) as admin:

        async def cut() -> None:
            admin.client_kill_filter(_type="normal", skipme=True)

        await _under_cuts(on_valkey, fake_upstream, cut)


async def _under_cuts(found: Gateway, upstream: FakeUpstream, cut: Callable[[], Any]) -> None:
    """Forty requests, four at a time, while connections are cut: each is served or refused, and charged if served."""
    statuses: list[int] = []

    async def spend() -> None:
        for number in range(10):
            status, _ = await read_chat(found, stream=number % 2 == 0)
            statuses.append(status)

    async def cut_again_and_again() -> None:
        while True:
            await cut()
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        cutting = group.create_task(cut_again_and_again())
        await asyncio.gather(*(spend() for _ in range(4)))
        cutting.cancel()
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) == len(upstream.log) > 0
    lines = await lines_once_settled(found)
    assert [line.amount for line in lines] == [USAGE_NANO] * len(upstream.log)
    await reconciled(found.store)
