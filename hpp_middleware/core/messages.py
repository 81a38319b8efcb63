"""
Anthropic's Messages API, as far as whoever speaks it has in common: its fields, and errors in its envelope,
``{"type": "error", "error": {"type", "message"}, "request_id"}``.

An error's type follows its status (https://platform.claude.com/docs/en/api/errors); what our errors say to programs
besides (``code``, ``param``, ``retryable``, and of an upstream ``provider`` and ``upstream_status``) stands beside it.
"""

from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.core import reply
from hpp_middleware.errors import GatewayError

__all__ = ["FIELDS", "PACKED", "UNTHREADED", "envelope", "error_event"]

FIELDS = frozenset(
    {
        "cache_control",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "output_config",
        "output_format",
        "stop_sequences",
        "stream",
        "system",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Members of a request that cost nothing but the tokens they are and make."""

PACKED = "hpp1."
"""What a proof of thoughts begins with that is another provider's, and travels in Anthropic's place for one."""

UNTHREADED = "thread_unsupported_request"
"""The code of the refusal of a conversation that the server is to hold (``ThreadUnsupportedRequestError`` there)."""

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}

_OVERLOADED = frozenset({"overloaded", "provider_overloaded"})
"""Codes of a provider that has too much to do: Anthropic's status for it, 529, is none of ours."""


def envelope(error: GatewayError, request_id: str = "", usage: Raw | dict[str, Any] | None = None) -> bytes:
    """
    An error as JSON.

    Args:
        error: What went wrong.
        request_id: Ours.
        usage: What it cost all the same, in Anthropic's words, where the client is told so.
    """
    kind = "overloaded_error" if error.code in _OVERLOADED else _TYPES.get(error.status, "api_error")
    told: dict[str, Any] = {**reply.error_object(error), "type": kind}
    if error.code == UNTHREADED:
        told["details"] = {"error_code": UNTHREADED}
    body: dict[str, Any] = {"type": "error", "error": told}
    if usage is not None:
        body["usage"] = usage
    if request_id:
        body["request_id"] = request_id
    return msgspec.json.encode(body)


def error_event(error: GatewayError, request_id: str = "", usage: Raw | dict[str, Any] | None = None) -> bytes:
    """The same as the last event of a stream."""
    return b"event: error\ndata: " + envelope(error, request_id, usage) + b"\n\n"
