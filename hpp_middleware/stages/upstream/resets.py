"""
When an upstream may be asked again, as the head of its refusal says; each provider says so in another way.

``Retry-After`` in seconds or as a date is HTTP's (RFC 9110 section 10.2.3); ``retry-after-ms`` is what OpenAI's and
Azure's servers send beside it (openai-python, _base_client.py). ``x-ratelimit-reset-*`` are OpenAI's and Groq's, such
as ``1s``, ``6m0s`` or ``120ms`` (https://platform.openai.com/docs/guides/rate-limits), OpenRouter's
``x-ratelimit-reset`` is milliseconds since the epoch; ``anthropic-ratelimit-*-reset`` are dates of RFC 3339
(https://docs.anthropic.com/en/api/rate-limits).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["retry_after_s"]

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_NUMBER = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,9})?")
_SPAN = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6}(?:\.[0-9]{1,9})?)s)?")
_MS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)ms")
_LIMIT = re.compile(r"(x|anthropic)-ratelimit-(?:reset(?:-([a-z-]+))?|([a-z-]+)-reset)")
_EPOCH_MS = 10**11
"""A larger number is milliseconds since the epoch, where one of seconds would lie in the year 5138."""

_SINCE = 10**9
"""A larger one is a time, and a smaller one a span."""


def retry_after_s(headers: Mapping[str, str], *, now: float, limited: bool = False) -> float | None:
    """
    How long to wait, in seconds, at least 0; None where nothing is said that can be read.

    Args:
        headers: The response's, names in lower case.
        now: Seconds since the epoch.
        limited: Whether it is a limit that was run into: then when that is reset counts as well.
    """
    found = _ms(headers.get("retry-after-ms"))
    if found is None:
        found = _retry_after(headers.get("retry-after"), now)
    if found is None and limited:
        found = _reset(headers, now)
    return found if found is None else max(0.0, found)


def _ms(value: str | None) -> float | None:
    return float(value) / 1000 if value is not None and _SECONDS.fullmatch(value.strip()) else None


def _retry_after(value: str | None, now: float) -> float | None:
    if value is None:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - now
    except (ValueError, OverflowError):
        return None


def _reset(headers: Mapping[str, str], now: float) -> float | None:
    """When all the limits that nothing is left of are reset; else the first that is."""
    spent: list[float] = []
    other: list[float] = []
    for prefix, what, value in _limits(headers):
        wait = _wait(value.strip(), now)
        if wait is None:
            continue
        inner = f"-{what}" if what else ""
        left = headers.get(f"{prefix}-ratelimit-remaining{inner}", headers.get(f"{prefix}-ratelimit{inner}-remaining"))
        (spent if left is not None and left.strip() in {"0", "0.0"} else other).append(wait)
    return max(spent) if spent else min(other, default=None)


def _limits(headers: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    for name, value in headers.items():
        if (found := _LIMIT.fullmatch(name)) is not None:
            yield found[1], found[2] or found[3] or "", value


def _wait(value: str, now: float) -> float | None:
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number > _EPOCH_MS:
            return number / 1000 - now
        return number - now if number > _SINCE else number
    if (ms := _MS.fullmatch(value)) is not None:
        return float(ms[1]) / 1000
    span = _SPAN.fullmatch(value)
    if span is not None and any(span.groups()):
        days, hours, minutes, seconds = (float(each or 0) for each in span.groups())
        return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp() - now
