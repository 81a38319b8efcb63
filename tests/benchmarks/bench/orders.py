"""What the load generator is told to do, and what it reports: JSON lines over its standard input and output."""

from typing import Literal

from msgspec import Struct, field

__all__ = ["Order", "Report"]


class Order(Struct, kw_only=True):
    """
    One measurement.

    Attributes:
        kind: ``closed``: each connection asks again when it has its answer. ``streams``: each connection reads one
            stream. ``first``: bursts of streams, timed to their first token. ``hold``: streams that are left open until
            the next order.
        port: Whom to ask.
        pids: The processes whose CPU time is counted.
        upstream: The fake upstream's process.
        connections: How many.
        seconds: How long, after ``warm_s``, and longer where it takes longer that each connection has an answer.
        events: The events of a stream.
        gap_us: Between two of them.
        spread_s: The streams begin over so long a time.
        steps: The upstream's port, where each event of a stream shall leave when the one before has arrived.
        times: How many bursts; ``first`` only.
        image_bytes: An image in the question; ``closed`` only.
        agent: Whether the question is an agent's, long and with tools; ``closed`` only.
    """

    kind: Literal["closed", "streams", "first", "hold"]
    port: int
    pids: list[int]
    upstream: int
    connections: int = 1
    seconds: float = 1.0
    warm_s: float = 0.3
    events: int = 100
    gap_us: int = 0
    spread_s: float = 0.0
    steps: int = 0
    times: int = 100
    image_bytes: int = 0
    agent: bool = False
    deadline_s: float = 60.0


class Report(Struct, kw_only=True):
    """
    What came of it.

    Attributes:
        units: Requests, or chunks, that arrived while it was measured.
        cpu_us: CPU time of the measured processes, a unit.
        wall_s: How long it was measured.
        server, load, upstream: The part of a core that each of the three used meanwhile.
        p50_ms, p99_ms: Of the latency, the time to the first token, or of how long a chunk was held up.
        finished: Requests or streams that ended as they should.
        failed: Those that did not.
        total_s: From the first byte sent to the last one read.
    """

    units: int = 0
    cpu_us: float = 0.0
    wall_s: float = 0.0
    server: float = 0.0
    load: float = 0.0
    upstream: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    finished: int = 0
    failed: int = 0
    total_s: float = 0.0
    notes: list[str] = field(default_factory=list)
