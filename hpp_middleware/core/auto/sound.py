"""
What a host's own policy has decided, as headers can carry it and every store can keep it.

A policy is anybody's code: what it gives is looked through before anything is held, since it would else spoil a ledger
line after an answer has been paid for.
"""

import math
import re
from typing import Any

import msgspec

from hpp_middleware.errors import GatewayError
from hpp_middleware.types.auto import Decision, Routed

__all__ = ["routed", "sound"]

_HEADER = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_REASON = 200
"""Characters of a reason that are kept."""

_MOST_TOKENS = 10**9


def sound(decision: object) -> Decision:
    """
    A decision in plain words and numbers: a ``StrEnum`` or a float of numpy's is what it stands for.

    Args:
        decision: What a host's policy gave.
    Raises:
        GatewayError: It is none, or has what no header can say.
    """
    if not isinstance(decision, Decision):
        raise _wrong("gave no Decision")
    given = {name: getattr(decision, name) for name in Decision.__struct_fields__}
    try:
        found = msgspec.convert(msgspec.to_builtins(given, enc_hook=_plain), Decision)
    except msgspec.ValidationError as error:
        raise _wrong(f"gave a value of a wrong kind ({error})") from error
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _wrong("gave a value of a wrong kind") from error
    if not all(
        _HEADER.fullmatch(word) for word in (found.basket, found.rule, *filter(None, (found.version, found.tier)))
    ):
        raise _wrong("says what no header can")
    if found.answer_tokens is not None and not 0 < found.answer_tokens <= _MOST_TOKENS:
        raise _wrong(f"takes an answer to have none, or more than {_MOST_TOKENS} tokens")
    features = tuple((_printable(name), weight) for name, weight in found.features)
    told = {name: getattr(found, name) for name in Decision.__struct_fields__}
    return msgspec.structs.replace(decision, **{**told, "reason": _printable(found.reason), "features": features})


def routed(decision: Decision) -> Routed:
    """The part of a decision that is kept: nothing that a store could not keep."""
    found = decision.routed
    score = found.score if found.score is not None and math.isfinite(found.score) else None
    return msgspec.structs.replace(found, reason=_printable(found.reason[:_REASON]), score=score)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)
    return value.__index__() if hasattr(value, "__index__") else float(value)


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _wrong(problem: str) -> GatewayError:
    return GatewayError(f"The routing policy {problem}.", code="smart_routing_failed")
