"""
How much the gateway costs: CPU time a request and a chunk, and what it adds to the latency.

    python tests/benchmarks/speed.py [--quick] [--base REV]
    python tests/benchmarks/speed.py --only json32,ttft --contestants noop,ours,ours@HEAD --rounds 3

The gateway has a core of its own; load generator and upstream share the other one. Rounds are interleaved: each of the
contestants is measured in each round. ``direct`` is the upstream itself, without anything before it: what load
generator and upstream can do, and what times to the first token are compared with. What they used of their core stands
beside each figure. See docs/performance.md.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import goals, nginx, report, router, tls
from bench.accounting import disk_ms, machine, resident_mb
from bench.contestants import ALL, contestant
from bench.processes import Loader, many_files
from bench.results import Results
from bench.revisions import this_revision
from bench.scenarios import ASGI, GROUPS, SCENARIOS, named

CONTESTANTS = "direct,noop,bare,bare-sqlite,rawproxy,nginx,ours,ours-sqlite,naive"
QUICK = ("json32,flat,step,paced,ttft", "direct,noop,rawproxy,ours,naive")
STARTED = ("ours", "ours-sqlite", "router", "naive")
HELD = 1000
DOCS = Path(__file__).parents[2] / "docs" / "performance.md"


def order_of(scenario: str, *, quick: bool) -> dict[str, object]:
    """What the load generator is told."""
    found = SCENARIOS[scenario]
    return {**found.order, **((found.quick or {}) if quick else {})}


def measure(given: argparse.Namespace, loader: Loader, folder: Path, results: Results) -> None:
    """All rounds, interleaved."""
    with ExitStack() as stack:
        running = [stack.enter_context(contestant(name, loader.upstream, folder / name)) for name in given.contestants]
        for number in range(given.rounds):
            for scenario in given.scenarios:
                if number >= SCENARIOS[scenario].rounds:
                    continue
                for target in running:
                    if target.name == "noop" and scenario not in ASGI:
                        continue
                    found = loader.run(target, order_of(scenario, quick=given.quick))
                    results.add(scenario, target.name, found)
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
        for target in running:
            results.loaded(target)


def measure_starts(given: argparse.Namespace, loader: Loader, folder: Path, results: Results) -> None:
    """From exec to the end of the first request, again and again."""
    for number in range(given.rounds):
        for name in STARTED:
            with contestant(name, loader.upstream, folder / f"start-{number}-{name}") as target:
                results.started(target)


def measure_held(given: argparse.Namespace, loader: Loader, folder: Path, results: Results) -> None:
    """What open streams take: of a process that has been under load, before and after."""
    deaf = {"direct", "noop", "bare", "bare-sqlite"}  # the last two never hear that a stream was left
    for name in [name for name in given.contestants if name not in deaf]:
        with contestant(name, loader.upstream, folder / f"held-{name}") as target:
            loader.run(target, order_of("json32", quick=True))
            before = resident_mb(target.pids)
            held = {"kind": "hold", "connections": HELD, "events": 10_000, "gap_us": 1_000_000, "seconds": 2.0}
            found = loader.run(target, held)
            if found.units == HELD and not found.failed:
                results.per_1000[name] = (resident_mb(target.pids) - before) * 1000 / HELD
            loader.run(target, {"kind": "closed", "connections": 1, "seconds": 0.1})  # and they are left


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the most important ones, in about a minute")
    parser.add_argument("--base", default="", help="a revision to compare with")
    parser.add_argument("--only", default="", help=f"of {', '.join([*SCENARIOS, *GROUPS])}")
    parser.add_argument("--contestants", default="", help=f"of {', '.join(ALL)}; NAME@REV is a revision's")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="a file for the results")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    given = parser.parse_args()
    given.whole = not (given.quick or given.only or given.contestants)
    given.scenarios = named(given.only or (QUICK[0] if given.quick else ",".join(SCENARIOS)))
    given.contestants = (given.contestants or (QUICK[1] if given.quick else CONTESTANTS)).split(",")
    if "direct" not in given.contestants:
        given.contestants.insert(0, "direct")
    if given.base:
        compared = ("ours",) if given.quick else ("ours", "ours-sqlite")
        given.contestants += [f"{name}@{given.base}" for name in compared if name in given.contestants]
    if not nginx.path():
        given.contestants = [name for name in given.contestants if name != "nginx"]
    if not router.has_workers():
        given.contestants = [name for name in given.contestants if not name.startswith("workers")]
    given.rounds = given.rounds or (3 if given.quick else 5)
    return given


def save(path: Path, given: argparse.Namespace, results: Results) -> None:
    """Everything, into a file."""
    judged = [
        {"goal": goal.title, "bound": goal.bound, "measured": value, "met": goal.met(value)}
        for goal, value in goals.judged(results)
        if goal.judged
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "revision": this_revision(),
        "machine": machine(),
        "rounds": given.rounds,
        "goals": judged,
        **results.raw(),
    }
    path.write_text(json.dumps(whole, indent=1), "utf-8")


def main() -> None:
    """Measure, and print the tables."""
    given, results = arguments(), Results()
    many_files()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        if any(each.partition("@")[0].endswith("-tls") for each in given.contestants):
            tls.prepare(folder / "tls")
        loader = stack.enter_context(Loader())
        results.disk_ms = disk_ms(folder)
        measure(given, loader, folder, results)
        if given.whole:
            measure_starts(given, loader, folder, results)
            measure_held(given, loader, folder, results)
    on = machine()
    words = f"{given.rounds} rounds on {on['cpu']}, {on['cores']} cores, {on['system']}, {on['python']}."
    print(f"{words}\n\n{report.tables(results)}")
    save(given.json, given, results)
    if given.docs:
        report.put(DOCS, "figures", f"{words}\n\n{report.tables(results)}")


if __name__ == "__main__":
    main()
