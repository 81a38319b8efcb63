"""The Redis store keeps every promise of a store: on one shard, on four, and on a cluster."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import msgspec
import pytest
import redis
from databases import Server, emptied, running_valkey
from redis.asyncio import Redis
from servers import free_port

from hpp_middleware import ConfigurationError, StoreError
from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.stores.redis.keys import keys, shard_of
from hpp_middleware.testing import STORE_PROMISES
from hpp_middleware.testing.stores import Promise
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.operations import Declare, Grant, Release, Renew, Sweep
from hpp_middleware.types.quota import Seal

pytestmark = pytest.mark.anyio

# It asks with one account's idempotency key for another one; a key is a digest of its account, so nobody does.
WITHIN_A_SHARD = {"an_account_keeps_so_many_bytes"}
ACROSS_SHARDS = [promise for promise in STORE_PROMISES if promise.__name__ not in WITHIN_A_SHARD]

START = (Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=1000))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """redis-py knows asyncio only."""
    return "asyncio"


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


@pytest.fixture
def cluster_url(cluster_server: Server) -> str:
    return emptied(cluster_server.url)


@pytest.fixture
async def store(redis_url: str) -> AsyncGenerator[RedisStore]:
    store = RedisStore(redis_url)
    await store.open()
    await store.apply(START)
    yield store
    await store.aclose()


@pytest.mark.parametrize("promise", STORE_PROMISES, ids=lambda promise: promise.__name__)
async def test_the_redis_store_keeps_its_promise_that(promise: Promise, redis_url: str) -> None:
    await promise(_factory(redis_url))


@pytest.mark.parametrize("promise", ACROSS_SHARDS, ids=lambda promise: promise.__name__)
async def test_four_shards_keep_their_promise_that(promise: Promise, redis_url: str) -> None:
    await promise(_factory(redis_url, shards=4))


@pytest.mark.parametrize("promise", ACROSS_SHARDS, ids=lambda promise: promise.__name__)
async def test_a_cluster_keeps_its_promise_that(promise: Promise, cluster_url: str) -> None:
    await promise(_factory(cluster_url, shards=4, cluster=True))


def _factory(url: str, **settings: Any) -> Callable[..., Any]:
    async def make(clock: Callable[[], float] | None = None) -> RedisStore:
        return RedisStore(url, clock=clock, **settings)

    return make


# --- what is written ------------------------------------------------------------------------------


async def test_a_line_is_kept_as_the_bytes_that_msgspec_makes_of_it(store: RedisStore, redis_url: str) -> None:
    odd = 'r\N{LATIN SMALL LETTER E WITH ACUTE}quest/"1"\n\\'
    await store.apply([reserve(odd, 100), reserve("plain", 100), settle(odd, 150), settle("plain", 7)])
    entries = await store.lines("alice")
    assert [entry.id for entry in entries] == [odd, f"{odd}:overage", "plain"]
    with redis.Redis.from_url(redis_url) as client:
        texts = client.hgetall("hpp{hpp:0}:lines")
    assert sorted(texts.values()) == sorted(msgspec.json.encode(entry) for entry in entries)
    assert msgspec.json.decode(msgspec.json.encode(entries[0].created)) == entries[0].created


async def test_nothing_expires_and_every_key_of_a_shard_has_its_tag(redis_url: str) -> None:
    store = RedisStore(redis_url, prefix="mine", shards=4)
    await store.apply([START[0], *(Grant(id=name, account=name, amount=100) for name in ("alice", "bob", "carol"))])
    await store.apply([reserve("hold", 10), reserve("other", 10, "bob"), settle("hold", 5), Release(id="nowhere")])
    await store.add_seals([Seal(account="alice", seq=1, mac="00", key="k", created=1.0)])
    known = {key for shard in range(4) for key in keys("mine", shard)}
    with redis.Redis.from_url(redis_url) as client:
        found = {key.decode() for key in client.keys("*")}
        assert found <= known
        assert {key.partition("}")[0] for key in found} == {f"mine{{mine:{shard}" for shard in range(4)}
        assert {client.ttl(key) for key in found} == {-1}
    await store.aclose()


async def test_sums_past_the_doubles_are_exact(store: RedisStore) -> None:
    await store.apply([reserve(f"hold-{number}", 1) for number in range(3)])
    results = await store.apply([settle(f"hold-{number}", MAX_NANO - number) for number in range(3)])
    assert [result.status for result in results] == ["done"] * 3
    balance = await store.balance("alice")
    assert balance.used == 3 * MAX_NANO - 3
    statement = await store.statement("alice")
    assert (statement.charged, statement.account.settled) == (3 * MAX_NANO - 3, 3 * MAX_NANO - 3)
    (refused,) = await store.apply([reserve("next", 1)])
    assert (refused.status, refused.available) == ("refused", 1000 - (3 * MAX_NANO - 3))


async def test_a_sum_that_no_store_can_count_is_refused_and_leaves_the_hold(store: RedisStore, redis_url: str) -> None:
    await store.apply([reserve("hold", 10)])
    with redis.Redis.from_url(redis_url) as client:
        client.hset("hpp{hpp:0}:accounts", "settled:alice", 9 * 10**18 + 10**17)
        (result,) = await store.apply([settle("hold", 10)])
        client.hset("hpp{hpp:0}:accounts", "settled:alice", 0)
    assert result.status == "refused"
    assert (await store.balance("alice")).held == 10
    assert await store.lines("alice") == []
    (result,) = await store.apply([settle("hold", 10)])
    assert result.status == "done"


async def test_a_sweep_does_so_much_and_the_next_one_goes_on(redis_url: str) -> None:
    clock = Clock()
    store = RedisStore(redis_url, clock=clock)
    await store.apply([START[0], Grant(id="start", account="alice", amount=10**9), Renew(owner="dying", ttl_s=10)])
    for first in range(0, 1200, 200):
        await store.apply([reserve(f"hold-{first + n:04}", 1, owner="dying", orphan=1) for n in range(200)])
    clock.now += 11
    first_sweep, second = [(await store.apply([Sweep()]))[0] for _ in range(2)]
    assert (first_sweep.amount, second.amount) == (1000, 200)
    swept = [entry.hold for entry in (*first_sweep.entries, *second.entries)]
    assert sorted(swept) == [f"hold-{number:04}" for number in range(1200)]
    assert (await store.balance("alice")).used == 1200
    assert len(await store.lines("alice", most=5000)) == 1200
    await store.aclose()


# --- shards ---------------------------------------------------------------------------------------


async def test_a_hold_in_two_shards_is_refused_and_takes_nothing(redis_url: str) -> None:
    store = RedisStore(redis_url, shards=4)
    assert shard_of("alice", 4) != shard_of("bob", 4)
    await store.apply([*START, Grant(id="bob", account="bob", amount=1000)])
    with pytest.raises(StoreError, match="one root"):
        await store.apply([reserve("hold", 10, "alice", "bob")])
    assert [(await store.balance(name)).held for name in ("alice", "bob")] == [0, 0]
    await store.aclose()


async def test_a_hold_in_its_root_and_what_is_under_it_lies_in_one_shard(redis_url: str) -> None:
    store = RedisStore(redis_url, shards=64)
    accounts = ("org/team/alice", "org/team", "org")
    await store.apply([START[0], *(Grant(id=name, account=name, amount=1000) for name in accounts)])
    (held,) = await store.apply([reserve("hold", 10, *accounts)])
    assert held.status == "done"
    await store.apply([settle("hold", 4)])
    assert [(await store.balance(name)).used for name in accounts] == [4, 4, 4]
    await store.aclose()


async def test_a_process_resolves_what_another_one_placed_in_whatever_shard(redis_url: str) -> None:
    first, second = RedisStore(redis_url, shards=4), RedisStore(redis_url, shards=4)
    names = [f"payer-{number}" for number in range(8)]
    await first.apply([START[0], *(Grant(id=name, account=name, amount=100) for name in names)])
    await first.apply([reserve(f"hold-{name}", 10, name) for name in names])
    for name in names[:4]:
        for _ in range(2):
            (settled,) = await second.apply([settle(f"hold-{name}", 7)])
            assert (settled.status, settled.amount) == ("done", 7)
        (conflict,) = await second.apply([Release(id=f"hold-{name}")])
        assert conflict.status == "conflict"
    for name in names[4:]:
        (released,) = await second.apply([Release(id=f"hold-{name}")])
        assert released.status == "done"
        assert (await first.balance(name)).held == 0
    found = await second.holds([f"hold-{name}" for name in names])
    assert [hold.state for hold in found] == ["settled"] * 4 + ["released"] * 4
    assert await second.accounts(most=100) == sorted(names)
    assert (await second.apply([settle("nowhere", 1)]))[0].status == "unknown"
    await first.aclose()
    await second.aclose()


async def test_a_tombstone_stops_the_late_reserve_in_whatever_shard(redis_url: str) -> None:
    store = RedisStore(redis_url, shards=4)
    await store.apply(START)
    (released,) = await store.apply([Release(id="hold")])
    (late,) = await store.apply([reserve("hold", 10)])
    assert (released.status, late.status) == ("done", "conflict")
    await store.aclose()


async def test_another_number_of_shards_is_refused(redis_url: str) -> None:
    store = RedisStore(redis_url, shards=4)
    await store.apply(START)
    await store.aclose()
    with pytest.raises(ConfigurationError, match="4 shards, not in 1"):
        await RedisStore(redis_url).open()


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{}, {"url": "postgres://nowhere"}, {"url": "nonsense"}, {"shards": 0}, {"prefix": "a{b}"}, {"prefix": ""}],
    ids=str,
)
async def test_wrong_settings_are_told(settings: dict[str, Any], redis_url: str) -> None:
    with pytest.raises(ConfigurationError):
        await RedisStore(**({"url": redis_url} | settings if settings else {})).open()


async def test_a_client_of_the_callers_is_used_and_stays_open(redis_url: str) -> None:
    client = Redis.from_url(redis_url)
    store = RedisStore(client=client)
    await store.apply(START)
    assert (await store.balance("alice")).quota == 1000
    await store.aclose()
    assert await client.ping()
    await client.aclose()


async def test_a_client_that_decodes_is_refused(redis_url: str) -> None:
    client = Redis.from_url(redis_url, decode_responses=True)
    with pytest.raises(ConfigurationError, match="decode_responses"):
        RedisStore(client=client)
    await client.aclose()


async def test_a_valkey_url_is_a_redis_url(redis_url: str) -> None:
    store = RedisStore(redis_url.replace("redis://", "valkey://"))
    await store.apply(START)
    assert store.pepper() is None
    await store.aclose()


async def test_a_unix_socket_is_served(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running_valkey(tmp_path_factory.mktemp("socket")) as server:
        store = RedisStore(f"unix://{server.home / 'valkey.sock'}")
        await store.apply(START)
        assert (await store.balance("alice")).quota == 1000
        await store.aclose()


def test_trio_is_told_at_the_start(redis_url: str) -> None:
    store = RedisStore(redis_url)
    with pytest.raises(ConfigurationError, match="asyncio only"):
        anyio.run(store.open, backend="trio")
    anyio.run(store.aclose, backend="trio")


async def test_one_store_serves_several_event_loops_and_closes_in_all(store: RedisStore) -> None:
    served, closed = threading.Barrier(3), threading.Event()

    async def ten(prefix: str) -> None:
        for number in range(10):
            await store.apply([reserve(f"{prefix}-{number}", 1)])
        await asyncio.to_thread(served.wait, 30)
        await asyncio.to_thread(closed.wait, 30)

    async with anyio.create_task_group() as group:
        for name in ("first", "second"):
            group.start_soon(anyio.to_thread.run_sync, lambda name: anyio.run(ten, name), name)
        await asyncio.to_thread(served.wait, 30)
        assert (await store.balance("alice")).held == 20
        await store.aclose()
        closed.set()
    assert (await store.balance("alice")).held == 20


async def test_a_declared_quota_comes_on_top(store: RedisStore) -> None:
    await store.apply([Declare(account="alice", quota=50)])
    statement = await store.statement("alice")
    assert (statement.account.quota, statement.account.declared, statement.granted) == (1050, 50, 1000)
