"""
The rules: tool, simple, complex, in this order; and what each of them asks for is a list whose first eligible model
answers. A basket without an eligible model is passed over; a tier without one leaves it to the next higher. Up, never
down: no request gets a smaller model than its rule asks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal

import msgspec

from hpp_middleware.core.auto import checks, ranked
from hpp_middleware.core.auto.checks import RULES, TIERS
from hpp_middleware.core.auto.filters import prompt_tokens
from hpp_middleware.core.auto.keywords import Keywords
from hpp_middleware.core.auto.ranked import Learned
from hpp_middleware.types.auto import Asked, Candidate, Decision

__all__ = ["RULES", "TIERS", "AutoPolicy", "Learned", "Tier"]

_RANKS = {"simple": 0, "T1": 1, "T2": 2, "T3": 3}


@dataclass(frozen=True, slots=True)
class Tier:
    """
    A tier of the complex basket.

    Attributes:
        models: The first eligible one answers.
        max_tokens: Estimated input tokens x margin, up to and including; None for no bound.
    """

    models: Sequence[str]
    max_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class AutoPolicy:
    """
    What ``[auto]`` of the configuration says, and what it decides.

    Attributes:
        policy: ``rules``, or ``learned``, which goes by the rules too for tools and streaming.
        rules_version: Told with every decision.
        streaming: ``classify`` streams as all else, or send them all to ``streaming_fallback``.
        streaming_fallback: A model.
        tool: Models for requests with tools.
        simple: Models for simple requests.
        simple_keywords: Words, or several in a row, that make a request simple: sought in the last user message, on
            word boundaries, whatever their case.
        simple_max_tokens: A request of at most so many estimated tokens is simple; None for none.
        margin: What estimates are multiplied by before they are compared with a tier's band.
        tiers: ``T1``, ``T2`` and ``T3`` of the complex basket.
        learned: The two models of the learned policy.
        rules: Ids of the operator's own for the rules in :data:`RULES`.
        shadow: Which policy's choice is told to observers besides, and never followed.
        cascade: Whether a chat that is not streamed, and that a smaller model answers badly, is asked again of the
            learned policy's strong model, or else of the highest tier's first that can answer.
        cascade_samples: 2 to ask the smaller model twice, and to count two answers that disagree as a bad one.
        sticky: Whether a conversation keeps its model: ``conversation``: while it is eligible, and until it asks for
            tools and its model is not in their basket; ``upwards``: until a rule asks for a larger one; ``off``.

    Raises:
        ConfigurationError: A value is wrong; the message names it.
    """

    policy: Literal["rules", "learned"] = "rules"
    rules_version: str = "1"
    streaming: Literal["classify", "fallback"] = "classify"
    streaming_fallback: str | None = None
    tool: Sequence[str] = ()
    simple: Sequence[str] = ()
    simple_keywords: Sequence[str] = ()
    simple_max_tokens: int | None = None
    margin: float = 1.0
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    learned: Learned | None = None
    rules: Mapping[str, str] = field(default_factory=dict)
    shadow: Literal["rules", "learned"] | None = None
    sticky: Literal["conversation", "upwards", "off"] = "conversation"
    cascade: bool = False
    cascade_samples: int = 1

    def __post_init__(self) -> None:
        checks.check(self)

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Every model that it names, once, in the order of the rules."""
        return tuple(dict.fromkeys(model for _, models in self.named for model in models))

    @cached_property
    def named(self) -> tuple[tuple[str, Sequence[str]], ...]:
        """The settings that name models, and which."""
        learned = self.learned
        return (
            ("streaming_fallback", (self.streaming_fallback,) if self.streaming_fallback else ()),
            ("tool", self.tool),
            ("simple", self.simple),
            *((f"tiers.{name}.models", tier.models) for name, tier in self.tiers.items()),
            ("learned.weak", (learned.weak,) if learned is not None else ()),
            ("learned.strong", (learned.strong,) if learned is not None else ()),
        )

    def load(self) -> None:
        """
        Read what the learned policy scores by, where it has a say.

        Raises:
            ConfigurationError: It is of another release.
        """
        if self.learned is not None and "learned" in {self.policy, self.shadow}:
            ranked.load(self.learned)

    def decide(self, asked: Asked, candidates: Sequence[Candidate]) -> Decision | None:
        """
        A model for a request.

        Args:
            asked: What it asks.
            candidates: The policy's :attr:`models`, measured against it.
        Returns:
            None where no rule has an eligible model.
        """
        known = {each.model: each for each in candidates}
        found = self._chosen(self.policy, asked, known)
        if asked.before is not None and found is not None and self.sticky != "off":
            found = self._kept(asked.before, found, known)
        return found if found is None or not self.cascade else self._escalated(found, asked, known)

    def shadowed(self, asked: Asked, candidates: Sequence[Candidate]) -> Decision | None:
        """What the policy of :attr:`shadow` would have chosen."""
        if self.shadow is None:
            return None
        return self._chosen(self.shadow, asked, {each.model: each for each in candidates})

    def _chosen(self, policy: str, asked: Asked, known: Mapping[str, Candidate]) -> Decision | None:
        if asked.stream and self.streaming == "fallback":
            streamed = (self.streaming_fallback,) if self.streaming_fallback else ()
            return self._first("streaming-fallback", "streaming-fallback", streamed, known, "it is a stream")
        if asked.tools or asked.tool_choice:
            found = self._first("tool", "tool", self.tool, known, "it has tools")
            if found is not None:
                return found
        if policy == "learned" and self.learned is not None:
            return self._ranked(self.learned, asked, known)
        return self._simple(asked, known) or self._complex(asked, known)

    def _escalated(self, found: Decision, asked: Asked, known: Mapping[str, Candidate]) -> Decision:
        """Where a cascade can judge the answer, with whom to ask next."""
        strong = self._strong(known)
        if asked.stream or asked.n > 1 or found.basket not in {"simple", "complex"} or strong == found.model:
            return found
        return msgspec.structs.replace(found, escalation=strong, samples=self.cascade_samples)

    def _strong(self, known: Mapping[str, Candidate]) -> str | None:
        """Whom a cascade ends with."""
        highest = [model for name in reversed(TIERS) if name in self.tiers for model in self.tiers[name].models]
        among = [self.learned.strong] if self.learned is not None else highest
        return next((model for model in among if known[model].eligible), None)

    def _simple(self, asked: Asked, known: Mapping[str, Candidate]) -> Decision | None:
        if not self.simple:
            return None
        keyword = self._keywords.find(asked.last_user)
        if keyword is not None:
            return self._first("simple", "simple-keyword", self.simple, known, f"keyword {keyword}")
        most = self.simple_max_tokens
        tokens = self._tokens(asked, self.simple, known)
        if most is None or tokens > most:
            return None
        return self._first("simple", "simple-tokens", self.simple, known, f"{tokens} of {most} tokens")

    def _complex(self, asked: Asked, known: Mapping[str, Candidate]) -> Decision | None:
        above, below = self._margin
        for name in TIERS:
            tier = self.tiers.get(name)
            if tier is None:
                continue
            tokens = self._tokens(asked, tier.models, known)
            if tier.max_tokens is not None and tokens * above > tier.max_tokens * below:
                continue
            said = f"{tokens} tokens x {self.margin:g}"
            found = self._first("complex", f"complex-{name}", tier.models, known, said, tier=name)
            if found is not None:
                return found
        return None

    def _ranked(self, learned: Learned, asked: Asked, known: Mapping[str, Candidate]) -> Decision | None:
        found = ranked.rank(learned, asked, known[learned.weak], known[learned.strong])
        if found is None:
            return None
        which = "strong" if found.model == learned.strong else "weak"
        other = learned.weak if which == "strong" else learned.strong
        return Decision(
            model=found.model,
            basket="complex" if which == "strong" else "simple",
            rule=self._id(f"learned-{which}"),
            version=self.rules_version,
            score=found.score,
            reason=found.reason,
            features=found.features,
            answer_tokens=found.answer_tokens,
            fallbacks=(other,) if known[other].eligible else (),
        )

    def _first(
        self,
        basket: str,
        rule: str,
        models: Sequence[str],
        known: Mapping[str, Candidate],
        reason: str,
        *,
        tier: str | None = None,
    ) -> Decision | None:
        able = [model for model in models if known[model].eligible]
        if not able:
            return None
        passed = models.index(able[0])
        return Decision(
            model=able[0],
            basket=basket,
            rule=self._id(rule),
            version=self.rules_version,
            tier=tier,
            reason=reason if not passed else f"{reason}; {passed} before it cannot answer",
            fallbacks=tuple(able[1:]),
        )

    def _kept(self, before: Decision, found: Decision, known: Mapping[str, Candidate]) -> Decision:
        """The conversation's own model, where it stays; what it was chosen by is then what is told."""
        at_hand = known.get(before.model)
        streams = "streaming-fallback"
        if at_hand is None or not at_hand.eligible or streams in {before.basket, found.basket}:
            return found
        if before.model == found.model:
            return found
        among = {found.model, *found.fallbacks}
        moves = found.basket == "tool" and before.basket != "tool"
        if self.sticky == "upwards":
            moves = moves or _rank(found) > _rank(before)
        if moves and before.model not in among:
            return found
        kept = found if before.model in among else before
        fallbacks = tuple(model for model in (found.model, *found.fallbacks) if model != before.model)
        return Decision(
            model=before.model,
            basket=kept.basket,
            rule=kept.rule,
            version=self.rules_version,
            tier=kept.tier,
            score=found.score,
            reason="the conversation keeps its model",
            features=found.features,
            answer_tokens=found.answer_tokens,
            fallbacks=fallbacks,
        )

    def _tokens(self, asked: Asked, models: Sequence[str], known: Mapping[str, Candidate]) -> int:
        """The estimate by which a band is judged: an image is as large as its first eligible model says."""
        first = next((known[model] for model in models if known[model].eligible), None)
        return prompt_tokens(asked, first.target if first is not None else None)

    def _id(self, rule: str) -> str:
        return self.rules.get(rule, rule)

    @cached_property
    def _margin(self) -> tuple[int, int]:
        """As it is written, over and under the line: 50 x 1.1 is 55, where floats make it more."""
        return Fraction(str(self.margin)).as_integer_ratio()

    @cached_property
    def _keywords(self) -> Keywords:
        return Keywords(self.simple_keywords)


def _rank(decision: Decision) -> int:
    """How large a model a rule asks for; what is of no known basket is asked for by nobody."""
    return _RANKS.get(decision.tier or decision.basket, 2 if decision.basket == "complex" else 0)
