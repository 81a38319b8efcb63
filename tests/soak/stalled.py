"""
Random programs in an event loop that stands still now and then: what only a slow machine finds, within minutes.

    python tests/soak/stalled.py memory|sqlite|postgres|redis [--minutes 5] [--seed 1] [--again SEED]

Each program is one of ``tests/programs``, whose requests, departures and failures its seed says, with a store of its
own, and the check of the books after it. Eight share a loop, beside a task that stops it at random moments: each stop
meets eight programs where they are. ``--seed`` is the first program's, and each has the next one. What fails is printed
with its seed; since it hangs on the moment too, ``--again SEED`` runs that one program in all places, again and again.
Exit code 1 if anything did.
"""

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, cycle, repeat
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import anyio
import databases
from programs.stalling import stalling
from programs.test_programs import program

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.core import attempts
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore

AT_ONCE = 8
PROGRAM_S = 100
LOOPS = {"memory": ("asyncio", "trio"), "sqlite": ("asyncio", "trio"), "postgres": ("asyncio",), "redis": ("asyncio",)}
"""The last two stores know asyncio only."""


@contextmanager
def server(kind: str, folder: Path) -> Generator[str]:
    """Where the store is, for as long as it runs."""
    match kind:
        case "postgres":
            with databases.postgres(folder) as dsn:
                yield dsn
        case "redis":
            with databases.valkey(folder) as url:
                yield url
        case _:
            yield str(folder)


@contextmanager
def made(kind: str, where: str, place: int) -> Generator[Any]:
    """An empty store, one of several."""
    match kind:
        case "memory":
            yield MemoryStore()
        case "sqlite":
            with tempfile.TemporaryDirectory(dir=where) as folder:
                yield SQLiteStore(Path(folder) / "books.db")
        case "postgres":
            with databases.fresh_database(where) as dsn:
                yield PostgresStore(dsn)
        case _:
            yield RedisStore(databases.emptied(f"{where.rpartition('/')[0]}/{place}"))


@dataclass
class Soak:
    """
    Programs, one after the other in each of several places of a loop.

    Attributes:
        seeds: Those that come.
        done: How many were run.
        failed: The seeds of those that did, each of which has been told.
    """

    store: str
    where: str
    seeds: Iterator[int]
    done: int = 0
    failed: list[int] = field(default_factory=list)

    async def together(self, backend: str, seconds: float, stalls: int) -> None:
        """For so long, in a loop that stands still as the seed says."""
        ends = time.monotonic() + seconds

        async def one_after_the_other(place: int) -> None:
            while time.monotonic() < ends:
                await self._run(next(self.seeds), place, backend)

        async with stalling(stalls), anyio.create_task_group() as tasks:
            for place in range(AT_ONCE):
                tasks.start_soon(one_after_the_other, place)

    async def _run(self, seed: int, place: int, backend: str) -> None:
        try:
            with made(self.store, self.where, place) as store, anyio.fail_after(PROGRAM_S):
                await program(seed, store)
        except Exception:  # noqa: BLE001  # whatever it is
            self.failed.append(seed)
            traceback.print_exc(file=sys.stdout)
            print(f"failed: {self.store} on {backend}: --again {seed}", flush=True)
        self.done += 1


def soaked(given: argparse.Namespace, where: str) -> list[int]:
    """The seeds of what failed, after a minute on each loop in turn."""
    seeds = count(given.seed) if given.again is None else repeat(given.again)
    soak = Soak(given.store, where, seeds)
    ends = time.monotonic() + 60 * given.minutes
    for minute, backend in enumerate(cycle(LOOPS[given.store])):
        left = ends - time.monotonic()
        if left <= 0:
            break
        anyio.run(soak.together, backend, min(left, 60.0), given.seed + minute, backend=backend)
    print(f"{given.store}: {soak.done} programs from seed {given.seed}, {len(soak.failed)} failed")
    return soak.failed


def main() -> None:
    """Run them, and say what was found."""
    parser = argparse.ArgumentParser(description="Random programs in a loop that stands still now and then.")
    parser.add_argument("store", choices=LOOPS)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 10**9, help="of the first; drawn by default")
    parser.add_argument("--again", type=int, help="the seed of the only program")
    given = parser.parse_args()
    attempts.FIRST_PAUSE_S = 0.001  # retries do not wait
    with tempfile.TemporaryDirectory(prefix="hpp-stalled-") as folder, server(given.store, Path(folder)) as where:
        sys.exit(bool(soaked(given, where)))


if __name__ == "__main__":
    main()
