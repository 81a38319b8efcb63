"""
Which of a provider's upstreams is asked first, and which then. Nothing here reads a clock, or draws lots by itself.

- ``weighted``: at random, each by its weight.
- ``least_busy``: of two that are drawn so, the one with fewer calls in flight for its weight: knowing two is nearly as
  good as knowing all, and does not send everybody to the same one (Mitzenmacher, "The Power of Two Choices in
  Randomized Load Balancing", 2001).
- ``latency``: at random among those that begin their answers nearly as soon as the fastest; one that nobody has
  measured is as good as the fastest, and now and then anybody is asked, so that what was slow once may be found faster.
- ``cheapest``: by price; at random among equals.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal

from msgspec import Struct

from hpp_middleware.types.upstreams import Choice

__all__ = ["Seat", "order", "pace"]

NEARLY = 1.25
"""Nearly as fast as the fastest."""

EXPLORE = 0.05
"""How often anybody is asked, whatever is known."""

HALF_LIFE_S = 60.0
"""After so long a measurement counts half of what it did."""

MOST_WEIGHT = 0.3
"""How much a new measurement counts where the one before is fresh."""


class Seat(Struct, frozen=True, gc=False):
    """
    An upstream that may be asked.

    Attributes:
        key: By what it is known.
        weight: Its share.
        factor: What it costs, against the others.
        in_flight: How many calls it is answering.
        first_byte_s: How long it takes to begin an answer; None where nobody knows.
    """

    key: str
    weight: float = 1.0
    factor: Decimal = Decimal(1)
    in_flight: int = 0
    first_byte_s: float | None = None


def order(seats: Sequence[Seat], how: Choice, *, chance: Callable[[], float]) -> list[str]:
    """
    The keys, the one to be asked first in front.

    Args:
        seats: Those that may be asked.
        how: See the module.
        chance: Draws from 0 to 1.
    """
    drawn = sorted(seats, key=lambda seat: -math.log(1.0 - chance() * (1.0 - 2.0**-53)) / seat.weight)
    if how == "least_busy" and len(drawn) > 1:
        if _load(drawn[1]) < _load(drawn[0]):
            drawn[0], drawn[1] = drawn[1], drawn[0]
    elif how == "latency" and chance() >= EXPLORE:
        known = [seat.first_byte_s for seat in drawn if seat.first_byte_s is not None]
        near = NEARLY * min(known, default=0.0)
        drawn.sort(key=lambda seat: 0.0 if (seat.first_byte_s or 0.0) <= near else seat.first_byte_s or 0.0)
    elif how == "cheapest":
        drawn.sort(key=lambda seat: seat.factor)
    return [seat.key for seat in drawn]


def pace(before: tuple[float, float] | None, first_byte_s: float, *, now: float) -> tuple[float, float]:
    """
    A mean of how long answers take to begin, that goes with the time.

    Args:
        before: The mean so far, and when it was last changed.
        first_byte_s: What was measured, in seconds.
        now: The time, in seconds.
    """
    if before is None:
        return first_byte_s, now
    mean, at = before
    fresh = 2.0 ** ((at - now) / HALF_LIFE_S) if at < now else 1.0
    share = 1.0 - (1.0 - MOST_WEIGHT) * fresh
    return mean + share * (first_byte_s - mean), now


def _load(seat: Seat) -> float:
    return (seat.in_flight + 1) / seat.weight
