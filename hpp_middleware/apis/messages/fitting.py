"""
A chat completion made fit for a provider that is sent it as it is, and that refuses what it does not know.

Only hints are left out or said more plainly: where a cache may begin and end, the thoughts of earlier turns, and how
much to think. What a provider takes of them stands in its option ``takes``, words in any order: ``cache_control`` (on
parts, tools and the request), ``reasoning`` (OpenRouter's object), ``reasoning_content`` and ``reasoning_details`` (of
earlier turns). Text that comes in parts becomes one string, which every provider takes.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.messages.nouns import NULL
from hpp_middleware.dialects.chat import effort_for
from hpp_middleware.types.completion import Request, Target

__all__ = ["fitted"]

_CACHE = "cache_control"
_THOUGHTS = ("reasoning_content", "reasoning_details")
_EFFORTS = {"xhigh": "high"}

_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_encode = msgspec.json.Encoder().encode


class _Reasoning(Struct):
    effort: str | None = None
    max_tokens: int | None = None


class _TextPart(Struct):
    type: str
    text: str = ""


_text_parts = msgspec.json.Decoder(list[_TextPart])
_reasoning = msgspec.json.Decoder(_Reasoning)


def fitted(request: Request, target: Target) -> tuple[Request, tuple[str, ...]]:
    """
    The request as the provider takes it, and what was left out of it, in Anthropic's words.

    Args:
        request: What :func:`~hpp_middleware.apis.messages.saying.said` has made.
        target: Where it goes.
    """
    takes = frozenset(target.provider.options.get("takes", "").split())
    fields = dict(request.fields)
    dropped: dict[str, None] = {}
    marks = _Marks(dropped, kept=_CACHE in takes)
    thoughts = [name for name in _THOUGHTS if name not in takes]

    def fit(message: dict[str, Raw]) -> dict[str, Raw]:
        content = message.get("content", NULL)
        if bytes(memoryview(content)[:1]) == b"[":
            message["content"] = _content(content, marks)
        for name in thoughts:
            message.pop(name, None)
        if "tool_calls" in message and "reasoning_content" in takes:
            message.setdefault("reasoning_content", Raw(b'""'))  # DeepSeek wants it of every turn that calls tools
        return message

    fields["messages"] = _each(fields["messages"], fit)
    if "tools" in fields:
        fields["tools"] = _each(fields["tools"], marks.fit)
    fields = marks.fit(fields)
    if "reasoning" in fields and "reasoning" not in takes:
        effort = _effort(_reasoning.decode(fields.pop("reasoning")))
        if effort is not None and target.model.reasoning is False:
            dropped["thinking"] = None
        elif effort is not None:
            fields["reasoning_effort"] = Raw(_encode(effort))
    elif fields.get("reasoning_effort") == Raw(b'"none"'):
        del fields["reasoning_effort"]  # few providers know the word, and the others do not think unasked
    return msgspec.structs.replace(request, fields=fields), tuple(dropped)


class _Marks:
    """What becomes of cache marks: kept without their lifetime, whose longer one has another price, or left out."""

    def __init__(self, dropped: dict[str, None], *, kept: bool) -> None:
        self._dropped = dropped
        self.kept = kept

    def fit(self, fields: dict[str, Raw]) -> dict[str, Raw]:
        mark = fields.get(_CACHE)
        if mark is None:
            return fields
        if not self.kept:
            self._dropped[_CACHE] = None
            del fields[_CACHE]
        elif mark != NULL:
            found: dict[str, Any] = msgspec.json.decode(mark)
            if found.pop("ttl", "5m") != "5m":
                self._dropped["cache_control.ttl"] = None
            fields[_CACHE] = Raw(_encode(found))
        return fields


def _content(content: Raw, marks: _Marks) -> Raw:
    parts = _text_parts.decode(content)
    if all(part.type == "text" for part in parts):
        found = _objects.decode(content)
        if not marks.kept or not any(_CACHE in part for part in found):
            for part in found:
                marks.fit(part)
            return Raw(_encode("\n\n".join(part.text for part in parts)))
    return _each(content, marks.fit)


def _each(objects: Raw, fit: Callable[[dict[str, Raw]], dict[str, Raw]]) -> Raw:
    return Raw(_encode([fit(found) for found in _objects.decode(objects)]))


def _effort(asked: _Reasoning) -> str | None:
    if asked.effort is not None:
        return _EFFORTS.get(asked.effort, asked.effort)
    return None if asked.max_tokens is None else effort_for(asked.max_tokens)
