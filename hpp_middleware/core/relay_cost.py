"""
What an answer says of its own cost: ``usage.cost``, in dollars, where OpenRouter's clients look for it.

It is the amount of the settlement, so that body and ledger cannot differ. What the upstream says of the cost is what
the operator pays, and makes way for it.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.core import price as pricing
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Usage

__all__ = ["Charge", "priced", "unpriced"]

Charge = Callable[[End, Seen], Settlement]
"""What an answer is charged that ends so, and has shown that."""

_THEIRS = frozenset({"cost", "cost_details", "estimated"})
"""Members of an upstream's usage that speak of its own price, or that we write ourselves."""

_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def _tokens(usage: Usage) -> dict[str, Any]:
    counts = {"prompt_tokens": usage.prompt, "completion_tokens": usage.completion}
    return {**counts, "total_tokens": usage.total}


def priced(seen: Seen, charged: Settlement, *, tokens: Callable[[Usage], Mapping[str, Any]] = _tokens) -> Raw:
    """
    The ``usage`` of an answer, with its cost: the upstream's report where that is what is charged, or else the tokens
    that stand in for it in the ledger.

    Args:
        seen: What the answer showed.
        charged: What it is charged; an estimate is called one.
        tokens: The form of ``usage`` where the upstream's report does not stand; by default a chat completion's.
    """
    raw = (seen.usage_shown or seen.usage_raw) if seen.usage == charged.usage else None
    reported = _decoded(raw) if raw is not None else None
    members = {**(_without_theirs(reported) if reported is not None else tokens(charged.usage))}
    members["cost"] = Raw(pricing.dollars(charged.amount).encode())
    if charged.estimated:
        members["estimated"] = Raw(b"true")
    return Raw(_encode(members))


def unpriced(usage: Raw) -> Raw:
    """An upstream's ``usage`` without what it says of the cost; the same bytes, where it says nothing."""
    members = _decoded(usage)
    if members is None or _THEIRS.isdisjoint(members):
        return usage
    return Raw(_encode(_without_theirs(members)))


def _decoded(usage: Raw) -> dict[str, Raw] | None:
    try:
        return _members.decode(usage)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _without_theirs(members: dict[str, Raw]) -> dict[str, Raw]:
    return {name: value for name, value in members.items() if name not in _THEIRS}
