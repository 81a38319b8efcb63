"""
What a settled request keeps in the memory store, in bytes that are resident:

    python tests/benchmarks/kept.py [--requests 100000]

Asked of the store itself, hold by hold. Once as ``make bench`` has its requests, whose answers are all alike; and once
with ids, tokens and details of usage as a provider reports them, no two the same.
"""

import argparse
import asyncio
import gc
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec

from hpp_middleware import MemoryStore
from hpp_middleware.stages.worker.worker import new_id
from hpp_middleware.types.operations import Grant, Renew, Reserve, Settle
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Attempt, Draft, Report

KINDS = ("alike", "unlike")
CONSUMERS = 16
WARM = 1000
PRICE = Price(base=Rates(input=1_250_000_000_000, output=10_000_000_000_000))
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}


def report(kind: str, rng: random.Random) -> tuple[Report, int]:
    """How one request ended, and what it came to."""
    into, out, upstream_id, details = 210, 96, "chatcmpl-bench", {}
    if kind == "unlike":
        into, out, upstream_id = (
            rng.randrange(50, 3000),
            rng.randrange(20, 900),
            f"chatcmpl-{rng.getrandbits(116):029x}",
        )
        details = DETAILS
    usage, cost = Usage(input=into, output=out), into * 1250 + out * 10_000
    raw = {"prompt_tokens": into, "completion_tokens": out, "total_tokens": into + out, **details}
    attempt = Attempt(provider="fake", model="fake-1", status=200, upstream_id=upstream_id, usage=usage, cost=cost)
    usage_raw = msgspec.Raw(msgspec.json.encode(raw))
    return Report(outcome="completed", usage=usage, usage_raw=usage_raw, attempts=(attempt,)), cost


async def request(store: MemoryStore, number: int, kind: str, rng: random.Random) -> None:
    """One, from hold to settlement."""
    name, consumer = new_id(), f"consumer-{number % CONSUMERS}"
    reserve = Reserve(
        id=name,
        accounts=(consumer,),
        want=15_000_000,
        floor=15_000_000,
        owner="worker",
        ttl_s=720.0,
        orphan_amount=431_250,
        draft=Draft(
            consumer=consumer, model="fake/fake-1", requested_model="fake/fake-1", price=PRICE, key_id=f"key-{consumer}"
        ),
    )
    ended, cost = report(kind, rng)
    for operation in (reserve, Settle(id=name, amount=cost, report=ended)):
        (result,) = await store.apply([operation])
        if result.status != "done":
            raise RuntimeError(result)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def kept(kind: str, requests: int) -> float:
    """Bytes a request."""
    store, rng = MemoryStore(), random.Random(1)
    grants = [Grant(id=f"g{number}", account=f"consumer-{number}", amount=10**15) for number in range(CONSUMERS)]
    await store.apply([Renew(owner="worker", ttl_s=1e6), *grants])
    for number in range(WARM):
        await request(store, number, kind, rng)
    gc.collect()
    before = resident()
    for number in range(requests):
        await request(store, number, kind, rng)
    gc.collect()
    return (resident() - before) / requests


def main() -> None:
    """Each kind in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--kind", choices=KINDS)
    given = parser.parse_args()
    if given.kind:
        print(f"{given.kind}: {asyncio.run(kept(given.kind, given.requests)):.0f} bytes a request", flush=True)
        return
    for kind in KINDS:
        command = [sys.executable, __file__, "--requests", str(given.requests), "--kind", kind]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
