"""What is to be reached, as ratios within one run, and whether it was."""

from collections.abc import Callable
from statistics import median

from msgspec import Struct

from bench.results import Results

__all__ = ["GOALS", "Goal", "judged"]

Measured = Callable[[Results], float | None]


class Goal(Struct, frozen=True):
    """
    A figure, and its bound.

    Attributes:
        judged: False for one that stands beside a goal, to be compared with it.
    """

    title: str
    measured: Measured
    bound: float
    unit: str
    at_least: bool = False
    judged: bool = True

    def met(self, value: float) -> bool:
        """Whether it is."""
        return value >= self.bound if self.at_least else value <= self.bound


def _times(scenario: str, one: str, other: str, *, than: str = "") -> Measured:
    return lambda results: results.ratio((scenario, one, "cpu_us"), (than or scenario, other, "cpu_us"))


def _added(scenario: str, name: str) -> Measured:
    return lambda results: results.added_ms(scenario, name)


def _median(scenario: str, name: str, figure: str, per: float = 1.0) -> Measured:
    def measured(results: Results) -> float | None:
        value = results.median(scenario, name, figure)
        return value / per if value is not None else None

    return measured


def _start(results: Results) -> float | None:
    starts = results.start_s.get("router") or results.start_s.get("ours")
    return median(starts) if starts else None


GOALS = (
    Goal("JSON, 32 connections, against the no-op app", _times("json32", "ours", "noop"), 2.5, "x"),
    Goal("JSON, 32 connections, bare against the no-op app", _times("json32", "bare", "noop"), 2.5, "x", judged=False),
    Goal("JSON, 32 connections, naive against ours", _times("json32", "naive", "ours"), 20, "x", at_least=True),
    Goal("JSON, 32 connections, naive against bare", _times("json32", "naive", "bare"), 20, "x", judged=False),
    Goal("JSON, 128 connections against 32", _times("json128", "ours", "ours", than="json32"), 1.3, "x"),
    Goal("flat-out relay against the raw TCP proxy", _times("flat", "ours", "rawproxy"), 1.5, "x"),
    Goal("flat-out relay, naive against ours", _times("flat", "naive", "ours"), 4, "x", at_least=True),
    Goal("flat-out relay, naive against bare", _times("flat", "naive", "bare"), 4, "x", judged=False),
    Goal("chunk by chunk against the raw TCP proxy", _times("step", "ours", "rawproxy"), 1.5, "x", judged=False),
    Goal("chunk by chunk, naive against ours", _times("step", "naive", "ours"), 4, "x", at_least=True, judged=False),
    Goal("paced relay, 32 streams, against the raw TCP proxy", _times("paced", "ours", "rawproxy"), 2.5, "x"),
    Goal("500 paced streams: finished", _median("streams500", "ours", "finished"), 500, "", at_least=True),
    Goal("500 paced streams: total", _median("streams500", "ours", "total_s"), 6.0, "s"),
    Goal("500 paced streams: p99 hold-up of a chunk", _median("streams500", "ours", "p99_ms"), 5, "ms"),
    Goal("added time to first token, alone", _added("ttft1", "ours"), 0.6, "ms"),
    Goal("added time to first token, 32 at once", _added("ttft32", "ours"), 2, "ms"),
    Goal("added time to first token, 32 at once, bare", _added("ttft32", "bare"), 2, "ms", judged=False),
    Goal("first request served after exec", _start, 0.5, "s"),
    Goal("resident after the load", lambda results: results.resident.get("ours"), 60, "MB"),
    Goal("a 1 MB body (image), CPU", _median("image", "ours", "cpu_us", 1000), 2, "ms"),
    Goal("SQLite: JSON, 32 connections, against the no-op app", _times("json32", "ours-sqlite", "noop"), 4.5, "x"),
    Goal("SQLite: JSON, 32 connections, bare", _times("json32", "bare-sqlite", "noop"), 4.5, "x", judged=False),
    Goal("SQLite: JSON alone, against the no-op app", _times("json1", "ours-sqlite", "noop"), 8, "x"),
    Goal("SQLite: JSON alone, bare", _times("json1", "bare-sqlite", "noop"), 8, "x", judged=False),
    Goal(
        "SQLite: requests a second, 32 connections", _median("json32", "ours-sqlite", "rate"), 4000, "/s", at_least=True
    ),
    Goal("SQLite: added time to first token, alone", _added("ttft1", "ours-sqlite"), 1, "ms"),
    Goal("SQLite: added time to first token, 32 at once", _added("ttft32", "ours-sqlite"), 4, "ms"),
)


def judged(results: Results) -> list[tuple[Goal, float]]:
    """The goals that were measured, and the figures."""
    values = ((goal, goal.measured(results)) for goal in GOALS)
    return [(goal, value) for goal, value in values if value is not None]
