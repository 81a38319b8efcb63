"""What is measured: each scenario is an order to the load generator, and names the figures that are taken of it."""

from typing import Any

from msgspec import Struct

__all__ = ["ASGI", "GROUPS", "SCENARIOS", "Scenario", "named"]


class Scenario(Struct, kw_only=True, frozen=True):
    """
    One measurement.

    Attributes:
        title: What the tables call it.
        order: Of :class:`bench.orders.Order`.
        quick: What is different of it in a quick run; None leaves it out there.
        figures: The figures of a report that are told, the first of which decides which round was the best.
        streams: Whether it needs an upstream: the no-op app has none.
        rounds: The most rounds of it.
    """

    title: str
    order: dict[str, Any]
    quick: dict[str, Any] | None = None
    figures: tuple[str, ...] = ("cpu_us",)
    streams: bool = True
    rounds: int = 100


_JSON = ("cpu_us", "rate", "p50_ms", "p99_ms")
_FIRST = ("p50_ms", "p99_ms")


def _json(connections: int, **others: Any) -> dict[str, Any]:
    return {"kind": "closed", "connections": connections, **others}


SCENARIOS: dict[str, Scenario] = {
    "json1": Scenario(title="JSON, 1 connection", order=_json(1), figures=_JSON, streams=False),
    "json32": Scenario(
        title="JSON, 32 connections",
        order=_json(32),
        quick={"seconds": 0.6, "warm_s": 0.2},
        figures=_JSON,
        streams=False,
    ),
    "json128": Scenario(title="JSON, 128 connections", order=_json(128), figures=_JSON, streams=False),
    "flat": Scenario(
        title="relay, flat out, 8 streams",
        order={"kind": "streams", "connections": 8, "events": 4000},
        quick={"events": 2000},
    ),
    "step": Scenario(
        title="relay, chunk by chunk, 32 streams",
        order={"kind": "streams", "connections": 32, "events": 1000, "steps": 1},
        quick={"events": 500},
    ),
    "paced": Scenario(
        title="relay, 32 paced streams",
        order={"kind": "streams", "connections": 32, "events": 100, "gap_us": 20_000, "spread_s": 0.02},
        quick={"events": 50},
        figures=("cpu_us", "p50_ms", "p99_ms"),
    ),
    "paced50": Scenario(
        title="relay, 50 paced streams",
        order={"kind": "streams", "connections": 50, "events": 100, "gap_us": 20_000, "spread_s": 0.02},
        figures=("cpu_us", "p50_ms", "p99_ms"),
    ),
    "ttft1": Scenario(
        title="time to first token, alone",
        order={"kind": "first", "connections": 1, "times": 300, "events": 3, "seconds": 1.0},
        quick={"times": 100, "seconds": 0.5},
        figures=_FIRST,
    ),
    "ttft32": Scenario(
        title="time to first token, 32 at once",
        order={"kind": "first", "connections": 32, "times": 40, "events": 3, "seconds": 1.5},
        quick={"times": 15, "seconds": 0.7},
        figures=_FIRST,
    ),
    "streams500": Scenario(
        title="500 paced streams, 10,000 chunks/s",
        order={"kind": "streams", "connections": 500, "events": 100, "gap_us": 50_000, "spread_s": 0.9},
        figures=("total_s", "p50_ms", "p99_ms", "finished", "server"),
        rounds=3,
    ),
    "image": Scenario(
        title="JSON with a 1 MB image, 4 connections",
        order=_json(4, image_bytes=1_000_000),
        figures=("cpu_us", "rate"),
        streams=True,
        rounds=5,
    ),
    "agent": Scenario(
        title="JSON of an agent, 230 KB and 30 tools, 4 connections",
        order=_json(4, agent=True),
        figures=("cpu_us", "rate"),
        streams=True,
        rounds=5,
    ),
}
ASGI = {name for name, scenario in SCENARIOS.items() if not scenario.streams}
"""What the no-op app can be asked."""

GROUPS = {"ttft": ("ttft1", "ttft32"), "json": ("json1", "json32", "json128")}


def named(names: str) -> list[str]:
    """
    Scenarios by name, or by the name of a group, with commas between.

    Raises:
        ValueError: There is none of that name.
    """
    found = [each for name in names.split(",") for each in GROUPS.get(name, (name,))]
    unknown = [name for name in found if name not in SCENARIOS]
    if unknown:
        raise ValueError(f"no scenario {', '.join(unknown)}; there are {', '.join([*SCENARIOS, *GROUPS])}")
    return found
