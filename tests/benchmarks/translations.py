"""
What a translation costs: CPU time a request, a translated chunk and an answer, by dialect and by the client's API.

    python tests/benchmarks/translations.py [--rounds 40] [--docs]

Pure functions, in one thread of one process: nothing is sent. A request is about 1 KB with a tool, parsed and said in
the provider's words; a chunk is an event with four letters; an answer has 440 letters. In each round everything is
measured once. ``--docs`` writes the tables into ``docs/performance.md``.
"""

import argparse
import gc
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.accounting import machine
from bench.report import number, put, table
from bench.revisions import ROOT
from bench.translated import APIS, CHUNKS, SPEECHES, Case, cases

__all__ = ["KINDS", "Figures", "measured", "tables"]

KINDS = ("request", "chunk", "answer")
TIMES = 100
"""How often a request and an answer are done in a round."""

Figures = dict[tuple[str, str, bool, str], list[float]]
"""Microseconds of CPU time in each round, by dialect, API, whether it is passed on, and kind."""


def measured(rounds: int, times: int = TIMES) -> Figures:
    """Everything, in so many rounds, after one that warms up."""
    found: defaultdict[tuple[str, str, bool, str], list[float]] = defaultdict(list)
    every = list(cases())
    gc.collect()
    gc.disable()
    try:
        for number_of_round in range(rounds + 1):
            for case in every:
                for kind, us in _once(case, times).items():
                    if number_of_round:
                        found[case.dialect, case.api, case.passed_on, kind].append(us)
            gc.collect()
    finally:
        gc.enable()
    return dict(found)


def _once(case: Case, times: int) -> dict[str, float]:
    feed = case.reader().feed
    return {
        "request": _us(lambda: [case.request() for _ in range(times)], times),
        "chunk": _us(lambda: [feed(chunk) for chunk in case.chunks], CHUNKS),
        "answer": _us(lambda: [case.answer() for _ in range(times)], times),
    }


def _us(run: Callable[[], object], times: int) -> float:
    begun = time.process_time_ns()
    run()
    return (time.process_time_ns() - begun) / times / 1000


def tables(figures: Figures) -> str:
    """One for each kind: dialects in rows, APIs in columns."""
    heads = {"request": "a request", "chunk": "a chunk", "answer": "an answer"}
    parts = []
    for kind in KINDS:
        rows = [[dialect, *(_cell(figures, dialect, api, kind) for api in APIS)] for dialect in SPEECHES]
        parts.append(table([f"CPU us {heads[kind]}, best / median", *APIS], rows))
    return "\n\n".join(parts)


def _cell(figures: Figures, dialect: str, api: str, kind: str) -> str:
    said = []
    for passed_on in (False, True):
        rounds = figures.get((dialect, api, passed_on, kind))
        if rounds:
            text = f"{number(min(rounds))} / {number(median(rounds))}"
            said.append(f"{text} passed on" if passed_on else text)
    return "; ".join(said)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md")
    asked = parser.parse_args()
    on = machine()
    words = f"{asked.rounds} rounds on {on['cpu']}, {on['cores']} cores, {on['system']}, {on['python']}."
    text = f"{words}\n\n{tables(measured(asked.rounds))}"
    print(text)
    if asked.docs:
        put(ROOT / "docs" / "performance.md", "dialects", text)


if __name__ == "__main__":
    main()
