"""What a decision looks like to whoever asks for it, and what is said where there is none."""

from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from hpp_middleware.core import price as pricing
from hpp_middleware.core.auto.filters import EXPECTED_OUTPUT, expected_cost
from hpp_middleware.errors import RequestError
from hpp_middleware.types.auto import AUTO, Asked, Candidate, Decision

__all__ = ["direct", "explained", "failed"]


def failed(candidates: Sequence[Candidate]) -> RequestError:
    """No model can answer, or no rule has one that can: the reason for each."""
    why = {each.model: "; ".join(each.why_not) or "no rule chooses it for this request" for each in candidates}
    said = ". ".join(f"{model}: {reason}" for model, reason in why.items())
    error = RequestError(
        f"{AUTO} has no usable rule for this request. {said}.", code="smart_routing_failed", param="model"
    )
    error.availability = why
    return error


def direct(model: str) -> Decision:
    """What it comes to that the client names the model, which is then asked, whatever is known of it."""
    return Decision(model=model, basket="direct", rule="direct", reason="the client names the model")


def explained(
    requested: str,
    policy: str,
    asked: Asked,
    candidates: Sequence[Candidate],
    decision: Decision | None,
    *,
    escalation: str | None = None,
) -> dict[str, Any]:
    """
    The answer of ``POST /v1/route``.

    Args:
        requested: The model that was asked for.
        policy: ``rules``, ``learned``, ``own``; ``direct`` where the client named the model.
        asked: What is asked.
        candidates: Every model that was considered.
        decision: What was decided; None where no model can answer.
        escalation: Whom a cascade would ask next.
    """
    error = failed(candidates) if decision is None else None
    usual = decision.answer_tokens if decision is not None else None
    answer = EXPECTED_OUTPUT if usual is None else usual
    return {
        "object": "route",
        "requested": requested,
        "model": decision.model if decision is not None else None,
        "policy": policy,
        "basket": decision.basket if decision is not None else None,
        "rule": decision.rule if decision is not None else None,
        "rules_version": decision.version if decision is not None else None,
        "tier": decision.tier if decision is not None else None,
        "score": decision.score if decision is not None else None,
        "reason": decision.reason if decision is not None else error.message if error is not None else None,
        "features": [{"name": name, "weight": weight} for name, weight in decision.features] if decision else [],
        "fallbacks": list(decision.fallbacks) if decision is not None else [],
        "escalation": escalation,
        "conversation_model": asked.before.model if asked.before is not None else None,
        "estimated_input_tokens": asked.text_tokens,
        "estimated_output_tokens": answer if asked.cap is None else min(answer, asked.cap),
        "images": asked.images,
        "candidates": [_candidate(each, decision, asked, answer) for each in candidates],
    }


def _candidate(each: Candidate, decision: Decision | None, asked: Asked, answer: int) -> dict[str, Any]:
    cost = None if each.target is None else expected_cost(asked, each.target, each.tokens, answer)
    return {
        "model": each.model,
        "eligible": each.eligible,
        "chosen": decision is not None and decision.model == each.model,
        "why_not": list(each.why_not),
        "estimated_input_tokens": each.tokens if each.target is not None else None,
        "estimated_cost": None if cost is None else Raw(pricing.dollars(cost).encode()),
    }
