"""
How many tokens a prompt has: asked of the provider where it counts for nothing, or else estimated.

Anthropic's own endpoint is free (https://platform.claude.com/docs/en/build-with-claude/token-counting), and takes a
request without what only an answer needs. No model can be run by it: the path is the counter's, and the body has
neither a cap nor anything that is not counted.
"""

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.types.http import HTTPCall

__all__ = ["ANSWER_BYTES", "answer", "counted", "counter"]

ANSWER_BYTES = 64 * 1024
"""A longer answer of a counter is none."""

_MESSAGES = "/messages"
_COUNTED = frozenset(
    {"context_management", "messages", "model", "output_config", "system", "thinking", "tool_choice", "tools"}
)
"""What counts, of the fields that the endpoint knows."""

_members = msgspec.json.Decoder(dict[str, Raw])


class _Count(Struct):
    input_tokens: int


_count = msgspec.json.Decoder(_Count)


def counter(call: HTTPCall) -> HTTPCall | None:
    """The request that counts, made of the one for a message; None where there is no counter beside that."""
    if not call.url.endswith(_MESSAGES):
        return None
    fields = _members.decode(call.body)
    body = msgspec.json.encode({name: raw for name, raw in fields.items() if name in _COUNTED})
    return msgspec.structs.replace(call, url=f"{call.url}/count_tokens", body=body)


def counted(body: bytes) -> int | None:
    """What a provider's counter says; None where that is no count."""
    try:
        found = _count.decode(body).input_tokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found >= 0 else None


def answer(tokens: int, *, estimated: bool) -> bytes:
    """What the client gets: ``{"input_tokens": ...}``, and ``"estimated": true`` beside it where it is an estimate."""
    return msgspec.json.encode({"input_tokens": tokens, **({"estimated": True} if estimated else {})})
