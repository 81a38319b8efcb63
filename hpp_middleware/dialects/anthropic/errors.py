"""
Anthropic's errors in OpenAI's shape; ours in Anthropic's are in :mod:`hpp_middleware.core.messages`.

Its types and statuses: https://platform.claude.com/docs/en/api/errors. The codes that they become are the ones that
:mod:`hpp_middleware.core.reply` passes on.
"""

from typing import Any

import msgspec

__all__ = ["openai_error", "refusal"]

_CODES = {
    "invalid_request_error": "invalid_request",
    "not_found_error": "not_found",
    "request_too_large": "payload_too_large",
    "rate_limit_error": "rate_limit_exceeded",
    "overloaded_error": "provider_overloaded",
    "timeout_error": "timeout",
    "api_error": "server",
    "exceed_context_size_error": "context_length_exceeded",  # llama.cpp's
}

_TOO_LONG = ("prompt is too long", "exceed context limit", "exceeds the available context", "context window")
_OPERATORS = ("credit balance", "billing")
"""Words of an error that concerns the operator's account, although its status blames the request."""


def openai_error(error: Any) -> dict[str, Any]:
    """
    OpenAI's error object, from what Anthropic has in ``error``.

    Args:
        error: ``{"type": ..., "message": ...}``; a server that is not Anthropic's may have its status in ``code``.
    """
    fields = error if isinstance(error, dict) else {"message": error}
    kind, message = fields.get("type"), fields.get("message")
    if not isinstance(message, str):
        message = None
    code = _CODES.get(kind) if isinstance(kind, str) else None
    folded = (message or "").casefold()
    if code == "invalid_request" and any(words in folded for words in _TOO_LONG):
        code = "context_length_exceeded"
    elif code == "invalid_request" and any(words in folded for words in _OPERATORS):
        code, message = "server", None
    return {"message": message, "type": kind if isinstance(kind, str) else None, "code": code}


def refusal(body: bytes) -> bytes:
    """
    An error's body in OpenAI's shape.

    Args:
        body: ``{"type": "error", "error": {"type": ..., "message": ...}, "request_id": ...}``.
    Raises:
        DecodeError: It is no JSON.
        ValueError: It is no error of Anthropic's.
    """
    found = msgspec.json.decode(body)
    error = found.get("error") if isinstance(found, dict) else None
    if error is None:
        raise ValueError("not an error of Anthropic's")
    return msgspec.json.encode({"error": openai_error(error)})
