"""
Attempts: what follows one that failed, and how many there may be.

Nothing here awaits, reads a clock or draws a number. A request is tried again only as long as its client has seen
nothing of an answer; where, and after how long, follows from what became of the attempt, and from what is left.
"""

import math
from typing import Literal

from msgspec import Struct

from hpp_middleware.core.settlement import End

__all__ = [
    "FAILED",
    "FLOOR",
    "ITS_OWN_FAULT",
    "LONGEST_WAIT_S",
    "SHARE",
    "Budget",
    "Failure",
    "Left",
    "Step",
    "backoff",
    "decide",
]

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
"""The pauses of OpenAI's own SDKs: half a second, doubled each time, up to eight (openai-python, _constants.py)."""

LONGEST_WAIT_S = 120.0
"""A ``Retry-After`` of more is not waited for, as it is not by those SDKs: the client is told it instead."""

PATIENCE_S = 2.0
"""Nor is one of more than this, where another target is there to answer at once."""

SHARE = 0.2
"""More attempts than requests, as a share of the requests: all attempts are at most 1.2 times the requests."""

FLOOR = 10
"""So many more there may be in any case, so that a single request among few may try a chain to its end."""

WINDOW_S = 10.0
"""After so long what was counted counts half."""

ITS_OWN_FAULT = frozenset({400, 404, 413, 415, 422})
"""Statuses that say that the request is at fault: no other upstream of the same model does better."""

FAILED = frozenset({End.REFUSED, End.DEADLINE, End.LAPSED, End.BROKEN})
_PASSING = frozenset({408, 429})


class Failure(Struct, frozen=True, kw_only=True, gc=False):
    """
    What became of an attempt that brought no answer.

    Attributes:
        end: How it ended.
        status: What the upstream answered with; None where it gave no answer.
        retryable: Whether the same request may succeed there later.
        relayed: Whether the client has seen anything of an answer.
        retry_after_s: How long the upstream wants to be left alone, in seconds; None where it does not say.
        cost: What the attempt is charged, in nano-dollars.
    """

    end: End
    status: int | None = None
    retryable: bool = False
    relayed: bool = False
    retry_after_s: float | None = None
    cost: int = 0


class Left(Struct, frozen=True, kw_only=True, gc=False):
    """
    What is left to a request.

    Attributes:
        retries: How often the same target may be asked once more.
        others: How many more targets there are.
        seconds: Until the request's deadline.
        budget: Whether the worker may make one more attempt: see :class:`Budget`.
    """

    retries: int = 0
    others: int = 0
    seconds: float = 0.0
    budget: bool = True


class Step(Struct, frozen=True, gc=False):
    """
    What to do.

    Attributes:
        kind: ``again`` asks the same target, ``next`` the one behind it, ``stop`` tells the client of the failure.
        after_s: How long to wait before, in seconds.
    """

    kind: Literal["again", "next", "stop"]
    after_s: float = 0.0


STOP = Step("stop")
NEXT = Step("next")


def decide(failure: Failure, left: Left, *, tried: int, chance: float) -> Step:
    """
    What follows a failed attempt.

    Any error leads to the next target, as with OpenRouter's ``models``
    (https://openrouter.ai/docs/guides/routing/model-fallbacks): what one model has no room for, or does not want to
    say, another one may. The same target is asked again only for what passes (408, 429, 5xx, a connection that failed,
    an answer that was none), and only where the failed attempt is charged nothing: a retry never doubles a bill. A
    provider that does not accept the operator's key (401, 402, 403) is not asked again.

    Args:
        failure: The attempt.
        left: What is left to the request.
        tried: How often this target was asked so far, this attempt included.
        chance: From 0 to 1, for the jitter of the pause.
    """
    if failure.relayed or failure.end not in FAILED or not left.budget or left.seconds <= 0:
        return STOP
    if left.retries > 0 and _passes(failure):
        pause = backoff(tried, chance) if failure.retry_after_s is None else max(0.0, failure.retry_after_s)
        most = PATIENCE_S if left.others else LONGEST_WAIT_S
        if pause <= most and pause < left.seconds:
            return Step("again", pause)
    return NEXT if left.others else STOP


def backoff(tried: int, chance: float) -> float:
    """
    The pause before a target is asked again, in seconds: from half of a bound that doubles each time, to all of it.

    Args:
        tried: How often it was asked so far.
        chance: From 0 to 1.
    """
    most = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tried - 1, 16))
    return most * (0.5 + chance / 2)


def _passes(failure: Failure) -> bool:
    """Whether the same target may do better, and may be asked at no cost but its own."""
    if not failure.retryable or failure.cost or failure.end in {End.DEADLINE, End.LAPSED}:
        return False
    status = failure.status
    return status is None or status < 400 or status >= 500 or status in _PASSING


class Budget:
    """
    How many attempts a worker may make besides the first of each request, so that an outage is not made worse.

    They are at most a :data:`SHARE` of the requests, or :data:`FLOOR`, whichever is more, both counted over a while
    (:data:`WINDOW_S`). One that succeeds is given back: where another target answers, all may turn to it; while
    everything fails, all attempts are no more than 1.2 times the requests.
    """

    __slots__ = ("_extra", "_requests", "_until")

    def __init__(self) -> None:
        self._requests = 0.0
        self._extra = 0.0
        self._until = -math.inf  # the end of the window

    def request(self, now: float) -> None:
        """
        A request has come.

        Args:
            now: Monotonic seconds.
        """
        if now >= self._until:
            self._age(now)
        self._requests += 1.0

    def take(self, now: float) -> bool:
        """Whether one more attempt may be made; it then is counted."""
        if now >= self._until:
            self._age(now)
        if self._extra + 1 > max(FLOOR, SHARE * self._requests):
            return False
        self._extra += 1
        return True

    def give_back(self) -> None:
        """One that was taken has succeeded, or was not made."""
        self._extra = max(0.0, self._extra - 1)

    def _age(self, now: float) -> None:
        """Halve the counts for each window that has passed: both, so that their ratio stays."""
        if math.isinf(self._until):  # the first one begins
            self._until = now + WINDOW_S
            return
        windows = 1 + (now - self._until) // WINDOW_S
        self._until += windows * WINDOW_S
        self._requests *= 0.5**windows
        self._extra *= 0.5**windows
