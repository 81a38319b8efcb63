"""What a consumer may ask for: so much a window, and so many requests at once; and how a store is asked for it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from hpp_middleware.errors import ConfigurationError

__all__ = [
    "MOST_FIGURE",
    "REQUESTS",
    "TOKENS",
    "WINDOWS",
    "Ask",
    "Draw",
    "Figure",
    "OnOutage",
    "RateLimit",
    "Slot",
    "Standing",
]

Figure = int | Literal["unlimited"] | None
"""A limit; ``unlimited`` where another one is to be lifted, None where nothing is said."""

OnOutage = Literal["closed", "open"]
"""What becomes of requests while the limit store does not answer: a 503, or they pass unlimited."""

REQUESTS = ("requests_per_second", "requests_per_minute", "requests_per_hour", "requests_per_day")
TOKENS = ("tokens_per_minute", "tokens_per_hour", "tokens_per_day")

WINDOWS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
"""Seconds."""

MOST_FIGURE = 10**10
LONGEST_PATTERN = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """
    What a consumer, or each of its keys, may ask for.

    Each figure is a window of its own, a token bucket: it is full at first, and fills again steadily. A request has to
    fit in every window that it falls under.

    Attributes:
        consumer: A consumer's name, or ``*``: each consumer has windows of its own. What a named one says stands in the
            place of what ``*`` says, figure by figure, where ``model`` and ``per`` are the same.
        model: A model id or glob (``openai/*``): only requests that go there count, all of them together; None for all.
        per: Whether all keys of a consumer share the windows, or each has its own.
        requests_per_second: How many requests; those of the other windows likewise.
        tokens_per_minute: How many tokens, of prompts and answers; those of the other windows likewise.
        concurrency: How many requests at once.
        requests_burst: How many requests may come at once; of the shortest window that is given, whose own figure it is
            by default.
        tokens_burst: The same of tokens.

    Raises:
        ConfigurationError: A value is wrong; ``param`` names it.
    """

    consumer: str = "*"
    model: str | None = None
    per: Literal["consumer", "key"] = "consumer"
    requests_per_second: Figure = None
    requests_per_minute: Figure = None
    requests_per_hour: Figure = None
    requests_per_day: Figure = None
    tokens_per_minute: Figure = None
    tokens_per_hour: Figure = None
    tokens_per_day: Figure = None
    concurrency: Figure = None
    requests_burst: int | None = None
    tokens_burst: int | None = None

    def __post_init__(self) -> None:
        if not self.consumer or not isinstance(self.consumer, str):
            raise ConfigurationError('consumer must be a name, or "*"', param="consumer")
        if self.model is not None and not (self.model.isprintable() and 0 < len(self.model) <= LONGEST_PATTERN):
            raise ConfigurationError("model must be a model id or a glob", param="model")
        if self.per not in {"consumer", "key"}:
            raise ConfigurationError("per must be consumer or key", param="per")
        for name in (*REQUESTS, *TOKENS, "concurrency"):
            _check(name, getattr(self, name))
        for burst, names in (("requests_burst", REQUESTS), ("tokens_burst", TOKENS)):
            _check(burst, getattr(self, burst))
            if getattr(self, burst) is not None and not any(isinstance(getattr(self, name), int) for name in names):
                raise ConfigurationError(f"{burst} is there without a window", param=burst)
        if not any(True for _ in self.figures()):
            raise ConfigurationError("names no figure, such as requests_per_minute", param="")

    def figures(self) -> Iterator[tuple[str, int | Literal["unlimited"], int | None]]:
        """What is given: its name, the figure, and the burst that is its own."""
        for names, burst in ((REQUESTS, self.requests_burst), (TOKENS, self.tokens_burst), (("concurrency",), None)):
            left = burst
            for name in names:
                figure = getattr(self, name)
                if figure is None:
                    continue
                yield name, figure, left if figure != "unlimited" else None
                if figure != "unlimited":
                    left = None


def _check(name: str, figure: object) -> None:
    if figure is None or (figure == "unlimited" and not name.endswith("_burst")):
        return
    if isinstance(figure, bool) or not isinstance(figure, int) or not 1 <= figure <= MOST_FIGURE:
        other = "" if name.endswith("_burst") else ', or "unlimited"'
        raise ConfigurationError(f"{name} must be a whole number from 1 to {MOST_FIGURE:,}{other}", param=name)


class Draw(Struct, frozen=True, gc=False):
    """
    What is drawn from one window, or put back.

    Attributes:
        key: The window's, among those of its home.
        amount: Units; below 0 to put them back.
        refill: Units that come back each microsecond.
        room: Units that the window has when it is full.
    """

    key: str
    amount: int
    refill: int
    room: int


class Slot(Struct, frozen=True, gc=False):
    """
    One of the places for requests at once.

    Attributes:
        key: Which places, among those of their home.
        most: How many there are.
        holder: Who is to have it: the request's id.
    """

    key: str
    most: int
    holder: str


class Ask(Struct, frozen=True, gc=False):
    """
    All that one request wants.

    Attributes:
        home: What lies together: the consumer's name.
        draws: From windows.
        slots: Places.
        ttl_s: When a place comes back of itself, that nobody has given back or extended; ten minutes at most.
    """

    home: str
    draws: tuple[Draw, ...]
    slots: tuple[Slot, ...]
    ttl_s: float


class Standing(Struct, frozen=True, gc=False):
    """
    How it stands with what was asked for.

    Attributes:
        admitted: Whether it was taken, all of it; else nothing was.
        used: Units that each window lacks now, in the order of the draws; more than its room where it is in debt.
        busy: How many places are taken, in the order of the slots; the new one among them.
    """

    admitted: bool
    used: tuple[int, ...]
    busy: tuple[int, ...]
