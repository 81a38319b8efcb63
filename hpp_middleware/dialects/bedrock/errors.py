"""
Bedrock's errors in OpenAI's words.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html; a response names its
kind in the ``x-amzn-errortype`` header, a stream in the header ``:exception-type`` of an event.
"""

import re
from typing import Any

__all__ = ["error"]

_KINDS: dict[str, tuple[str, int]] = {
    "throttlingexception": ("rate_limit_exceeded", 429),
    "servicequotaexceededexception": ("rate_limit_exceeded", 429),
    "modelnotreadyexception": ("provider_overloaded", 429),
    "validationexception": ("invalid_request", 400),
    "resourcenotfoundexception": ("not_found", 404),
    "modeltimeoutexception": ("timeout", 408),
    "serviceunavailableexception": ("provider_overloaded", 503),
    "internalserverexception": ("server", 500),
    "modelerrorexception": ("provider_unavailable", 502),
    "modelstreamerrorexception": ("provider_unavailable", 502),
}
_TOO_LONG = re.compile(
    r"too long|too many (?:input )?tokens|context (?:window|length)|maximum context|exceeds? the (?:maximum|model)[^.]*"
    r"(?:input|prompt|context)|prompt is too large",
    re.IGNORECASE,
)
_CAP_TOO_LARGE = re.compile(r"max(?:imum)?[_ ]?tokens", re.IGNORECASE)
_FILTERED = re.compile(r"content filter|blocked by|guardrail", re.IGNORECASE)


def error(kind: str, message: str, status: int = 502) -> dict[str, Any]:
    """
    OpenAI's error object, and the HTTP status that fits.

    Args:
        kind: ``ThrottlingException``, written in any case; what follows a colon or precedes a ``#`` is no part of it.
        message: What the provider says.
        status: What says more than a kind that is not known.
    Returns:
        ``message``, ``code``, ``type`` (the provider's own word) and ``status``.
    """
    name = kind.rpartition("#")[2].partition(":")[0].strip()
    code, status = _KINDS.get(name.lower(), ("provider_unavailable" if status >= 500 else "", status))
    if code == "invalid_request":
        if _TOO_LONG.search(message):
            code = "context_length_exceeded"
        elif _CAP_TOO_LARGE.search(message):
            code = "max_tokens_exceeded"
        elif _FILTERED.search(message):
            code = "content_policy_violation"
    return {"message": message, "code": code, "type": name, "status": status}
