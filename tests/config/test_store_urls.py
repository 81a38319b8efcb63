"""A gateway out of a file serves and bills on real databases, however its stores are split."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import fresh_database
from reading import read
from rig import KEY, MODEL, USAGE_NANO, ask, question

from hpp_middleware import Consumer, Gateway, RequestError, StoreError
from hpp_middleware.stores.archived import ArchivedLedger
from hpp_middleware.testing import FakeUpstream, get

pytestmark = pytest.mark.anyio

PEPPER = "sixteen-bytes-ok"
ALICE = Consumer(id="alice")
SPLITS = {
    "postgres": {"store": "postgres"},
    "redis": {"store": "redis"},
    "keys in postgres": {"store": "redis", "credentials": "postgres"},
    "keys in sqlite": {"store": "postgres", "credentials": "sqlite"},
    "ledger in postgres": {"store": "redis", "ledger": "postgres"},
    "ledger in sqlite": {"store": "redis", "ledger": "sqlite"},
    "keys and ledger in postgres": {"store": "redis", "credentials": "postgres", "ledger": "postgres"},
    "each its own": {"store": "redis", "credentials": "other postgres", "ledger": "postgres"},
}
Make = Callable[[FakeUpstream], Gateway]


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The drivers of these databases know no other."""
    backend: str = request.param
    return backend


@pytest.fixture
def urls(postgres_dsn: str, postgres_server: str, redis_url: str) -> Iterator[dict[str, str]]:
    with fresh_database(postgres_server) as other:
        yield {"postgres": postgres_dsn, "other postgres": other, "redis": redis_url, "sqlite": "sqlite:///split.db"}


def written(split: dict[str, str], urls: dict[str, str], upstream: str) -> str:
    stores = "".join(f'[{section}]\nurl = "{urls[place]}"\n' for section, place in split.items())
    return (
        f'{stores}[providers.fake]\nbase_url = "{upstream}"\n[models."{MODEL}"]\ninput = "1"\noutput = "2"\n'
        f'[consumers.alice]\nquota = "5"\nkeys = ["{KEY}"]\n'
    )


@pytest.fixture(params=SPLITS)
def make(request: pytest.FixtureRequest, urls: dict[str, str], tmp_path: Path) -> Make:
    """Gateways out of one file, as several routers read it."""
    return lambda fake: read(
        tmp_path, written(SPLITS[request.param], urls, fake.url), HPP_PEPPER=PEPPER, HPP_SEAL_KEY="k" * 32
    ).gateway()


async def test_a_completion_is_served_and_billed(make: Make, fake_upstream: FakeUpstream) -> None:
    async with make(fake_upstream) as gateway:
        async with ask(gateway) as call:
            assert await call.started() == 200
            await call.json()
            request_id = call.headers["x-request-id"]
        balance = await gateway.balance(ALICE)
        assert (balance.used, balance.held, balance.requests) == (USAGE_NANO, 0, 1)
        (line,) = await gateway.entries(ALICE, request_id)
        assert (line.account, line.amount, line.seq) == ("alice", USAGE_NANO, 1)
        async with get(gateway.app, "/readyz") as ready:
            assert await ready.started() == 200


async def test_a_key_that_one_router_makes_is_good_in_another_and_after_a_restart(
    make: Make, fake_upstream: FakeUpstream
) -> None:
    async with make(fake_upstream) as first, make(fake_upstream) as second:
        made = await first.accounts.create_key("bob", quota="1")
        async with ask(second, key=made.key) as call:
            assert await call.started() == 200
            await call.json()
        assert (await first.balance(Consumer(id="bob"))).used == USAGE_NANO
    async with make(fake_upstream) as third:
        async with ask(third, key=made.key) as call:
            assert await call.started() == 200
            await call.json()
        assert (await third.balance(Consumer(id="bob"))).used == 2 * USAGE_NANO
        assert [each.id for each in await third.accounts.keys()] == [made.id]


async def test_a_moved_ledger_is_sealed_where_it_stays(
    urls: dict[str, str], tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    text = written(SPLITS["ledger in postgres"], urls, fake_upstream.url)
    gateway = read(tmp_path, text, HPP_PEPPER=PEPPER, HPP_SEAL_KEY="k" * 32).gateway()
    ledger = gateway.setup.backends.ledger
    assert isinstance(ledger, ArchivedLedger)
    async with gateway:
        await gateway.accounts.add_quota("alice", "1")
        reply = await gateway.complete(ALICE, question())
        while await ledger.mover.move():
            pass
        (line,) = await ledger.archive.lines("alice")
        assert (line.hold, line.amount) == (reply.id, USAGE_NANO)
        assert await gateway.entries(ALICE, reply.id) == [line]
        statement = await ledger.statement("alice")
        # What the file declares is declared anew by each start; grants are kept.
        assert (statement.account.quota, statement.account.settled) == (10**9, USAGE_NANO)
        assert gateway.setup.sealer is not None


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/n", "redis://u:hunter2@127.0.0.1:1/0"])
async def test_a_store_that_cannot_be_reached_is_a_503_that_repeats_no_url(
    tmp_path: Path, fake_upstream: FakeUpstream, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = read(tmp_path, written({"store": "it"}, {"it": url}, fake_upstream.url), HPP_PEPPER=PEPPER).gateway()
    with pytest.raises((StoreError, RequestError)) as caught:
        async with gateway:
            await gateway.complete(ALICE, question())
    assert isinstance(caught.value, StoreError)
    assert "hunter2" not in caught.value.message + caplog.text
    async with ask(gateway) as call:
        assert await call.started() == 503
        assert b"hunter2" not in await call.read()
    assert fake_upstream.log == []
