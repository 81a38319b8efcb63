"""
The learned policy: the stronger model where its expected gain is worth its extra dollars.

A request's score is placed among those of ordinary prompts, and the stronger model answers where the place is within
the share that ``quality`` allows it: none at 0, all at 1. That share shrinks for a request whose step up is dearer than
an ordinary one's, and grows for one whose step is cheaper (a conversation that the stronger model has in its cache,
say): requests are ranked by gain per extra dollar. An answer counts there as long as the scorer says is usual for the
kind of prompt, and as the client's cap leaves it; nothing is held by that.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol

from hpp_middleware.core import price as pricing
from hpp_middleware.core.auto.filters import EXPECTED_OUTPUT, expected_cost
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.auto import Asked, Candidate
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Usage

__all__ = ["Learned", "Ranked", "Scores", "load", "rank"]

ORDINARY = 400
"""Tokens in of an ordinary request, to say how much dearer another one is."""

WORD = "word:"
"""How a feature is named that is a word of the prompt."""

MOST_WEIGHED = 4.0
"""A step up counts as at most so many times an ordinary one, and at least as its reciprocal."""


class Scores(Protocol):
    """
    What estimates how much a request gains by the stronger model: see :mod:`hpp_middleware.core.auto.learned`.

    It may have ``quantiles`` of its scores, ``answer_tokens(messages)`` and their mean ``ordinary_answer``; and a
    ``read(messages)``, whose result is then given to the others in the messages' place, so that they are read once.
    """

    def score(self, messages: Sequence[Any]) -> float:
        """Higher: it needs the stronger model."""
        ...

    def explain(self, messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
        """The features that weigh most in it, the strongest first."""
        ...


@dataclass(frozen=True, kw_only=True)
class Learned:
    """
    What ``[auto.learned]`` of the configuration says.

    Attributes:
        strong: The better model.
        weak: The cheaper one.
        quality: 0 is the cheapest, 1 the best.
        share: In its place: which share of requests the stronger model is to have, 0 to 1.
        budget: In its place: nano-dollars that a request may cost on average.
        scorer: What scores requests; None for the one that comes with the package.
        answer_tokens: Tokens that an answer is taken to have, where costs are compared; None for what the scorer says
            is usual for the kind of prompt, or 400 where it does not say.

    Raises:
        ConfigurationError: A value is wrong; the message names it.
    """

    strong: str
    weak: str
    quality: float | None = None
    share: float | None = None
    budget: int | None = None
    scorer: Scores | None = None
    answer_tokens: int | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("quality", "share", "budget") if getattr(self, name) is not None]
        if len(given) > 1:
            raise _wrong(given[1], f"cannot be set beside {given[0]}")
        for name in ("quality", "share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise _wrong(name, "must be from 0 to 1")
        if self.budget is not None and self.budget < 0:
            raise _wrong("budget", "must not be below 0")
        if self.answer_tokens is not None and self.answer_tokens < 1:
            raise _wrong("answer_tokens", "must be at least 1")
        if self.strong == self.weak:
            raise _wrong("strong", "must be another model than weak")


class Ranked(NamedTuple):
    """Which of the two, and why."""

    model: str
    score: float | None
    reason: str
    features: tuple[tuple[str, float], ...] = ()
    answer_tokens: int | None = None
    """What an answer was taken to have, before the client's cap."""


def load(learned: Learned) -> None:
    """
    Read the scorer that comes with the package, if it is to be used, so that no request waits for it.

    Raises:
        ConfigurationError: It is of another release.
    """
    if learned.scorer is None:
        _shipped().score([{"role": "user", "content": ""}])


def rank(learned: Learned, asked: Asked, weak: Candidate, strong: Candidate) -> Ranked | None:
    """
    One of the two models; None where neither can answer.

    Args:
        learned: The two, and how much quality is worth.
        asked: What is asked.
        weak: The cheaper one, measured against it.
        strong: The better one.
    """
    able = [each for each in (weak, strong) if each.eligible]
    if not able:
        return None
    if len(able) == 1:
        return Ranked(able[0].model, None, "the other of the two cannot answer")
    scorer = learned.scorer or _shipped()
    read = getattr(scorer, "read", None)
    seen = asked.messages if read is None else read(asked.messages)
    score = float(scorer.score(seen))  # which may be one of numpy's
    place = _place(scorer, score)
    answer, ordinary = _answers(learned, scorer, seen)
    base, above = (_cost(asked, each, answer) for each in (weak, strong))
    extra = above - base
    share = _share(learned, base, extra, _weight(extra, ordinary, weak, strong))
    is_strong = place > 1 - share or share >= 1
    if learned.quality == 0 and extra <= 0:
        is_strong = extra < 0  # the cheapest is asked for
    parts = scorer.explain(seen)
    features = tuple((name, round(float(weight), 4)) for name, weight in parts[:10])
    said = f"score {score:.3f} above {place:.0%} of prompts, {share:.0%} of them go to the stronger model"
    # The reason is kept in the ledger, where no word of a prompt belongs.
    names = ", ".join(name for name, _ in [part for part in parts if not part[0].startswith(WORD)][:3])
    model = (strong if is_strong else weak).model
    return Ranked(model, score, f"{said}: {names}" if names else said, features, answer)


def _answers(learned: Learned, scorer: Scores, seen: Any) -> tuple[int, int]:
    """Tokens that the answer is taken to have, and that an ordinary request's is."""
    if learned.answer_tokens is not None:
        return learned.answer_tokens, learned.answer_tokens
    usual = getattr(scorer, "answer_tokens", None)
    found = usual(seen) if usual is not None else None
    return found or EXPECTED_OUTPUT, getattr(scorer, "ordinary_answer", None) or EXPECTED_OUTPUT


def _cost(asked: Asked, each: Candidate, answer: int) -> int:
    return 0 if each.target is None else expected_cost(asked, each.target, each.tokens, answer)


def _share(learned: Learned, base: int, extra: int, weight: float) -> float:
    if learned.budget is not None:
        spare = learned.budget - base
        return 1.0 if extra <= 0 else min(1.0, max(0.0, spare / extra))
    if learned.share is not None:
        return learned.share
    quality = 0.5 if learned.quality is None else learned.quality
    if extra <= 0:
        return 1.0
    return float(quality**weight)  # 0 stays 0, and 1 stays 1, whatever it costs


def _weight(extra: int, answer: int, weak: Candidate, strong: Candidate) -> float:
    """How much dearer the step up is than an ordinary request's, with such an answer."""
    usual = _ordinary(strong.target, answer) - _ordinary(weak.target, answer)
    if usual <= 0 or extra <= 0:
        return 1.0
    return min(MOST_WEIGHED, max(1 / MOST_WEIGHED, extra / usual))


def _ordinary(target: Target | None, answer: int) -> int:
    return 0 if target is None else pricing.cost(Usage(input=ORDINARY, output=answer), target.price)


def _place(scorer: Scores, score: float) -> float:
    """Which share of ordinary prompts scores lower, by the scorer's own quantiles; the score itself without them."""
    quantiles: Sequence[float] = getattr(scorer, "quantiles", ())
    if not quantiles:
        return min(1.0, max(0.0, score))
    return bisect_left(quantiles, score) / len(quantiles)


def _shipped() -> Scores:
    return import_module("hpp_middleware.core.auto.learned")  # read when a request first needs it


def _wrong(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"auto.learned.{name} {problem}", param=f"auto.learned.{name}")
