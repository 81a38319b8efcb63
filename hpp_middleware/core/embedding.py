"""What is to be embedded: the four forms of OpenAI's ``input``."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from hpp_middleware.core.fields import NULL, bad, decoded

__all__ = ["Inputs", "inputs"]

_TOKEN = Annotated[int, Meta(ge=0, lt=2**31)]
_EXPECTED = "a string, or an array of strings, of tokens, or of arrays of tokens"

Inputs = list[str] | list[list[int]]

_raws = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])
_tokens = msgspec.json.Decoder(list[_TOKEN])
_many_tokens = msgspec.json.Decoder(list[list[_TOKEN]])


def inputs(raw: Raw) -> Inputs:
    """
    What is to be embedded: texts, or arrays of tokens; one or more, and none of them empty.

    Args:
        raw: The ``input`` of a request.
    Raises:
        RequestError: 400; the message names the entry.
    """
    if not raw or raw == NULL:
        raise bad("input", "is required")
    value = bytes(raw)
    if value[:1] == b'"':
        found: Any = [decoded(raw, _string, "input", _EXPECTED)]
    else:
        within = value[1:65].lstrip() if value[:1] == b"[" else b""
        if not within:
            raise bad("input", f"must be {_EXPECTED}")
        found = _listed(raw, within[:1])
    if not found:
        raise bad("input", "must not be empty")
    if "" in found or [] in found:
        empty = next(index for index, each in enumerate(found) if not each)
        raise bad("input" if value[:1] == b'"' else f"input[{empty}]", "must not be empty")
    return found  # type: ignore[no-any-return]  # one decoder or the other


def _listed(raw: Raw, first: bytes) -> Any:
    """An array, by how its first entry begins; where an entry is another thing, it is named."""
    if first == b'"':
        return _alike(raw, _strings, _string, "a string, as the first entry is")
    if first == b"[":
        return _alike(raw, _many_tokens, _tokens, "an array of tokens, as the first entry is")
    tokens = decoded(raw, _tokens, "input", _EXPECTED)
    return [tokens] if tokens else []


def _alike(raw: Raw, whole: msgspec.json.Decoder[Any], one: msgspec.json.Decoder[Any], expected: str) -> Any:
    try:
        return whole.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        entries: list[Raw] = decoded(raw, _raws, "input", _EXPECTED)
        return [decoded(entry, one, f"input[{index}]", expected) for index, entry in enumerate(entries)]
