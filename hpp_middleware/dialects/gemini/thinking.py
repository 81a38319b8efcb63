"""
How much a model is to think, by the family that its name tells.

Sources: https://ai.google.dev/gemini-api/docs/thinking (levels and budgets), and
https://ai.google.dev/gemini-api/docs/openai (what OpenAI's efforts are to them).
"""

import re
from typing import Any

from hpp_middleware.dialects.chat import Chat, bad, effort_of

__all__ = ["config", "family"]

_FAMILY = re.compile(r"gemini-(\d+)(?:\.(\d+))?")

_LEVELS = {
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24_576, "xhigh": 24_576, "max": 24_576}

_FIRST_THAT_THINKS = (2, 5)
_FIRST_WITH_LEVELS = (3, 0)
_NEWEST = (99, 0)


def family(model: str) -> tuple[int, int]:
    """The version in a model's name; a name without one, such as an alias of the latest, counts as the newest."""
    found = _FAMILY.search(model)
    return (int(found[1]), int(found[2] or 0)) if found is not None else _NEWEST


def config(chat: Chat, model: str) -> dict[str, Any]:
    """
    A request's ``thinkingConfig``; empty where the model is left to think as it will.

    Raises:
        RequestError: 400: the model cannot think so, or cannot help thinking.
    """
    effort, budget = effort_of(chat), chat.reasoning_tokens
    version = family(model)
    if effort is None and budget is None:
        return _off(chat, model, version)
    if version < _FIRST_THAT_THINKS:
        raise bad("reasoning_effort", "cannot be expressed: this model does not reason")
    if effort is not None and effort not in _LEVELS:
        raise bad("reasoning_effort", f"must be none or one of {', '.join(_LEVELS)}")
    said: dict[str, Any] = {"includeThoughts": not chat.exclude_reasoning}
    if budget is not None:
        said["thinkingBudget"] = budget
    elif version < _FIRST_WITH_LEVELS:
        said["thinkingBudget"] = _BUDGETS[effort or "medium"]
    else:
        said["thinkingLevel"] = _level(effort or "medium", model)
    return said


def _off(chat: Chat, model: str, version: tuple[int, int]) -> dict[str, Any]:
    if chat.reasoning_effort != "none" or version < _FIRST_THAT_THINKS:
        return {}
    if version >= _FIRST_WITH_LEVELS or "-pro" in model:
        raise bad("reasoning_effort", "cannot be none: this model always reasons")
    return {"thinkingBudget": 0}


def _level(effort: str, model: str) -> str:
    """Pro models have no ``minimal``, and the first had no ``medium``: as Google's own port has it, the next one up."""
    if "-pro" in model and effort == "minimal":
        return "LOW"
    if "gemini-3-pro" in model and effort == "medium":
        return "HIGH"
    return _LEVELS[effort]
