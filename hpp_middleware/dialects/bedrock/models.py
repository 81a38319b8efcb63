"""
What differs by a model's maker: Converse says the rest alike, and hands these fields on as they are.

Sources: Claude's thinking and effort,
https://docs.aws.amazon.com/bedrock/latest/userguide/claude-messages-adaptive-thinking.html and
``claude-messages-extended-thinking.html`` beside it; Nova 2's, https://docs.aws.amazon.com/nova/latest/nova2-userguide/;
gpt-oss, https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-openai.html.
"""

import re
from typing import Any

from hpp_middleware.dialects.chat import Chat, bad, effort_for, effort_of

__all__ = ["CAP_FOR_THINKING", "claude_version", "of_the_maker"]

CAP_FOR_THINKING = 1025
"""Claude thinks within at least 1,024 tokens, and its cap is to be larger than that."""

_CLAUDE = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_ADAPTIVE = (4, 6)  # the first that decides itself how much to think
_ONLY_ADAPTIVE = (4, 7)  # the first that takes no budget any more
_ONE_CALL = (4, 5)  # the first of which Bedrock takes `disable_parallel_tool_use`

_SHARES = {"minimal": 10, "low": 20, "medium": 50, "high": 80, "xhigh": 95, "max": 95}
"""Percent of the cap that an effort may think, as OpenRouter translates it."""

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}


def claude_version(model: str) -> tuple[int, int] | None:
    """
    Which Claude a model id names: ``(4, 5)`` for ``us.anthropic.claude-sonnet-4-5-20250929-v1:0``.

    Returns:
        None for another maker's; ``(0, 0)`` for a Claude without a number.
    """
    if "claude" not in model:
        return None
    found = _CLAUDE.search(model)
    return (int(found[1]), int(found[2] or 0)) if found is not None else (0, 0)


def of_the_maker(chat: Chat, model: str, cap: int | None) -> tuple[dict[str, Any], set[str]]:
    """
    The request's members that only some makers' models know, and the client's fields that they express.

    Args:
        chat: What is asked.
        model: Bedrock's model id.
        cap: The output cap in tokens, which includes what is thought.
    Raises:
        RequestError: 400: the reasoning that is asked for cannot be had; the field is named.
    """
    version = claude_version(model)
    if version is not None:
        return _of_claude(chat, version, cap)
    more: dict[str, Any] = {}
    said: set[str] = set()
    effort = effort_of(chat)
    if effort is None and chat.reasoning_tokens is not None:
        effort = effort_for(chat.reasoning_tokens)
        if "amazon.nova-2" in model and effort == "high":
            effort = "medium"  # the most that it has below: a budget is no more than a bound
    if "amazon.nova" in model and chat.top_k is not None:
        more["inferenceConfig"] = {"topK": chat.top_k}
        said.add("top_k")
    if "openai.gpt-oss" in model and effort is not None:
        more["reasoning_effort"] = _one_of(effort, ("low", "medium", "high"))
        said |= {"reasoning_effort", "reasoning"}
    elif "amazon.nova-2" in model and effort is not None:
        # With high effort Nova 2 takes no cap at all, and nothing bounds the bill.
        more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": _one_of(effort, ("low", "medium"))}
        said |= {"reasoning_effort", "reasoning"}
    return ({"additionalModelRequestFields": more} if more else {}), said


def _of_claude(chat: Chat, version: tuple[int, int], cap: int | None) -> tuple[dict[str, Any], set[str]]:
    more: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    said = {"top_k", "reasoning_effort", "reasoning"}
    if chat.top_k is not None:
        more["top_k"] = chat.top_k
    effort, tokens = effort_of(chat), chat.reasoning_tokens
    if tokens is not None and version >= _ONLY_ADAPTIVE:
        raise bad("reasoning.max_tokens", "is not known to this model: use reasoning_effort")
    if tokens is None and effort is not None and version >= _ADAPTIVE:
        more["thinking"] = {"type": "adaptive"}
        beside["outputConfig"] = {"effort": _EFFORTS[_one_of(effort, tuple(_EFFORTS))]}
    elif tokens is not None or effort is not None:
        more["thinking"] = {"type": "enabled", "budget_tokens": _budget(effort, tokens, cap)}
    one = chat.parallel_tool_calls is False and chat.tools and chat.tool_choice in (None, "auto")
    if one and version >= _ONE_CALL:
        more["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        said.add("parallel_tool_calls")
    return ({**beside, "additionalModelRequestFields": more} if more else beside), said


def _budget(effort: str | None, tokens: int | None, cap: int | None) -> int:
    field = "reasoning_effort" if tokens is None else "reasoning.max_tokens"
    most = cap if cap is not None else 16_384
    if most < CAP_FOR_THINKING:
        raise bad(field, f"needs an output cap of at least {CAP_FOR_THINKING} tokens with this model")
    if tokens is None:
        share = _SHARES[_one_of(effort or "medium", tuple(_SHARES))]
        return max(CAP_FOR_THINKING - 1, most * share // 100)
    if not CAP_FOR_THINKING - 1 <= tokens < most:
        raise bad(field, f"must be at least {CAP_FOR_THINKING - 1}, and less than the output cap")
    return tokens


def _one_of(effort: str, known: tuple[str, ...]) -> str:
    if effort not in known:
        raise bad("reasoning_effort", f"must be one of {', '.join(known)} with this model")
    return effort
