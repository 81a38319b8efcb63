"""
What a worker is worth under ten times the load it can carry, and what one tenant's flood does to another.

    python tests/benchmarks/overload.py [--docs] [--small]

The upstream answers 16 requests at once, 200 ms each, as a model's server does; what more it is given waits there.
Clients wait a second and leave. *Goodput* is what was answered in time, a second. Seconds, on loopback; the same
gateway with its bounds (``[load]``) and without.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
from bench import report
from bench.accounting import cores, machine, resident_mb
from bench.contestants import Contestant, contestant
from bench.pressure import Outcome, Pressure, Tenant
from bench.processes import Loader, many_files, module, running, told
from bench.revisions import ROOT

SLOTS, ANSWER_MS = 16, 200
CAPACITY = SLOTS * 1000 / ANSWER_MS
WAYS = {
    "with bounds": ("--in-flight", "24", "--per-consumer", "16", "--queue", "24"),
    "without": ("--in-flight", "0", "--per-consumer", "0"),
}
TIMES = (0.5, 1, 2, 5, 10)
VICTIM, FLOOD = Tenant(key=0, rate=20), Tenant(key=1, rate=10 * CAPACITY)
HELD = 500
PAGE = ROOT / "docs" / "performance.md"


class Bench:
    """The processes around what is measured."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._folder = folder
        self._process = stack.enter_context(running(module("bench.pressure"), core={cores()[0]}))
        self._number = 0

    @contextmanager
    def gateway(self, *options: str) -> Iterator[Contestant]:
        """
        One more gateway, in memory, and an upstream of its own.

        What an upstream was given it carries out, whoever waits for it: the next measurement is not to pay for that.
        """
        self._number += 1
        with (
            running(module("bench.limited", SLOTS, ANSWER_MS), core={cores()[0]}) as upstream,
            contestant("ours", int(told(upstream)), self._folder / str(self._number), options=options) as found,
        ):
            yield found

    def press(self, target: Contestant, *tenants: Tenant, seconds: float) -> list[Outcome]:
        """What each tenant got."""
        order = Pressure(port=target.port, tenants=list(tenants), seconds=seconds)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(order).decode() + "\n")
        self._process.stdin.flush()
        return msgspec.json.decode(told(self._process), type=list[Outcome])


def goodput(bench: Bench, times: tuple[float, ...], seconds: float) -> list[list[str]]:
    """Answers in time a second over the load offered, with bounds and without."""
    rows = []
    for each in times:
        tenants = [Tenant(key=number, rate=each * CAPACITY / 8) for number in range(8)]
        for way, options in WAYS.items():
            with bench.gateway(*options) as target:
                found = bench.press(target, *tenants, seconds=seconds)
            offered, good = sum(one.offered for one in found), sum(one.good for one in found)
            refused, left = sum(one.refused for one in found), sum(one.left for one in found)
            share = 100 * good / seconds / CAPACITY
            p99_ms = max(one.p99_ms for one in found)
            rows.append(
                [
                    f"{each:g} x",
                    way,
                    *(f"{figure / seconds:,.0f}" for figure in (offered, good, refused, left)),
                    f"{share:.0f}%",
                    f"{p99_ms:,.0f}",
                ]
            )
    return rows


def isolation(bench: Bench, seconds: float) -> list[list[str]]:
    """What a tenant who asks 20 times a second gets, alone and beside one who floods."""
    rows = []
    for way, options in WAYS.items():
        with bench.gateway(*options) as target:
            (alone,) = bench.press(target, VICTIM, seconds=seconds)
            beside, flood = bench.press(target, VICTIM, FLOOD, seconds=seconds)
        rows += [
            [f"{who}, {way}", *_got(one)]
            for who, one in (("alone", alone), ("beside a flood", beside), ("the flood itself", flood))
        ]
    return rows


def _got(one: Outcome) -> list[str]:
    figures = (one.offered, one.good, one.refused, one.left)
    return [*(f"{figure:,}" for figure in figures), f"{one.p50_ms:,.0f}", f"{one.p99_ms:,.0f}"]


def idle_streams(folder: Path, held: int) -> list[list[str]]:
    """Kilobytes that an open stream takes which says something once a second."""
    rows = []
    with Loader() as loader:
        for name in ("noop", "ours", "ours-sqlite"):
            with contestant(name, loader.upstream, folder / f"held-{name}") as target:
                loader.run(target, {"kind": "closed", "connections": 16, "seconds": 0.5})
                before = resident_mb(target.pids)
                order = {"kind": "hold", "connections": held, "events": 10_000, "gap_us": 1_000_000, "seconds": 2.0}
                found = loader.run(target, order)
                rows.append([name, str(found.finished), f"{(resident_mb(target.pids) - before) * 1000 / held:.0f}"])
    return rows


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a moment each, to see whether it runs")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    given = parser.parse_args()
    many_files()
    seconds, times, held = (0.3, (1.0, 10.0), 10) if given.small else (4.0, TIMES, HELD)
    with tempfile.TemporaryDirectory() as name:
        with ExitStack() as stack:
            bench = Bench(stack, Path(name))
            offered = goodput(bench, times, seconds)
            tenants = isolation(bench, 2 * seconds)
        streams = idle_streams(Path(name), held)
    heads = ["offered", "", "asked /s", "in time /s", "503 /s", "left /s", "of capacity", "p99 ms"]
    texts = {
        "goodput": report.table(heads, offered),
        "isolation": report.table(["tenant", "asked", "in time", "503", "left", "p50 ms", "p99 ms"], tenants),
        "idle": report.table(["process", "open streams", "kB each"], streams),
    }
    print(json.dumps(machine()))
    for mark, text in texts.items():
        print(f"\n{text}")
        if given.docs:
            report.put(PAGE, mark, text)


if __name__ == "__main__":
    main()
