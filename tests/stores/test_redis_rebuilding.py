"""What a rebuild brings back from an archive, and what the archive is asked before anybody may go on."""

import asyncio
import shutil
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from databases import Server, running_valkey

from hpp_middleware import SQLiteStore, StoreError
from hpp_middleware.stores.archived import ArchivedLedger, OpenedWhenUsed
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import Mover, RedisStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Declare, Grant, Operation, Renew, Result
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

RENEW = Renew(owner="worker", ttl_s=600)
START = (RENEW, Grant(id="start", account="alice", amount=1000), Grant(id="bobs", account="bob", amount=500))
BEHIND = "behind its archive"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis-py knows asyncio only."""
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgres"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Any]:
    if request.param == "sqlite":
        archive: Any = SQLiteStore(tmp_path / "archive.db")
    else:
        archive = PostgresStore(request.getfixturevalue("postgres_dsn"))
    await archive.open()
    yield archive
    await archive.aclose()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose data is what it saved last: killed and started again, it is as far back as a lagging replica."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def emptied(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.flushall()


async def done(store: Any, *operations: Operation) -> list[Result]:
    results: list[Result] = await store.apply(operations)
    assert {result.status for result in results} == {"done"}
    return results


async def test_an_archive_lists_an_accounts_grants_in_order(archive: Any) -> None:
    grants = [Grant(id=name, account="alice", amount=len(name)) for name in ("Z", "a", "b", "ccc")]
    await archive.archive([*reversed(grants), Grant(id="bobs", account="bob", amount=9)])
    assert await archive.grants("alice") == grants
    assert await archive.grants("alice", after="a", most=1) == grants[2:3]
    assert await archive.grants("nobody") == []


async def test_a_grant_is_not_repeated_after_a_rebuild_unless_it_was_lost(redis_url: str, archive: Any) -> None:
    store = RedisStore(redis_url, shards=4, archive=archive)
    await store.open()
    many = [Grant(id=f"grant-{number}", account="alice", amount=1 + number % 7) for number in range(1100)]
    await done(store, *START, *many, reserve("a", 300), settle("a", 250))
    await Mover(store, archive, trim=True).empty()
    lost = Grant(id="lost", account="alice", amount=77)
    await done(store, lost)
    before = await store.statement("alice")

    assert await store.rebuild(archive) == 2
    rebuilt = await store.statement("alice")
    assert (rebuilt.granted, rebuilt.account.quota) == (before.granted - 77, before.granted - 77)
    await done(store, *START, *many)
    assert await store.statement("alice") == rebuilt
    (other,) = await store.apply([Grant(id="grant-7", account="alice", amount=99)])
    assert other.status == "conflict"
    await done(store, lost)
    assert (await store.statement("alice")).granted == before.granted
    await store.aclose()


async def test_what_a_file_declared_to_an_archive_that_served_before_is_not_counted_twice(
    redis_url: str, archive: Any
) -> None:
    await done(archive, *START, Declare(account="alice", quota=70), reserve("a", 100), settle("a", 40))
    store = RedisStore(redis_url, archive=archive)
    with pytest.raises(StoreError, match=BEHIND):
        await store.open()
    await store.rebuild(archive)
    await done(store, RENEW, Declare(account="alice", quota=70))
    balance = await store.balance("alice")
    assert (balance.quota, balance.used, balance.requests) == (1070, 40, 1)
    again = RedisStore(redis_url, archive=archive)
    await again.open()
    await again.aclose()
    await store.aclose()


async def test_numbers_that_were_given_out_twice_are_fenced(server: Server, archive: Any) -> None:
    """The lines that are lost are fewer than those written since: only the lines themselves tell."""
    store = RedisStore(server.url, archive=archive)
    await done(store, *START, reserve("lost", 100), reserve("next", 100))
    await Mover(store, archive).empty()
    with redis.Redis.from_url(server.url) as client:
        client.save()
    await done(store, settle("lost", 30))
    await Mover(store, archive).empty()
    server.kill()
    server.start()
    late = RedisStore(server.url)  # a worker that knows of no archive, and asks before anybody who does
    await done(late, settle("next", 50))
    for _ in range(2):
        with pytest.raises(StoreError):
            await store.apply([reserve("more", 10)])
    with pytest.raises(StoreError, match=BEHIND):
        await RedisStore(server.url, archive=archive).open()
    with pytest.raises(StoreError):
        await late.apply([reserve("more", 10)])

    await store.rebuild(archive)
    await done(store, RENEW, reserve("more", 10), settle("more", 10))
    assert (await store.balance("alice")).used == 40
    await Mover(store, archive).empty()
    assert [(line.seq, line.hold) for line in await archive.lines("alice")] == [(1, "lost"), (2, "more")]
    await late.aclose()
    await store.aclose()


async def test_books_that_open_are_not_rebuilt(redis_url: str, archive: Any) -> None:
    store = RedisStore(redis_url, archive=archive)
    await done(store, *START, reserve("live", 100))
    ledger = ArchivedLedger(store, archive)
    assert await ledger.rebuild() is None
    assert (await store.balance("alice")).held == 100
    await ledger.mover.empty()
    await store.aclose()
    emptied(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.hset("hpp{hpp:0}:accounts", "quota:alice", 10**9)  # keys of ours without the epoch
    store = RedisStore(redis_url, archive=archive)
    assert await ArchivedLedger(store, archive).rebuild() == 2
    assert (await store.balance("alice")).quota == 1000
    await store.aclose()


async def test_a_server_that_is_away_is_not_rebuilt(redis_url: str, archive: Any) -> None:
    store = RedisStore(redis_url, archive=archive)
    await done(store, *START, reserve("live", 100))
    gone = RedisStore("redis://127.0.0.1:1/0", archive=archive)
    with pytest.raises(StoreError):
        await ArchivedLedger(gone, archive).rebuild()
    assert (await store.balance("alice")).held == 100
    for each in (gone, store):
        await each.aclose()


async def test_moving_says_what_opening_the_store_moved_too(redis_url: str, archive: Any) -> None:
    store = RedisStore(redis_url)
    await done(store, *START, reserve("a", 100), settle("a", 150))
    await store.aclose()
    ledger = ArchivedLedger(RedisStore(redis_url, archive=archive), archive)
    assert [await ledger.move(), await ledger.move()] == [4, 0]
    assert (await archive.totals("alice")).settled == 150
    await ledger.store.aclose()


async def test_a_mover_that_is_told_to_empty_is_not_kept_by_who_writes_meanwhile(redis_url: str, archive: Any) -> None:
    store = RedisStore(redis_url)
    await done(store, *START)

    class Busy:
        """An archive beside which one more line is written for each that it takes."""

        calls = 0

        async def archive(self, items: Sequence[Entry | Grant]) -> None:
            self.calls += 1
            await archive.archive(items)
            await done(store, reserve(f"hold-{self.calls}", 1), settle(f"hold-{self.calls}", 1))

    mover = Mover(store, Busy())  # type: ignore[arg-type]  # it is asked for nothing else
    async with asyncio.timeout(30):
        assert await mover.empty() == 2
        assert await mover.empty() == 1
    await store.aclose()


async def test_what_is_charged_above_payers_comes_back_from_the_lines_that_name_it(
    redis_url: str, archive: Any
) -> None:
    """Teams and budgets are no payers: the archive has no row of theirs, and every line names them."""
    store = RedisStore(redis_url, archive=archive)
    await store.open()
    await done(store, *START, Grant(id="teams", account="team", amount=900))
    day = "alice/~day:1"
    await done(store, reserve("one", 100, "alice", "team", limits={day: 400}), reserve("two", 50, "bob", "team"))
    await done(store, settle("one", 130), settle("two", 20))
    before = {name: await store.balance(name) for name in ("alice", "bob", "team", day)}
    assert (before["team"].used, before[day].used) == (150, 130)
    await Mover(store, archive).empty()
    await store.rebuild(archive)
    for name in ("alice", "bob", "team"):
        assert await store.balance(name) == before[name]
    rebuilt = await store.balance(day)
    assert (rebuilt.used, rebuilt.quota) == (130, 0), "a budget's amount comes with its next reserve"
    await done(store, RENEW)
    (refused,) = await store.apply([reserve("three", 271, "alice", "team", limits={day: 400})])
    assert (refused.status, refused.available) == ("refused", 270)
    await done(store, reserve("three", 270, "alice", "team", limits={day: 400}))
    await store.aclose()


async def test_an_archive_that_is_older_than_what_was_moved_to_it_is_told_and_fences_nothing(
    redis_url: str, tmp_path: Path
) -> None:
    archive, older = SQLiteStore(tmp_path / "archive.db"), SQLiteStore(tmp_path / "older.db")
    store = RedisStore(redis_url, archive=OpenedWhenUsed(archive))
    await store.open()
    await done(store, *START, reserve("a", 100), settle("a", 40))
    await Mover(store, archive, trim=True).empty()
    await archive.aclose()
    shutil.copy(tmp_path / "archive.db", tmp_path / "older.db")
    await archive.open()
    await done(store, Grant(id="more", account="alice", amount=7), reserve("b", 100), settle("b", 50))
    await Mover(store, archive, trim=True).empty()
    await store.aclose()
    found = RedisStore(redis_url, archive=OpenedWhenUsed(older))
    with pytest.raises(StoreError, match="The archive lacks what was moved to it"):
        await found.open()
    await found.aclose()
    right = RedisStore(redis_url, archive=OpenedWhenUsed(archive))  # put back, and all goes on as it was
    await right.open()
    assert (await right.balance("alice")).used == 90
    await right.aclose()
    ledger = ArchivedLedger(RedisStore(redis_url, archive=OpenedWhenUsed(older)), older)
    assert await ledger.rebuild() == 2, "where the newer one cannot be had, the older one may be made to count"
    assert (await ledger.store.balance("alice")).used == 40
    await ledger.store.aclose()
    for each in (archive, older):
        await each.aclose()
