"""A worker: what one event loop has of a gateway, how it starts, and how it ends."""

import re
from collections.abc import Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint
from rig import ALICE, KEY, Delegate, ask, check_books, gateway, question

from hpp_middleware import ConfigurationError, MemoryStore, StoreError
from hpp_middleware.core import auth
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.worker.worker import declared_credentials, new_id
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.types.operations import Declare, Grant, Operation, Renew
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio

PEPPER = b"a pepper of thirty-two bytes long"


def test_ids_are_time_ordered_unique_and_fit_to_stand_in_a_header() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"req_[0-9a-f]{32}", each) for each in ids)
    assert [each[:16] for each in ids] == sorted(each[:16] for each in ids)


def test_declared_keys_become_credentials_whose_ids_tell_nothing() -> None:
    found = declared_credentials({"alice": Declared(keys=(KEY,), models=("fake/*",))}, PEPPER)
    credential = found[auth.digest(KEY, PEPPER)]
    assert (credential.consumer.id, credential.consumer.models) == ("alice", ("fake/*",))
    assert KEY not in repr(credential)
    assert credential.consumer.key_id == credential.id


def test_one_key_declared_twice_for_one_consumer_is_one_key() -> None:
    assert len(declared_credentials({"alice": Declared(keys=(KEY, KEY))}, PEPPER)) == 1


async def test_two_workers_of_one_gateway_have_owners_of_their_own(fake_upstream: FakeUpstream) -> None:
    owners = set()
    store = Delegate()
    found = gateway(fake_upstream, store=store)
    for _ in range(2):
        async with found:
            await found.complete(ALICE, question())
            owners.add((await found.worker()).lease.owner)
    assert len(owners) == 2
    assert {operation.owner for operation in store.asked(Renew)} == owners


async def test_declared_quotas_are_said_once_a_start_and_move_by_their_change(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    async with gateway(fake_upstream, store=store, nano=500) as found:
        for _ in range(3):
            await found.balance(ALICE)
        assert [operation.account for operation in store.asked(Declare)] == ["alice", "bob"]
        await store.apply([Grant(id="g", account="alice", amount=70)])
    async with gateway(fake_upstream, store=store, nano=400) as found:
        assert (await found.balance(ALICE)).quota == 470


async def test_a_declared_quota_that_cannot_be_stops_the_start_and_names_itself(fake_upstream: FakeUpstream) -> None:
    store = MemoryStore()
    async with gateway(fake_upstream, store=store, nano=500):
        await store.apply([Grant(id="g", account="alice", amount=-400)])
    with pytest.raises(ConfigurationError, match=r"consumers\.alice\.quota"):
        async with gateway(fake_upstream, store=store, nano=50):
            pass


async def test_what_a_configuration_error_says_is_for_the_operator_and_not_for_a_client(
    fake_upstream: FakeUpstream,
) -> None:
    store = MemoryStore()
    async with gateway(fake_upstream, store=store, nano=500):
        await store.apply([Grant(id="g", account="alice", amount=-400)])
    found = gateway(fake_upstream, store=store, nano=50)
    async with ask(found) as call:
        assert await call.started() == 500
        told = await call.json()
    assert told["error"]["code"] == "internal_error"
    assert "alice" not in str(told)
    async with get(found.app, "/readyz") as call:
        assert await call.started() == 503
    assert fake_upstream.log == []


async def test_a_start_that_is_cancelled_is_made_up_for_by_the_next_request(fake_upstream: FakeUpstream) -> None:
    opening = anyio.Event()

    class Slow(MemoryStore):
        async def open(self) -> None:
            if not opening.is_set():
                opening.set()
                await anyio.sleep_forever()

    found = gateway(fake_upstream, store=Slow())
    async with anyio.create_task_group() as asking:
        asking.start_soon(found.balance, ALICE)
        await opening.wait()
        asking.cancel_scope.cancel()
    assert (await found.balance(ALICE)).quota > 0
    async with found:
        pass


async def test_with_a_lifespan_a_timer_keeps_the_lease_and_exchanges_need_not(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpp_middleware.stages.reserve.lease.RENEW_AFTER_S", 0.04)
    renewed = anyio.Event()
    store = Delegate()

    async def count(_: Sequence[Operation]) -> None:
        if len(store.asked(Renew)) > 3:
            renewed.set()

    store.before = count
    async with gateway(fake_upstream, store=store) as found:
        with anyio.fail_after(5):
            await renewed.wait()  # and nobody has asked for anything
        await found.complete(ALICE, question())
        assert len(await check_books(found)) == 1


async def test_a_store_that_cannot_be_opened_is_a_503_that_says_when_to_come_back(fake_upstream: FakeUpstream) -> None:
    class Gone(MemoryStore):
        async def open(self) -> None:
            raise StoreError("secret-host:5432 refused the connection")

    found = gateway(fake_upstream, store=Gone())
    async with ask(found) as call:
        assert await call.started() == 503
        assert call.headers["retry-after"] == "1"
        assert b"secret" not in await call.read()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_timer_that_fails_leaves_its_work_to_requests(
    anyio_backend: str, fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Lease) -> None:
        raise LookupError("a bug, for once on purpose")

    monkeypatch.setattr(Lease, "keep", fail)
    found = gateway(fake_upstream)
    opened = found.opened()
    await opened.__aenter__()
    worker = await found.worker()
    with anyio.fail_after(5):
        while worker.timed:
            await checkpoint()
    assert (await found.complete(ALICE, question())).outcome == "completed"
    with pytest.raises(LookupError):
        await opened.__aexit__(None, None, None)
    assert len(found.setup._workers) == 0
