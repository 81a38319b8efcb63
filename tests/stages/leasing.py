"""A worker's lease by a clock that the test sets."""

from collections.abc import Sequence
from typing import Any

from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.types.operations import Operation
from hpp_middleware.types.quota import Entry

__all__ = [
    "Clock",
    "kinds",
    "lease",
]


class Clock:
    """One for store and worker, as if there were only one."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def lease(store: Any, clock: Clock, swept: list[Entry] | None = None) -> Lease:
    return Lease(store, "worker-1", swept=(swept if swept is not None else []).extend, clock=clock)


def kinds(operations: Sequence[Operation]) -> list[type[Operation]]:
    return [type(operation) for operation in operations]
