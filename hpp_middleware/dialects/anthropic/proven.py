"""
Thoughts of earlier turns, as far as Anthropic takes them back.

A conversation may have been held with other models before: their thoughts come back unsigned, or with another
provider's proof, packed as :mod:`hpp_middleware.apis.messages` packs it. The API refuses a request that has either.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.messages import PACKED

__all__ = ["proven"]

_MARKS = (b'"thinking"', b'"redacted_thinking"')
_ARRAY = b"["


class _Block(Struct):
    type: Any = None
    signature: Any = None
    data: Any = None


_messages = msgspec.json.Decoder(list[dict[str, Raw]])
_blocks = msgspec.json.Decoder(list[Raw])
_block = msgspec.json.Decoder(_Block)
_encode = msgspec.json.Encoder().encode


def proven(messages: Raw) -> Raw:
    """
    The messages without thoughts that cannot be proven to be Anthropic's; the same object where there are none.

    A turn that has nothing besides is left out.

    Raises:
        DecodeError: They are no messages.
    """
    given = bytes(messages)
    if not any(mark in given for mark in _MARKS):
        return messages
    changed, kept = False, []
    for message in _messages.decode(messages):
        content = message.get("content", Raw(b"null"))
        if bytes(memoryview(content)[:1]) == _ARRAY:
            blocks = _blocks.decode(content)
            rest = [block for block in blocks if not _is_unproven(block)]
            if len(rest) < len(blocks):
                changed = True
                kept += [{**message, "content": Raw(_encode(rest))}] if rest else []
                continue
        kept.append(message)
    return Raw(_encode(kept)) if changed else messages


def _is_unproven(raw: Raw) -> bool:
    block = _block.decode(raw)
    if block.type == "thinking":
        proof = block.signature
    elif block.type == "redacted_thinking":
        proof = block.data
    else:
        return False
    return proof is None or proof == "" or (isinstance(proof, str) and proof.startswith(PACKED))
