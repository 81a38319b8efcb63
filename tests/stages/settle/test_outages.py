"""A gateway whose store does not take a settlement: it is on the disk at once, and charged once in the end."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from journals import names, on_disk, refuse_settlements
from rig import ALICE, USAGE_NANO, Delegate, Witness, ask, check_books, gateway, question

from hpp_middleware import ConfigurationError, Consumer, MemoryStore, StoreError
from hpp_middleware.stages.reserve import lease as leases
from hpp_middleware.stages.settle import settling as settles
from hpp_middleware.testing import FakeUpstream, Script, get
from hpp_middleware.types.operations import Operation, Reserve, Result, Settle

pytestmark = pytest.mark.anyio

BOB = Consumer(id="bob")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settles, "_PAUSES_S", (0.001,))
    monkeypatch.setattr(leases, "REPLAY_AFTER_S", 0.0)


async def test_a_settlement_that_failed_is_replayed_by_anybodys_request(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    store, witness = Delegate(), Witness()
    found = gateway(fake_upstream, store=store, journal=tmp_path, observers=[witness])  # no lifespan, no timer
    await found.balance(ALICE)
    store.before = refuse_settlements
    reply = await found.complete(ALICE, question())
    (record,) = on_disk(tmp_path)
    assert (record.account, record.operation.id) == ("alice", reply.id)
    assert isinstance(record.operation, Settle)
    assert record.operation.amount == USAGE_NANO
    assert witness.alarms == ["settle_failed"]
    with pytest.raises(StoreError):  # no figures are better than wrong ones
        await found.balance(ALICE)
    with pytest.raises(StoreError):
        await found.entries(ALICE, reply.id)
    assert (await found.balance(BOB)).used == 0
    store.before = None
    await found.complete(BOB, question())
    assert on_disk(tmp_path) == []
    (line,) = await check_books(found)
    assert (line.hold, line.amount) == (reply.id, USAGE_NANO)
    assert [told.entries[0].account for told in witness.settled] == ["alice", "bob"]
    assert (await found.entries(ALICE, reply.id)) == [line]
    async with found:
        pass


async def test_it_is_on_the_disk_from_the_first_try_that_fails(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    store, found_there = Delegate(), []

    async def look(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            found_there.append(len(on_disk(tmp_path)))
            raise OSError

    store.before = look
    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        await found.complete(ALICE, question())
        assert found_there == [0, 1]
        store.before = None


async def test_a_store_that_hangs_is_not_waited_for_long_before_it_is_written_down(
    fake_upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settles, "PATIENCE_S", 0.02)
    store = Delegate()

    async def hang(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            await anyio.sleep_forever()

    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        store.before = hang
        with anyio.fail_after(leases.STORE_S / 2):
            await found.complete(ALICE, question())
        assert len(on_disk(tmp_path)) == 1
        store.before = None
        assert (await found.balance(ALICE)).used == USAGE_NANO
        assert on_disk(tmp_path) == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_settlement_that_is_cancelled_by_force_is_owed(anyio_backend: str, tmp_path: Path) -> None:
    store, settling = Delegate(), anyio.Event()

    async def hang(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            store.before = refuse_settlements
            settling.set()
            await anyio.sleep_forever()

    store.before = hang
    async with FakeUpstream() as upstream:
        async with gateway(upstream, store=store, journal=tmp_path) as found:
            task = asyncio.ensure_future(found.complete(ALICE, question()))
            await settling.wait()
            task.cancel()  # asyncio's own: no scope of ours shields from it
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(StoreError):
                await found.balance(ALICE)
            assert len(on_disk(tmp_path)) == 1  # the replay that failed has written it down
        store.before = None
        async with gateway(upstream, store=store, journal=tmp_path) as found:
            (line,) = await check_books(found)
            assert line.amount == USAGE_NANO


async def test_it_is_replayed_by_the_timer_where_there_is_no_traffic(
    fake_upstream: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_AFTER_S", 0.02)
    store, settled = Delegate(), anyio.Event()

    async def tell(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        if any(isinstance(operation, Settle) for operation in operations):
            settled.set()
        return results

    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        store.before = refuse_settlements
        await found.complete(ALICE, question())
        store.before, store.after = None, tell
        with anyio.fail_after(10):
            await settled.wait()
        (line,) = await check_books(found)
        assert line.amount == USAGE_NANO
    assert on_disk(tmp_path) == []


@pytest.mark.parametrize("lost", ["before the commit", "after the commit"])
async def test_what_a_gateway_leaves_is_charged_once_by_the_next(
    fake_upstream: FakeUpstream, tmp_path: Path, lost: str
) -> None:
    store, books = Delegate(), MemoryStore()
    store.inner = books

    async def lose(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        await refuse_settlements(operations)
        return results

    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        await found.balance(ALICE)
        if lost == "before the commit":
            store.before = refuse_settlements
        else:
            store.after = lose
        for _ in range(3):
            await found.complete(ALICE, question())
    assert len(on_disk(tmp_path)) == 3
    for _ in range(2):
        async with gateway(fake_upstream, store=books, journal=tmp_path) as found:
            assert on_disk(tmp_path) == []
            lines = await check_books(found)
            assert [line.amount for line in lines] == [USAGE_NANO] * 3


async def test_a_full_journal_refuses_before_the_hold_and_lets_nothing_upstream(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    store = Delegate()
    async with gateway(fake_upstream, store=store, journal=tmp_path, journal_slots=2) as found:
        await found.balance(ALICE)
        store.before = refuse_settlements
        for _ in range(2):
            await found.complete(ALICE, question())
        asked = len(store.asked(Reserve))
        async with ask(found) as call:
            assert await call.started() == 503
            assert call.headers["retry-after"] == "1"
            assert (await call.json())["error"]["code"] == "quota_unavailable"
        assert len(store.asked(Reserve)) == asked
        assert len(fake_upstream.log) == 2
        async with get(found.app, "/readyz") as call:
            assert await call.started() == 503
            standing = await call.json()
        assert standing["journal"] == {"pending": 2, "slots": 2}
        assert (standing["status"], standing["stores"]) == ("unavailable", "reachable")
        store.before = None
        await found.complete(ALICE, question())  # a request that would be refused is traffic enough
        await found.balance(ALICE)
        async with get(found.app, "/readyz") as call:
            assert await call.started() == 200
            assert (await call.json())["journal"] == {"pending": 0, "slots": 2}
        assert len(await check_books(found)) == 3


async def test_every_request_in_flight_has_a_slot_to_fall_back_on(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    fake_upstream.script = Script(texts=("word ",), endless=True, delay_between_s=0.01)
    store = Delegate()
    async with gateway(fake_upstream, store=store, journal=tmp_path, journal_slots=2) as found:
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                begun = anyio.Event()

                async def take(_data: bytes, begun: anyio.Event = begun) -> None:
                    begun.set()

                async def stream(take: Any = take) -> None:
                    await found.complete(ALICE, question(stream=True, max_tokens=10_000), send=take)

                tasks.start_soon(stream)
                await begun.wait()
            with pytest.raises(StoreError):
                await found.complete(BOB, question())
            assert len(fake_upstream.log) == 2
            store.before = refuse_settlements
            tasks.cancel_scope.cancel()
        assert len(on_disk(tmp_path)) == 2  # both found their slot
        store.before = None
        await found.balance(ALICE)
        assert len(await check_books(found)) == 2


async def test_a_gateway_that_cannot_start_keeps_no_file_from_those_that_can(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    store = Delegate()
    late = gateway(fake_upstream, store=store, journal=tmp_path)
    store.error = OSError()
    with pytest.raises(StoreError):
        await late.balance(ALICE)
    store.error = None
    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        await found.balance(ALICE)
        assert names(tmp_path) == ["settle-0.journal"]
        await late.complete(ALICE, question())  # it opens another one when it starts after all
        assert names(tmp_path) == ["settle-0.journal", "settle-1.journal"]
        async with late:
            pass


async def test_two_gateways_have_two_files(fake_upstream: FakeUpstream, tmp_path: Path) -> None:
    store = MemoryStore()
    async with (
        gateway(fake_upstream, store=store, journal=tmp_path) as one,
        gateway(fake_upstream, store=store, journal=str(tmp_path)) as two,
    ):
        await one.balance(ALICE)
        await two.balance(ALICE)
        assert names(tmp_path) == ["settle-0.journal", "settle-1.journal"]


def test_a_journal_of_no_slots_is_refused_while_building(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"journal\.slots"):
        gateway("http://127.0.0.1:9/v1", journal=tmp_path, journal_slots=0)
    assert names(tmp_path) == []
