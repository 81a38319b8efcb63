"""What the client is told: response headers, errors in their shapes, and an upstream's errors made fit to pass on."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.core import price as pricing
from hpp_middleware.core import sse
from hpp_middleware.errors import GatewayError, RequestError, UpstreamError
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import Headers

__all__ = [
    "EXPOSED",
    "STREAM_HEADERS",
    "completion_headers",
    "error_body",
    "error_event",
    "error_headers",
    "error_object",
    "scrubbed",
    "streamed_error",
    "upstream_error",
]

EXPOSED = (
    "X-HPP-Router-Resolved-Model",
    "X-HPP-Router-Basket",
    "X-HPP-Router-Rule-Id",
    "X-HPP-Router-Rules-Version",
    "X-HPP-Router-Tier",
    "X-HPP-Router-Cost",
    "X-HPP-Router-Attempts",
    "X-HPP-Router-Dropped-Fields",
    "X-HPP-Router-Max-Tokens",
    "X-HPP-Router-Downgraded",
    "X-Request-Id",
    "Idempotency-Replayed",
    "Retry-After",
    "retry-after-ms",
    "x-should-retry",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
    "anthropic-ratelimit-tokens-limit",
    "anthropic-ratelimit-tokens-remaining",
    "anthropic-ratelimit-tokens-reset",
)
"""Response headers a browser may read, where a host switches CORS on."""

VOCABULARY = frozenset(
    {
        "context_length_exceeded",
        "max_tokens_exceeded",
        "token_limit_exceeded",
        "string_too_long",
        "invalid_request",
        "invalid_prompt",
        "content_policy_violation",
        "refusal",
        "not_found",
        "precondition_failed",
        "payload_too_large",
        "unprocessable",
        "rate_limit_exceeded",
        "server",
        "unmapped",
        "provider_unavailable",
        "provider_overloaded",
        "timeout",
        "overloaded",
    }
)
"""Error codes of an upstream that are passed on; any other is replaced by its status's."""

_SAME = {"content_filter": "content_policy_violation"}
"""Words of other providers (Azure) for one of these."""

_KEPT = {
    400: "invalid_request",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    422: "unprocessable",
    429: "rate_limit_exceeded",
}
_SPOKEN = frozenset({400, 404, 413, 415, 422})
_RETRYABLE = frozenset({408, 409, 429})
_PASSING = frozenset(
    {
        "rate_limit_exceeded",
        "server",
        "unmapped",
        "provider_unavailable",
        "provider_overloaded",
        "overloaded",
        "timeout",
    }
)
_SERVER_CODES = {500: "server", 503: "provider_overloaded", 504: "timeout", 529: "provider_overloaded"}
_MESSAGES = {
    "rate_limit_exceeded": "The provider limits the rate of requests.",
    "provider_overloaded": "The model is overloaded.",
    "overloaded": "The model is overloaded.",
    "timeout": "The provider timed out.",
    "conflict": "The provider reports a conflict.",
}

LEAST_SECRET = 8
"""A shorter word that a local server takes for a key hides nothing."""

# A name is tried at its beginning only: clients choose what a provider repeats in its error, dots and dashes among it.
_SECRETS = re.compile(
    r"""
    (?<![a-z0-9+.-])[a-z0-9+.-]++://\S+                    # URLs
    | (?<![^\s@])[^\s@]++@[^\s@]++                         # mail addresses, user:password@host
    # Hosts of clouds, whole: parts of their names look like the addresses below.
    | (?<![\w.-])[\w.-]+\.(?:(?:azure(?:-api)?|windows|googleapis|amazonaws)\.(?:com|net)|api\.aws)\b
    | \b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b                 # IPv4 addresses
    | (?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])  # IPv6 addresses
    | (?<![\w.-])(?:localhost|[\w.-]+\.(?:internal|intranet|local|lan|svc|corp|home|test))(?::\d+)?\b
    | (?<![\w.-])[\w.-]++:\d{2,5}\b                        # host:port
    | \b(?:sk|pk|rk|gsk|xai|hpp|org|proj|user|acct|key|hf|fw|pplx|nvapi|r8|tgp|ghp|csk)[-_][A-Za-z0-9_*.-]{8,}
    | \b(?:AIza|AKIA|eyJ)[A-Za-z0-9_*.-]{12,}              # Google's and Amazon's keys, JWTs
    | \barn:[\w-]+:\S+ | \bprojects/[^\s/]+ | \b\d{10,13}\b # Amazon's names and accounts, Google's projects
    | \b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b     # Azure's subscriptions and tenants
    | \b(?:bearer|api[-_ ]?key)\b[:=\s"']+\S+
    | \b[A-Za-z0-9]{32,}\b | \b[A-Za-z0-9_-]{40,}\b       # any long token
    """,
    re.VERBOSE | re.IGNORECASE,
)


STREAM_HEADERS: Headers = [
    ("Content-Type", "text/event-stream; charset=utf-8"),
    ("Cache-Control", "no-cache"),
    ("X-Accel-Buffering", "no"),
]


def completion_headers(
    target: Target,
    cost: int | None = None,
    dropped: Sequence[str] = (),
    routed: Routed | None = None,
    attempts: int = 0,
) -> Headers:
    """
    The headers that every completion carries.

    Args:
        target: What was called.
        cost: Nano-dollars, where it is known at the head.
        dropped: Fields of the client's that the provider was not told.
        routed: How the model was chosen, where the router did.
        attempts: How many calls there were so far; 0 where there could be one only, which is not said.
    """
    headers = [("X-HPP-Router-Resolved-Model", target.id)]
    if routed is not None:
        headers += _routed_headers(routed)
    if cost is not None:
        headers.append(("X-HPP-Router-Cost", pricing.dollars(cost)))
    if attempts:
        headers.append(("X-HPP-Router-Attempts", str(attempts)))
    if dropped:
        headers.append(("X-HPP-Router-Dropped-Fields", ", ".join(dropped)))
    return headers


def _routed_headers(routed: Routed) -> Headers:
    headers = [
        ("X-HPP-Router-Basket", routed.basket),
        ("X-HPP-Router-Rule-Id", routed.rule),
        ("X-HPP-Router-Rules-Version", routed.version),
    ]
    if routed.tier is not None:
        headers.append(("X-HPP-Router-Tier", routed.tier))
    return headers


def error_body(error: GatewayError, *, simple: bool = False) -> bytes:
    """
    An error as JSON.

    Args:
        error: What went wrong.
        simple: The flat form for the router's own verdicts; what speaks of an upstream stays an object.
    """
    if simple and not isinstance(error, UpstreamError):
        return msgspec.json.encode({"error": error.code, "message": error.message})
    return msgspec.json.encode({"error": error_object(error)})


def error_object(error: GatewayError) -> dict[str, Any]:
    """OpenAI's error object; what speaks of an upstream says so."""
    body: dict[str, Any] = {
        "message": error.message,
        "type": error.type,
        "code": error.code,
        "param": error.param,
    }
    if isinstance(error, UpstreamError):
        body["provider"] = error.provider
        body["upstream_status"] = error.upstream_status
    body["retryable"] = error.retryable
    if isinstance(error, RequestError) and error.availability is not None:
        body["availability"] = dict(error.availability)
    return body


def error_event(error: GatewayError, stub: Mapping[str, Raw], usage: Raw | None = None) -> bytes:
    """
    The last event of a stream that broke: OpenRouter's chunk form, so that readers of chunks see it too.

    Args:
        error: What went wrong.
        stub: The head of the stream's chunks.
        usage: What it cost all the same, where the client is told so.
    """
    choices = [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]
    last = {} if usage is None else {"usage": usage}
    return sse.data_event(msgspec.json.encode({**stub, "error": error_object(error), "choices": choices, **last}))


def error_headers(error: GatewayError) -> Headers:
    """``x-should-retry: false`` tells an SDK off that would retry by the status alone."""
    headers = list(error.headers.items())
    would_retry = error.status in {402, 408, 409, 429} or error.status >= 500  # 402: by agents, no SDK
    if would_retry and not error.retryable:
        headers.append(("x-should-retry", "false"))
    return headers


def upstream_error(
    provider: str, status: int, body: bytes, *, retry_after: str | None = None, secrets: Iterable[str] = ()
) -> UpstreamError:
    """
    An upstream's refusal as we pass it on.

    Its 401, 402 and 403 concern the router's own credential: they become 502, and must not tell the client that its key
    is bad. The message is the upstream's only for 400, 404, 413, 415 and 422, and then scrubbed.

    Args:
        provider: The configured provider's name.
        status: What it answered with.
        body: Its error body.
        retry_after: Its ``Retry-After``.
        secrets: What we sent it that must not come back, whatever it looks like: the operator's key.
    """
    fields = _error_fields(body)
    if status in _KEPT:
        ours, code = status, _KEPT[status]
    elif status >= 500:
        ours = 504 if status == 504 else 502
        code = _SERVER_CODES.get(status, "provider_unavailable")
    else:
        ours, code = 502, "provider_unavailable"
    if status in _KEPT or status >= 500:
        code = _word(fields) or code
    if code == "provider_unavailable" and ours < 500:
        ours = 502  # a refusal of the router's own credential, under a status that says otherwise
    message = _MESSAGES.get(code, "The provider could not answer.")
    spoken = fields.get("message")
    if status in _SPOKEN and isinstance(spoken, str) and spoken:
        message = scrubbed(spoken, secrets) or message
    headers = {}
    if retry_after is not None and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", retry_after):
        headers["Retry-After"] = retry_after
    retryable = status in _RETRYABLE or status >= 500
    return UpstreamError(
        message,
        provider=provider,
        upstream_status=status,
        status=ours,
        code=code,
        retryable=retryable,
        headers=headers,
    )


def streamed_error(provider: str, raw: bytes) -> UpstreamError:
    """An error that an upstream reports where an answer should have been, with its status in ``code`` if anywhere."""
    fields = _error_fields(b'{"error":' + raw + b"}")
    status = next(
        (word for word in (fields.get("code"), fields.get("status")) if type(word) is int and 400 <= word < 600), None
    )
    code = _word(fields) or _KEPT.get(status or 0) or _SERVER_CODES.get(status or 0) or "provider_unavailable"
    return UpstreamError(
        _MESSAGES.get(code, "The provider reported an error in its answer."),
        provider=provider,
        upstream_status=status,
        code=code,
        retryable=code in _PASSING if status is None else status in _RETRYABLE or status >= 500,
    )


def _word(fields: Mapping[str, Any]) -> str | None:
    """The error's code, where it is one that is passed on."""
    words = [_SAME.get(fields[name], fields[name]) for name in ("code", "type") if name in fields]
    return next((word for word in words if word in VOCABULARY), None)


def scrubbed(message: str, secrets: Iterable[str] = ()) -> str:
    """A provider's words, cut to 500 characters and freed of keys, URLs, addresses and control characters."""
    for secret in secrets:
        message = message.replace(secret, "[removed]") if len(secret) >= LEAST_SECRET else message
    visible = "".join(character if character.isprintable() else " " for character in message[:2000])
    if len(message) > 2000:
        visible = visible.rpartition(" ")[0]  # half a key is no longer known as one
    return _SECRETS.sub("[removed]", visible)[:500]


def _error_fields(body: bytes) -> dict[str, Any]:
    """``message``, ``code`` and ``type`` wherever an upstream may put them."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(found, list) and found:
        found = found[0]  # Gemini's OpenAI port wraps its error in an array
    if not isinstance(found, dict):
        return {}
    error = found.get("error", found)
    if isinstance(error, str):
        return {"message": error}
    fields = error if isinstance(error, dict) else {}
    if "message" not in fields and isinstance(fields.get("detail"), str):
        fields["message"] = fields["detail"]
    return {key: value for key, value in fields.items() if not isinstance(value, (dict, list))}
