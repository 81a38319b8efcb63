"""Observers are told after the fact; what one of them raises is logged and dropped."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from hpp_middleware.core.raised_at import raised_at
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import Observer
from hpp_middleware.types.events import Alarm, Event, Refused, Replayed, Settled, Shadowed, UpstreamChanged
from hpp_middleware.types.operations import Result
from hpp_middleware.types.quota import Entry

if TYPE_CHECKING:
    from hpp_middleware.stages.attempts.carried import Carried

__all__ = ["Notice"]

_logger = logging.getLogger("hpp_middleware")


class Notice:
    """
    Tells observers.

    Args:
        observers: Who is told.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def alarm(self, alarm: Alarm) -> None:
        """Something an operator should look at."""
        self._tell(alarm)

    def not_moved(self, error: Exception) -> None:
        """The ledger, or a line of it, cannot be moved to where it stays."""
        ours = error.message if isinstance(error, StoreError) else type(error).__name__
        self._tell(Alarm(kind="move_failed", request_id="", detail=ours))

    def refused(self, refused: Refused) -> None:
        """A request was refused."""
        self._tell(refused)

    def replayed(self, replayed: Replayed) -> None:
        """A kept answer was given again."""
        self._tell(replayed)

    def shadowed(self, shadowed: Shadowed) -> None:
        """Another policy would have chosen so."""
        self._tell(shadowed)

    def upstream_changed(self, changed: UpstreamChanged) -> None:
        """An upstream is left alone, or is asked again."""
        self._tell(changed)

    def swept(self, entries: Sequence[Entry]) -> None:
        """Holds whose owner died were charged."""
        self._tell(Settled(entries=tuple(entries), held=0, duration_s=0.0, first_byte_s=None))

    def settled(self, request_id: str, carried: "Carried", settlement: Settlement, result: Result | None) -> None:
        """A request ended; and what was odd about it."""
        if not self._observers:
            return
        over = settlement.amount - carried.job.hold
        if over > 0:
            self._tell(Alarm(kind="overage", request_id=request_id, detail=f"{over} nano-dollars over the hold"))
        if settlement.outcome == "completed" and settlement.estimated:
            kind = "doubtful_usage" if carried.last.seen.usage is not None else "missing_usage"
            self._tell(Alarm(kind=kind, request_id=request_id, detail=carried.job.target.id))
        if result is not None and result.entries:
            self._tell(
                Settled(
                    entries=result.entries,
                    held=carried.job.hold,
                    duration_s=carried.duration_s,
                    first_byte_s=carried.last.first_byte_s,
                )
            )

    def _tell(self, event: Event) -> None:
        for observer in self._observers:
            try:
                observer.observe(event)
            except Exception as error:  # noqa: BLE001  # an observer's fault is not the request's
                told = type(observer).__name__, type(error).__name__, raised_at(error)
                _logger.error("an observer failed: %s, by %s%s", *told)  # noqa: TRY400  # its text may hold anything
