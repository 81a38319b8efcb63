"""A mover takes the ledger into a durable store; by that store a server which forgot is found out, and rebuilt."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

import pytest
import redis
from databases import Server, running_valkey

from hpp_middleware import SQLiteStore, StoreError
from hpp_middleware.stores.redis import MovedLedger, Mover, RedisStore
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Sweep
from hpp_middleware.types.quota import Entry, Seal

pytestmark = pytest.mark.anyio

RENEW = Renew(owner="worker", ttl_s=600)
START = (RENEW, Grant(id="start", account="alice", amount=1000), Grant(id="bobs", account="bob", amount=500))
BEHIND = "behind its archive"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis-py knows asyncio only."""
    return "asyncio"


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncGenerator[SQLiteStore]:
    archive = SQLiteStore(tmp_path / "archive.db")
    await archive.open()
    yield archive
    await archive.aclose()


@pytest.fixture
async def store(redis_url: str) -> AsyncGenerator[RedisStore]:
    store = RedisStore(redis_url)
    await store.apply(START)
    yield store
    await store.aclose()


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose data is what it saved last: killed and started again, it is as far back as a lagging replica."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


async def _some_of_everything(store: RedisStore) -> None:
    await store.apply([reserve("over", 100), settle("over", 150), reserve("under", 100), settle("under", 40)])
    await store.apply([reserve("bobs", 10, "bob"), settle("bobs", 10), reserve("live", 100), Release(id="nowhere")])


async def _same(archive: SQLiteStore, store: RedisStore, *names: str) -> None:
    for name in names:
        there, here = await archive.totals(name), (await store.statement(name)).account
        assert (there.quota, there.settled) == (here.quota - here.declared, here.settled)
        assert (there.seq, there.requests, there.tokens) == (here.seq, here.requests, here.tokens)
        assert await archive.lines(name) == await store.lines(name)


# --- moving ---------------------------------------------------------------------------------------


async def test_lines_and_grants_are_moved_once(store: RedisStore, archive: SQLiteStore, redis_url: str) -> None:
    await _some_of_everything(store)
    await store.apply([Declare(account="alice", quota=70)])
    mover = Mover(store, archive)
    assert [await mover.move(2), await mover.move(2), await mover.move(), await mover.move()] == [2, 2, 2, 0]
    await _same(archive, store, "alice", "bob")
    with redis.Redis.from_url(redis_url) as client:
        assert client.xlen("hpp{hpp:0}:stream") == 0
    await store.apply([settle("live", 1)])
    assert await mover.move() == 1
    await _same(archive, store, "alice", "bob")


async def test_thousands_are_moved_and_read_at_once(store: RedisStore, archive: SQLiteStore) -> None:
    await store.apply([Grant(id="more", account="alice", amount=10**6)])
    names = [f"hold-{number}" for number in range(2500)]
    for name in names:
        await store.apply([reserve(name, 1), settle(name, 1)])
    assert [hold.id for hold in await store.holds(names)] == names
    await store.add_seals([Seal(account="alice", seq=seq, mac="00", key="k", created=1.0) for seq in range(1, 10_001)])
    assert [seal.seq for seal in await store.seals("alice", most=10_000)] == list(range(1, 10_001))
    assert await Mover(store, archive, trim=True).move(9000) == 2503
    assert (await archive.totals("alice")).seq == 2500
    assert (await store.statement("alice")).lines == 2500


async def test_every_shard_is_moved(redis_url: str, archive: SQLiteStore) -> None:
    store = RedisStore(redis_url, shards=4)
    await store.apply(START)
    await _some_of_everything(store)
    while await Mover(store, archive, trim=True).move(1):
        pass
    assert [(await archive.totals(name)).settled for name in ("alice", "bob")] == [190, 10]
    assert await store.lines("alice") == await store.lines("bob") == []
    await store.aclose()


class Dying:
    """An archive whose mover dies when the archive has everything and the server does not know yet."""

    def __init__(self, archive: SQLiteStore) -> None:
        self._archive = archive

    async def archive(self, items: Sequence[Entry | Grant]) -> None:
        await self._archive.archive(items)
        raise StoreError("The reply was lost.")

    async def grants(self, account: str, after: str = "", most: int = 1000) -> list[Grant]:
        return await self._archive.grants(account, after, most)


async def test_a_mover_that_dies_half_way_moves_nothing_twice(store: RedisStore, archive: SQLiteStore) -> None:
    await _some_of_everything(store)
    with pytest.raises(StoreError):
        await Mover(store, Dying(archive)).move()  # type: ignore[arg-type]  # it is asked for nothing else
    assert await Mover(store, archive).move() == 6
    await _same(archive, store, "alice", "bob")


async def test_movers_at_once_move_everything_once(store: RedisStore, archive: SQLiteStore) -> None:
    async def spend(worker: int) -> None:
        for number in range(25):
            hold = f"{worker}-{number}"
            await store.apply([reserve(hold, 2), settle(hold, 1 + number % 3)])

    movers = [asyncio.create_task(Mover(store, archive, trim=True).run(every_s=0.001)) for _ in range(3)]
    await asyncio.gather(*(spend(worker) for worker in range(4)))
    for mover in movers:
        mover.cancel()
    await asyncio.wait(movers)
    await Mover(store, archive, trim=True).move()
    lines = await archive.lines("alice")
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    assert (await archive.totals("alice")).settled == sum(line.amount for line in lines)
    statement = await store.statement("alice")
    assert (statement.charged, statement.lines) == (statement.account.settled, len(lines))


async def test_what_was_trimmed_is_read_through_both(store: RedisStore, archive: SQLiteStore) -> None:
    await _some_of_everything(store)
    before, statement = await store.lines("alice"), await store.statement("alice")
    await Mover(store, archive, trim=True).move()
    assert await store.lines("alice") == []
    assert await store.entries("alice", "over") == []
    assert await store.statement("alice") == statement
    await store.apply([settle("live", 5)])
    both = MovedLedger(store, archive)
    lines = await both.lines("alice")
    assert lines[:-1] == before
    assert [line.seq for line in lines] == [1, 2, 3, 4]
    assert [line.line for line in await both.entries("alice", "over")] == ["resolution", "overage"]
    assert [line.amount for line in await both.entries("alice", "live")] == [5]
    pages = [await both.lines("alice", after=after, most=1) for after in range(5)]
    assert [line for page in pages for line in page] == lines
    assert await both.lines("nobody") == []


async def test_a_correction_after_its_resolution_was_trimmed_is_read_with_it(
    redis_url: str, archive: SQLiteStore
) -> None:
    clock = Clock()
    store = RedisStore(redis_url, clock=clock)
    await store.apply([*START, Renew(owner="dying", ttl_s=10), reserve("late", 100, owner="dying", orphan=30)])
    clock.now += 11
    await store.apply([Sweep()])
    await Mover(store, archive, trim=True).move()
    await store.apply([settle("late", 45)])
    lines = await MovedLedger(store, archive).entries("alice", "late")
    assert [(line.line, line.amount) for line in lines] == [("resolution", 30), ("correction", 15)]
    await store.aclose()


async def test_a_mover_waits_for_an_archive_that_is_away(
    store: RedisStore, archive: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Dying):
        async def archive(self, items: Sequence[Entry | Grant]) -> None:
            if not caplog.records:
                raise StoreError("It is away.")
            await self._archive.archive(items)

    told: list[Exception] = []
    mover = asyncio.create_task(Mover(store, Away(archive)).run(every_s=0.001, told=told.append))  # type: ignore[arg-type]
    async with asyncio.timeout(30):
        while (await archive.totals("alice")).quota != 1000:  # noqa: ASYNC110  # the archive tells nobody
            await asyncio.sleep(0.001)
    mover.cancel()
    assert caplog.messages == ["The ledger cannot be moved at the moment; it is tried again."]
    assert [type(error) for error in told] == [StoreError]


# --- what cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize("trim", [True, False], ids=["trimmed", "kept"])
@pytest.mark.parametrize(
    "kind", ["no JSON", "without an outcome", "of less than nothing", "of too much", "another one"]
)
async def test_a_line_that_cannot_be_read_keeps_no_other_from_being_moved(
    kind: str, *, trim: bool, store: RedisStore, archive: SQLiteStore, redis_url: str
) -> None:
    await _some_of_everything(store)
    with redis.Redis.from_url(redis_url) as client:
        good = _damage(client, "2:alice", kind)
        mover = Mover(store, archive, trim=trim)
        assert [await mover.empty() for _ in range(3)] == [5, 0, 0]
        await store.apply([settle("live", 5)])
        assert await mover.move(1) == 1
        assert [line.seq for line in await archive.lines("alice")] == [1, 3, 4]
        assert [line.seq for line in await archive.lines("bob")] == [1]
        assert list(mover.unreadable) == ["line 2 of alice"]
        if trim:  # nothing is forgotten that the archive has not got
            assert sorted(client.hkeys("hpp{hpp:0}:lines")) == [b"2:alice", b"3:alice", b"4:alice"]
        fresh = RedisStore(redis_url, archive=archive)  # and who starts meanwhile can
        await fresh.open()
        await fresh.aclose()

        client.hset("hpp{hpp:0}:lines", "2:alice", good)
        assert [await mover.empty(), await mover.empty()] == [1, 0]
        assert [line.seq for line in await archive.lines("alice")] == [1, 2, 3, 4]
        assert (await archive.totals("alice")).settled == 195
        await store.apply([reserve("next", 7), settle("next", 7)])
        assert await mover.empty() == 1
        assert client.hlen("hpp{hpp:0}:lines") == (0 if trim else 6)
    statement = await store.statement("alice")
    assert (statement.charged, statement.lines, statement.account.settled) == (202, 5, 202)


async def test_more_unreadable_lines_than_are_moved_at_once_keep_nothing_from_being_moved(
    store: RedisStore, archive: SQLiteStore, redis_url: str
) -> None:
    for number in range(7):
        await store.apply([reserve(f"bad-{number}", 1), settle(f"bad-{number}", 1)])
    await store.apply([reserve("good", 1, "bob"), settle("good", 1)])
    with redis.Redis.from_url(redis_url) as client:
        for number in range(7):
            _damage(client, f"{number + 1}:alice", "no JSON")
        client.xadd("hpp{hpp:0}:stream", {"grant": b"{"})
        await store.apply([Grant(id=odd, account="bob", amount=10) for odd in ("with\0NUL", "x" * 5000)])
        client.xadd("hpp{hpp:0}:stream", {"grant": b'{"id":"of nobody","account":"bob\\u0000","amount":1}'})
        await store.apply([Grant(id="last", account="bob", amount=1)])
        mover = Mover(store, archive, trim=True)
        assert await mover.empty() == 4  # two grants at the start, bob's line, and the last grant
        assert [await mover.move(2) for _ in range(2)] == [0, 0]
        assert client.xlen("hpp{hpp:0}:stream") == 11
    assert (await archive.totals("bob")).settled == 1
    assert (await archive.totals("bob")).quota == 501
    assert len(mover.unreadable) == 11


async def test_what_was_damaged_after_it_was_moved_stays_and_stops_nobody(
    store: RedisStore, archive: SQLiteStore, redis_url: str
) -> None:
    await _some_of_everything(store)
    await Mover(store, archive).move()  # which forgets nothing
    with redis.Redis.from_url(redis_url) as client:
        _damage(client, "2:alice", "no JSON")
        await store.apply([settle("live", 5), reserve("bobs next", 1, "bob"), settle("bobs next", 1)])
        assert await Mover(store, archive, trim=True).empty() == 2
        assert sorted(client.hkeys("hpp{hpp:0}:lines")) == [b"2:alice", b"3:alice", b"4:alice"]
    assert (await archive.totals("alice")).settled == 195


async def test_a_running_mover_tells_once_what_it_cannot_read(
    store: RedisStore, archive: SQLiteStore, redis_url: str
) -> None:
    await _some_of_everything(store)
    with redis.Redis.from_url(redis_url) as client:
        _damage(client, "1:alice", "no JSON")
    told: list[Exception] = []
    mover = asyncio.create_task(Mover(store, archive).run(every_s=0.001, told=told.append))
    async with asyncio.timeout(30):
        for number in range(3):
            await store.apply([Grant(id=f"more-{number}", account="alice", amount=1)])
            while (await archive.totals("alice")).quota != 1001 + number:  # noqa: ASYNC110  # the archive tells nobody
                await asyncio.sleep(0.001)
        while not told:  # noqa: ASYNC110  # nor is a list an event
            await asyncio.sleep(0.001)
    mover.cancel()
    assert [str(error) for error in told] == ["It cannot be read, and stays where it is: line 1 of alice."]


def _damage(client: "redis.Redis", where: str, kind: str) -> bytes:
    """Make a line none, and give back what it was."""
    key = "hpp{hpp:0}:lines"
    good: bytes = client.hget(key, where)  # type: ignore[assignment]  # of a client that waits, it is no awaitable
    bad = {
        "no JSON": b"{",
        "without an outcome": b'{"id":"x","hold":"x","line":"resolution","amount":1}',
        "of less than nothing": good.replace(b'"amount":', b'"amount":-'),
        "of too much": good.replace(b'"amount":', b'"amount":1234567890123456789'),
        "another one": good.replace(b'"seq":', b'"seq":1'),
    }[kind]
    client.hset(key, where, bad)
    return good


# --- behind the archive ---------------------------------------------------------------------------


async def test_a_server_that_kept_up_is_opened(store: RedisStore, archive: SQLiteStore, redis_url: str) -> None:
    await _some_of_everything(store)
    for _ in range(2):  # the first time nothing was moved before
        other = RedisStore(redis_url, archive=archive)
        await other.open()
        assert (await other.balance("alice")).used == 190
        await other.aclose()
    await _same(archive, store, "alice", "bob")


async def test_an_emptied_server_is_refused_by_a_new_process_and_rebuilt(
    store: RedisStore, archive: SQLiteStore, redis_url: str
) -> None:
    await store.apply([Declare(account="alice", quota=70)])
    await _some_of_everything(store)
    await Mover(store, archive).move()
    before = await store.balance("alice")
    with redis.Redis.from_url(redis_url) as client:
        client.flushdb()
    fresh = RedisStore(redis_url, archive=archive)
    for _ in range(2):
        with pytest.raises(StoreError, match=BEHIND):
            await fresh.open()
    with pytest.raises(StoreError, match=BEHIND):
        await RedisStore(redis_url).open()  # whoever comes without an archive is told as well

    assert await fresh.rebuild(archive) == 2
    await fresh.open()
    await fresh.apply([RENEW, Declare(account="alice", quota=70)])
    after = await fresh.balance("alice")
    assert (after.quota, after.used, after.requests, after.tokens) == (1070, 190, before.requests, before.tokens)
    assert (before.held, after.held) == (100, 0)
    await fresh.apply([reserve("next", 100), settle("next", 60)])
    (line,) = await fresh.lines("alice")
    assert line.seq == 4
    statement = await fresh.statement("alice")
    assert (statement.charged, statement.lines, statement.seq, statement.granted) == (250, 4, 4, 1000)
    lines = await MovedLedger(fresh, archive).lines("alice")
    assert [line.seq for line in lines] == [1, 2, 3, 4]
    await Mover(fresh, archive).move()
    assert (await archive.totals("alice")).settled == 250
    with pytest.raises(StoreError):
        await store.apply([reserve("late", 1)])  # a process of before the loss has to be restarted
    again = RedisStore(redis_url, archive=archive)
    await again.open()
    await again.aclose()
    await fresh.aclose()


async def test_a_rebuild_that_was_begun_is_repeated(store: RedisStore, archive: SQLiteStore, redis_url: str) -> None:
    await _some_of_everything(store)
    await Mover(store, archive).move()

    class Failing(Dying):
        async def totals(self, account: str) -> object:
            if account == "bob":
                raise StoreError("It is away.")
            return await self._archive.totals(account)

    with pytest.raises(StoreError, match="away"):
        await store.rebuild(Failing(archive), ["alice", "bob"])  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        await RedisStore(redis_url).open()
    assert await store.rebuild(archive, ["alice", "bob"]) == 2
    await _same_sums(store, archive)


async def _same_sums(store: RedisStore, archive: SQLiteStore) -> None:
    for name in ("alice", "bob"):
        there, here = await archive.totals(name), await store.balance(name)
        assert (there.quota, there.settled, there.requests) == (here.quota, here.used, here.requests)


async def test_a_rebuild_in_shards_keeps_keys_and_the_ids_of_grants(redis_url: str, archive: SQLiteStore) -> None:
    store = RedisStore(redis_url, shards=4)
    await store.apply(START)
    await _some_of_everything(store)
    await store.add(Credential(digest=b"digest", id="key", consumer=Consumer(id="alice")))
    await Mover(store, archive).move()
    await store.rebuild(archive)
    assert (await store.find(b"digest")) is not None
    (repeat,) = await store.apply([Grant(id="start", account="alice", amount=1000)])
    assert repeat.status == "done"
    await _same_sums(store, archive)
    other = RedisStore(redis_url, shards=4, archive=archive)
    await other.open()
    await other.aclose()
    await store.aclose()


@pytest.mark.parametrize("lost", ["lines", "a grant"])
async def test_a_failover_that_lost_what_was_archived_is_fenced_in_the_middle(
    lost: str, server: Server, archive: SQLiteStore
) -> None:
    store = RedisStore(server.url, archive=archive)
    await store.apply(START)
    with redis.Redis.from_url(server.url) as client:
        client.save()
    if lost == "lines":
        await _some_of_everything(store)
    else:
        await store.apply([Grant(id="more", account="alice", amount=-10)])
    await Mover(store, archive).move()
    server.kill()
    server.start()
    for _ in range(2):
        with pytest.raises(StoreError):
            await store.apply([reserve("next", 10)])
    with pytest.raises(StoreError, match=BEHIND):
        await RedisStore(server.url, archive=archive).open()
    await store.rebuild(archive)
    await _same_sums(store, archive)
    await store.apply([RENEW])
    assert (await store.apply([reserve("next", 10)]))[0].status == "done"
    await store.aclose()


async def test_a_failover_that_lost_nothing_goes_on(server: Server, archive: SQLiteStore) -> None:
    store = RedisStore(server.url, archive=archive)
    await store.apply(START)
    await _some_of_everything(store)
    with redis.Redis.from_url(server.url) as client:
        client.save()
    server.kill()
    server.start()
    results = await store.apply([settle("live", 9), reserve("next", 10)])
    assert [result.status for result in results] == ["done", "done"]
    await Mover(store, archive).move()
    await _same(archive, store, "alice", "bob")
    await store.aclose()
