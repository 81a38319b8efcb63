"""How much a worker does at once, and what becomes of the rest."""

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from hpp_middleware.types.health import UpstreamState

__all__ = ["Load", "Standing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """
    Bounds on a worker's work, and on a consumer's part of it.

    Attributes:
        in_flight: How many requests are answered at once; 0 for any number.
        per_consumer: How many of them may be one consumer's while others are there too; 0 for any number. Whoever is
            alone may fill the worker: what it takes, it takes from nobody.
        queue: How many more wait for a place; of these, one consumer's are at most half. 0 refuses them at once.
        queue_s: How long one waits before it is refused, in seconds.
        grace_s: How long answers in flight may go on once the worker is to stop, in seconds.
    """

    in_flight: int = 1000
    per_consumer: int = 100
    queue: int = 200
    queue_s: float = 2.0
    grace_s: float = 25.0


class Standing(Struct, frozen=True, kw_only=True):
    """
    What a gateway is doing, in all event loops of its process.

    Attributes:
        running: How many requests have a place.
        waiting: How many wait for one.
        places: How many there are, in the event loops that it serves in; 0 for any number.
        held: What is held for the answers in flight, in nano-dollars. The store may have more: other processes' holds,
            and those of workers that have died.
        owed: How many settlements the store has not taken yet.
        slots: How many of them the journals take.
        draining: Whether it takes no more on.
        upstreams: How each is doing, by its provider's name, or ``name#upstream`` for one of several; where event
            loops do not agree, as the one sees it that it does worst for.
    """

    running: int
    waiting: int
    places: int
    held: int
    owed: int
    slots: int
    draining: bool
    upstreams: Mapping[str, UpstreamState]
