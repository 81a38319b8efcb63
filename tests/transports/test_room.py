"""The room of a pool: never more than there is, none lost, whoever leaves at whatever moment."""

import asyncio
import random

import pytest
from rounds import rounds

from hpp_middleware.transports.native.room import Room

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


async def test_it_goes_to_who_has_waited_longest(anyio_backend: str) -> None:
    room, order = Room(1), []
    await room.take()

    async def wait(name: str) -> None:
        await room.take()
        order.append(name)
        room.give()

    waiting = [asyncio.create_task(wait(name)) for name in "abc"]
    await asyncio.sleep(0)
    waiting[0].cancel()
    room.give()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (order, room.left) == (["b", "c"], 1)


async def test_what_came_to_who_leaves_in_that_moment_goes_to_the_next(anyio_backend: str) -> None:
    room = Room(1)
    await room.take()
    first, second = asyncio.create_task(room.take()), asyncio.create_task(room.take())
    await asyncio.sleep(0)
    room.give()
    assert room.left == 0, "it is the first one's"
    first.cancel()
    await second
    assert first.cancelled()
    room.give()
    assert room.left == 1


@pytest.mark.parametrize("seed", range(rounds(5, soak=200)))
async def test_none_is_lost_and_none_is_too_many(anyio_backend: str, seed: int) -> None:
    rng, room, taken = random.Random(seed), Room(3), 0

    async def use() -> None:
        nonlocal taken
        await room.take()
        taken += 1
        assert taken <= 3
        try:
            for _ in range(rng.randrange(4)):
                await asyncio.sleep(0)
        finally:
            taken -= 1
            room.give()

    tasks: list[asyncio.Task[None]] = []
    for _ in range(500):
        tasks.append(asyncio.create_task(use()))
        if rng.random() < 0.4:
            rng.choice(tasks[-20:]).cancel()
        if rng.random() < 0.5:
            await asyncio.sleep(0)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(each is None or isinstance(each, asyncio.CancelledError) for each in found)
    assert (room.left, taken) == (3, 0)
