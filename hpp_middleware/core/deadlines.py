"""
Deadlines: a provider's settings, as one request may lower them and never raise them.

Nothing here awaits or reads a clock.
"""

import re
from collections.abc import Mapping
from dataclasses import replace

from hpp_middleware.errors import RequestError
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.provider import Timeouts

__all__ = ["HEADERS", "asked", "is_clients", "lowered"]

HEADERS = {
    "total": "X-HPP-Router-Timeout",
    "connect": "X-HPP-Router-Connect-Timeout",
    "first_byte": "X-HPP-Router-First-Byte-Timeout",
    "idle": "X-HPP-Router-Idle-Timeout",
}
"""The header that lowers each, in seconds."""

TICK_S = 0.05
"""By so much an event loop may wake too early, at most."""

_NAMES = {name: header.lower().encode() for name, header in HEADERS.items()}
_GIVEN = frozenset(_NAMES.values())
_SECONDS = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")


def asked(headers: Mapping[bytes, bytes]) -> Deadlines | None:
    """
    What the client's headers say of the deadlines; None where they say nothing.

    Args:
        headers: By name, in lower case.
    Raises:
        RequestError: 400: one of them is no number of seconds above 0; ``param`` and the message name the header.
    """
    if _GIVEN.isdisjoint(headers):
        return None
    return Deadlines(**{name: _seconds(name, headers[header]) for name, header in _NAMES.items() if header in headers})


def lowered(timeouts: Timeouts, deadlines: Deadlines | None) -> Timeouts:
    """A provider's deadlines, as a request has lowered them."""
    if deadlines is None:
        return timeouts
    lower = {
        name: seconds
        for name in HEADERS
        if (seconds := getattr(deadlines, name)) is not None and seconds < getattr(timeouts, name)
    }
    return replace(timeouts, **lower) if lower else timeouts


def is_clients(own: Timeouts, deadlines: Deadlines | None, *, total: float, flowing: bool, waited_s: float) -> bool:
    """
    Whether a deadline that ran out after sending is one that the request has lowered.

    Args:
        own: The provider's.
        deadlines: What the request asks.
        total: How long the exchange may take, as it is one of several for a request.
        flowing: Whether the answer had begun.
        waited_s: How long the exchange took.
    """
    name = "total" if waited_s + TICK_S >= total else "idle" if flowing else "first_byte"
    seconds = getattr(deadlines, name, None)
    return seconds is not None and seconds < getattr(own, name)


def _seconds(name: str, value: bytes) -> float:
    seconds = float(value) if _SECONDS.fullmatch(value) else 0.0
    if seconds <= 0:
        header = HEADERS[name]
        raise RequestError(f"{header} must be a number of seconds above 0, such as 30 or 2.5.", param=header)
    return seconds
