"""A worker's lease: renewal and sweep that ride on traffic, by a clock that the test sets."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import httpx2
import pytest
from rig import ALICE, Delegate, Witness, ask, check_books, gateway, question

from hpp_middleware import MemoryStore, StoreError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.stages import lease as stage
from hpp_middleware.stages.lease import LEASE_S, MARGIN_S, RENEW_AFTER_S, Lease
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Checkpoint, Operation, Release, Renew, Reserve, Result, Settle, Sweep
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio


class Clock:
    """One for store and worker, as if there were only one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease(store: Any, clock: Clock, swept: list[Entry] | None = None) -> Lease:
    return Lease(store, "worker-1", swept=(swept if swept is not None else []).extend, clock=clock)


def kinds(operations: Sequence[Operation]) -> list[type[Operation]]:
    return [type(operation) for operation in operations]


async def test_the_first_request_takes_the_lease_and_sweeps() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    assert not held.holds
    (result,) = await held.apply([Release(id="r")])
    assert result.id == "r"
    assert kinds(store.calls[0]) == [Renew, Sweep, Release]
    assert held.holds


async def test_upkeep_rides_on_traffic_when_it_is_due_and_not_before() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    seen = []
    for _ in range(5):
        await held.apply([Release(id="r")])
        seen.append(kinds(store.calls[-1]))
        clock.now += 4
    # at 0, 4, 8, 12 and 16 seconds: a sweep every 5, a renewal every 10
    assert seen == [
        [Renew, Sweep, Release],
        [Release],
        [Sweep, Release],
        [Renew, Release],
        [Sweep, Release],
    ]


async def test_nothing_is_asked_of_the_store_where_nothing_is_due() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    await held.apply([])
    assert await held.apply([]) == []
    assert len(store.calls) == 1


async def test_a_lease_is_not_trusted_to_its_last_second() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    clock.now += LEASE_S - MARGIN_S - 0.01
    assert held.holds
    clock.now += 0.02
    assert not held.holds


async def test_what_was_placed_is_covered_for_as_long_as_the_lease_is_renewed_in_time() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    covered = held.cover()
    for _ in range(4):
        clock.now += LEASE_S - 0.01
        await held.apply([])
        assert covered()


async def test_it_is_not_covered_within_the_margin_and_again_after_a_renewal_in_time() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    covered = held.cover()
    clock.now += LEASE_S - MARGIN_S
    assert not covered()
    await held.apply([])
    assert covered()


async def test_what_was_placed_before_a_lease_ran_out_is_not_covered_by_the_one_after_it() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    before = held.cover()
    clock.now += LEASE_S
    assert not before()
    await held.apply([])
    assert held.holds
    assert not before(), "it has been swept meanwhile"
    assert held.cover()()


async def test_a_renewal_that_was_answered_after_the_lease_had_run_out_covers_nothing_of_before() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    await held.apply([])
    before = held.cover()
    clock.now += LEASE_S - 1

    async def slow(_: Sequence[Operation]) -> None:
        clock.now += 2

    store.before = slow
    await held.apply([])
    assert held.holds
    assert not before()


async def test_a_sweep_that_was_full_is_soon_due_again() -> None:
    store, clock = Delegate(), Clock()
    full = True

    async def fill(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        return [
            Result(status="done", more=full) if isinstance(operation, Sweep) else result
            for operation, result in zip(operations, results, strict=True)
        ]

    store.after = fill
    held = lease(store, clock)
    seen = []
    for number in range(5):
        full = number < 2
        await held.apply([Release(id="r")])
        seen.append(Sweep in kinds(store.calls[-1]))
        await held.apply([Release(id="r")])
        assert Sweep not in kinds(store.calls[-1]), "not with every request"
        clock.now += stage.SWEEP_ON_S + 0.001
    assert seen == [True, True, True, False, False]


async def test_a_lease_counts_from_before_the_store_was_asked() -> None:
    store, clock = Delegate(), Clock()

    async def slow(_: Sequence[Operation]) -> None:
        clock.now += LEASE_S - MARGIN_S + 1

    store.before = slow
    held = lease(store, clock)
    await held.apply([])
    assert not held.holds


@pytest.mark.parametrize("error", [StoreError("x"), OSError("secret"), ValueError("secret")])
async def test_a_failure_renews_nothing_and_is_a_store_error(error: Exception) -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    store.error = error
    with pytest.raises(StoreError) as caught:
        await held.apply([])
    assert "secret" not in caught.value.message
    assert not held.holds
    store.error = None
    await held.apply([])
    assert kinds(store.calls[-1]) == [Renew, Sweep]


async def test_a_renewal_that_the_store_refuses_is_none() -> None:
    store, clock = Delegate(), Clock()

    async def refuse(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        return [
            Result(id=operation.owner, status="fenced") if isinstance(operation, Renew) else result
            for operation, result in zip(operations, results, strict=True)
        ]

    store.after = refuse
    held = lease(store, clock)
    await held.apply([])
    assert not held.holds


async def test_a_store_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "STORE_S", 0.02)
    store = Delegate()

    async def hang(_: Sequence[Operation]) -> None:
        await anyio.sleep_forever()

    store.before = hang
    with anyio.fail_after(5), pytest.raises(StoreError):
        await lease(store, Clock()).apply([])


async def test_a_timer_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "RENEW_AFTER_S", 0.02)
    store = Delegate()
    held = lease(store, Clock())
    tried_again = anyio.Event()

    async def fail_twice(_: Sequence[Operation]) -> None:
        if len(store.calls) < 3:
            raise OSError
        tried_again.set()

    store.before = fail_twice
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(held.keep)
            await tried_again.wait()
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert held.holds


async def orphan(store: MemoryStore, upstream: FakeUpstream) -> str:
    """A hold whose worker has died: settled by nobody."""
    dead = Delegate(store)

    async def die(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            raise OSError

    dead.before = die
    async with gateway(upstream, store=dead) as worker:
        reply = await worker.complete(ALICE, question())
    assert (await store.balance("alice")).held > 0
    return reply.id


async def test_a_dead_workers_hold_is_swept_by_another_ones_traffic_and_observers_are_told(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpp_middleware.stages.settle._PAUSES_S", ())
    clock = Clock()
    store, witness = MemoryStore(clock=clock), Witness()
    hold = await orphan(store, fake_upstream)
    found = gateway(fake_upstream, store=store, observers=[witness])
    assert (await found.balance(ALICE)).held > 0
    clock.now += LEASE_S + 1
    (await found.worker()).lease._swept_at = float("-inf")  # five seconds have passed for the worker, too
    assert (await found.balance(ALICE)).held == 0
    (line,) = await check_books(found)
    assert (line.hold, line.report.outcome, line.report.estimated) == (hold, "orphaned", True)
    assert 0 < line.amount < line.held
    (told,) = witness.settled
    assert told.entries == (line,)
    async with found:
        pass


async def test_a_worker_that_slept_past_its_lease_renews_it_and_goes_on(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    async with gateway(fake_upstream, store=MemoryStore(clock=clock)) as found:
        await found.complete(ALICE, question())
        clock.now += 3600  # for the store; the worker's own clock stood still
        await found.complete(ALICE, question())
        assert len(await check_books(found)) == 2


async def test_a_worker_that_is_stopped_between_hold_and_upstream_forwards_nothing(
    fake_upstream: FakeUpstream,
) -> None:
    store, clock = Delegate(), Clock()

    async def stop(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        if Reserve in kinds(operations):
            clock.now += LEASE_S - MARGIN_S
        return results

    async with gateway(fake_upstream, store=store) as found:
        held = (await found.worker()).lease
        held._clock, held._renewed, held._swept_at = clock, float("-inf"), float("-inf")
        store.after = stop
        with pytest.raises(StoreError) as caught:
            await found.complete(ALICE, question())
        assert caught.value.status == 503
        assert await check_books(found) == []
        store.after = None
        await found.complete(ALICE, question())
    assert len(fake_upstream.log) == 1


async def test_a_long_stream_without_a_timer_keeps_its_own_lease(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "RENEW_AFTER_S", 0.04)
    store = Delegate()
    fake_upstream.script = Script(delay_head_s=0.5)
    found = gateway(fake_upstream, store=store)
    await found.complete(ALICE, question())
    assert len(store.asked(Renew)) > 3
    async with found:
        pass


async def test_a_sweep_that_fails_takes_nobodys_request_with_it() -> None:
    store, clock = Delegate(), Clock()

    async def no_sweep(operations: Sequence[Operation]) -> None:
        if Sweep in kinds(operations):
            raise StoreError("a hold that cannot be read")

    store.before = no_sweep
    held = lease(store, clock)
    (result,) = await held.apply([Release(id="r")])
    assert result.status == "done"
    assert [kinds(call) for call in store.calls] == [[Renew, Sweep, Release], [Renew, Release]]
    await held.apply([Release(id="s")])
    assert kinds(store.calls[-1]) == [Release]  # it is tried again when it is due again, not at once
    clock.now += 5
    await held.apply([Release(id="t")])
    assert Sweep in kinds(store.calls[-2])


async def test_a_checkpoint_goes_with_each_renewal_where_the_amount_rose() -> None:
    store, clock, amount = Delegate(), Clock(), 5
    held = lease(store, clock)
    held.watch("req_1", lambda: amount)
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
    held.watch("req_1", lambda: amount)
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
    held.watch("req_1", lambda: amount)
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
        held.watch(f"req_{number}", lambda: amount)
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

    async def die(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        done = [each for each in results if each.status == "done"]
        if Checkpoint in kinds(operations) and len(store.asked(Checkpoint)) > 3 and len(done) == len(results):
            store.error = OSError()  # from here on the worker is as good as dead
        return results

    store.after = die
    found = gateway(fake_upstream, store=store)
    with anyio.move_on_after(0.5):
        await found.complete(ALICE, question(stream=True, max_tokens=100_000))
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


class Late:
    """A transport that is stopped, with the whole process, just before the first byte."""

    def __init__(self, inner: Transport, stop: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._stop = stop

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        await self._stop()
        return await self._inner.send(call, provider=provider, sent=sent)

    async def aclose(self) -> None:
        await self._inner.aclose()


@pytest.mark.parametrize("swept", [False, True])
@pytest.mark.parametrize("own_client", [False, True])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_worker_that_wakes_past_its_lease_sends_no_byte_and_charges_nothing(
    fake_upstream: FakeUpstream, *, stream: bool, own_client: bool, swept: bool
) -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    stopped = True

    async def stop() -> None:
        if stopped:
            clock.now += LEASE_S - MARGIN_S + 10 * swept
            if swept:
                await lease(store, clock).apply([])

    client: Any = httpx2.AsyncClient()  # its signatures are narrower than what is asked of a host's
    async with client:
        late = Late(HttpxTransport(client) if own_client else HttpxTransport(), stop)
        async with gateway(fake_upstream, store=store, transports={"fake": late}) as found:
            held = (await found.worker()).lease
            held._clock, held._renewed, held._swept_at = clock, float("-inf"), float("-inf")
            async with ask(found, stream=stream) as call:
                assert await call.started() == 503
                assert (await call.json())["error"]["code"] == "quota_unavailable"
                await call.returned()
            assert fake_upstream.log == []
            lines = await check_books(found)
            assert [line.line for line in lines] == (["resolution", "correction"] if swept else [])
            assert sum(line.amount for line in lines) == 0
            stopped = False
            assert (await found.complete(ALICE, question())).status == 200
        await late.aclose()
    assert len(fake_upstream.log) == 1
