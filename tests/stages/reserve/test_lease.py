"""A worker's lease: renewal and sweep that ride on traffic."""

from collections.abc import Sequence

import anyio
import pytest
from rig import Delegate

from hpp_middleware import StoreError
from hpp_middleware.stages.reserve import lease as stage
from hpp_middleware.stages.reserve.lease import LEASE_S, MARGIN_S
from hpp_middleware.types.operations import Operation, Release, Renew, Result, Sweep
from stages.leasing import Clock, kinds, lease

pytestmark = pytest.mark.anyio


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
    term = held.term
    for _ in range(4):
        clock.now += LEASE_S - 0.01
        await held.apply([])
        assert held.covers(term)


async def test_it_is_not_covered_within_the_margin_and_again_after_a_renewal_in_time() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    term = held.term
    clock.now += LEASE_S - MARGIN_S
    assert not held.covers(term)
    await held.apply([])
    assert held.covers(term)


async def test_what_was_placed_before_a_lease_ran_out_is_not_covered_by_the_one_after_it() -> None:
    clock = Clock()
    held = lease(Delegate(), clock)
    await held.apply([])
    before = held.term
    clock.now += LEASE_S
    assert not held.covers(before)
    await held.apply([])
    assert held.holds
    assert not held.covers(before), "it has been swept meanwhile"
    assert held.covers(held.term)


async def test_a_renewal_that_was_answered_after_the_lease_had_run_out_covers_nothing_of_before() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    await held.apply([])
    before = held.term
    clock.now += LEASE_S - 1

    async def slow(_: Sequence[Operation]) -> None:
        clock.now += 2

    store.before = slow
    await held.apply([])
    assert held.holds
    assert not held.covers(before)


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


async def test_of_many_that_come_when_a_sweep_is_due_one_sweeps() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    await held.apply([])
    for fails in (False, True, False):
        clock.now += stage.SWEEP_AFTER_S
        store.calls.clear()
        asked, answer = anyio.Event(), anyio.Event()

        async def slow(operations: Sequence[Operation], *, fails: bool = fails) -> None:
            if len(store.calls) == 10:
                asked.set()  # noqa: B023  # it is awaited in this round
            await answer.wait()  # noqa: B023  # as above
            if fails and Sweep in kinds(operations):
                raise StoreError("it cannot be done")

        store.before = slow
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(held.apply, [Release(id=f"r-{number}")])
            with anyio.fail_after(5):
                await asked.wait()
            answer.set()
        assert len(store.asked(Sweep)) == 1
        assert len({each.id for each in store.asked(Release)}) == 10


async def test_after_a_sweep_that_was_cancelled_the_next_request_sweeps() -> None:
    store, clock = Delegate(), Clock()
    held = lease(store, clock)
    store.before = lambda _: anyio.sleep_forever()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(held.apply, [Release(id="r")])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert kinds(store.calls[-1]) == [Renew, Sweep, Release]
    store.before = None
    await held.apply([Release(id="s")])
    assert kinds(store.calls[-1]) == [Renew, Sweep, Release]


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
