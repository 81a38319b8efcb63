"""One line a request to the standard library's logging: names and figures, never a key, a prompt or an answer."""

import logging

import msgspec

from hpp_middleware.types.events import Alarm, Event, Refused, Replayed, Settled, Shadowed, UpstreamChanged

__all__ = ["LoggingObserver"]


class LoggingObserver:
    """
    Writes events to a logger, each with its fields in ``extra``.

    Args:
        name: The logger's name.
    """

    def __init__(self, name: str = "hpp_middleware") -> None:
        self._logger = logging.getLogger(name)

    def observe(self, event: Event) -> None:
        """See :class:`hpp_middleware.ports.Observer`."""
        match event:
            case Settled():
                self._settled(event)
            case Refused():
                fields = {"request_id": event.request_id, "status": event.status, "code": event.code}
                self._logger.info("refused %(request_id)s %(status)s %(code)s", fields, extra={"hpp": fields})
            case Replayed():
                fields = {"request_id": event.request_id, "consumer": event.consumer, "model": event.model}
                self._logger.info("replayed %(request_id)s %(consumer)s %(model)s", fields, extra={"hpp": fields})
            case Shadowed():
                fields = msgspec.structs.asdict(event)
                self._logger.info(
                    "shadow %(request_id)s %(consumer)s %(model)s by %(rule)s, else %(shadow)s by %(shadow_rule)s",
                    fields,
                    extra={"hpp": fields},
                )
            case UpstreamChanged():
                fields = {"upstream": event.upstream, "state": event.state, "for_s": round(event.for_s, 1)}
                self._logger.warning("upstream %(upstream)s is %(state)s for %(for_s)ss", fields, extra={"hpp": fields})
            case Alarm():
                fields = {"kind": event.kind, "request_id": event.request_id, "detail": event.detail}
                self._logger.warning("%(kind)s %(request_id)s %(detail)s", fields, extra={"hpp": fields})

    def _settled(self, event: Settled) -> None:
        if not event.entries:
            return
        first = event.entries[0]
        fields = {
            "request_id": first.hold,
            "consumer": first.draft.consumer,
            "model": first.draft.model,
            "outcome": first.report.outcome,
            "tokens": first.report.usage.total,
            "nano": sum(entry.amount for entry in event.entries),
            "held": event.held,
            "seconds": round(event.duration_s, 4),
        }
        upstream = first.report.attempts[-1].upstream if first.report.attempts else None
        if upstream is not None:
            fields["upstream"] = upstream
        self._logger.info(
            "%(outcome)s %(request_id)s %(consumer)s %(model)s %(tokens)d tokens %(nano)d nano-dollars %(seconds)ss",
            fields if upstream is None else {**fields, "model": f"{first.draft.model} at {upstream}"},
            extra={"hpp": fields},
        )
