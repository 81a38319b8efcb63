"""The parts of the soak: the store and its faults, the routers, and the check of the books."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import databases
import httpx2
from servers import free_port

__all__ = ["Place", "Routers", "check", "cli"]

HERE = Path(__file__).parent
CONFIG = """
[store]
url = "{url}"

[keys]
pepper = "a pepper for the soak, long enough"

[journal]
dir = "settle"

[ledger]
seal_key = "a key for the seals of the soak, long enough"

[providers.fake]
base_url = "http://127.0.0.1:{port}/v1"
api_key = "upstream-key"
on_disconnect = "{on_disconnect}"
breaker = false
retries = 0
drain_s = 5

[models."fake/m"]
input = "1"
output = "2"

[consumers.ann]
quota = "1000"
keys = ["ann-shows-this-key-of-its-own"]

[consumers.ben]
quota = "1000"
keys = ["ben-shows-this-key-of-its-own"]

[consumers.poor]
quota = "0.02"
keys = ["poor-shows-this-key-of-its-own"]
"""


class Place:
    """
    The store that is soaked, on its own server where it has one.

    Attributes:
        url: For the configuration.
        faults: What can happen to it.
    """

    def __init__(self, kind: str, folder: Path, stack: ExitStack) -> None:
        self._server: Any = None
        self._file = folder / "hpp.db"
        self.faults = ["pause the store", "kill the store"]
        match kind:
            case "sqlite":
                self.url = "sqlite:///hpp.db"
                self.faults = ["lock the store"]
            case "postgres":
                self._server = stack.enter_context(databases.running_postgres(folder))
                self.url = self._server.url
            case _:
                durable = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction")
                self._server = stack.enter_context(databases.running_valkey(folder, *durable))
                self.url = self._server.url

    async def carry_out(self, fault: str, rng: random.Random) -> None:
        """Let one of the faults happen."""
        match fault:
            case "lock the store":
                with sqlite3.connect(self._file, isolation_level=None, timeout=20) as connection:
                    connection.execute("BEGIN EXCLUSIVE")
                    await asyncio.sleep(rng.uniform(0.1, 14.0))
                    connection.execute("COMMIT")
                connection.close()
            case "pause the store":
                self._server.pause()
                await asyncio.sleep(rng.uniform(0.1, 8.0))
                self._server.resume()
            case _:
                await asyncio.to_thread(self._server.kill)
                await asyncio.sleep(rng.uniform(0.0, 3.0))
                await asyncio.to_thread(self._server.start)


class Routers:
    """Routers of one configuration, each a process of its own, started again when it is killed."""

    def __init__(self, folder: Path, url: str, number: int, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._ports = [free_port() for _ in range(number)]
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        port = free_port()
        text = CONFIG.format(url=url, port=port, on_disconnect=random.choice(["cancel", "drain"]))
        (folder / "router.toml").write_text(text)
        self._process([str(HERE / "upstream.py"), str(port), str(folder / "witness")], "upstream")

    def url(self, rng: random.Random) -> str:
        """Some router."""
        return f"http://127.0.0.1:{rng.choice(self._ports)}"

    async def start(self) -> None:
        """Start them all, one after the other."""
        for port in self._ports:
            await self._start(port)

    async def kill(self, rng: random.Random) -> None:
        """``kill -9`` one of them, and start it again."""
        port = rng.choice(self._ports)
        self._running[port].kill()
        await asyncio.to_thread(self._running[port].wait)
        await self._start(port)

    async def stop_for(self, rng: random.Random, seconds: float) -> None:
        """SIGSTOP one of them for so long."""
        process = self._running[rng.choice(self._ports)]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    async def settle(self, seconds: float) -> None:
        """Let leases run out, and holds be swept."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(2)
            async with httpx2.AsyncClient(trust_env=False, timeout=60) as client:
                for port in self._ports:
                    await client.get(f"http://127.0.0.1:{port}/readyz")

    async def end(self) -> None:
        """SIGTERM, and wait."""
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            await asyncio.to_thread(process.wait, 60)

    async def _start(self, port: int) -> None:
        command = ["-m", "hpp_middleware", "serve", "--config", "router.toml", "--port", str(port)]
        for _ in range(30):
            self._running[port] = self._process(command, f"router-{port}")
            async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
                for _ in range(100):
                    await asyncio.sleep(0.1)
                    if self._running[port].poll() is not None:
                        break  # its store may be down: the next one may find it
                    try:
                        if (await client.get(f"http://127.0.0.1:{port}/healthz")).status_code == 200:
                            return
                    except (httpx2.HTTPError, OSError):
                        continue
            self._running[port].kill()
            await asyncio.sleep(0.5)
        raise RuntimeError("a router does not start")

    def _process(self, arguments: list[str], name: str) -> "subprocess.Popen[bytes]":
        with (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, *arguments], cwd=self._folder, stdout=log, stderr=log)
        self._stack.callback(_end, process)
        return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
        process.wait(30)


async def check(folder: Path, acknowledged: Mapping[str, str]) -> list[str]:
    """What is wrong with the books."""
    findings: list[str] = []
    for command in (["ledger", "seal"], ["ledger", "verify"], ["ledger", "reconcile"]):
        done = await asyncio.to_thread(cli, folder, *command)
        if done.returncode:
            findings.append(f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-500:]}")
    balances = json.loads((await asyncio.to_thread(cli, folder, "quota", "show", "--json")).stdout)
    for balance in balances:
        if Decimal(str(balance["held"])) != 0:
            findings.append(f"{balance['consumer']} still has {balance['held']} held")
        if Decimal(str(balance["used"])) > Decimal(str(balance["quota"])):
            findings.append(f"{balance['consumer']} used {balance['used']} of {balance['quota']}")
    exported = await asyncio.to_thread(cli, folder, "ledger", "export")
    lines = [json.loads(line) for line in exported.stdout.split("\n") if line]
    return findings + _join(folder, lines, acknowledged)


def _join(folder: Path, lines: list[dict[str, Any]], acknowledged: Mapping[str, str]) -> list[str]:
    findings: list[str] = []
    seen = Counter((folder / "witness").read_text().split())
    charged: Counter[str] = Counter()
    resolved: Counter[str] = Counter()
    outcomes: dict[str, str] = {}
    for line in lines:
        entry = line["line"]
        charged[entry["hold"]] += entry["amount"]
        if entry["line"] == "resolution":
            resolved[entry["hold"]] += 1
            outcomes[entry["hold"]] = entry["report"]["outcome"]
    findings += [f"{hold} was forwarded {times} times" for hold, times in seen.items() if times > 1]
    findings += [f"{hold} was forwarded, and is not in the ledger" for hold in seen if not resolved[hold]]
    findings += [f"{hold} was resolved {times} times" for hold, times in resolved.items() if times > 1]
    for hold, outcome in outcomes.items():
        if hold not in seen and outcome not in {"orphaned", "failed"}:
            findings.append(f"{hold} is {outcome}, and was never forwarded")
    for hold, cost in acknowledged.items():
        if charged[hold] != int(Decimal(cost) * 10**9) or not resolved[hold]:
            findings.append(f"{hold} was told to cost {cost}, and is in the ledger at {charged[hold]} nano-dollars")
    print(
        json.dumps(
            {
                "lines": len(lines),
                "forwarded": len(seen),
                "acknowledged": len(acknowledged),
                **Counter(outcomes.values()),
            }
        )
    )
    return findings


def cli(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "hpp_middleware", *arguments, "--config", "router.toml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=dict(os.environ))
