"""How long an upstream that fails is left alone, and what is told of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from hpp_middleware.errors import ConfigurationError

__all__ = ["STATES", "Breaker", "CircuitState", "Rest", "UpstreamState", "together"]

CircuitState = Literal["closed", "open", "half_open"]
"""``closed``: it is asked. ``open``: it is not. ``half_open``: a few requests find out whether it is well again."""

STATES: tuple[CircuitState, ...] = ("closed", "half_open", "open")
"""The best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """
    When an upstream is left alone, and for how long; all times in seconds.

    Attributes:
        failures: So many failures in a row open it, none of them ``window`` after the one before.
        window: The span that the error rate is measured over: between half of it and the whole.
        rate: The part of the requests within the window that have failed which opens it, above 0 and at most 1.
        minimum: Fewer requests than this within the window are no rate.
        cooldown: How long it stays open; twice as long each time that it opens again within a window of closing.
        longest: The bound of that, and of what an upstream asks for by ``Retry-After``.
        probes: How many requests at once find out whether it is well again.
        rest: How long a key rests that is told 429, and not until when.
    """

    failures: int = 5
    window: float = 30.0
    cooldown: float = 15.0
    rate: float = 0.5
    minimum: int = 20
    longest: float = 300.0
    probes: int = 1
    rest: float = 2.0

    def __post_init__(self) -> None:
        for name in ("failures", "minimum", "probes"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"breaker.{name} must be at least 1", param=f"breaker.{name}")
        for name in ("window", "cooldown", "rest"):
            if not 0 < getattr(self, name) <= 86_400:
                raise ConfigurationError(
                    f"breaker.{name} must be above 0 seconds, and at most a day", param=f"breaker.{name}"
                )
        if not 0 < self.rate <= 1:
            raise ConfigurationError("breaker.rate must be above 0 and at most 1", param="breaker.rate")
        if not self.cooldown <= self.longest <= 86_400:
            raise ConfigurationError(
                "breaker.longest must be at least breaker.cooldown, and at most a day", param="breaker.longest"
            )


class Rest(Struct, frozen=True, gc=False):
    """
    That an upstream is left alone, as workers tell each other.

    Attributes:
        key: The upstream's: its provider's name, or ``name#upstream``.
        model: The model whose limit its key is over; empty where it is left alone altogether.
        for_s: For how long from now, in seconds; 0 for no longer.
    """

    key: str
    model: str
    for_s: float


class UpstreamState(Struct, frozen=True, kw_only=True, gc=False):
    """
    How an upstream is doing, as one worker sees it.

    Attributes:
        state: Its circuit.
        for_s: How long it is still left alone, in seconds.
        resting: The models whose limit its key is over, and for how many seconds.
        in_flight: How many calls it is answering.
    """

    state: CircuitState
    for_s: float
    resting: Mapping[str, float]
    in_flight: int


def together(seen: Iterable[Mapping[str, UpstreamState]]) -> dict[str, UpstreamState]:
    """Upstreams as several workers see them: each as badly off as for the one, as busy as for all."""
    found: dict[str, UpstreamState] = {}
    for states in seen:
        for key, state in states.items():
            found[key] = _worse(found[key], state) if key in found else state
    return found


def _worse(one: UpstreamState, other: UpstreamState) -> UpstreamState:
    return UpstreamState(
        state=max(one.state, other.state, key=STATES.index),
        for_s=max(one.for_s, other.for_s),
        resting={
            model: max(one.resting.get(model, 0.0), other.resting.get(model, 0.0))
            for model in {*one.resting, *other.resting}
        },
        in_flight=one.in_flight + other.in_flight,
    )
