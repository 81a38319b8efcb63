"""
A process of its own at a SQLite store. Its arguments say what it does: ``PATH NAME race COUNT`` or ``PATH NAME spend``.

It says ``ready``, and waits for a line on its input before it begins, so that several begin together.
"""

import sys

import anyio

from hpp_middleware import SQLiteStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Renew


async def race(store: SQLiteStore, name: str, count: int) -> None:
    """Reserve in as many tasks as asked for; print how many got room."""
    granted = 0

    async def one(number: int) -> None:
        nonlocal granted
        (result,) = await store.apply([reserve(f"{name}-{number}", 100, owner=name)])
        granted += result.status == "done"

    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(one, number)
    say(str(granted))


async def spend(store: SQLiteStore, name: str) -> None:
    """Reserve and settle until killed; print the id of every settlement that was acknowledged."""
    number = 0
    while True:
        await store.apply([reserve(f"{name}-{number}", 10, owner=name, orphan=3)])
        (result,) = await store.apply([settle(f"{name}-{number}", 7)])
        if result.status == "done":
            say(result.id)
        number += 1


def say(line: str) -> None:
    """A line to whoever started this process, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(*arguments: str) -> None:
    path, name, task, *count = arguments
    store = SQLiteStore(path)
    await store.open()
    await store.apply([Renew(owner=name, ttl_s=30)])
    say("ready")
    sys.stdin.readline()
    await (race(store, name, int(count[0])) if task == "race" else spend(store, name))
    await store.aclose()


anyio.run(main, *sys.argv[1:])
