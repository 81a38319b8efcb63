"""What ``hpprouter/auto`` decides by, and what it has decided."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from hpp_middleware.types.completion import Target

__all__ = ["AUTO", "Asked", "Candidate", "Decision", "Hints", "Routed"]

AUTO = "hpprouter/auto"
"""The model that a client asks for, to be given one by the router."""


class Routed(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """
    How a model was chosen, as the ledger keeps it and response headers say it.

    Attributes:
        basket: ``tool``, ``simple``, ``complex`` or ``streaming-fallback``; a host's own policy has its own words.
        rule: The id of the rule that matched.
        version: The active rules' version.
        tier: ``T1``, ``T2`` or ``T3``, where one was chosen.
        score: The learned score, where one was used: higher asks for the stronger model.
        reason: Why, in a few words of the policy's own; nothing of the prompt.
    """

    basket: str
    rule: str
    version: str = ""
    tier: str | None = None
    score: float | None = None
    reason: str = ""


class Decision(Struct, frozen=True, kw_only=True):
    """
    What a policy has decided: a model, and why.

    Attributes:
        model: One of the candidates that are eligible.
        features: What weighed most in the score, each with its weight.
        fallbacks: What else of the same basket is eligible, in order.
        escalation: The model to ask next where the answer is found wanting; None to take it as it is.
        samples: Where there is an ``escalation``: 2 to ask the model twice, and to find answers wanting that disagree.
        answer_tokens: What an answer was taken to have, before the client's cap, where another figure than the
            candidates' own 400 was used; only told.

    The others are those of :class:`Routed`.
    """

    model: str
    basket: str
    rule: str
    version: str = ""
    tier: str | None = None
    score: float | None = None
    reason: str = ""
    features: tuple[tuple[str, float], ...] = ()
    fallbacks: tuple[str, ...] = ()
    escalation: str | None = None
    samples: int = 1
    answer_tokens: int | None = None

    @property
    def routed(self) -> Routed:
        """The part of it that is kept."""
        return Routed(
            basket=self.basket,
            rule=self.rule,
            version=self.version,
            tier=self.tier,
            score=None if self.score is None else round(self.score, 6),
            reason=self.reason,
        )


class Hints(Struct, frozen=True, kw_only=True):
    """
    What a client says of a request beside its body.

    Attributes:
        session: Its own name for the conversation (``x-session-id``).
        requires: Tags that the model must have (``X-HPP-Router-Require``).
    """

    session: str | None = None
    requires: frozenset[str] = frozenset()


class Asked(Struct, frozen=True, kw_only=True):
    """
    What a request asks of a model, whichever it will be.

    Attributes:
        messages: The messages, as in a chat completion; empty for a request that cannot be said as one.
        last_user: The text of the last user message.
        text_tokens: Tokens of all its text, tools and schemas, estimated: their UTF-8 bytes over 4.
        new_tokens: Those of the last message alone: what no provider can have in its cache.
        images: How many images it has; how many tokens each is, is the model's to say.
        cap: The client's output cap in tokens; None where it gave none.
        n: How many choices.
        stream: Whether it is to be streamed.
        tools: Whether it has tools.
        tool_choice: Whether it says which.
        structured: Whether the answer must fit a JSON schema.
        modalities: What goes in besides text: ``image``, ``audio``, ``pdf``.
        output_modalities: What is to come out besides text.
        requires: Tags that a model must have: a data policy.
        before: What the conversation's last turn was given; None for a first turn, and where that is not known.
    """

    messages: Sequence[Any] = ()
    last_user: str = ""
    text_tokens: int = 0
    new_tokens: int = 0
    images: int = 0
    cap: int | None = None
    n: int = 1
    stream: bool = False
    tools: bool = False
    tool_choice: bool = False
    structured: bool = False
    modalities: frozenset[str] = frozenset()
    output_modalities: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()
    before: Decision | None = None


class Candidate(Struct, frozen=True, kw_only=True):
    """
    A model, measured against a request.

    Attributes:
        model: Its ``provider/model``.
        target: What is known of it; None where it is unknown here, has no price, or is not for this key.
        why_not: Why it cannot answer, one reason each; empty where it can.
        tokens: Of the prompt, as this model counts images.
        cost: Nano-dollars that the request is expected to cost, a warm cache of the conversation's model counted in.
    """

    model: str
    target: Target | None = None
    why_not: tuple[str, ...] = ()
    tokens: int = 0
    cost: int = 0

    @property
    def eligible(self) -> bool:
        """Whether it can answer."""
        return not self.why_not
