"""When its server lets it down, the Redis store refuses, loses nothing that it acknowledged, and is well again."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterator

import pytest
import redis
from databases import Server, running_valkey
from redis.asyncio import Redis

from hpp_middleware import ConfigurationError, StoreError
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Grant, Operation, Release, Renew
from hpp_middleware.types.quota import Balance

pytestmark = pytest.mark.anyio

START = (Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=10**6))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis-py knows asyncio only."""
    return "asyncio"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One of the test's own, which writes every command to disk before it answers."""
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with running_valkey(tmp_path_factory.mktemp("valkey"), *options) as server:
        yield server


@pytest.fixture
def admin(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
async def store(server: Server) -> AsyncGenerator[RedisStore]:
    store = RedisStore(server.url, timeout_s=1.0)
    await store.open()
    await store.apply(START)
    yield store
    await store.aclose()


async def _refuses(store: RedisStore) -> None:
    """Nothing is done, and nothing is said of anybody: not that an account is empty, not that a key is unknown."""
    for work in (
        store.apply([reserve("another", 10)]),
        store.apply([settle("hold", 5)]),
        store.apply([Release(id="hold")]),
        store.balance("alice"),
        store.lines("alice"),
        store.find(b"digest"),
        store.credentials(),
        store.statement("alice"),
    ):
        with pytest.raises(StoreError):
            await work


# --- the server forgets ---------------------------------------------------------------------------


async def test_scripts_that_were_flushed_are_sent_again(store: RedisStore, admin: redis.Redis) -> None:
    await store.apply([reserve("hold", 100)])
    admin.script_flush()
    operations: list[Operation] = [settle("hold", 30), reserve("next", 10), reserve("third", 10), Release(id="next")]
    results = await store.apply(operations)
    assert [result.status for result in results] == ["done"] * 4
    assert len(results[0].entries) == 1
    balance = await store.balance("alice")
    assert (balance.used, balance.held) == (30, 10)


async def test_an_emptied_server_refuses_instead_of_inventing_accounts(store: RedisStore, admin: redis.Redis) -> None:
    await store.apply([reserve("hold", 100)])
    admin.flushall()
    await _refuses(store)
    with pytest.raises(StoreError):
        await store.apply(START)
    await store.aclose()
    with pytest.raises(StoreError):
        await store.open()
    assert admin.keys("*") == []


async def test_a_server_that_others_have_filled_since_refuses(store: RedisStore, admin: redis.Redis) -> None:
    admin.flushall()
    other = RedisStore(store.server._url)
    await other.apply(START)
    await _refuses(store)
    await store.aclose()
    with pytest.raises(StoreError, match="other books"):
        await store.open()
    await other.aclose()


async def test_books_without_their_epoch_are_not_taken_over(store: RedisStore, admin: redis.Redis) -> None:
    admin.delete("hpp{hpp:0}:meta")
    await _refuses(store)
    with pytest.raises(StoreError):
        await RedisStore(store.server._url).open()


async def test_one_shard_that_was_emptied_is_enough_to_refuse(server: Server, admin: redis.Redis) -> None:
    store = RedisStore(server.url, shards=4)
    await store.apply(START)
    for key in admin.keys("hpp{hpp:2}:*"):
        admin.delete(key)
    with pytest.raises(StoreError):
        await store.apply([Renew(owner="worker", ttl_s=600)])
    await store.aclose()
    with pytest.raises(StoreError):
        await RedisStore(server.url, shards=4).open()


async def test_a_server_that_comes_back_empty_refuses(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_valkey(tmp_path_factory.mktemp("forgetful")) as server:
        store = RedisStore(server.url, timeout_s=1.0)
        await store.apply(START)
        server.restart()
        await _refuses(store)
        await store.aclose()


async def test_another_version_is_refused(store: RedisStore, admin: redis.Redis) -> None:
    admin.hset("hpp{hpp:0}:meta", "version", "2")
    with pytest.raises(StoreError, match="version"):
        await RedisStore(store.server._url).open()


# --- the server dies ------------------------------------------------------------------------------


async def test_a_killed_server_loses_nothing_that_it_acknowledged(store: RedisStore, server: Server) -> None:
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def spend(worker: int) -> None:
        try:
            for number in range(10_000):
                hold = f"{worker}-{number}"
                await store.apply([reserve(hold, 10)])
                (result,) = await store.apply([settle(hold, 7)])
                assert result.status == "done"
                acknowledged.append(hold)
                if len(acknowledged) >= 50:
                    enough.set()
        except StoreError:
            return

    async with asyncio.TaskGroup() as group:
        for worker in range(8):
            group.create_task(spend(worker))
        await enough.wait()
        server.kill()
    await _refuses(store)
    server.start()
    lines = await store.lines("alice", most=100_000)
    assert set(acknowledged) <= {line.hold for line in lines}
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
    balance = await store.balance("alice")
    assert balance.used == 7 * len(lines)
    assert balance.held in {10 * live for live in range(9)}
    results = await store.apply([settle(hold, 7) for hold in acknowledged])
    assert all((result.status, result.entries) == ("done", ()) for result in results)


async def test_without_an_archive_a_restart_is_told(
    store: RedisStore, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    server.start()
    with caplog.at_level(logging.WARNING, "hpp_middleware"):
        assert (await store.balance("alice")).quota == 10**6
    assert [record.getMessage() for record in caplog.records] == [
        "The store's server was restarted or replaced: the last writes may be lost."
    ]


@pytest.mark.parametrize("how", ["stopped", "paused"])
async def test_a_server_that_does_not_answer_is_a_store_error_and_then_well_again(
    how: str, store: RedisStore, server: Server, admin: redis.Redis
) -> None:
    await store.apply([reserve("hold", 100)])
    if how == "stopped":
        server.pause()
    else:
        admin.client_pause(60_000, all=False)
    with pytest.raises(StoreError):
        await store.apply([settle("hold", 30)])
    with pytest.raises(StoreError):
        await store.balance("alice")
    if how == "stopped":
        server.resume()
    else:
        admin.client_unpause()
    (result,) = await store.apply([settle("hold", 30)])  # it may have arrived the first time
    assert (result.status, result.amount) == ("done", 30)
    assert await store.balance("alice") == Balance(account="alice", quota=10**6, used=30, requests=1, tokens=6)
    assert len(await store.lines("alice")) == 1


async def test_a_late_reply_is_read_by_nobody_although_the_client_has_no_timeout(server: Server) -> None:
    client = Redis.from_url(server.url)
    store = RedisStore(client=client, timeout_s=1.0)
    await store.apply(START)
    server.pause()
    for number in range(5):
        with pytest.raises(StoreError):
            await store.apply([reserve(f"late-{number}", 10)])
    server.resume()
    for number in range(5):
        (result,) = await store.apply([reserve(f"hold-{number}", 10)])
        assert (result.id, result.status) == (f"hold-{number}", "done")
        assert (await store.balance("alice")).quota == 10**6
    await store.aclose()
    await client.aclose()


# --- the server refuses ---------------------------------------------------------------------------


async def test_a_server_that_may_not_be_written_to_is_a_store_error(store: RedisStore, admin: redis.Redis) -> None:
    await store.apply([reserve("hold", 100)])
    admin.replicaof("127.0.0.1", 1)
    for operation in (settle("hold", 5), reserve("next", 10), Release(id="hold")):
        with pytest.raises(StoreError):
            await store.apply([operation])
    admin.replicaof("NO", "ONE")
    (result,) = await store.apply([settle("hold", 5)])
    assert result.status == "done"
    assert (await store.balance("alice")).held == 0


async def test_a_full_server_is_a_store_error_and_writes_no_half(store: RedisStore, admin: redis.Redis) -> None:
    await store.apply([reserve("hold", 100)])
    before = await store.statement("alice")
    admin.config_set("maxmemory", 1)
    operations: list[Operation] = [settle("hold", 5), reserve("next", 10), Release(id="hold"), Release(id="unknown")]
    operations += [Grant(id="more", account="alice", amount=5), Renew(owner="worker", ttl_s=6000)]
    for operation in operations:
        with pytest.raises(StoreError):
            await store.apply([operation])
    assert await store.statement("alice") == before
    admin.config_set("maxmemory", 0)
    results = await store.apply([settle("hold", 5), reserve("next", 10)])
    assert [result.status for result in results] == ["done", "done"]


async def test_a_server_without_enough_replicas_is_a_store_error(store: RedisStore, admin: redis.Redis) -> None:
    admin.config_set("min-replicas-to-write", 1)
    with pytest.raises(StoreError):
        await store.apply([reserve("hold", 100)])
    admin.config_set("min-replicas-to-write", 0)
    assert (await store.apply([reserve("hold", 100)]))[0].status == "done"


async def test_a_server_that_would_evict_is_refused(server: Server, admin: redis.Redis) -> None:
    admin.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="noeviction"):
        await RedisStore(server.url).open()


async def test_a_user_who_may_not_see_the_settings_is_served(server: Server, admin: redis.Redis) -> None:
    admin.acl_setuser(
        "app",
        enabled=True,
        passwords=["+secret"],
        categories=["+@all"],
        commands=["-config", "-info"],
        keys=["hpp*"],
    )
    store = RedisStore(server.url.replace("redis://", "redis://app:secret@"))
    await store.apply(START)
    assert (await store.balance("alice")).quota == 10**6
    await store.aclose()


async def test_a_wrong_password_is_a_store_error_that_does_not_say_it(server: Server, admin: redis.Redis) -> None:
    with pytest.raises(StoreError) as caught:
        await RedisStore(server.url.replace("redis://", "redis://app:wrong-secret@")).open()
    assert "secret" not in str(caught.value)


# --- callers --------------------------------------------------------------------------------------


async def test_an_operation_that_cannot_be_sent_leaves_its_neighbours_alone(store: RedisStore) -> None:
    outcomes: dict[str, str] = {}

    async def one(name: str) -> None:
        try:
            (result,) = await store.apply([reserve(name, 10)])
        except StoreError:
            outcomes[name] = "error"
        else:
            outcomes[name] = result.status

    async with asyncio.TaskGroup() as group:
        for name in ("first", "second", "no \ud800 text", "third"):
            group.create_task(one(name))
    assert outcomes == {"first": "done", "second": "done", "no \ud800 text": "error", "third": "done"}
    assert (await store.balance("alice")).held == 30


async def test_books_of_another_kind_under_a_key_fail_that_operation_alone(
    store: RedisStore, admin: redis.Redis
) -> None:
    admin.hset("hpp{hpp:0}:holds", "broken", "no hold at all")
    results = await asyncio.gather(
        store.apply([settle("broken", 1)]), store.apply([reserve("hold", 10)]), return_exceptions=True
    )
    assert isinstance(results[0], StoreError)
    assert (await store.balance("alice")).held == 10


async def test_callers_that_are_cancelled_leave_no_reply_to_others(server: Server) -> None:
    store = RedisStore(server.url, timeout_s=60)  # 400 callers at once, on however slow a machine
    await store.apply(START)
    chance = random.Random(43)
    await store.apply([Grant(id=f"grant-{number}", account=f"payer-{number}", amount=1000) for number in range(20)])

    async def one(number: int) -> None:
        payer, hold = f"payer-{number % 20}", f"hold-{number}"
        (result,) = await store.apply([reserve(hold, 10, payer)])
        assert (result.id, result.status) == (hold, "done")
        assert (await store.balance(payer)).account == payer
        (result,) = await store.apply([settle(hold, number % 10)])
        assert (result.id, result.amount) == (hold, number % 10)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(number)) for number in range(400)]
        while not all(task.done() for task in tasks[::2]):
            await asyncio.sleep(0)
            chance.choice(tasks[::2]).cancel()
    assert any(task.cancelled() for task in tasks[::2])
    assert not any(task.cancelled() for task in tasks[1::2])
    await store.aclose()  # when what was cancelled has arrived
    for number in range(20):
        found = await store.statement(f"payer-{number}")
        assert (found.held, found.charged) == (found.account.held, found.account.settled)
        assert await store.balance(f"payer-{number}") == Balance(
            account=f"payer-{number}",
            quota=1000,
            used=found.charged,
            held=found.held,
            requests=found.resolutions,
            tokens=found.account.tokens,
        )
    await store.aclose()


async def test_a_race_on_one_hold_across_stores_has_one_winner(store: RedisStore, server: Server) -> None:
    other = RedisStore(server.url)
    for number in range(20):
        await store.apply([reserve(f"hold-{number}", 100)])
        both = await asyncio.gather(
            store.apply([settle(f"hold-{number}", 1)]), other.apply([settle(f"hold-{number}", 2)])
        )
        assert sorted(result.status for (result,) in both) == ["conflict", "done"]
    lines = await other.lines("alice")
    assert [line.seq for line in lines] == list(range(1, 21))
    assert (await store.balance("alice")).used == sum(line.amount for line in lines)
    await other.aclose()
