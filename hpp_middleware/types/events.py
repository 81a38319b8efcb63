"""What observers are told. No event carries a key, a prompt or an answer."""

from msgspec import Struct

from hpp_middleware.types.health import CircuitState
from hpp_middleware.types.quota import Entry

__all__ = ["Alarm", "Event", "Refused", "Replayed", "Settled", "Shadowed", "UpstreamChanged"]


class Settled(Struct, frozen=True, kw_only=True):
    """A request ended, and these ledger lines were written."""

    entries: tuple[Entry, ...]
    held: int
    duration_s: float
    first_byte_s: float | None


class Refused(Struct, frozen=True, kw_only=True):
    """A request was refused before anything was held."""

    request_id: str
    status: int
    code: str
    consumer: str | None = None


class Replayed(Struct, frozen=True, kw_only=True):
    """
    A kept answer was given again under its Idempotency-Key; nothing was charged.

    Attributes:
        request_id: The request that the answer was made for, whose ledger entry it is.
        consumer: Who asked again.
        model: What was asked for, as ``provider/model``.
    """

    request_id: str
    consumer: str
    model: str


class Alarm(Struct, frozen=True, kw_only=True):
    """
    Something an operator should look at.

    Attributes:
        kind: ``overage``, ``conflict``, ``missing_usage``, ``doubtful_usage``, ``settle_failed``, ``internal``; of the
            sealer ``ledger`` (something is wrong with it) or ``seal_failed``; of the settlement journal ``journal``;
            of the mover of a ledger that is kept elsewhere ``move_failed``, also where it leaves a line that cannot be
            read; ``upstream_refused`` where a provider does not take the operator's key, or wants to be paid;
            ``limits`` where a limit store does not answer; ``hold`` where one cannot be swept.
        request_id: The request it concerns; empty where it concerns none.
        detail: Names and figures only.
    """

    kind: str
    request_id: str
    detail: str


class Shadowed(Struct, frozen=True, kw_only=True):
    """
    What another policy would have chosen for ``hpprouter/auto``; it was not followed.

    Attributes:
        request_id: The request's.
        consumer: Whose.
        model: What was chosen.
        rule: By which rule.
        shadow: What the other would have chosen; None for nothing.
        shadow_rule: By which rule; None for none.
        score: The learned score, where either of them used it.
    """

    request_id: str
    consumer: str
    model: str
    rule: str
    shadow: str | None
    shadow_rule: str | None = None
    score: float | None = None


class UpstreamChanged(Struct, frozen=True, kw_only=True):
    """
    An upstream's circuit has opened or closed.

    Attributes:
        upstream: Its provider's name, or ``name#upstream`` for one of several.
        state: ``open``, ``half_open`` or ``closed``.
        for_s: How long it is left alone, in seconds; 0 where it is asked again.
    """

    upstream: str
    state: CircuitState
    for_s: float


Event = Settled | Refused | Replayed | Shadowed | Alarm | UpstreamChanged
