"""How much a worker does at once, and what becomes of the rest."""

from dataclasses import dataclass

__all__ = ["Load"]


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
