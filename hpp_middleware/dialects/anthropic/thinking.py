"""
Reasoning, as Anthropic's models are asked for it.

Models of up to 4.5 think within a budget of tokens, later ones as they see fit, guided by an effort
(https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking). Some of the later ones refuse a budget, and
show no thoughts unless they are asked to. Whatever is thought counts towards ``max_tokens``, and so is held for.
"""

import re
from typing import Any

from hpp_middleware.dialects import chat
from hpp_middleware.types.completion import Target

__all__ = ["FORMAT", "LEAST_BUDGET", "LEAST_CAP", "asked", "blocks"]

LEAST_BUDGET = 1024
"""Tokens: the API refuses a smaller budget."""

LEAST_CAP = LEAST_BUDGET + 1
"""Tokens: the API refuses an output cap that is not above the budget."""

FORMAT = "anthropic-claude-v1"
"""
The name that OpenRouter gives to thoughts that Anthropic has signed, in ``reasoning_details``
(https://openrouter.ai/docs/guides/best-practices/reasoning-tokens).
"""

_SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""How much of the output cap an effort may think, in percent; OpenRouter's figures."""

_EFFORTS = {"minimal": "low"}
_VERSION = re.compile(r"claude-(?:(?P<family>[a-z]+)-)?(?P<major>\d)(?:[-.](?P<minor>\d{1,2}))?(?!\d)")


def asked(asks: chat.Chat, target: Target, cap: int | None, *, ours: bool) -> tuple[dict[str, Any], tuple[str, ...]]:
    """
    The members that ask for reasoning, and the fields that had to be left out.

    Args:
        asks: The request.
        target: Which model is asked; its provider's option ``thinking`` says ``adaptive`` or ``budget`` where its name
            does not.
        cap: The output cap that is sent.
        ours: Whether the cap is ours: one that leaves no room for thinking is then no fault of the client's.
    Raises:
        RequestError: 400: the model cannot be asked so.
    """
    effort, budget = chat.effort_of(asks), asks.reasoning_tokens
    version = _version(target.model_name)
    if effort is None and budget is None:
        return ({"thinking": {"type": "disabled"}} if asks.reasoning_effort == "none" and version >= (5, 0) else {}), ()
    if effort is not None and effort not in _SHARES:
        raise chat.bad("reasoning_effort", f"must be none, {', '.join(_SHARES)}")
    is_adaptive = target.provider.options.get("thinking", "adaptive" if version >= (4, 6) else "budget") == "adaptive"
    if is_adaptive and budget is None:
        display = "omitted" if asks.exclude_reasoning else "summarized"
        return {
            "thinking": {"type": "adaptive", "display": display},
            "output_config": {"effort": _EFFORTS.get(effort or "", effort)},
        }, ()
    if version >= (4, 7):
        raise chat.bad("reasoning.max_tokens", "cannot be said to this model: name an effort instead")
    if cap is None or cap < LEAST_CAP:
        if ours:
            return {}, ("reasoning",)
        raise chat.bad("max_tokens", f"must be at least {LEAST_CAP} where reasoning is asked for")
    wanted = budget if budget is not None else cap * _SHARES[effort or "medium"] // 100
    return {"thinking": {"type": "enabled", "budget_tokens": max(LEAST_BUDGET, min(wanted, cap - 1))}}, ()


def blocks(message: chat.Message) -> list[dict[str, Any]]:
    """
    The thoughts that a client hands back, as the API wants them again: signed or encrypted, and unchanged.

    Thoughts without a signature cannot be proven to be the model's, and are left out, as the API itself does with those
    of earlier turns.
    """
    found: list[dict[str, Any]] = []
    for detail in message.reasoning_details or []:
        kind, form = detail.get("type"), detail.get("format")
        if form not in (None, FORMAT):
            continue
        proof = detail.get({"reasoning.text": "signature", "reasoning.encrypted": "data"}.get(str(kind), ""))
        if not isinstance(proof, str) or not proof:
            continue
        if kind == "reasoning.encrypted":
            found.append({"type": "redacted_thinking", "data": proof})
        else:
            text = detail.get("text")
            thought = text if isinstance(text, str) else ""
            found.append({"type": "thinking", "thinking": thought, "signature": proof})
    return found


def _version(model: str) -> tuple[int, int]:
    """``(4, 6)`` of ``claude-opus-4-6``; ``(0, 0)`` of what is no such name."""
    name = model.rpartition("/")[2]
    found = _VERSION.search(name)
    if found is not None:
        return int(found["major"]), int(found["minor"] or 0)
    return (4, 7) if name.startswith("claude-mythos") else (0, 0)
