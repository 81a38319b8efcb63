"""
What a whole answer says, in whichever of the three chat APIs it is written: its text, and how it came to its end.

Nothing here judges; an answer that cannot be read says nothing.
"""

from typing import Any, NamedTuple

import msgspec

from hpp_middleware.types.completion import Request

__all__ = ["Said", "decoded", "form", "said"]

_decoder = msgspec.json.Decoder()


class Said(NamedTuple):
    """
    What an answer says.

    Attributes:
        text: All that it says to the user.
        calls: Whether it asks for something to be done, or is something else than text, and so is an answer as it is.
        refused: Whether it says of itself that it is a refusal.
        cut: Whether it says of itself that a cap has cut it off.
        full: Whether it broke off since the model's window was full, whatever the cap.
    """

    text: str = ""
    calls: bool = False
    refused: bool = False
    cut: bool = False
    full: bool = False


def said(body: bytes, api: str) -> Said:
    """
    Read an answer.

    Args:
        body: All of it, as JSON.
        api: What it is written in: ``chat``, ``messages`` or ``responses``.
    """
    found = decoded(body)
    if not isinstance(found, dict):
        return Said()
    if api == "messages":
        return _message(found)
    return _response(found) if api == "responses" else _completion(found)


def form(request: Request) -> dict[str, Any] | None:
    """The schema that is asked for; empty for any JSON; ``{"type": "object"}`` for any object; None for text."""
    if request.api == "messages":
        config = _member(request, "output_config")
        wanted = config.get("format") if isinstance(config, dict) else None
        wanted = wanted or _member(request, "output_format")
    elif request.api == "responses":
        text = _member(request, "text")
        wanted = text.get("format") if isinstance(text, dict) else None
    else:
        wanted = _member(request, "response_format")
    if not isinstance(wanted, dict) or wanted.get("type") not in ("json_object", "json_schema"):
        return None
    named = wanted.get("json_schema")
    schema = (named if isinstance(named, dict) else wanted).get("schema")
    return schema if isinstance(schema, dict) else {"type": "object"} if wanted["type"] == "json_object" else {}


def decoded(raw: bytes) -> Any:
    """What some JSON is; None where it is none."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _completion(found: dict[str, Any]) -> Said:
    choice = _first(found.get("choices"))
    message = choice.get("message")
    if not isinstance(message, dict):
        return Said()
    return Said(
        text=_text(message.get("content")),
        calls=bool(message.get("tool_calls") or message.get("function_call")),
        refused=bool(message.get("refusal")) or choice.get("finish_reason") == "content_filter",
        cut=choice.get("finish_reason") == "length",
    )


def _message(found: dict[str, Any]) -> Said:
    """One of Anthropic's, whose thoughts are no part of what it says."""
    stop = found.get("stop_reason")
    kinds = [part.get("type") for part in _members(found.get("content"))]
    return Said(
        text=_text(found.get("content"), kind="text"),
        calls="tool_use" in kinds or stop in ("tool_use", "pause_turn"),
        refused=stop == "refusal",
        cut=stop == "max_tokens",
        full=stop == "model_context_window_exceeded",
    )


_HOSTED = frozenset({"web_search_call", "file_search_call", "code_interpreter_call", "mcp_call", "mcp_list_tools"})
"""Items of what the provider has done by itself on the way to an answer."""


def _response(found: dict[str, Any]) -> Said:
    items = _members(found.get("output"))
    parts = [part for item in items if item.get("type") == "message" for part in _members(item.get("content"))]
    others = {str(item.get("type")) for item in items} - {"message", "reasoning"} - _HOSTED
    detail = found.get("incomplete_details")
    why = detail.get("reason") if isinstance(detail, dict) else None
    return Said(
        text=_text(parts, kind="output_text"),
        calls=bool(others) or found.get("status") in ("queued", "in_progress"),
        refused=why == "content_filter" or any(part.get("type") == "refusal" for part in parts),
        cut=why == "max_output_tokens",
    )


def _first(value: Any) -> dict[str, Any]:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}


def _members(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(content: Any, *, kind: str | None = None) -> str:
    """All text of some parts; of those of a kind, where one is named."""
    if isinstance(content, str):
        return content
    parts = [part for part in _members(content) if kind is None or part.get("type") == kind]
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _member(request: Request, name: str) -> Any:
    return decoded(bytes(request.fields.get(name, b"null")))
