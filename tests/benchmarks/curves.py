"""
How the cost of a request grows: with connections, and with the ledger.

    python tests/benchmarks/curves.py [--only connections,ledger] [--rounds 3] [--small] [--docs]

CPU time a JSON request, the median of the rounds. The ledger's sizes are in settled requests: at first spread over the
16 consumers that ask, and the last one over 100,000. Plots go to docs/plots, figures to build/curves.json.
"""

import argparse
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from bench import nginx, report
from bench.accounting import machine, resident_mb
from bench.contestants import contestant
from bench.orders import Report
from bench.processes import Loader, many_files, module, running
from bench.revisions import ROOT

CONNECTIONS = (1, 8, 32, 128, 512)
CONTESTANTS = ("noop", "nginx", "ours", "ours-sqlite", "naive")
SIZES = ((0, 16), (100_000, 16), (1_000_000, 16), (1_000_000, 100_000))
SMALL = ((0, 16), (1000, 16), (1000, 100))
PLOTS = ROOT / "docs" / "plots"
PAGE = ROOT / "docs" / "performance.md"

Points = dict[str, list[tuple[float, float]]]


def closed(connections: int) -> dict[str, object]:
    """An order."""
    return {"kind": "closed", "connections": connections, "seconds": 1.0, "warm_s": 0.4}


def over_connections(loader: Loader, folder: Path, rounds: int) -> Points:
    """CPU time a request by contestant, at each number of connections."""
    found: dict[tuple[str, int], list[float]] = {}
    names = [name for name in CONTESTANTS if name != "nginx" or nginx.path()]
    with ExitStack() as stack:
        targets = [stack.enter_context(contestant(name, loader.upstream, folder / name)) for name in names]
        for _ in range(rounds):
            for count in CONNECTIONS:
                for target in targets:
                    one = loader.run(target, closed(count))
                    found.setdefault((target.name, count), []).append(one.cpu_us)
    return {name: [(count, median(found[name, count])) for count in CONNECTIONS] for name in names}


def over_sizes(
    loader: Loader, folder: Path, rounds: int, sizes: tuple[tuple[int, int], ...]
) -> tuple[Points, list[list[str]]]:
    """The same by the size of the ledger; and rows of a table that says more."""
    points: Points = {"in memory": [], "SQLite": []}
    rows = []
    for number, (entries, consumers) in enumerate(sizes):
        for store, name in (("in memory", "ours"), ("SQLite", "ours-sqlite")):
            place = folder / f"{name}-{number}"
            reports, megabytes = _at_size(loader, name, place, rounds=rounds, entries=entries, consumers=consumers)
            cpu_us = median(each.cpu_us for each in reports)
            points[store].append((number, cpu_us))
            figures = [
                cpu_us,
                median(each.p50_ms for each in reports),
                median(each.p99_ms for each in reports),
                megabytes,
            ]
            rows.append([store, f"{entries:,}", f"{consumers:,}", *(report.number(figure) for figure in figures)])
    return points, rows


def _at_size(
    loader: Loader, name: str, place: Path, *, rounds: int, entries: int, consumers: int
) -> tuple[list[Report], float]:
    options: tuple[str, ...] = ("--entries", str(entries), "--consumers", str(consumers))
    if name == "ours-sqlite" and entries:
        place.mkdir(parents=True)
        with running(module("bench.prefill", place / "hpp.db", entries, consumers), core={0}) as process:
            if process.wait(1800):
                raise subprocess.CalledProcessError(process.returncode, process.args)
    with contestant(name, loader.upstream, place, options=options) as target:
        return [loader.run(target, closed(32)) for _ in range(rounds)], resident_mb(target.pids)


def labels(sizes: tuple[tuple[int, int], ...]) -> list[str]:
    """What stands under the bars."""
    return [f"{entries:,} entries\n{consumers:,} consumers" for entries, consumers in sizes]


def main() -> None:
    """Measure the curves, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="connections,ledger")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="small ledgers, to see whether it runs")
    parser.add_argument("--plots", type=Path, default=PLOTS)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    given = parser.parse_args()
    from bench import plots  # matplotlib takes its time

    many_files()
    sizes = SMALL if given.small else SIZES
    texts: dict[str, str] = {}
    whole: dict[str, Any] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as name, Loader() as loader:
        if "connections" in given.only:
            points = over_connections(loader, Path(name), given.rounds)
            whole["connections"] = points
            words = {"title": "CPU time a JSON request", "across": "connections", "up": "us"}
            plots.curves(given.plots / "connections.svg", points, **words)
            rows = [[name, *(report.number(cost) for _, cost in series)] for name, series in points.items()]
            texts["connections"] = report.table(["CPU us a JSON request", *map(str, CONNECTIONS)], rows)
        if "ledger" in given.only:
            points, rows = over_sizes(loader, Path(name), given.rounds, sizes)
            whole["ledger"] = rows
            words = {"title": "CPU time a JSON request, 32 connections", "across": "", "up": "us"}
            plots.bars(given.plots / "ledger.svg", points, labels(sizes), **words)
            heads = ["store", "ledger entries", "consumers", "CPU us", "p50 ms", "p99 ms", "resident MB"]
            texts["ledger"] = report.table(heads, rows)
    target = ROOT / "build" / "curves.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(whole, indent=1), "utf-8")
    for mark, text in texts.items():
        print(f"{text}\n")
        if given.docs:
            report.put(PAGE, mark, text)


if __name__ == "__main__":
    main()
