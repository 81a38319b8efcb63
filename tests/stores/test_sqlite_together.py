"""What waits together in one transaction, of a file that others write, too, has the results of one after the other."""

import asyncio
import threading
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.core.quota import KEEP_RESOLVED_S
from hpp_middleware.errors import StoreError
from hpp_middleware.testing.stores.bench import Clock, reserve, resize, settle
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Claim, Grant, Operation, Release, Renew, Sweep

STEPS = 60
ACCOUNTS = ("alice", "team")
START: list[Operation] = [
    Renew(owner="worker", ttl_s=300),
    *[Grant(id=f"start:{name}", account=name, amount=900) for name in ACCOUNTS],
]


def drawn(rng: Random, week: int) -> Operation:
    """One operation, most of them on a hold that others are about, too."""
    name, kind = f"hold-{week}-{rng.randint(1, 12)}", rng.random()
    if kind < 0.5:
        claim = Claim(key=f"key-{rng.randint(1, 3)}", fingerprint="asked", ttl_s=50.0) if rng.random() < 0.3 else None
        payers, owner = rng.choice([("alice",), ("alice", "team")]), rng.choice(["worker", "worker", "nobody"])
        want = rng.choice([5, 30, 30, 600])
        return reserve(name, want, *payers, floor=min(want, 20), owner=owner, ttl_s=rng.choice([9, 300]), claim=claim)
    if kind < 0.7:
        return settle(name, rng.randint(0, 50))
    if kind < 0.8:
        return resize(name, rng.randint(0, 60), attempt=rng.randint(1, 3))
    if kind < 0.9:
        return Release(id=name)
    others: list[Operation] = [Sweep(), Renew(owner="worker", ttl_s=300), Grant(id=name, account="alice", amount=7)]
    return rng.choice(others)


@pytest.mark.parametrize("seed", range(20))
def test_what_waits_together_is_as_one_after_the_other(seed: int, tmp_path: Path) -> None:
    asyncio.run(_program(Random(seed), tmp_path / "hpp.db"))


async def _program(rng: Random, path: Path) -> None:
    clock, week = Clock(), 0
    memory, stores = MemoryStore(clock=clock), [SQLiteStore(path, clock=clock) for _ in range(2)]
    for store in stores:
        await store.open()
    assert await stores[0].apply(START) == await memory.apply(START)
    for _ in range(STEPS):
        clock.now += rng.choice([0, 0, 1, 11])
        if rng.random() < 0.05:
            clock.now, week = clock.now + KEEP_RESOLVED_S + 1, week + 1
        batches = [[drawn(rng, week) for _ in range(rng.choice([1, 1, 3]))] for _ in range(rng.choice([1, 4, 9]))]
        for batch, told in zip(batches, await _together(rng, rng.choice(stores), batches), strict=True):
            assert told == await memory.apply(batch)
    for name in ACCOUNTS:
        for store in stores:
            assert await store.statement(name) == await memory.statement(name)
            assert await store.lines(name) == await memory.lines(name)
    for store in stores:
        await store.aclose()


async def _together(rng: Random, store: SQLiteStore, batches: list[list[Operation]]) -> list[Any]:
    """What became of them in one transaction, which begins after a read; other work between them may fail."""
    began, go = threading.Event(), threading.Event()

    def wait(_: object) -> None:
        began.set()
        go.wait()

    first = asyncio.ensure_future(store._writer.run(wait, writes=False))
    await asyncio.to_thread(began.wait)
    asked, others = [], []
    for batch in batches:
        asked.append(asyncio.ensure_future(store.apply(batch)))
        if rng.random() < 0.2:
            credential = Credential(digest=b"digest", id="key", consumer=Consumer(id="alice"))
            others.append(asyncio.ensure_future(store.add(credential)))
        if rng.random() < 0.1:
            others.append(asyncio.ensure_future(store._writer.run(_fail)))
    await asyncio.sleep(0)
    go.set()
    await first
    assert all(
        found is None or isinstance(found, StoreError)
        for found in await asyncio.gather(*others, return_exceptions=True)
    )
    return await asyncio.gather(*asked)


def _fail(_: object) -> None:
    raise ValueError
