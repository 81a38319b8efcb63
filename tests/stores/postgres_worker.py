"""A process of its own at a PostgreSQL store (``DSN NAME``), which spends in several tasks until it is killed."""

import sys

import anyio

from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Renew


async def spend(store: PostgresStore, name: str) -> None:
    """Reserve and settle in four tasks until killed; print the id of every settlement that was acknowledged."""

    async def one(task: str) -> None:
        number = 0
        while True:
            hold = f"{name}-{task}-{number}"
            await store.apply([reserve(hold, 10, owner=name, orphan=3)])
            (result,) = await store.apply([settle(hold, 7)])
            if result.status == "done":
                say(result.id)
            number += 1

    async with anyio.create_task_group() as group:
        for task in "abcd":
            group.start_soon(one, task)


def say(line: str) -> None:
    """A line to whoever started this process, at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(dsn: str, name: str) -> None:
    store = PostgresStore(dsn)
    await store.open()
    await store.apply([Renew(owner=name, ttl_s=30)])
    await spend(store, name)


anyio.run(main, sys.argv[1], sys.argv[2])
