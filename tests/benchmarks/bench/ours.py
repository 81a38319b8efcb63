"""The gateway with everything on: keys, holds, prices, ledger, and an observer that counts what a dashboard shows."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import wire
from bench.prefill import prefill
from hpp_middleware import Gateway, MemoryStore, Provider, SQLiteStore
from hpp_middleware.types.events import Event, Settled
from hpp_middleware.types.load import Load
from hpp_middleware.types.provider import Declared

__all__ = ["build"]

_BOUNDS_S = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


class Metrics:
    """Requests, tokens, money and durations by model and outcome: what a metrics library is told."""

    def __init__(self) -> None:
        self.figures: defaultdict[tuple[str, ...], int] = defaultdict(int)  # a Counter counts in Python

    def observe(self, event: Event) -> None:
        """See :class:`hpp_middleware.ports.Observer`."""
        if not isinstance(event, Settled):
            self.figures[type(event).__name__,] += 1
            return
        bound = next((str(bound) for bound in _BOUNDS_S if event.duration_s <= bound), "more")
        for entry in event.entries:
            model, usage = entry.draft.model, entry.report.usage
            self.figures["requests", model, entry.report.outcome] += 1
            self.figures["seconds", model, bound] += 1
            self.figures["input", model] += usage.prompt
            self.figures["output", model] += usage.completion
            self.figures["nano", model] += entry.amount


def build(
    upstream: str,
    *,
    folder: Path,
    durable: bool,
    way: Mapping[str, Any] | None = None,
    entries: int = 0,
    consumers: int = 0,
    load: Load | None = None,
) -> Gateway:
    """
    A gateway before an upstream.

    Args:
        upstream: Its URL.
        folder: Where the SQLite file is.
        durable: SQLite, with ``synchronous=FULL`` as it comes; else in memory.
        way: How the upstream is reached: settings of the provider.
        entries: How long the ledger in memory is at the start; a file is filled before, by :mod:`bench.prefill`.
        consumers: How many consumers that are.
        load: How much it does at once.
    """
    store = SQLiteStore(folder / "hpp.db") if durable else MemoryStore()
    if entries and not durable:
        asyncio.run(prefill(store, entries, consumers))
    return Gateway(
        providers={"fake": Provider(base_url=f"{upstream}/v1", api_key="of-the-operator", **(way or {}))},
        models={wire.MODEL: {"input": "1.25", "output": "10"}},
        consumers={f"consumer-{number}": Declared(quota=10**15, keys=(key,)) for number, key in enumerate(wire.KEYS)},
        store=store,
        observers=[Metrics()],
        load=load,
    )
