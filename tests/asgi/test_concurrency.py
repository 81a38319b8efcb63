"""Many at once: what is sold is there, on every store, and the upstream is the witness."""

from pathlib import Path

import anyio
import pytest
from rig import KEY, ask, check_books, gateway, read

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.ports import Store
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.provider import Limits

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "hpp.db")


async def hold_of_one(upstream: FakeUpstream, *, stream: bool) -> int:
    """What a request is held for, in nano-dollars."""
    async with gateway(upstream) as found:
        async with ask(found, stream=stream) as call:
            await call.read()
            await call.returned()
        (line,) = await check_books(found)
        return line.held


@pytest.mark.parametrize("stream", [False, True])
async def test_64_requests_on_room_for_ten_are_ten_at_the_upstream(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
    store: Store,
) -> None:
    room = 10 * await hold_of_one(fake_upstream, stream=stream) + 1
    before = len(fake_upstream.log)
    fake_upstream.script = Script(delay_head_s=60)  # none makes room for another before all have asked
    statuses: list[int] = []

    async with gateway(fake_upstream, store=store, nano=room, limits=Limits(json_wait_s=0.1)) as found:
        decided = anyio.Event()

        async def one() -> None:
            async with ask(found, stream=stream) as call:
                statuses.append(await call.started())
                if len(statuses) == 54:
                    decided.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(64):
                    tasks.start_soon(one)
                await fake_upstream.arrived(before + 10)
                await decided.wait()
                balance = await found.store.balance("alice")
                assert (balance.held, balance.used) == (room - 1, 0)
                assert statuses == [429] * 54
                tasks.cancel_scope.cancel()
        assert len(fake_upstream.log) - before == 10
        with anyio.fail_after(10):
            lines = await check_books(found)
        assert len(lines) == 10
        assert (await found.store.balance("alice")).used <= room


async def test_many_answered_at_once_are_each_counted_once(fake_upstream: FakeUpstream, store: Store) -> None:
    fake_upstream.script = Script(delay_between_s=0.01)
    async with gateway(fake_upstream, store=store) as found:

        async def one(number: int) -> None:
            async with ask(found, stream=number % 2 == 0) as call:
                assert await call.started() == 200
                await call.read()
                await call.returned()

        async with anyio.create_task_group() as tasks:
            for number in range(48):
                tasks.start_soon(one, number)
        lines = await check_books(found)
        assert len(lines) == len(fake_upstream.log) == 48
        total = fake_upstream.usage_total()
        assert sum(line.amount for line in lines) == total.prompt * 1_000 + total.completion * 2_000
        assert len({line.hold for line in lines}) == 48


async def test_clients_that_leave_at_random_points_leave_nothing_held(
    fake_upstream: FakeUpstream, store: Store
) -> None:
    fake_upstream.script = Script(delay_between_s=0.005, texts=("word ",) * 10)
    async with gateway(fake_upstream, store=store) as found:

        async def one(number: int) -> None:
            async with ask(found, stream=number % 3 != 0) as call:
                with anyio.move_on_after(0.002 * number):
                    await call.read()
                call.disconnect()
                await call.returned()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(48):
                    tasks.start_soon(one, number)
            await fake_upstream.idle()
        lines = await check_books(found)
        answered = sum(exchange.bytes_sent > 0 for exchange in fake_upstream.log)
        assert answered <= len(lines) <= 48  # one that left in the moment of sending is presumed sent
        assert all(line.amount > 0 for line in lines)
        assert (await read(found, "/api/usage", key=KEY))["requests"] == len(lines)
