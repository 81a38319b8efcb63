"""Candidates and requests for the tests of what is decided."""

from typing import Any

import msgspec

from hpp_middleware.core.auto import AutoPolicy, Tier, facts, filters
from hpp_middleware.core.parse import completion
from hpp_middleware.types.auto import Asked, Candidate, Decision
from hpp_middleware.types.completion import Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = ["MODELS", "POLICY", "candidates", "decide", "read", "target"]

MODELS = ("fake/tool", "fake/small", "fake/t1", "fake/t2", "fake/t3")
POLICY: dict[str, Any] = {
    "rules_version": "2026-11-01",
    "tool": ("fake/tool",),
    "simple": ("fake/small",),
    "simple_keywords": ("summarize", "translate", "in short"),
    "simple_max_tokens": 60,
    "margin": 1.1,
    "tiers": {
        "T1": Tier(models=("fake/t1",), max_tokens=500),
        "T2": Tier(models=("fake/t2",), max_tokens=4000),
        "T3": Tier(models=("fake/t3",)),
    },
}
PROVIDER = Provider(base_url="http://f.test/v1")


def target(model: str, *, price: Price | None = None, **known: Any) -> Target:
    """A model that costs $1 a million tokens in and $2 out, and of which only this is known."""
    return Target(
        id=model,
        provider_name="fake",
        model_name=model.partition("/")[2],
        provider=PROVIDER,
        model=Model(**known),
        price=price or Price(base=Rates(input=10**12, output=2 * 10**12)),
    )


def read(
    text: str = "Hi", *, before: Decision | None = None, requires: frozenset[str] = frozenset(), **body: Any
) -> Asked:
    """The facts of a request, whose only message is ``text`` unless it has others."""
    whole = {"model": "hpprouter/auto", "messages": [{"role": "user", "content": text}], **body}
    return facts.asked(completion(msgspec.json.encode(whole), Limits()), before=before, requires=requires)


def candidates(
    asked: Asked,
    known: dict[str, Target | None] | None = None,
    *,
    models: tuple[str, ...] = MODELS,
    consumer: Consumer | None = None,
    unhealthy: frozenset[str] = frozenset(),
    **body: Any,
) -> list[Candidate]:
    """Every model, measured."""
    whole = {"model": "hpprouter/auto", "messages": [{"role": "user", "content": "Hi"}], **body}
    request = completion(msgspec.json.encode(whole), Limits())
    return [
        filters.candidate(
            model,
            asked,
            request,
            consumer or Consumer(id="alice"),
            (known or {}).get(model, target(model)),
            limits=Limits(),
            unhealthy=unhealthy.__contains__,
        )
        for model in models
    ]


def decide(asked: Asked, known: Any = None, /, **settings: Any) -> Decision | None:
    """What the policy above decides, its settings replaced by these."""
    policy = AutoPolicy(**{**POLICY, **settings})
    return policy.decide(asked, candidates(asked, known, models=tuple(dict.fromkeys((*MODELS, *policy.models)))))
