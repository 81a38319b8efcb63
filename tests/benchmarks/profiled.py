"""
Where the time goes, and whose it is: a contestant under load, sampled from outside.

    python tests/benchmarks/profiled.py [--load json32] [--contestant ours] [--seconds 6] [--most 25]

py-spy tells Python's functions, each with the C that it calls; perf, where it is installed, tells how much of all that
is the kernel's, the interpreter's, and each library's. What runs in the event loop and in no Python function (reading
sockets, parsing HTTP) is told as the event loop's.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from bench import report, samples
from bench.accounting import user_part
from bench.contestants import contestant
from bench.processes import Loader, many_files
from bench.revisions import ROOT
from bench.scenarios import SCENARIOS

DOCS = ROOT / "docs" / "performance.md"


def order(load: str, seconds: float) -> dict[str, object]:
    """A scenario's order, long enough."""
    found = dict(SCENARIOS[load].order)
    if found["kind"] == "closed":
        return {**found, "seconds": seconds + 1.5}
    gap_s = found.get("gap_us", 0) / 1e6 or 8e-6 * found["connections"]
    return {**found, "events": int((seconds + 2) / gap_s), "deadline_s": seconds + 2.5}


def profile(given: argparse.Namespace, folder: Path) -> None:
    """Sample it, and print the tables."""
    with Loader() as loader, contestant(given.contestant, loader.upstream, folder / "it") as target:
        loader.run(target, {"kind": "closed", "connections": 32, "seconds": 0.5})
        before = user_part(target.pids)
        loader.begin(target, order(given.load, given.seconds))
        pid = target.pids[0]
        processes = [
            samples.py_spy(pid, given.seconds, folder / "stacks"),
            samples.perf(pid, given.seconds, folder / "perf"),
        ]
        for process in processes:
            if process is not None:
                process.wait(given.seconds + 60)
        found = loader.end()
        user, system = (after - earlier for after, earlier in zip(user_part(target.pids), before, strict=True))
    stacks = samples.read(folder / "stacks")
    title = f"{given.contestant}, {SCENARIOS[given.load].title}"
    print(
        f"{title}: {found.cpu_us:.1f} us CPU a unit while sampled; {system / (user + system):.0%} of it in the kernel\n"
    )
    whose = [shares("Python, by owner", stacks.owners, stacks.total, 20)]
    libraries = samples.by_library(folder / "perf")
    if libraries:
        whose.append(report.table(["perf: where", "%"], [[name, f"{percent:.1f}"] for percent, name in libraries]))
    print("\n\n".join(whose))
    if given.docs:
        report.put(DOCS, f"profile {given.load}", "\n\n".join([f"{SCENARIOS[given.load].title}:", *whose]))
    print("\n" + shares("by module", stacks.modules, stacks.total, given.most))
    print("\n" + shares("by function, itself", stacks.functions, stacks.total, given.most))
    print("\n" + shares("by function, with what it calls", stacks.within, stacks.total, given.most))


def shares(title: str, counted: Counter[str], total: int, most: int) -> str:
    """A table of percents."""
    return report.table(
        [title, "%"], [[name, f"{100 * count / total:.1f}"] for name, count in counted.most_common(most)]
    )


def main() -> None:
    """Profile one load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--load", choices=list(SCENARIOS), default="json32")
    parser.add_argument("--contestant", default="ours")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--docs", action="store_true", help="write the first tables into docs/performance.md")
    parser.add_argument("--most", type=int, default=25)
    given = parser.parse_args()
    many_files()
    with tempfile.TemporaryDirectory() as folder:
        profile(given, Path(folder))


if __name__ == "__main__":
    main()
