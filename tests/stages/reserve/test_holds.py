"""Taking room: what each answer of a store means, and that nothing is left behind where it is not known."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import pytest
from rig import ALICE, Delegate, check_books, gateway, question

from hpp_middleware import RequestError, StoreError
from hpp_middleware.stages.reserve import holds as stage
from hpp_middleware.stages.reserve.holds import give_back, place, verified
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.operations import Grant, Operation, Release, Renew, Reserve, Result, Status
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.quota import Draft

pytestmark = pytest.mark.anyio

DRAFT = Draft(consumer="alice", model="m", requested_model="m", price=Price(base=Rates(input=1, output=1)))


async def stand(quota: int = 100) -> tuple[Delegate, Lease]:
    """A store in which alice has a quota, and a worker's lease."""
    store = Delegate()
    await store.inner.apply([Grant(id="g", account="alice", amount=quota)])
    return store, Lease(store, "worker-1", swept=lambda _: None)


def asking(want: int = 60, floor: int | None = None) -> Reserve:
    return Reserve(
        id="req_1",
        accounts=("alice",),
        want=want,
        floor=want if floor is None else floor,
        owner="worker-1",
        ttl_s=60,
        orphan_amount=1,
        draft=DRAFT,
    )


def answering(status: Status) -> Callable[[Sequence[Operation], list[Result]], Awaitable[list[Result]]]:
    """A store that says this to every reserve."""

    async def after(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        return [
            Result(id=operation.id, status=status) if isinstance(operation, Reserve) else result
            for operation, result in zip(operations, results, strict=True)
        ]

    return after


async def test_what_fits_is_granted() -> None:
    store, lease = await stand()
    assert (await place(lease, asking(60))).amount == 60
    assert (await store.balance("alice")).held == 60


async def test_what_does_not_fit_is_a_429_that_says_nothing_of_the_account() -> None:
    store, lease = await stand()
    with pytest.raises(RequestError) as caught:
        await place(lease, asking(101))
    assert (caught.value.status, caught.value.code, caught.value.type) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert caught.value.retryable is False
    assert not any(character.isdigit() for character in caught.value.message)
    assert (await store.balance("alice")).held == 0


async def test_a_smaller_grant_lowers_what_is_asked_of_the_upstream(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, nano=2_000_000) as found:  # 16,384 tokens out would cost 32,768,000
        await found.complete(ALICE, {"model": "fake/fake-1", "messages": [{"role": "user", "content": "Hi"}]})
        cap = fake_upstream.log[0].json()["max_tokens"]
        (line,) = await check_books(found)
        assert line.held == 1_000_000
        assert 256 <= cap <= (line.held - 9_000) // 2_000
        with pytest.raises(RequestError):  # a cap of the client's is never altered
            await found.complete(ALICE, question(max_tokens=16_384))


@pytest.mark.parametrize("status", ["conflict", "unknown", "fenced"])
async def test_an_answer_that_is_neither_yes_nor_no_is_a_503(status: Status) -> None:
    store, lease = await stand()
    store.after = answering(status)
    with pytest.raises(StoreError) as caught:
        await place(lease, asking())
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})


async def test_a_fenced_worker_renews_its_lease_and_asks_once_more() -> None:
    store, lease = await stand()
    times = 0

    async def once(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        nonlocal times
        times += any(isinstance(operation, Reserve) for operation in operations)
        return await answering("fenced")(operations, results) if times == 1 else results

    store.after = once
    assert (await place(lease, asking())).amount == 60
    assert len(store.asked(Reserve)) == 2
    assert [type(operation) for operation in store.calls[-1]] == [Renew, Reserve]


async def test_a_worker_that_stays_fenced_does_not_ask_for_ever() -> None:
    store, lease = await stand()
    store.after = answering("fenced")
    with pytest.raises(StoreError):
        await place(lease, asking())
    assert len(store.asked(Reserve)) == 2


async def test_a_reserve_that_is_cancelled_by_force_is_given_back() -> None:
    store, lease = await stand()
    placed = anyio.Event()

    async def slow(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        if any(isinstance(operation, Reserve) for operation in operations):
            placed.set()
            await anyio.sleep_forever()
        return results

    store.after = slow
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(place, lease, asking())
        await placed.wait()
        assert (await store.balance("alice")).held == 60
        tasks.cancel_scope.cancel()
    assert (await store.balance("alice")).held == 0
    assert len(store.asked(Release)) == 1


async def test_giving_back_what_cannot_be_reached_raises_nothing() -> None:
    store, lease = await stand()
    store.error = OSError()
    await give_back(lease, "req_1")


async def test_a_host_that_cancels_while_the_store_is_asked_waits_for_its_answer(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    asked, gate = anyio.Event(), anyio.Event()

    async def slow(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        if any(isinstance(operation, Reserve) for operation in operations):
            asked.set()
            await gate.wait()
        return results

    store.after = slow
    async with gateway(fake_upstream, store=store) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.complete, ALICE, question())
            await asked.wait()
            tasks.cancel_scope.cancel()
            gate.set()
        assert await check_books(found) == []  # released by its owner: nothing had been sent
    assert fake_upstream.log == []


@pytest.mark.parametrize("error", [StoreError("secret"), OSError("secret"), RequestError("secret", status=401)])
async def test_whatever_a_read_raises_is_a_503_without_its_text(error: Exception) -> None:
    async def fail() -> Any:
        raise error

    with pytest.raises(StoreError) as caught:
        await verified(fail())
    assert caught.value.status == 503
    assert "secret" not in caught.value.message


async def test_a_read_that_hangs_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "RESERVE_S", 0.02)
    with anyio.fail_after(5), pytest.raises(StoreError):
        await verified(anyio.sleep_forever())
