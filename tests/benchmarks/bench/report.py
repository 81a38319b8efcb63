"""The tables, as Markdown; and as a part of a page of the documentation, between two marks."""

from pathlib import Path
from statistics import median

from bench import goals
from bench.results import Results
from bench.scenarios import SCENARIOS

__all__ = ["number", "put", "summary", "tables"]

_NO_GATEWAYS = {"direct", "bare", "bare-sqlite", "rawproxy"}
_HEADS = {
    "cpu_us": "CPU us",
    "rate": "a second",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "total_s": "total s",
    "finished": "finished",
    "server": "of a core",
}


def tables(results: Results) -> str:
    """All of them."""
    scenarios = [_scenario(results, name) for name in results.scenarios()]
    parts = [summary(results), *scenarios, _processes(results), _base(results), _goals(results)]
    return "\n\n".join(part for part in parts if part)


def put(page: Path, name: str, text: str) -> None:
    """Replace what stands in a page between ``<!-- NAME -->`` and ``<!-- /NAME -->``."""
    whole = page.read_text("utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = whole.partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", "utf-8")


def number(value: float | None) -> str:
    """A figure, as long as it is worth."""
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def summary(results: Results) -> str:
    """What matters most in one table, the best of the rounds; nothing where not all of it was measured."""
    names = [
        name for name in results.contestants("streams500") if name not in {"direct", "bare", "bare-sqlite", "rawproxy"}
    ]
    if not names or not {"json32", "paced50", "ttft1"}.issubset(results.scenarios()):
        return ""
    rows = [
        [
            name,
            number(results.best("json32", name, "cpu_us")),
            number(results.best("paced50", name, "cpu_us")),
            _streams(results, name),
            f"{number(results.added_ms('ttft1', name))} ms",
        ]
        for name in names
    ]
    heads = [
        "best of the rounds",
        "CPU us a JSON request, 32 connections",
        "CPU us a chunk, 50 paced streams",
        "500 paced streams: finished, in, of a core, p99 hold-up of a chunk",
        "added to the first token",
    ]
    return table(heads, rows)


def _streams(results: Results, name: str) -> str:
    finished, total_s, server, p99_ms = (
        results.best("streams500", name, figure) or 0.0 for figure in ("finished", "total_s", "server", "p99_ms")
    )
    return f"{finished:.0f}, {total_s:.1f} s, {server:.0%}, {number(p99_ms)} ms"


def _scenario(results: Results, name: str) -> str:
    scenario = SCENARIOS[name]
    first = name.startswith("ttft")
    heads = [f"{_HEADS[figure]}, best / median" for figure in scenario.figures]
    rows = []
    for contestant in results.contestants(name):
        cells = [
            f"{number(results.best(name, contestant, figure))} / {number(results.median(name, contestant, figure))}"
            if any(results.values(name, contestant, figure))
            else "-"
            for figure in scenario.figures
        ]
        if first:
            cells.append(number(results.added_ms(name, contestant)))
        load = results.median(name, contestant, "load") or 0.0
        upstream = results.median(name, contestant, "upstream") or 0.0
        failed = sum(results.values(name, contestant, "failed"))
        rows.append([contestant, *cells, f"{load:.0%} + {upstream:.0%}", f"{failed:.0f}"])
    notes = [
        f"{contestant}: {note}"
        for contestant in results.contestants(name)
        for each in results.reports[name, contestant]
        for note in each.notes
    ]
    found = table([scenario.title, *heads, *(["added ms"] if first else []), "other core", "failed"], rows)
    return "\n\n".join([found, *notes])


def _processes(results: Results) -> str:
    names = list(dict.fromkeys([*results.start_s, *results.resident]))
    if not names:
        return ""
    rows = [
        [
            name,
            number(median(results.start_s[name])) if name in results.start_s else "",
            number(results.resident.get(name)),
            number(results.per_1000.get(name)),
        ]
        for name in names
    ]
    found = table(["process", "first request after exec, s", "resident after the load, MB", "MB / 1,000 streams"], rows)
    return f"{found}\n\nfdatasync: median {results.disk_ms[0]:.2f} ms, p90 {results.disk_ms[1]:.2f} ms"


def _base(results: Results) -> str:
    rows = []
    for scenario, name in results.reports:
        revised = f"{name.partition('@')[0]}"
        if "@" not in name or (scenario, revised) not in results.reports:
            continue
        figure = "p50_ms" if scenario.startswith("ttft") else "cpu_us"
        one, other = (scenario, revised, figure), (scenario, name, figure)
        rows.append(
            [
                f"{SCENARIOS[scenario].title}, {_HEADS[figure]}",
                name,
                number(results.median(*other)),
                number(results.median(*one)),
                number(results.ratio(one, other)),
            ]
        )
    return table(["compared", "base", "base", "now", "now / base"], rows) if rows else ""


def _goals(results: Results) -> str:
    rows = [
        [
            goal.title,
            f"{'>=' if goal.at_least else '<='} {goal.bound:,g} {goal.unit}".strip() if goal.judged else "",
            f"{number(value)} {goal.unit}".strip(),
            ("met" if goal.met(value) else "**not met**") if goal.judged else "",
        ]
        for goal, value in goals.judged(results)
    ]
    return table(["goal", "bound", "measured", ""], rows) if rows else ""
