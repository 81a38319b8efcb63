"""
A process of its own at a limit store: ``python -m hpp_middleware.testing.stores.limit_worker`` and what
:mod:`hpp_middleware.testing.stores.worker` is told, too. Run by :mod:`hpp_middleware.testing.stores.limit_processes`.
"""

import sys

import anyio

from hpp_middleware.ports import LimitStore
from hpp_middleware.testing.stores.limit_processes import EACH, TTL_S
from hpp_middleware.testing.stores.limiting import ask, draw, slot
from hpp_middleware.testing.stores.processes import store_at
from hpp_middleware.testing.stores.worker import say

__all__ = ["main"]


async def race(store: LimitStore, name: str, count: int) -> None:
    """Take from a window of ten, and of seven places, in so many tasks at once; say how many had each."""
    drawn = placed = 0

    async def one(number: int) -> None:
        nonlocal drawn, placed
        window = await store.take(ask(draw(1, 10, key="race", each=EACH)))
        place = await store.take(ask(slot(f"{name}-{number}", 7, key="at-once")))
        drawn += window.admitted
        placed += place.admitted

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    say(f"{drawn} {placed}")


async def correct(store: LimitStore, _name: str, count: int) -> None:
    """Take one and find out that it was three, so many times."""
    for _ in range(count):
        await store.take(ask(draw(1, 10**3, key="sum", each=10**10)))
        await store.correct(ask(draw(2, 10**3, key="sum", each=10**10)))


async def hold(store: LimitStore, name: str, _count: int) -> None:
    """Take a place, say so, and keep it until killed."""
    say(str((await store.take(ask(slot(name, 1, key="held"), ttl_s=TTL_S))).admitted))
    await anyio.sleep_forever()


TASKS = {"race": race, "correct": correct, "hold": hold}


async def main(factory: str, place: str, name: str, task: str, count: str) -> None:
    """Open the store, wait for the word, and do the task."""
    store = await store_at(factory, place)
    say("ready")
    sys.stdin.readline()
    await TASKS[task](store, name, int(count))
    if hasattr(store, "aclose"):
        await store.aclose()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:6])  # type: ignore[arg-type]  # five, or it says which is missing
