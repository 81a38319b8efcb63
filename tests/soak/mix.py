"""
The mix: routers at one store under load and faults, and then the question whether the books are right.

    python tests/soak/mix.py sqlite|postgres|redis [--minutes 20] [--routers 3] [--clients 8] [--seed 1]

Clients come and go as they like; every few seconds a router is killed or stopped past its lease, or the store is
paused or killed. In the end nothing may be held, no line may be wrong, nothing that was acknowledged may be lost, and
what the upstream saw must be in the ledger, each request once. Prints what it did, and what it found; exit code 1 if
that is anything at all.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import httpx2
from soaking import Place, Routers, check

CLIENTS = ("ann", "ben", "poor")
BEHAVIOURS = ("plain", "plain", "plain", "slow", "no usage", "cut", "refuse", "limit", "long")
LEASE_S = 30.0
SWEEP_S = 12.0


@dataclass
class Mix:
    """What was done, and what clients were told."""

    rng: random.Random
    done: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, str] = field(default_factory=dict)
    over: bool = False

    async def client(self, routers: Routers) -> None:
        """One client after another, until it is over."""
        while not self.over:
            try:
                await self._ask(routers)
            except (httpx2.HTTPError, OSError) as error:
                self.done[f"client: {type(error).__name__}"] += 1
                await asyncio.sleep(0.05)

    async def _ask(self, routers: Routers) -> None:
        rng = self.rng
        stream, keyed = rng.random() < 0.6, rng.random() < 0.2
        headers = {"apikey": f"{rng.choice(CLIENTS)}-shows-this-key-of-its-own"}
        if keyed:
            headers["idempotency-key"] = f"key-{rng.randrange(10**9)}"
        body = {
            "model": "fake/m",
            "messages": [{"role": "user", "content": rng.choice(BEHAVIOURS)}],
            "max_tokens": rng.choice([5, 50, 500]),
            "stream": stream,
        }
        for _ in range(1 + keyed * rng.randrange(3)):
            await self._send(routers.url(rng), headers, body, leaves=rng.random() < 0.25)

    async def _send(self, url: str, headers: dict[str, str], body: dict[str, object], *, leaves: bool) -> None:
        client = httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False)
        try:
            async with client.stream("POST", "/llm/v1/chat/completions", json=body, headers=headers) as response:
                self.done[f"status {response.status_code}"] += 1
                if leaves:
                    await asyncio.sleep(self.rng.random() * 0.3)
                    self.done["left"] += 1
                    return
                answer = await response.aread()
                cost = response.headers.get("x-hpp-router-cost")
                replayed = response.headers.get("idempotency-replayed") == "true"
                if response.status_code == 200 and cost is not None and not replayed and answer:
                    self.acknowledged[response.headers["x-request-id"]] = cost
        finally:
            await client.aclose()

    async def chaos(self, routers: Routers, place: Place, seconds: float) -> None:
        """A fault every few seconds."""
        end = asyncio.get_running_loop().time() + seconds
        last_long = end
        while (now := asyncio.get_running_loop().time()) < end:
            await asyncio.sleep(self.rng.uniform(1.0, 4.0))
            fault = self.rng.choice(["kill a router", "kill a router", "stop a router", *place.faults])
            if fault == "stop a router" and last_long - now > 60:
                last_long, fault = now, "stop a router past its lease"
            self.done[fault] += 1
            match fault:
                case "kill a router":
                    await routers.kill(self.rng)
                case "stop a router":
                    await routers.stop_for(self.rng, self.rng.uniform(0.2, 3.0))
                case "stop a router past its lease":
                    await routers.stop_for(self.rng, LEASE_S + self.rng.uniform(2.0, 8.0))
                case _:
                    await place.carry_out(fault, self.rng)


async def run(given: argparse.Namespace, folder: Path, stack: ExitStack) -> list[str]:
    """The mix, and what is wrong after it."""
    mix = Mix(random.Random(given.seed))
    place = Place(given.store, folder, stack)
    routers = Routers(folder, place.url, given.routers, stack)
    await routers.start()
    clients = [asyncio.create_task(mix.client(routers)) for _ in range(given.clients)]
    await mix.chaos(routers, place, 60 * given.minutes)
    mix.over = True
    await asyncio.gather(*clients)
    await routers.settle(LEASE_S + SWEEP_S)
    print(json.dumps({"store": given.store, "minutes": given.minutes, "seed": given.seed, **mix.done}, sort_keys=True))
    findings = await check(folder, mix.acknowledged)
    await routers.end()
    return findings


def main() -> None:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(description="Load and faults, and then the books.")
    parser.add_argument("store", choices=("sqlite", "postgres", "redis"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--routers", type=int, default=3)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpp-soak-") as name, ExitStack() as stack:
        findings = asyncio.run(run(given, Path(name), stack))
    for finding in findings:
        print(finding)
    print("nothing found" if not findings else f"{len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
