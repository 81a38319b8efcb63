"""What a long stream comes to, told with the lease's renewals."""

from collections.abc import Sequence
from functools import partial

import anyio
import pytest
from rig import ALICE, Delegate, gateway, question

from hpp_middleware import MemoryStore, StoreError
from hpp_middleware.stages.reserve import lease as stage
from hpp_middleware.stages.reserve.lease import LEASE_S, RENEW_AFTER_S
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.operations import Checkpoint, Operation, Release, Renew, Result
from hpp_middleware.types.quota import Entry
from stages.leasing import Clock, kinds, lease

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_goes_with_each_renewal_where_the_amount_rose() -> None:
    store, clock, amount = Delegate(), Clock(), 5
    held = lease(store, clock)
    held.watch("req_1", lambda: amount, amount)
    told = []
    for amount in (5, 5, 8, 8, 9):  # noqa: B007  # read by the lease
        await held.apply([])
        told.append([operation.orphan_amount for operation in store.calls[-1] if isinstance(operation, Checkpoint)])
        clock.now += RENEW_AFTER_S
    assert told == [[], [], [8], [], [9]]
    held.unwatch("req_1")
    held.unwatch("req_1")
    amount = 100
    await held.apply([])
    assert len(store.asked(Checkpoint)) == 2


async def test_between_renewals_nothing_is_told() -> None:
    store, clock, amount = Delegate(), Clock(), 0
    held = lease(store, clock)
    await held.apply([])
    held.watch("req_1", lambda: amount, amount)
    amount = 7
    clock.now += 1
    await held.apply([Release(id="r")])
    assert store.asked(Checkpoint) == []


async def test_a_checkpoint_that_fails_takes_nobodys_request_with_it_and_is_tried_at_the_next_renewal() -> None:
    store, clock, amount = Delegate(), Clock(), 0

    async def no_checkpoint(operations: Sequence[Operation]) -> None:
        if Checkpoint in kinds(operations):
            raise StoreError("a hold that cannot be read")

    held = lease(store, clock)
    held.watch("req_1", lambda: amount, amount)
    amount = 7
    store.before = no_checkpoint
    (result,) = await held.apply([Release(id="r")])
    assert result.status == "done"
    assert held.holds
    store.before = None
    clock.now += RENEW_AFTER_S
    await held.apply([])
    assert Checkpoint in kinds(store.calls[-1])


async def test_many_streams_are_told_a_bounded_number_at_a_time() -> None:
    store, clock, amount = Delegate(), Clock(), 0
    held = lease(store, clock)
    for number in range(150):
        held.watch(f"req_{number}", lambda: amount, amount)
    amount = 7
    for _ in range(4):
        await held.apply([Release(id="r")])
    told = [operation.id for operation in store.asked(Checkpoint)]
    assert len(told) == len(set(told)) == 150
    assert max(kinds(call).count(Checkpoint) for call in store.calls) <= 64


async def test_a_stream_whose_worker_dies_is_charged_what_it_had_come_to(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RENEW_AFTER_S", 0.02)
    fake_upstream.script = Script(texts=("word " * 20,), endless=True, delay_between_s=0.01)
    clock = Clock()
    store = Delegate(MemoryStore(clock=clock))
    swept: list[Entry] = []
    dead = anyio.Event()

    async def die(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        done = [each for each in results if each.status == "done"]
        if Checkpoint in kinds(operations) and len(store.asked(Checkpoint)) > 3 and len(done) == len(results):
            store.error = OSError()  # from here on the worker is as good as dead
            dead.set()
        return results

    store.after = die
    found = gateway(fake_upstream, store=store)
    async with anyio.create_task_group() as asking:
        asking.start_soon(partial(found.complete, ALICE, question(stream=True, max_tokens=100_000)))
        with anyio.fail_after(30):
            await dead.wait()
        await anyio.sleep(0.1)  # in which it tries to go on
        asking.cancel_scope.cancel()
    asked = store.asked(Checkpoint)
    amounts = [each.orphan_amount for each in asked]
    assert amounts == sorted(amounts)  # one that was not acknowledged yet may be told again
    (hold,) = await store.inner.holds([asked[0].id])  # type: ignore[attr-defined]  # MemoryStore has it
    assert hold.orphan_amount == amounts[3]
    assert hold.orphan_amount <= hold.amount
    clock.now += LEASE_S + 1
    await lease(store.inner, clock, swept).apply([])
    (line,) = swept
    assert (line.report.outcome, line.amount) == ("orphaned", amounts[3])


@pytest.mark.parametrize("orphan", ["hold", "free"])
async def test_under_another_orphan_policy_no_checkpoint_is_made(
    orphan: str, fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RENEW_AFTER_S", 0.02)
    fake_upstream.script = Script(texts=("word " * 20,) * 30, delay_between_s=0.01)
    store = Delegate()
    async with gateway(fake_upstream, store=store, orphan=orphan) as found:
        await found.complete(ALICE, question(stream=True, max_tokens=10_000))
    assert len(store.asked(Renew)) > 3
    assert store.asked(Checkpoint) == []
