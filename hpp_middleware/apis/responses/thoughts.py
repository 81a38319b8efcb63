"""
Thoughts that a client hands back, in a reasoning item's ``encrypted_content``.

A provider of chat completions that tells its thoughts may want them again, unchanged and under the name that it gave
them: OpenRouter's ``reasoning_details`` hold Anthropic's signatures; DeepSeek and Moonshot want ``reasoning_content``
with a call of a tool. The item carries them, packed and not encrypted: the client was told the same in plain words.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["Thoughts", "joined", "merged", "packed", "unpacked"]

_MARK = "hpp1."


class Thoughts(Struct, omit_defaults=True):
    """The fields of an assistant's message that are thoughts, as its provider named them."""

    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None

    def fields(self) -> dict[str, Any]:
        """For the message."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


_decoder = msgspec.json.Decoder(Thoughts)


def packed(thoughts: Thoughts) -> str:
    """What a client is given to hand back."""
    return _MARK + b64encode(msgspec.json.encode(thoughts)).decode("ascii")


def unpacked(content: str | None) -> Thoughts | None:
    """What it hands back; None where it comes from elsewhere, and nobody here can read it."""
    if content is None or not content.startswith(_MARK):
        return None
    try:
        return _decoder.decode(b64decode(content.removeprefix(_MARK), validate=True))
    except (ValueError, RecursionError):  # msgspec's errors, binascii's and Unicode's are ValueErrors
        return None


def joined(before: dict[str, Any], thoughts: dict[str, Any]) -> dict[str, Any]:
    """Thoughts added to those before them in one turn: none of their details, which may prove a call, is lost."""
    details = [*(before.get("reasoning_details") or ()), *(thoughts.get("reasoning_details") or ())]
    return {**before, **thoughts, **({"reasoning_details": details} if details else {})}


def merged(pieces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    ``reasoning_details`` as they were before they came in pieces: texts of one index and type are put together.

    Source: https://openrouter.ai/docs/use-cases/reasoning-tokens
    """
    found: list[dict[str, Any]] = []
    for piece in pieces:
        last = found[-1] if found else {}
        same = last.get("type") == piece.get("type") and last.get("index") == piece.get("index") is not None
        if not same:
            found.append(dict(piece))
            continue
        for name, value in piece.items():
            grows = name in {"text", "summary", "data"} and isinstance(value, str) and isinstance(last.get(name), str)
            if value is not None:
                last[name] = last[name] + value if grows else value
    return found
