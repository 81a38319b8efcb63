"""
Google's errors in OpenAI's shape: ``{"error": {"code": 429, "message": ..., "status": "RESOURCE_EXHAUSTED"}}``, which
streams wrap in an array, becomes an error with a code of the contract's vocabulary.

Source: https://cloud.google.com/apis/design/errors, https://ai.google.dev/gemini-api/docs/troubleshooting.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

__all__ = ["refused", "told"]

_CODES = {
    "INVALID_ARGUMENT": "invalid_request",
    "OUT_OF_RANGE": "invalid_request",
    "FAILED_PRECONDITION": "precondition_failed",
    "NOT_FOUND": "not_found",
    "RESOURCE_EXHAUSTED": "rate_limit_exceeded",
    "UNAVAILABLE": "provider_overloaded",
    "DEADLINE_EXCEEDED": "timeout",
    "INTERNAL": "server",
    "UNKNOWN": "server",
    "UNAUTHENTICATED": "provider_unavailable",
    "PERMISSION_DENIED": "provider_unavailable",
}
_TOO_LONG = re.compile(r"token count.*exceeds|exceeds the maximum number of tokens", re.IGNORECASE | re.DOTALL)
_LOOKED_AT = 1000
"""So much of a message is searched: the search takes the square of its length."""

_OURS = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "BILLING_DISABLED", "SERVICE_DISABLED"})
"""Reasons that are the operator's to mend, whatever the status."""


class _Detail(Struct, frozen=True):
    reason: str | None = None


class _Error(Struct, frozen=True):
    code: int | None = None
    message: str = ""
    status: str | None = None
    details: list[_Detail] = []


class _Envelope(Struct, frozen=True):
    error: Raw


_error = msgspec.json.Decoder(_Error)
_envelope = msgspec.json.Decoder(_Envelope | list[_Envelope])
_encode = msgspec.json.Encoder().encode


def refused(body: bytes) -> bytes:
    """
    The body of an error.

    Raises:
        ValueError: It is none of Google's.
    """
    found = _envelope.decode(body)
    return _encode({"error": told((found[0] if isinstance(found, list) else found).error)})


def told(raw: Raw) -> dict[str, Any]:
    """
    Google's error object as OpenAI's.

    A key of the operator's that is none any more is told as a 400; it is nothing that a client could mend, and so its
    code says that the provider is not to be had.
    """
    found = _error.decode(raw)
    code = _CODES.get(found.status or "")
    if any(detail.reason in _OURS for detail in found.details):
        return {"code": "provider_unavailable", "status": found.code}
    if code == "invalid_request" and _TOO_LONG.search(found.message[:_LOOKED_AT]):
        code = "context_length_exceeded"
    return {"message": found.message, "code": code, "status": found.code}
