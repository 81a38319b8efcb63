"""A worker that slept past its lease, and has renewed it since, sends nothing for what it held before."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rig import ALICE, USAGE_NANO, Delegate, gateway, question

from hpp_middleware import MemoryStore, StoreError
from hpp_middleware.stages.reserve.lease import LEASE_S
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Operation, Renew, Reserve, Result, Sweep

pytestmark = pytest.mark.anyio


class Clock:
    """One for store and worker, as if there were only one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A transport before whose first byte something happens."""

    def __init__(self) -> None:
        self.inner = HttpxTransport()
        self.before: Callable[[], Any] | None = None

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> Any:
        if self.before is not None:
            await self.before()
        return await self.inner.send(call, provider=provider, sent=sent)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.mark.parametrize("moment", ["while the store answers", "before the first byte"])
async def test_a_hold_from_before_the_sleep_is_not_sent_under_a_new_lease(
    moment: str, fake_upstream: FakeUpstream
) -> None:
    clock, transport = Clock(), Slow()
    store = Delegate(MemoryStore(clock=clock))
    async with gateway(fake_upstream, store=store, transports={"fake": transport}) as found:
        lease = (await found.worker()).lease
        lease._clock = clock
        await lease.apply([], renew=True)

        async def sleep() -> None:
            store.after = transport.before = None
            clock.now += LEASE_S + 1
            (swept,) = await store.inner.apply([Sweep()])
            assert swept.amount == 1
            await lease.apply([], renew=True)
            assert lease.holds

        async def sleep_once_held(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
            if any(isinstance(operation, Reserve) for operation in operations):
                await sleep()
            return results

        if moment == "before the first byte":
            transport.before = sleep
        else:
            store.after = sleep_once_held
        with pytest.raises(StoreError):
            await found.complete(ALICE, question())
        assert fake_upstream.log == []
        assert [line.line for line in await found.store.lines("alice")] == ["resolution", "correction"]
        assert (await found.balance(ALICE)).used == 0
        await found.complete(ALICE, question())
        assert (await found.balance(ALICE)).used == USAGE_NANO
    await transport.aclose()


async def test_a_lease_that_is_renewed_in_time_covers_what_was_placed_under_it(fake_upstream: FakeUpstream) -> None:
    clock, transport = Clock(), Slow()
    async with gateway(fake_upstream, store=MemoryStore(clock=clock), transports={"fake": transport}) as found:
        lease = (await found.worker()).lease
        lease._clock = clock
        await lease.apply([], renew=True)

        async def wait_long() -> None:
            for _ in range(5):
                clock.now += LEASE_S / 2
                await lease.apply([])

        transport.before = wait_long
        await found.complete(ALICE, question())
        assert (await found.balance(ALICE)).used == USAGE_NANO
    await transport.aclose()


async def test_the_first_request_after_a_long_rest_is_served(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    store = Delegate(MemoryStore(clock=clock))
    async with gateway(fake_upstream, store=store) as found:
        (await found.worker()).lease._clock = clock
        for _ in range(3):
            clock.now += 10 * LEASE_S
            await found.complete(ALICE, question())
        assert len(store.asked(Renew)) >= 3
        assert (await found.balance(ALICE)).used == 3 * USAGE_NANO
