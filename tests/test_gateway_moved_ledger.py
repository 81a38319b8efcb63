"""A gateway on Redis whose ledger is moved to a durable store: while it serves, at its end, and after a loss."""

from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis
from databases import emptied
from rig import ALICE, USAGE_NANO, Witness, ask, gateway, question, read

from hpp_middleware import Gateway, SQLiteStore, StoreError
from hpp_middleware.audit import Auditor
from hpp_middleware.stores.archived import ArchivedLedger, OpenedWhenUsed
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.testing import FakeUpstream

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper for the tests"
STREAM = "hpp{hpp:0}:stream"
Make = Callable[..., Gateway]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis-py knows asyncio only."""
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Any]:
    """What an auditor opens, beside those who move into it."""
    archive = _archive(request, tmp_path)
    await archive.open()
    yield archive
    await archive.aclose()


@pytest.fixture
def make(
    request: pytest.FixtureRequest, archive: object, tmp_path: Path, redis_url: str, fake_upstream: FakeUpstream
) -> Make:
    """Gateways as several routers have them: each with connections of its own."""

    def made(**settings: Any) -> Gateway:
        durable = _archive(request, tmp_path)
        store = RedisStore(redis_url, archive=OpenedWhenUsed(durable))
        ledger = ArchivedLedger(store, durable)
        return gateway(fake_upstream, store=store, ledger=ledger, pepper=PEPPER, **settings)

    return made


def _archive(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.node.callspec.params["archive"] == "sqlite":
        return SQLiteStore(tmp_path / "archive.db")
    return PostgresStore(request.getfixturevalue("postgres_dsn"))


async def _archived(archive: Any, lines: int) -> None:
    with anyio.fail_after(30):
        while (await archive.totals("alice")).seq < lines:  # noqa: ASYNC110  # the archive tells nobody
            await anyio.sleep(0.01)


async def _check(archive: Any) -> None:
    auditor = Auditor(archive, holds=False)
    for name in await auditor.accounts():
        assert (await auditor.reconcile(name)).findings == ()
        assert (await auditor.verify(name)).findings == ()


async def test_lines_arrive_in_the_archive_while_the_gateway_serves(make: Make, archive: Any, redis_url: str) -> None:
    async with make() as found:
        await found.accounts.add_quota("alice", "1")
        replies = [await found.complete(ALICE, question()) for _ in range(3)]
        await _archived(archive, 3)
        assert [line.hold for line in await archive.lines("alice")] == [reply.id for reply in replies]
        assert (await archive.totals("alice")).quota == 10**9  # what a file declares is no grant
        for reply in replies:
            (line,) = await found.entries(ALICE, reply.id)
            assert line.amount == USAGE_NANO
        with redis.Redis.from_url(redis_url) as client:
            with anyio.fail_after(30):
                while client.hlen("hpp{hpp:0}:lines"):  # noqa: ASYNC110  # what is moved is not kept twice
                    await anyio.sleep(0.01)
            assert client.xlen(STREAM) == 0
        assert (await found.balance(ALICE)).used == 3 * USAGE_NANO
        await _check(archive)


async def test_a_gateway_that_closes_moves_what_is_left(make: Make, archive: Any, redis_url: str) -> None:
    async with make() as found:
        replies = [await found.complete(ALICE, question()) for _ in range(5)]
    assert [line.hold for line in await archive.lines("alice")] == [reply.id for reply in replies]
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen(STREAM) == 0


async def test_without_a_lifespan_nothing_is_moved_by_itself(make: Make, archive: Any) -> None:
    found = make()
    await found.complete(ALICE, question())
    await found.complete(ALICE, question())
    await anyio.sleep(0.1)
    assert (await archive.totals("alice")).seq == 0
    mover = found.setup.mover
    assert mover is not None
    assert await mover.empty() == 2
    assert (await archive.totals("alice")).seq == 2
    await found.setup.close(await found.worker())


async def test_an_archive_that_is_away_is_told_and_nothing_is_refused(
    make: Make, archive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = Witness()
    found = make(observers=[witness])
    ledger = found.setup.backends.ledger
    assert isinstance(ledger, ArchivedLedger)
    keep, away = ledger.archive.archive, True

    async def refusing(items: Any) -> None:
        if away:
            raise StoreError("It is away.")
        await keep(items)

    monkeypatch.setattr(ledger.archive, "archive", refusing)
    async with found:
        reply = await found.complete(ALICE, question())
        with anyio.fail_after(30):
            while not witness.alarms:  # noqa: ASYNC110  # an observer is no event
                await anyio.sleep(0.01)
        assert witness.alarms == ["move_failed"]
        assert [line.hold for line in await found.entries(ALICE, reply.id)] == [reply.id]
        assert (await found.complete(ALICE, question())).status == 200
        away = False
        await _archived(archive, 2)
    await _check(archive)


async def test_an_emptied_server_is_a_503_until_it_is_rebuilt_and_nothing_is_counted_twice(
    make: Make, archive: Any, redis_url: str, fake_upstream: FakeUpstream
) -> None:
    async with make() as found:
        await found.accounts.add_quota("alice", "1")
        for _ in range(4):
            await found.complete(ALICE, question())
        await _archived(archive, 4)
        before = await found.balance(ALICE)
        asked = len(fake_upstream.log)
        emptied(redis_url)
        for _ in range(3):
            async with ask(found) as call:
                assert await call.started() == 503
        assert len(fake_upstream.log) == asked

    another = make()
    for _ in range(2):
        async with ask(another) as call:
            assert await call.started() == 503
    assert len(fake_upstream.log) == asked
    await another.setup.backends.aclose()
    ledger = make().setup.backends.ledger
    assert isinstance(ledger, ArchivedLedger)
    assert await ledger.rebuild() == 1
    await ledger.store.aclose()
    await ledger.aclose()

    for _ in range(2):  # what is declared is declared anew, once
        async with make() as found:
            after = await found.balance(ALICE)
            assert (after.quota, after.used, after.requests) == (before.quota, before.used, before.requests)
    async with make() as found:
        assert (await found.complete(ALICE, question())).status == 200
        usage = await read(found, "/api/quota-check")
        assert usage["used"] == 5 * USAGE_NANO / 1e9
        await _archived(archive, 5)
        store = found.setup.backends.quota
        assert isinstance(store, RedisStore)
        statement = await store.statement("alice")
        assert (statement.charged, statement.lines, statement.held) == (5 * USAGE_NANO, 5, 0)
        assert statement.account.quota == statement.granted + statement.account.declared == before.quota
    await _check(archive)
