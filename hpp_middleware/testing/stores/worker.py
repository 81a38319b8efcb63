"""
A process of its own at a store: ``python -m hpp_middleware.testing.stores.worker MODULE:MAKE PLACE NAME TASK COUNT``.

It says ``ready``, and waits for a line on its input before it begins, so that several begin together. Run by
:mod:`hpp_middleware.testing.stores.processes`.
"""

import sys

import anyio

from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.testing.stores.processes import DAY, DAYS_ROOM, LEASE_S, SPENDS, SPENT, TEAM, store_at
from hpp_middleware.types.operations import Renew

__all__ = ["main"]


async def race(store: QuotaStore, name: str, count: int) -> None:
    """Reserve in so many tasks at once; say how many got room."""
    granted = 0

    async def one(number: int) -> None:
        nonlocal granted
        (result,) = await store.apply([reserve(f"{name}-{number}", 100, owner=name)])
        granted += result.status == "done"

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    say(str(granted))


async def crowd(store: QuotaStore, name: str, count: int) -> None:
    """Reserve for one member of a team that has a budget, in so many tasks at once; say how many got room."""
    granted = 0

    async def one(number: int) -> None:
        nonlocal granted
        member = (f"{TEAM}/{name}", TEAM)
        asked = reserve(f"{name}-member-{number}", 100, *member, owner=name, limits={DAY: DAYS_ROOM * 100})
        (result,) = await store.apply([asked])
        granted += result.status == "done"
        if result.status == "refused" and result.short not in {DAY, *member}:
            sys.exit(f"a refusal named {result.short}")

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    say(str(granted))


async def settle_all(store: QuotaStore, name: str, count: int) -> None:
    """Settle the holds that everybody settles, at an amount of one's own for every second one; say what was charged."""
    own = 1 + sum(name.encode()) % 50
    for number in range(count):
        amount = 10 if number % 2 else own
        (told,) = await store.apply([settle(f"shared-{number}", amount)])
        say(f"{told.status} {told.amount} {len(told.entries)}")


async def spend(store: QuotaStore, name: str, _: int) -> None:
    """Reserve and settle until killed; say the id of every settlement that was acknowledged."""
    number = 0
    while True:
        renewal = Renew(owner=name, ttl_s=LEASE_S)
        asked = reserve(f"{name}-{number}", 10, *SPENDS, owner=name, orphan=3, limits={SPENT: 10**9})
        _renewed, held = await store.apply([renewal, asked])
        if held.status != "done":
            sys.exit(f"a reserve was {held.status}")
        (settled,) = await store.apply([settle(f"{name}-{number}", 7)])
        if settled.status == "done":
            say(settled.id)
        number += 1


TASKS = {"race": race, "crowd": crowd, "settle": settle_all, "spend": spend}


def say(line: str) -> None:
    """A line to whoever started this process, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(factory: str, place: str, name: str, task: str, count: str) -> None:
    """Open the store, wait for the word, and do the task."""
    store = await store_at(factory, place)
    await store.apply([Renew(owner=name, ttl_s=LEASE_S if task == "spend" else 60)])
    say("ready")
    sys.stdin.readline()
    await TASKS[task](store, name, int(count))
    if hasattr(store, "aclose"):
        await store.aclose()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:6])  # type: ignore[arg-type]  # five, or it says which is missing
