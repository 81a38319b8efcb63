"""The faults of load: many at once, of whom one fails; no room for one more."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaos.cells import Cell, answer, cut, error, unsent
from chaos.upstreams import BROKE, TEXTS
from hpp_middleware.testing import Script
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.load import Load as Shed

__all__ = ["BENCHES", "LOADS", "Load"]

GOOD = Script(texts=TEXTS)
BENCHES: dict[str, dict[str, Any]] = {
    "wide": {},
    "full": {"load": Shed(in_flight=2, queue=2, queue_s=0.2)},
    "wary": {"breaker": Breaker(failures=3, cooldown=300)},
    "patient": {"load": Shed(in_flight=2, queue=16, queue_s=30)},
    "limited": {
        "rate_limits": tuple(
            limit
            for way in ("json", "stream")
            for limit in (
                RateLimit(consumer=f"few-{way}", requests_per_day=2),
                RateLimit(consumer=f"terse-{way}", tokens_per_day=2_500),  # two requests, not a third
                RateLimit(consumer=f"single-{way}", concurrency=2),
            )
        )
    },
}
"""What the gateway is told besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    A row: some clients who wait for their answers, and then others, all at once.

    Attributes:
        id: The tests'.
        title: What happens.
        position: When.
        json: What comes of the others, and of how many of them, where they ask for JSON.
        stream: The same, where they ask for streams.
        before: What the upstream does with requests that come one by one before all that; they fail.
        running: How many wait for the provider until all others have been answered; they are answered then.
        scripts: What the upstream does for the others; as many as reach it.
        provider: Which of the bench's providers is asked.
        consumer: Who asks; None for one consumer each.
        bench: Which of :data:`BENCHES` it happens on.
        headers: What they all send besides.
    """

    id: str
    title: str
    position: str
    json: Mapping[Cell, int]
    stream: Mapping[Cell, int]
    before: tuple[Script, ...] = ()
    running: int = 0
    scripts: tuple[Script, ...] = ()
    provider: str = "fake"
    consumer: str | None = None
    bench: str = "wide"
    headers: Mapping[str, str] = field(default_factory=dict)


def _one_of_eight() -> list[Load]:
    well = {answer(): 7}
    faults: list[tuple[str, str, Cell, Cell, Script]] = [
        (
            "status",
            "one of them is refused by the provider",
            error(502, "server"),
            error(502, "server"),
            Script(status=500),
        ),
        (
            "reset",
            "one of them is reset before its head",
            error(502, BROKE),
            error(502, BROKE),
            Script(close_before_head=True, reset=True),
        ),
        (
            "cut",
            "one of them is cut within a character",
            error(502, BROKE, "estimate"),
            cut(BROKE, "estimate"),
            Script(texts=TEXTS, truncate_within="ü".encode(), reset=True),
        ),
        (
            "large",
            "one of them gets an answer that is too large",
            error(502, BROKE, "estimate"),
            cut(BROKE, "estimate"),
            Script(texts=("x" * 2_000_000,)),
        ),
    ]
    return [
        Load(
            id=f"load-{name}",
            title=title,
            position="eight at once",
            json={whole: 1, **well},
            stream={streamed: 1, **well},
            scripts=(*[GOOD] * 3, script, *[GOOD] * 4),
        )
        for name, title, whole, streamed, script in faults
    ]


BUSY = {error(503, "upstream_unavailable"): 3}
REST = {unsent(503, "upstream_unavailable"): 8}
SHED = {unsent(503, "overloaded"): 6}
FULL = {unsent(429, "insufficient_quota"): 8}
SLOWED = {unsent(429, "rate_limit_exceeded"): 6}
FREE = {answer(): 2, **SLOWED}
RUNNING = {unsent(409, "idempotency_request_in_progress"): 4}

LOADS: list[Load] = [
    *_one_of_eight(),
    Load(
        id="load-all",
        title="the provider is gone",
        position="sixteen at once",
        json={error(502, BROKE): 16},
        stream={error(502, BROKE): 16},
        scripts=(Script(close_before_head=True),) * 16,
    ),
    Load(
        id="load-pool",
        title="all connections to the provider are in use, for longer than connecting may take",
        position="three beside one that waits",
        json=BUSY,
        stream=BUSY,
        running=1,
        provider="narrow",
    ),
    Load(
        id="load-shed",
        title="the worker answers two at once, and two more may wait, but not for so long",
        position="six beside two that wait",
        running=2,
        bench="full",
        json=SHED,
        stream=SHED,
    ),
    Load(
        id="load-line",
        title="the worker answers two at once, and the others wait for their turn",
        position="eight at once",
        bench="patient",
        scripts=(GOOD,) * 8,
        json={answer(): 8},
        stream={answer(): 8},
    ),
    Load(
        id="load-breaker",
        title="the provider has failed three times in a row, and is left alone",
        position="eight at once",
        before=(Script(status=500),) * 3,
        bench="wary",
        json=REST,
        stream=REST,
    ),
    Load(
        id="load-quota",
        title="the quota has no room beside what is held",
        position="eight beside two that wait",
        running=2,
        consumer="poor",
        json=FULL,
        stream=FULL,
    ),
    Load(
        id="load-requests",
        title="their consumer has two requests left of its day",
        position="eight at once",
        consumer="few",
        bench="limited",
        scripts=(GOOD,) * 2,
        json=FREE,
        stream=FREE,
    ),
    Load(
        id="load-tokens",
        title="their consumer has tokens for two of them left of its day",
        position="six beside two that wait",
        running=2,
        consumer="terse",
        bench="limited",
        json=SLOWED,
        stream=SLOWED,
    ),
    Load(
        id="load-concurrency",
        title="their consumer may have two running at once",
        position="six beside two that wait",
        running=2,
        consumer="single",
        bench="limited",
        json=SLOWED,
        stream=SLOWED,
    ),
    Load(
        id="load-key",
        title="they repeat a request that is running, under its Idempotency-Key",
        position="four beside one that waits",
        running=1,
        consumer="keyed",
        headers={"Idempotency-Key": "the-key-of-one-order"},
        json=RUNNING,
        stream=RUNNING,
    ),
]
