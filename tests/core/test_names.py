"""What no store can keep exists nowhere: it is read as unknown, and refused where it would be written."""

from pathlib import Path

import pytest
from faults.places import made
from rig import ALICE, CHAT, KEY, USAGE_NANO, gateway, question
from starlette.requests import HTTPConnection

from hpp_middleware import Consumer, RequestError, StoreError
from hpp_middleware.core.names import MOST_BYTES, can_be_kept
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.testing import FakeUpstream, get, post
from hpp_middleware.types.budget import Budget

pytestmark = pytest.mark.anyio

NO_NAMES = ("nul\0", "\ud800", "x" * (MOST_BYTES + 1), "é" * (MOST_BYTES // 2 + 1))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of the stores are served on asyncio only."""
    return "asyncio"


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_cannot_be_kept_is_known_beforehand(name: str) -> None:
    assert not can_be_kept(name)
    assert can_be_kept(name[:1].replace("\ud800", "é") * (MOST_BYTES // 2))


@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres", "redis"])
async def test_it_is_read_as_unknown_and_refused_by_name_on_every_store(
    kind: str, request: pytest.FixtureRequest, fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    place = {"postgres": "postgres_dsn", "redis": "redis_url"}.get(kind)
    store = made(kind, request.getfixturevalue(place) if place else str(tmp_path / "hpp.db"))
    async with gateway(fake_upstream, journal=None, store=store, pepper=b"a pepper for the tests") as found:
        for log_id in ("%00", "nothing"):
            async with get(found.app, f"/api/user/audit/{log_id}", headers={"apikey": KEY}) as call:
                assert await call.started() == 404
        for name in NO_NAMES:
            with pytest.raises(RequestError) as missing:
                await found.entries(ALICE, name)
            assert missing.value.status == 404
            assert (await found.balance(Consumer(id=name))).quota == 0
            assert (await found.accounts.balance(name)).quota == 0
            for consumer, field in (
                (Consumer(id=name), "consumer.id"),
                (Consumer(id="alice", account=name), "consumer.account"),
            ):
                with pytest.raises(RequestError, match=field) as refused:
                    await found.complete(consumer, question())
                assert refused.value.status == 400
    assert fake_upstream.log == []


async def test_a_read_of_redis_that_cannot_be_is_a_store_error(redis_url: str) -> None:
    store = RedisStore(redis_url)
    await store.open()
    for read in (store.balance("\ud800"), store.lines("\ud800"), store.entries("alice", "\ud800")):
        with pytest.raises(StoreError):
            await read
    await store.aclose()


# --- the names of budgets ----------------------------------------------------------------------------


def of_the_header(connection: HTTPConnection) -> Consumer:
    """A host that calls its users what they call themselves."""
    return Consumer(id=connection.headers["x-user"])


async def test_nobody_pays_out_of_a_budget_by_being_called_what_it_is_called(fake_upstream: FakeUpstream) -> None:
    budget = Budget(consumer="*", period="month", amount=5 * 10**9)
    found = gateway(fake_upstream, authenticate=of_the_header, budgets=[budget])
    async with found:
        async with post(found.app, CHAT, question(), headers={"x-user": "alice"}) as call:
            assert await call.started() == 200
        name = found.setup.ceilings.all_of(ALICE).budgets[0].account
        before = await found.accounts.balance(name)
        assert before.used == USAGE_NANO
        async with post(found.app, CHAT, question(), headers={"x-user": name}) as call:
            assert await call.started() == 400
            assert (await call.json())["error"]["code"] == "invalid_consumer"
        async with get(found.app, "/api/quota-check", headers={"x-user": name}) as call:
            assert (await call.started(), (await call.json())["quota"]) == (200, 0)
        for consumer in (Consumer(id="mallory", account=name), Consumer(id="mallory", parents=(name,))):
            with pytest.raises(RequestError, match="that can pay"):
                await found.complete(consumer, question())
        with pytest.raises(RequestError):
            await found.entries(Consumer(id=name), "req_1")
        assert await found.accounts.balance(name) == before
    assert len(fake_upstream.log) == 1
