"""
A ledger that is not empty: so many settled requests, spread over so many consumers, by the store's own operations.

    python -m bench.prefill FILE ENTRIES CONSUMERS

The consumers that the load uses are among them, so that their own part of the ledger is as long as anybody's.
"""

import argparse
import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

from bench import wire
from hpp_middleware import SQLiteStore
from hpp_middleware.ports import Store
from hpp_middleware.testing.stores.bench import reserve, settle
from hpp_middleware.types.operations import Grant, Operation, Renew

__all__ = ["prefill"]

_BATCH = 1000


async def prefill(store: Store, entries: int, consumers: int) -> None:
    """Fill an open store."""
    names = [f"consumer-{number}" for number in range(len(wire.KEYS))]
    names += [f"somebody-{number}" for number in range(consumers - len(names))]
    await _apply(store, iter([Renew(owner="worker", ttl_s=36_000)]))
    await _apply(store, (Grant(id=f"start:{name}", account=name, amount=10**12) for name in names))
    await _apply(store, (step for number in range(entries) for step in _request(number, names[number % len(names)])))


def _request(number: int, account: str) -> list[Operation]:
    hold = f"req_{number:032x}"
    return [reserve(hold, 100_000, account), settle(hold, 60_000)]


async def _apply(store: Store, operations: Iterator[Operation]) -> None:
    while batch := list(itertools.islice(operations, _BATCH)):
        for result in await store.apply(batch):
            if result.status != "done":
                raise RuntimeError(f"an operation was {result.status}")


async def _file(path: Path, entries: int, consumers: int) -> None:
    store = SQLiteStore(path)
    await store.open()
    await prefill(store, entries, consumers)
    await store.aclose()


def main() -> None:
    """Fill a SQLite file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("entries", type=int)
    parser.add_argument("consumers", type=int)
    given = parser.parse_args()
    asyncio.run(_file(given.file, given.entries, given.consumers))


if __name__ == "__main__":
    main()
