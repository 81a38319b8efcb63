"""
What proves a model's thoughts to its provider, in Anthropic's blocks and in ``reasoning_details``, there and back.

A client hands thoughts back as it got them. Anthropic has a place for a signature and one for encrypted thoughts; other
providers' proofs travel there as well, packed with what says whose they are, and are unpacked when they come back.
``reasoning_details``: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens.
"""

import base64
import binascii
from typing import Any

import msgspec

from hpp_middleware.core.messages import PACKED

__all__ = ["FORMAT", "of_redacted", "of_thinking", "redacted", "signature"]

FORMAT = "anthropic-claude-v1"
"""What a detail's ``format`` says of a proof of Anthropic's."""

Detail = dict[str, Any]


def of_thinking(thinking: str, signature: str) -> Detail:
    """The detail that a block of thoughts stands for."""
    packed = _unpacked(signature)
    if packed is not None:
        return {**packed, "text": thinking}
    found: Detail = {"type": "reasoning.text", "text": thinking, "format": FORMAT}
    return {**found, "signature": signature} if signature else found


def of_redacted(data: str) -> Detail:
    """The detail that a block of encrypted thoughts stands for."""
    packed = _unpacked(data)
    return packed if packed is not None else {"type": "reasoning.encrypted", "data": data, "format": FORMAT}


def signature(detail: Detail) -> str:
    """What a block of thoughts has as its signature; empty where nothing proves them."""
    signed = detail.get("signature")
    if not isinstance(signed, str) or not signed:
        return ""
    return signed if _is_anthropics(detail) else _packed({key: part for key, part in detail.items() if key != "text"})


def redacted(detail: Detail) -> str:
    """What a block of encrypted thoughts has as its data; empty where the detail is none."""
    data = detail.get("data")
    if detail.get("type") != "reasoning.encrypted" or not isinstance(data, str):
        return ""
    return data if _is_anthropics(detail) else _packed(detail)


def _is_anthropics(detail: Detail) -> bool:
    return bool(detail.get("format", FORMAT) == FORMAT)


def _packed(detail: Detail) -> str:
    rest = {key: part for key, part in detail.items() if key != "index"}
    return PACKED + base64.b64encode(msgspec.json.encode(rest)).decode()


def _unpacked(proof: str) -> Detail | None:
    if not proof.startswith(PACKED):
        return None
    try:
        found: Detail = msgspec.json.decode(base64.b64decode(proof.removeprefix(PACKED)), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError):
        return None
    return found
