"""
The Response object of OpenAI's Responses API, as far as it says again what was asked, and the events that carry one.

Every field that its schema requires is here, since OpenAI's own SDKs read them without asking; a server that leaves
some out (llama.cpp's) is helped out with what was asked.

Source: https://platform.openai.com/docs/api-reference/responses/object and the types of OpenAI's Python SDK.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.usage import read_openai, told_responses
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.price import Usage

__all__ = ["asked", "error_events", "event", "is_hidden", "usage_of"]

_DEFAULTS: dict[str, Raw] = {
    "background": Raw(b"false"),
    "error": Raw(b"null"),
    "incomplete_details": Raw(b"null"),
    "instructions": Raw(b"null"),
    "max_output_tokens": Raw(b"null"),
    "metadata": Raw(b"{}"),
    "output": Raw(b"[]"),
    "parallel_tool_calls": Raw(b"true"),
    "previous_response_id": Raw(b"null"),
    "reasoning": Raw(b'{"effort":null,"summary":null}'),
    "store": Raw(b"false"),
    "temperature": Raw(b"null"),
    "text": Raw(b'{"format":{"type":"text"}}'),
    "tool_choice": Raw(b'"auto"'),
    "tools": Raw(b"[]"),
    "top_p": Raw(b"null"),
    "truncation": Raw(b'"disabled"'),
    "usage": Raw(b"null"),
    "user": Raw(b"null"),
}
"""A Response's fields, and what they are where nobody has said anything; nothing is ever kept."""

_SAID_AGAIN = (
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
_NULL = Raw(b"null")

_FUNCTION: dict[str, Any] = {"description": None, "parameters": None, "strict": None}
"""What a function in a Response has always, whether it was given or not."""

_CODES = frozenset({"rate_limit_exceeded", "invalid_prompt"})
"""Codes of ours that are the Response's as well; any other is its ``server_error``."""


class _Effort(Struct):
    effort: str | None = None


_tools = msgspec.json.Decoder(list[dict[str, Any]])
_effort = msgspec.json.Decoder(_Effort)
_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def asked(fields: Mapping[str, Raw], *, response_id: str, created: int, model: str) -> dict[str, Raw]:
    """
    A Response that has no answer yet: in progress.

    Args:
        fields: The request's.
        response_id: The Response's.
        created: Seconds since the epoch.
        model: The resolved id.
    """
    said = {name: fields[name] for name in _SAID_AGAIN if fields.get(name, _NULL) != _NULL}
    if "tools" in said:
        said["tools"] = _with_defaults(said["tools"])
    return {
        "id": Raw(_encode(response_id)),
        "object": Raw(b'"response"'),
        "created_at": Raw(str(created).encode()),
        "status": Raw(b'"in_progress"'),
        "model": Raw(_encode(model)),
        **_DEFAULTS,
        **said,
    }


def is_hidden(fields: Mapping[str, Raw]) -> bool:
    """Whether a request asks for reasoning, most of which is not in the text that is relayed."""
    raw = fields.get("reasoning", _NULL)
    if raw == _NULL:
        return False
    try:
        return _effort.decode(raw).effort not in {"none", "minimal"}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True


def event(kind: str, number: int, fields: Mapping[str, Any]) -> bytes:
    """
    One event.

    Args:
        kind: Its type.
        number: Its ``sequence_number``.
        fields: What else it says.
    """
    data = _encode({"type": kind, "sequence_number": number, **fields})
    return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


def error_events(error: GatewayError, response: Mapping[str, Any], number: int, usage: Raw | None = None) -> bytes:
    """
    How a stream ends that broke: ``response.failed``, which says what it cost, and an ``error``, on which OpenAI's SDKs
    raise; not every client of theirs looks at the former.

    Args:
        error: What went wrong.
        response: The Response so far.
        number: The first one's ``sequence_number``.
        usage: What it cost all the same, in the Responses API's shape.
    """
    code = error.code if error.code in _CODES else "server_error"
    failed = {**response, "status": "failed", "error": {"code": code, "message": error.message}}
    if usage is not None:
        failed["usage"] = usage
    told = {"code": error.code, "message": error.message, "param": error.param}
    return event("response.failed", number, {"response": failed}) + event(
        "error", number + 1, {**told, "error": {"type": error.type, **told, "retryable": error.retryable}}
    )


def usage_of(raw: Raw | None, seen: Usage | None = None) -> Raw | None:
    """
    A chat completion's ``usage`` in the Responses API's shape, with what it says of the cost.

    Args:
        raw: As a client of chat completions is told it; None where it is not.
        seen: What was read of it elsewhere, where there is no reading ``raw``.
    Returns:
        None where nothing is known.
    """
    reading = read_openai(raw) if raw is not None else None
    usage = reading.usage if reading is not None else seen
    if usage is None:
        return None
    told: dict[str, Any] = told_responses(usage)
    if raw is not None and reading is not None:
        members = _members.decode(raw)
        told.update({name: members[name] for name in ("cost", "estimated") if name in members})
    return Raw(_encode(told))


def _with_defaults(tools: Raw) -> Raw:
    try:
        found = _tools.decode(tools)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return tools
    return Raw(_encode([{**_FUNCTION, **tool} if tool.get("type") == "function" else tool for tool in found]))
