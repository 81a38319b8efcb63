"""
How fast the stores are: reserves a second on one hot account and over 64, and how long a reserve waits.

    python tests/benchmarks/stores.py [memory sqlite postgres redis] [--seconds 5] [--waiting 64]

Each of the waiting tasks reserves and settles, again and again, as a request does: two durable writes each. A round
trip to the disk is measured beside it (``fdatasync``), since that is what a durable store waits for. ``sqlite x 4`` is
four processes at one file.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

import databases

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.ports import Store
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Grant, Renew

STORES = ("memory", "sqlite", "postgres", "redis")


class Figures(NamedTuple):
    """Reserves a second, and how long one waited, in milliseconds."""

    rate: float
    median: float
    p99: float
    longest: float


async def measure(store: Store, *, accounts: int, waiting: int, seconds: float, name: str = "worker") -> Figures:
    """Reserve and settle in so many tasks at once."""
    names = [f"account-{number}" for number in range(accounts)]
    grants = [Grant(id=f"start:{each}", account=each, amount=10**15) for each in names]
    await store.apply([Renew(owner=name, ttl_s=600), *grants])
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def one(task: int) -> None:
        account, number = names[task % accounts], 0
        while time.perf_counter() < end:
            hold = f"{name}-{accounts}-{task}-{number}"
            begun = time.perf_counter()
            (result,) = await store.apply([reserve(hold, 100, account, owner=name, orphan=10)])
            waits.append(time.perf_counter() - begun)
            if result.status != "done":
                raise RuntimeError(f"a reserve was {result.status}")
            await store.apply([settle(hold, 60)])
            number += 1

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for task in range(waiting):
            group.create_task(one(task))
    waits.sort()
    milli = [1000 * waits[min(len(waits) - 1, int(len(waits) * part))] for part in (0.5, 0.99, 1)]
    return Figures(len(waits) / (time.perf_counter() - begun), *milli)


@asynccontextmanager
async def opened(kind: str, folder: Path, stack: ExitStack) -> AsyncIterator[Store]:
    """A fresh store of a kind, its server started."""
    store: Store
    match kind:
        case "memory":
            store = MemoryStore()
        case "sqlite":
            store = SQLiteStore(folder / "hpp.db")
        case "postgres":
            from hpp_middleware.stores.postgres import PostgresStore

            store = PostgresStore(stack.enter_context(databases.running_postgres(folder)).url)
        case _:
            from hpp_middleware.stores.redis import RedisStore

            durable = ("--appendonly", "yes", "--appendfsync", "always")
            store = RedisStore(stack.enter_context(databases.running_valkey(folder, *durable)).url)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def run(kind: str, folder: Path, *, waiting: int, seconds: float) -> None:
    """Measure one kind, and print its rows."""
    with ExitStack() as stack:
        async with opened(kind, folder, stack) as store:
            for accounts in (1, 64):
                row(kind, accounts, await measure(store, accounts=accounts, waiting=waiting, seconds=seconds))


def four_processes(folder: Path, *, waiting: int, seconds: float) -> None:
    """Four processes at one SQLite file; the longest wait is the longest of any."""
    command = [sys.executable, __file__, "--at", str(folder / "shared.db"), "--seconds", str(seconds)]
    shares = [*command, "--waiting", str(max(1, waiting // 4)), "--name"]
    processes = [
        subprocess.Popen([*shares, f"process-{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("begin\n")
        process.stdin.flush()
    found = [Figures(*map(float, process.communicate()[0].split())) for process in processes]
    worst = [max(values) for values in list(zip(*found, strict=True))[1:]]
    row("sqlite x 4", 1, Figures(sum(figures.rate for figures in found), *worst))


async def share(path: Path, name: str, *, waiting: int, seconds: float) -> None:
    """One of the four."""
    store = SQLiteStore(path)
    await store.open()
    print("ready", flush=True)
    sys.stdin.readline()
    print(*await measure(store, accounts=1, waiting=waiting, seconds=seconds, name=name))
    await store.aclose()


def row(kind: str, accounts: int, figures: Figures) -> None:
    """One line of the table."""
    waits = f"{figures.median:.1f} | {figures.p99:.1f} | {figures.longest:.1f}"
    print(f"| {kind} | {accounts} | {figures.rate:,.0f} | {waits} |", flush=True)


def disk_ms(folder: Path) -> float:
    """The median of an ``fdatasync`` after a small write."""
    times = []
    with (folder / "probe").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(512))
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - begun)
    return 1000 * sorted(times)[len(times) // 2]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How fast the stores are.")
    parser.add_argument("stores", nargs="*", default=STORES)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--waiting", type=int, default=64)
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--name", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.at is not None:
        asyncio.run(share(given.at, given.name, waiting=given.waiting, seconds=given.seconds))
        return
    with tempfile.TemporaryDirectory() as folder:
        disk = f"fdatasync {disk_ms(Path(folder)):.2f} ms"
        print(f"{given.waiting} waiting, {given.seconds:g} s each, {os.cpu_count()} cores; {disk}\n")
        print("| store | accounts | reserves/s | p50 ms | p99 ms | longest ms |")
        print("|---|---|---|---|---|---|")
        for kind in given.stores:
            asyncio.run(run(kind, Path(folder), waiting=given.waiting, seconds=given.seconds))
        if "sqlite" in given.stores:
            four_processes(Path(folder), waiting=given.waiting, seconds=given.seconds)


if __name__ == "__main__":
    main()
