"""A request in Anthropic's words, said as a chat completion: everything that can be, and a 400 for what cannot."""

from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.messages import turns
from hpp_middleware.apis.messages.asked import bad, value
from hpp_middleware.apis.messages.nouns import NULL, Block, Turn
from hpp_middleware.core import parse
from hpp_middleware.core.messages import FIELDS
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["HARMLESS", "MOST_USER", "left_out", "said"]

HARMLESS = frozenset(
    {
        "betas",
        "context_management",
        "diagnostics",
        "user_profile_id",
        "workspace_id",
    }
)
"""
Fields that only Anthropic's own API has a use for, and that ask for nothing which an answer without them gets wrong:
labels, and what is to be edited out of a context that grows too long.
"""

MOST_USER = 64
"""Characters: OpenAI refuses a longer ``user``, and so a longer ``metadata.user_id`` is left out."""

_EMPTY = (NULL, Raw(b"[]"), Raw(b"{}"))
_USUAL = {"service_tier": (NULL, Raw(b'"auto"'), Raw(b'"standard_only"')), "speed": (NULL, Raw(b'"standard"'))}
"""Tiers and speeds that say nothing; the others have another price."""
_PASSED_ON = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "cache_control": "cache_control"}
_EFFORTS = {"max": "xhigh"}


class _Tool(Struct, kw_only=True):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None


class _ToolChoice(Struct):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive", "auto", "between_tools"]
    budget_tokens: int | None = None
    display: str | None = None


class _Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(Struct):
    effort: str | None = None
    format: _Format | None = None


def left_out(request: Request) -> tuple[str, ...]:
    """
    The fields that :func:`said` leaves out although they ask for something.

    Raises:
        RequestError: 400: one does harm by being left out; it is named.
    """
    fields = request.fields
    metadata: _Metadata | None = value(fields, "metadata", _Metadata)
    found = [name for name in fields if _is_left_out(name, fields[name])]
    if metadata is not None and len(metadata.user_id or "") > MOST_USER:
        found.append("metadata.user_id")
    return tuple(found)


def said(request: Request, limits: Limits) -> Request:
    """
    The chat completion.

    Args:
        request: What :func:`~hpp_middleware.apis.messages.asked.asked` has read.
        limits: Bounds on the outcome.
    Raises:
        RequestError: 400: a field cannot be said; it is named.
    """
    fields = request.fields
    left_out(request)
    output: _OutputConfig = value(fields, "output_config", _OutputConfig) or _OutputConfig()
    thinking: _Thinking | None = value(fields, "thinking", _Thinking)
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [
            *turns.system(value(fields, "system", str | list[Block])),
            *turns.messages(value(fields, "messages", list[Turn])),
        ],
    }
    if request.cap is not None:
        body["max_tokens"] = request.cap
    if request.stream:
        body["stream"], body["stream_options"] = True, {"include_usage": True}
    body |= {theirs: fields[ours] for ours, theirs in _PASSED_ON.items() if fields.get(ours, NULL) != NULL}
    body |= _tools(fields)
    for name in ("temperature", "top_p", "top_k"):
        value(fields, name, float)
    value(fields, "cache_control", dict[str, Any])
    stops = value(fields, "stop_sequences", list[str])
    if stops:
        body["stop"] = stops
    metadata: _Metadata | None = value(fields, "metadata", _Metadata)
    if metadata is not None and metadata.user_id and len(metadata.user_id) <= MOST_USER:
        body["user"] = metadata.user_id
    form: _Format | None = output.format or value(fields, "output_format", _Format)
    if form is not None:
        body["response_format"] = _format(form)
    body |= _reasoning(thinking, output.effort)
    chat = parse.completion(msgspec.json.encode(body), limits)
    if body.get("reasoning") == {"enabled": True}:
        # It leaves to the model whether to think: what is known of the model says whether that is hidden.
        chat = msgspec.structs.replace(chat, hidden_reasoning=False)
    return chat


def _is_left_out(name: str, raw: Raw) -> bool:
    """
    Whether a field is not said although it asks for something.

    Raises:
        RequestError: 400: it cannot be said, and does harm by being left out.
    """
    if name in FIELDS or raw in _USUAL.get(name, _EMPTY):
        return False
    if name in HARMLESS:
        return True
    raise RequestError(f"{name} cannot be expressed to this model's provider.", param=name)


def _tools(fields: dict[str, Raw]) -> dict[str, Any]:
    tools: list[_Tool] = value(fields, "tools", list[_Tool]) or []
    choice: _ToolChoice | None = value(fields, "tool_choice", _ToolChoice)
    found: dict[str, Any] = {"tools": [_tool(tool, f"tools[{number}]") for number, tool in enumerate(tools)]}
    if not tools:
        found = {}
        choice = choice if choice is not None and choice.type in {"any", "tool"} else None
    if choice is None:
        return found
    if choice.disable_parallel_tool_use:
        found["parallel_tool_calls"] = False
    if choice.type == "tool":
        if not choice.name:
            raise bad("tool_choice.name", "is required")
        return {**found, "tool_choice": {"type": "function", "function": {"name": choice.name}}}
    return {**found, "tool_choice": {"any": "required"}.get(choice.type, choice.type)}


def _tool(tool: _Tool, where: str) -> dict[str, Any]:
    if tool.type not in {None, "custom"}:
        raise bad(
            f"{where}.type",
            f"cannot be {tool.type!r} here: it is a tool of Anthropic's own, whose schema other models do not know; "
            "give it as a custom tool with an input_schema",
        )
    if tool.input_schema is None:
        raise bad(f"{where}.input_schema", "is required")
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.input_schema}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.strict and _is_strict(tool.input_schema):
        function["strict"] = True
    found = {"type": "function", "function": function}
    return found if tool.cache_control is None else {**found, "cache_control": tool.cache_control}


def _format(form: _Format) -> dict[str, Any]:
    schema = {"name": "response", "schema": form.schema, "strict": _is_strict(form.schema)}
    return {"type": "json_schema", "json_schema": schema}


def _is_strict(schema: Any) -> bool:
    """
    Whether a schema is one that OpenAI takes as a strict one: each object closed, with all its properties required
    (https://platform.openai.com/docs/guides/structured-outputs). Another one is asked for as a goal, not as a promise.
    """
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" or "properties" in schema:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if schema.get("additionalProperties") is not False or not isinstance(properties, dict):
            return False
        if not isinstance(required, list) or {*properties} != {name for name in required if isinstance(name, str)}:
            return False
    return all(map(_is_strict, schema.values()))


def _reasoning(thinking: _Thinking | None, effort: str | None) -> dict[str, Any]:
    """
    How much the model is to think.

    An effort goes before a budget; thinking that is left to the model is only switched on.
    """
    effort = _EFFORTS.get(effort or "", effort)
    if thinking is None:
        return {"reasoning": {"effort": effort}} if effort else {}
    if thinking.type == "disabled":
        return {"reasoning_effort": "none"}
    if thinking.type == "enabled" and thinking.budget_tokens is None:
        raise bad("thinking.budget_tokens", "is required")
    asks: dict[str, Any] = {"enabled": True}
    if effort:
        asks = {"effort": effort}
    elif thinking.budget_tokens is not None:
        asks = {"max_tokens": thinking.budget_tokens}
    return {"reasoning": {**asks, "exclude": True} if thinking.display == "omitted" else asks}
