"""
The chaos soak: one router, and for a while every fault of providers, clients and load at random, all at once.

    python tests/soak/chaos_soak.py [--minutes 10] [--clients 16] [--seed 1]

The router has fallbacks, retries, breakers and bounds on its load. In the end nothing may be held, no line may be
wrong, each request that the provider saw must be in the ledger once, and what clients were told must be there to the
nano-dollar; requests and tasks must be gone. Prints what was done and found; exit code 1 if that is anything.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.bench import key
from chaos.places import running_places
from misfortunes import CLIENTS, PLACES, Clients, Failing, join, running_upstream
from servers import free_port
from soaking import cli

HERE = Path(__file__).parent
EVERY_S = 2.0
BURST_S = 20.0
BURST = 100
QUOTA = Decimal(1000)
BASE = """
[store]
url = "sqlite:///hpp.db"

[keys]
pepper = "a pepper for the soak, long enough"

[ledger]
seal_key = "a key for the seals of the soak, long enough"

[bounds]
body_s = 1.0
send_s = 1.0
usage_wait_s = 1.0
json_wait_s = 2.0

[load]
in_flight = 48
per_consumer = 24
queue = 16
queue_s = 0.5
"""
PROVIDER = """
[providers.{name}]
dialect = "openai"
base_url = "{url}"
api_key = "{key}"
timeouts = {{ connect = 1.0, first_byte = 1.0, idle = 1.0, total = 10.0 }}
retries = {retries}
breaker = {{ failures = 5, window = 10, cooldown = 1, longest = 2 }}
{more}
[models."{name}/m"]
input = "1"
output = "2"
"""


def configuration(folder: Path, upstream: Failing, places: dict[str, str], ca_file: str) -> Path:
    """The router's file."""
    parts = [BASE]
    for name in ("fake", "spare", *PLACES):
        more = f'ca_file = "{ca_file}"\n' if name.startswith("tls-") and name != "tls-untrusted" else ""
        url = places.get(name, upstream.url)
        retries = 0 if name == "spare" else 1
        parts.append(PROVIDER.format(name=name, url=url, key=f"{name}-key", more=more, retries=retries))
    parts.append("[fallbacks]")
    parts += [f'"{name}/m" = ["spare/m"]' for name in ("fake", *PLACES)]
    parts += [f'[consumers.{name}]\nquota = "{QUOTA}"\nkeys = ["{key(name)}"]' for name in CLIENTS]
    path = folder / "router.toml"
    path.write_text("\n".join(parts), "utf-8")
    return path


class Router:
    """
    The router's process.

    Attributes:
        url: Where it listens.
        samples: Its resident memory in MB, every so often, with the moment and the number of requests by then.
    """

    def __init__(self, config: Path, stack: ExitStack) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._port = f"{port:04X}"  # as the kernel writes it
        self.samples: list[tuple[float, float, int]] = []
        with (config.parent / "router.log").open("ab") as log:
            command = [sys.executable, str(HERE / "served.py"), str(config), str(port)]
            self._process = subprocess.Popen(command, cwd=config.parent, stdout=log, stderr=log)
        stack.callback(self.end)
        self._opener = build_opener(ProxyHandler({}))
        while True:
            try:
                self.told()
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError((config.parent / "router.log").read_text("utf-8")) from None
                time.sleep(0.1)
            else:
                return

    def told(self) -> dict[str, int]:
        """Its tasks, objects, requests under way, and sockets."""
        with self._opener.open(f"{self.url}/soak", timeout=30) as response:
            found: dict[str, int] = json.load(response)
        links = set[str]()
        for each in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                links.add(str(each.readlink()))
        kept, ours = 0, {self._port, "0000"}
        for row in Path(f"/proc/{self._process.pid}/net/tcp").read_text("ascii").split("\n")[1:-1]:
            _, local, remote, *_, inode = row.split()[:10]
            kept += f"socket:[{inode}]" in links and not {local.rpartition(":")[2], remote.rpartition(":")[2]} & ours
        return {**found, "sockets": sum(link.startswith("socket:") for link in links), "to providers": kept}

    def sample(self, requests: int) -> None:
        """Note its memory."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text("ascii").split()[1])
        self.samples.append((time.monotonic(), pages * os.sysconf("SC_PAGE_SIZE") / 1e6, requests))

    def quiet(self, baseline: dict[str, int]) -> dict[str, int]:
        """What it has open, when its requests are over, or have had long enough."""
        for _ in range(60):
            found = self.told()
            if found["running"] == 0 and found["tasks"] <= baseline["tasks"]:
                break
            time.sleep(1)
        return found

    def end(self) -> None:
        """SIGTERM, and wait."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def slope(samples: list[tuple[float, float, int]]) -> float:
    """MB for 10,000 requests, by least squares over what comes after the first third: before, caches fill."""
    found = samples[len(samples) // 3 :]
    x = [requests / 10_000 for _, _, requests in found]
    y = [mb for _, mb, _ in found]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((each - mean_x) ** 2 for each in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else 0.0


def books(folder: Path, upstream: Failing, clients: Clients) -> list[str]:
    """What is wrong with them."""
    findings: list[str] = []
    for command in (["ledger", "seal"], ["ledger", "verify"], ["ledger", "reconcile"]):
        done = cli(folder, *command)
        if done.returncode:
            findings.append(f"{' '.join(command)}: {done.stdout[-2000:]} {done.stderr[-500:]}")
    used = Decimal(0)
    for balance in json.loads(cli(folder, "quota", "show", "--json").stdout):
        used += Decimal(str(balance["used"]))
        if Decimal(str(balance["held"])) != 0:
            findings.append(f"{balance['consumer']} still has {balance['held']} held")
    lines: list[dict[str, Any]] = [
        json.loads(line)["line"] for line in cli(folder, "ledger", "export").stdout.split("\n") if line
    ]
    settled = sum(line["amount"] for line in lines)
    if settled != int(used * 10**9):
        findings.append(f"the lines come to {settled} nano-dollars, and the accounts to {used} dollars")
    outcomes: dict[str, int] = {}
    for line in lines:
        outcomes[line["report"]["outcome"]] = outcomes.get(line["report"]["outcome"], 0) + 1
    print("ledger:", json.dumps({"lines": len(lines), "settled nano-dollars": settled, "held": 0, **outcomes}))
    return findings + join(lines, upstream.witness, clients)


def soak(given: argparse.Namespace, folder: Path, stack: ExitStack) -> list[str]:
    """Run it; what was found."""
    places, ca_file = stack.enter_context(running_places(folder))
    upstream = stack.enter_context(running_upstream(given.seed))
    router = Router(configuration(folder, upstream, places, ca_file), stack)
    clients = Clients(router.url, given.seed)
    clients.start(1)
    time.sleep(2)
    before = router.told()
    clients.start(given.clients - 1)
    end, burst = time.monotonic() + 60 * given.minutes, time.monotonic() + BURST_S
    third: dict[str, int] = {}
    while time.monotonic() < end:
        time.sleep(EVERY_S)
        router.sample(sum(clients.done.values()))
        if not third and end - time.monotonic() < 40 * given.minutes:
            third = router.told()
        if time.monotonic() > burst:
            burst += BURST_S
            clients.burst(BURST)
    clients.end()
    after = router.quiet(before)
    router.end()
    requests = sum(number for what, number in clients.done.items() if what.startswith(("told", "client: leaves")))
    faults = sum(number for what, number in upstream.done.items() if what not in {"provider: good", "provider: long"})
    others = sum(number for what, number in clients.done.items() if what.startswith(("client", "load")))
    print("requests:", requests, "calls to the provider:", len(upstream.witness))
    print("faults of the provider:", faults, "of clients and load:", others)
    first, last = router.samples[len(router.samples) // 3][1], router.samples[-1][1]
    print(f"memory: {first:.1f} MB after a third, {last:.1f} MB at last")
    print(f"slope: {slope(router.samples):.2f} MB for 10,000 requests")
    print("open:", json.dumps({"at first": before, "after a third": third, "at last": after}))
    print(json.dumps({**upstream.done, **clients.done}, sort_keys=True))
    findings = books(folder, upstream, clients)
    if after["running"] or after["tasks"] > before["tasks"]:
        findings.append("tasks are left over")
    return findings


def main() -> None:
    """Run it, and say what was found."""
    parser = argparse.ArgumentParser(description="Every fault at random, and then the books.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hpp-soak-") as name, ExitStack() as stack:
        findings = soak(given, Path(name), stack)
    for finding in findings[:50]:
        print(finding)
    print("nothing found" if not findings else f"{len(findings)} findings")
    sys.exit(bool(findings))


if __name__ == "__main__":
    main()
