"""The figures of all rounds, and what they come to."""

from statistics import median
from typing import Any

import msgspec

from bench.accounting import resident_mb
from bench.contestants import Contestant
from bench.orders import Report

__all__ = ["Results"]

_MORE_IS_BETTER = {"rate", "finished"}


class Results:
    """
    Reports by scenario and contestant.

    Attributes:
        reports: One a round.
        start_s: From exec to the end of the first request, by contestant: one figure a start.
        resident: Megabytes after the load, by contestant.
        per_1000: Megabytes that 1,000 open streams take, by contestant.
        disk_ms: Median and ninth decile of an ``fdatasync``.
    """

    def __init__(self) -> None:
        self.reports: dict[tuple[str, str], list[Report]] = {}
        self.start_s: dict[str, list[float]] = {}
        self.resident: dict[str, float] = {}
        self.per_1000: dict[str, float] = {}
        self.disk_ms = (0.0, 0.0)

    def add(self, scenario: str, contestant: str, report: Report) -> None:
        """One round's."""
        self.reports.setdefault((scenario, contestant), []).append(report)

    def started(self, target: Contestant) -> None:
        """It has answered its first request."""
        if target.start_s:
            self.start_s.setdefault(target.name, []).append(target.start_s)

    def loaded(self, target: Contestant) -> None:
        """It has been measured."""
        if target.pids:
            self.resident[target.name] = resident_mb(target.pids)

    def contestants(self, scenario: str) -> list[str]:
        """Who took part."""
        return [name for each, name in self.reports if each == scenario]

    def scenarios(self) -> list[str]:
        """What was measured, in order."""
        return list(dict.fromkeys(scenario for scenario, _ in self.reports))

    def values(self, scenario: str, contestant: str, figure: str) -> list[float]:
        """One figure of each round; none where it was not measured."""
        return [_figure(report, figure) for report in self.reports.get((scenario, contestant), [])]

    def best(self, scenario: str, contestant: str, figure: str) -> float | None:
        """The best round's."""
        values = self.values(scenario, contestant, figure)
        if not values:
            return None
        return max(values) if figure in _MORE_IS_BETTER else min(values)

    def median(self, scenario: str, contestant: str, figure: str) -> float | None:
        """The middle one's."""
        values = self.values(scenario, contestant, figure)
        return median(values) if values else None

    def added_ms(self, scenario: str, contestant: str) -> float | None:
        """What a contestant adds to the time to the first token: the median of the rounds' differences."""
        pairs = self._pairs((scenario, contestant, "p50_ms"), (scenario, "direct", "p50_ms"))
        return median(one - other for one, other in pairs) if pairs else None

    def ratio(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> float | None:
        """How many times the one is the other, each a scenario, a contestant and a figure: the median of the rounds."""
        pairs = self._pairs(one, other)
        return median(first / second for first, second in pairs if second) if pairs else None

    def _pairs(self, one: tuple[str, str, str], other: tuple[str, str, str]) -> list[tuple[float, float]]:
        return list(zip(self.values(*one), self.values(*other), strict=False))

    def raw(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "reports": [
                {"scenario": scenario, "contestant": name, "rounds": msgspec.to_builtins(reports)}
                for (scenario, name), reports in self.reports.items()
            ],
            "first_request_s": self.start_s,
            "resident_mb": self.resident,
            "mb_per_1000_streams": self.per_1000,
            "fdatasync_ms": self.disk_ms,
        }


def _figure(report: Report, figure: str) -> float:
    if figure == "rate":
        return report.units / report.wall_s if report.wall_s else 0.0
    return float(getattr(report, figure))
