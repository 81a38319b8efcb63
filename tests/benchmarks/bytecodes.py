"""
What a request takes of the gateway alone, in bytecodes of Python: the same at each run, on however busy a machine.

    python tests/benchmarks/bytecodes.py [--base REV] [--most 20]

Counted with ``sys.settrace`` over requests that are asked one after the other in one process, with the native client
and everything on that a benchmark of the gateway has on. ``--most`` tells the functions of a JSON request that run
most.
"""

import argparse
import json
import tempfile
from pathlib import Path

from bench.accounting import cores
from bench.processes import Loader, module, running, told
from bench.report import table
from bench.revisions import package_of
from bench.traced import CHUNKS, KINDS

Counts = dict[str, tuple[float, float]]
"""Calls and bytecodes of each function, a request."""


def count(contestant: str, kind: str, upstream: int, folder: Path) -> Counts:
    """What one kind of request takes."""
    command = module("bench.traced", upstream, kind)
    with running(command, core={cores()[1]}, package=package_of(contestant, folder)) as process:
        return {name: (calls, run) for name, (calls, run) in json.loads(told(process)).items()}


def sums(counts: Counts) -> tuple[float, float]:
    """Calls and bytecodes of all functions."""
    return sum(calls for calls, _ in counts.values()), sum(run for _, run in counts.values())


def rows(contestant: str, found: dict[str, Counts]) -> list[list[str]]:
    """A contestant's part of the table."""
    told = []
    for kind, title in (("json", "a JSON request"), ("stream", "a stream of 3 events")):
        calls, run = sums(found[kind])
        told.append([contestant, title, f"{run:,.0f}", f"{calls:,.0f}"])
    (calls, run), (more_calls, more) = sums(found["stream"]), sums(found["long"])
    told.append(
        [contestant, "a chunk of a stream", f"{(more - run) / CHUNKS:,.0f}", f"{(more_calls - calls) / CHUNKS:,.0f}"]
    )
    return told


def main() -> None:
    """Count, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="", help="a revision to compare with")
    parser.add_argument("--most", type=int, default=0, help="so many functions")
    given = parser.parse_args()
    contestants = ["ours", *([f"ours@{given.base}"] if given.base else [])]
    lines, by_name = [], {}
    with tempfile.TemporaryDirectory() as name, Loader() as loader:
        for contestant in contestants:
            folder = Path(name) / contestant
            folder.mkdir()
            found = {kind: count(contestant, kind, loader.upstream, folder) for kind in KINDS}
            lines += rows(contestant, found)
            by_name[contestant] = found["json"]
    print(table(["", "", "bytecodes", "calls"], lines))
    for contestant, counts in by_name.items():
        most = sorted(counts.items(), key=lambda each: -each[1][1])[: given.most]
        if most:
            told_of = [[name, f"{run:,.0f}", f"{calls:,.1f}"] for name, (calls, run) in most]
            print("\n" + table([f"{contestant}, a JSON request", "bytecodes", "calls"], told_of))


if __name__ == "__main__":
    main()
