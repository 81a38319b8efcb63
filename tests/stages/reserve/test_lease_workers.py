"""What a lease is for: workers that die, sleep, and wake too late."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx2
import pytest
from rig import ALICE, Delegate, Witness, ask, check_books, gateway, question

from hpp_middleware import MemoryStore, StoreError
from hpp_middleware.ports import Transport, UpstreamResponse
from hpp_middleware.stages.reserve import lease as stage
from hpp_middleware.stages.reserve.lease import LEASE_S, MARGIN_S
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Operation, Renew, Reserve, Result, Settle
from stages.leasing import Clock, kinds, lease

pytestmark = pytest.mark.anyio


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
    monkeypatch.setattr("hpp_middleware.stages.settle.settling._PAUSES_S", ())
    clock = Clock()
    store, witness = MemoryStore(clock=clock), Witness()
    hold = await orphan(store, fake_upstream)
    found = gateway(fake_upstream, store=store, observers=[witness])
    assert (await found.balance(ALICE)).held > 0
    clock.now += LEASE_S + 1
    lease = (await found.worker()).lease
    lease._swept_at = lease._calm_until = float("-inf")  # five seconds have passed for the worker, too
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
        held._clock = clock
        held._renewed = held._swept_at = held._calm_until = float("-inf")
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
            held._clock = clock
            held._renewed = held._swept_at = held._calm_until = float("-inf")
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
