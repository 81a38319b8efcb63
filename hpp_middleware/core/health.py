"""
Whether an upstream is to be asked: a circuit breaker, and rests.

A circuit is a value. It is **closed** while its upstream answers; it **opens** where that fails so often in a row, or
at such a rate; after its cooldown it is **half-open**: a few probes go through, and the first of them that is answered
closes it, the first that fails opens it again, for longer. A probe that nobody ends is forgotten by time. What a call
comes to counts only in the term that it began in, so that one from before the opening says nothing of what is after.

Nothing here awaits, reads a clock, or draws lots.
"""

from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from hpp_middleware.types.health import Breaker, CircuitState

__all__ = [
    "CLOSED",
    "Circuit",
    "Told",
    "begun",
    "failed",
    "heard",
    "nothing",
    "rest_s",
    "state",
    "succeeded",
    "told",
    "wait_s",
]

Told = Literal["well", "failed", "limited", "refused", "forbidden", "nothing"]
"""
What a call says of its upstream: that it is well, though it may not like the request; that it has failed; that its key
is over a limit (429), or is no good (401, or 402: it is not paid for); that it forbids this (403), be it for the key's
sake or for the request's; or nothing at all.
"""

_OF_STATUS: dict[int, Told] = {401: "refused", 402: "refused", 403: "forbidden", 429: "limited"}

_NEVER = float("-inf")

ECHO_S = 1.0
"""By so much may what other workers tell differ from what is known here, and be the same: no store is further away."""


class Circuit(Struct, frozen=True, kw_only=True, gc=False):
    """
    What is known of one upstream. Times are seconds of one clock, any one.

    Attributes:
        term: Counts openings and closings.
        is_open: Whether it has opened, and not closed since: it is half-open once ``until`` has come.
        until: While it is open, when it may be probed.
        opened: How often it has opened without having stayed closed between.
        closed_at: When it closed last.
        row: Failures in a row.
        failed_at: When the last one was.
        slot: Which half of a window ``asked`` and ``failed`` count, by its number.
        asked: Requests that said something, in this half of a window.
        failed: Those of them that failed.
        asked_before: The same in the half before.
        failed_before: And those of them that failed.
        probes: When each probe in flight is forgotten.
    """

    term: int = 0
    is_open: bool = False
    until: float = _NEVER
    opened: int = 0
    closed_at: float = _NEVER
    row: int = 0
    failed_at: float = _NEVER
    slot: int = 0
    asked: int = 0
    failed: int = 0
    asked_before: int = 0
    failed_before: int = 0
    probes: tuple[float, ...] = ()


CLOSED = Circuit()
"""Nothing is known, and so nothing is held against it."""


def told(status: int | None, *, ok: bool | None) -> Told:
    """
    What a call says of its upstream.

    Args:
        status: What it answered with; None where it gave no status.
        ok: Whether it answered as it should; None where that cannot be known: the client left, or we did not ask.
    """
    if ok and (status is None or status < 400):
        return "well"
    if ok is None:
        return "nothing"
    if status is not None and 400 <= status < 500 and status != 408:
        return _OF_STATUS.get(status, "well")
    return "well" if ok else "failed"


def state(circuit: Circuit, *, now: float) -> CircuitState:
    """Closed, open or half-open."""
    if not circuit.is_open:
        return "closed"
    return "open" if now < circuit.until else "half_open"


def wait_s(circuit: Circuit, breaker: Breaker, *, now: float) -> float:
    """How long until it may be asked, in seconds; 0 where it may be now."""
    if not circuit.is_open:
        return 0.0
    if now < circuit.until:
        return circuit.until - now
    waiting = _waiting(circuit, now)
    return 0.0 if len(waiting) < breaker.probes else min(waiting) - now


def begun(circuit: Circuit, breaker: Breaker, *, now: float) -> Circuit:
    """A call that may be made is made: it is a probe of one that is half-open, and waited for as long as it cools."""
    if not circuit.is_open:
        return circuit
    return _with(circuit, probes=(*_waiting(circuit, now), now + breaker.cooldown))


def succeeded(circuit: Circuit, breaker: Breaker, *, now: float, term: int) -> Circuit:
    """
    A call has been answered.

    Args:
        circuit: As it is now.
        breaker: Its settings.
        now: The time.
        term: The circuit's when the call began.
    """
    if term != circuit.term:
        return circuit
    if circuit.is_open:
        return Circuit(term=term + 1, opened=circuit.opened, closed_at=now)
    return _counted(circuit, breaker, now)


def failed(
    circuit: Circuit,
    breaker: Breaker,
    *,
    now: float,
    term: int,
    why: Told = "failed",
    retry_after_s: float | None = None,
) -> Circuit:
    """
    A call has failed: as :func:`succeeded`.

    A key that is ``refused`` opens it at once. What is ``forbidden`` counts in a row only: where others are answered
    meanwhile, it is the requests that are at fault, and those who send them must not shut others out.

    Args:
        circuit: As it is now.
        breaker: Its settings.
        now: The time.
        term: The circuit's when the call began.
        why: ``failed``, ``refused`` or ``forbidden``.
        retry_after_s: How long the upstream asks to be left alone, if it does.
    """
    if term != circuit.term:
        return circuit
    if not circuit.is_open:
        circuit = _counted(circuit, breaker, now, failed=True, rated=why != "forbidden")
        if why != "refused" and circuit.row < breaker.failures and not _is_too_often(circuit, breaker):
            return circuit
    again = circuit.is_open or now < circuit.closed_at + breaker.window
    opened = circuit.opened + 1 if again else 1
    cooldown = min(breaker.cooldown * 2.0 ** min(opened - 1, 32), breaker.longest)
    if retry_after_s is not None:
        cooldown = max(cooldown, min(retry_after_s, breaker.longest))
    return Circuit(term=circuit.term + 1, is_open=True, until=now + cooldown, opened=opened)


def nothing(circuit: Circuit, *, term: int, probe: float | None) -> Circuit:
    """
    A call says nothing: if it was a probe, another may take its place.

    Args:
        circuit: As it is now.
        term: The circuit's when the call began.
        probe: When the call, a probe, would be forgotten; None for any other.
    """
    if probe is None or term != circuit.term or probe not in circuit.probes:
        return circuit
    at = circuit.probes.index(probe)
    return _with(circuit, probes=circuit.probes[:at] + circuit.probes[at + 1 :])


def heard(circuit: Circuit, breaker: Breaker, *, now: float, for_s: float) -> Circuit:
    """
    Another worker leaves it alone for so many seconds: so do we, unless we do for as long.

    How often it has opened here stays ours: a cooldown grows by what was found out here. What we have told comes back,
    later by the way there and back: that is nothing new.
    """
    until = now + min(for_s, breaker.longest)
    if for_s <= 0 or (circuit.is_open and circuit.until + ECHO_S >= until):
        return circuit
    return Circuit(term=circuit.term + 1, is_open=True, until=until, opened=max(1, circuit.opened))


def rest_s(breaker: Breaker, *, retry_after_s: float | None) -> float:
    """How long a key rests that is over a limit, in seconds."""
    return breaker.rest if retry_after_s is None else min(max(retry_after_s, 0.0), breaker.longest)


def _waiting(circuit: Circuit, now: float) -> tuple[float, ...]:
    return tuple(each for each in circuit.probes if each > now)


def _with(circuit: Circuit, *, probes: tuple[float, ...]) -> Circuit:
    """Another open one, with these probes."""
    return Circuit(term=circuit.term, is_open=True, until=circuit.until, opened=circuit.opened, probes=probes)


def _is_too_often(circuit: Circuit, breaker: Breaker) -> bool:
    asked = circuit.asked + circuit.asked_before
    return asked >= breaker.minimum and circuit.failed + circuit.failed_before >= breaker.rate * asked


def _counted(circuit: Circuit, breaker: Breaker, now: float, *, failed: bool = False, rated: bool = True) -> Circuit:
    """The same closed one, with one call more."""
    slot = int(2 * now // breaker.window)
    if slot != circuit.slot:
        before = (circuit.asked, circuit.failed) if slot == circuit.slot + 1 else (0, 0)
        circuit = replace(circuit, slot=slot, asked=0, failed=0, asked_before=before[0], failed_before=before[1])
    if not failed:
        return replace(circuit, asked=circuit.asked + 1, row=0)
    return replace(
        circuit,
        row=circuit.row + 1 if now < circuit.failed_at + breaker.window else 1,
        failed_at=now,
        asked=circuit.asked + rated,
        failed=circuit.failed + rated,
    )
