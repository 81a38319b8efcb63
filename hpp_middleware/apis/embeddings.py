"""OpenAI's embeddings: https://developers.openai.com/api/reference/resources/embeddings/methods/create."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from hpp_middleware.apis.media import Media, text
from hpp_middleware.core import fields as reading
from hpp_middleware.core.fields import bad, decoded
from hpp_middleware.core.parse import model_of
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["EMBEDDINGS", "Embeddings", "Inputs", "inputs"]

MOST_DIMENSIONS = 1_000_000

_TOKEN = Annotated[int, Meta(ge=0, lt=2**31)]
_EXPECTED = "a string, or an array of strings, of tokens, or of arrays of tokens"

Inputs = list[str] | list[list[int]]

_raws = msgspec.json.Decoder(list[Raw])
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])
_tokens = msgspec.json.Decoder(list[_TOKEN])
_many_tokens = msgspec.json.Decoder(list[list[_TOKEN]])


class Embeddings(Media):
    """See :class:`hpp_middleware.ports.API`."""

    name = "embeddings"
    acted_on = frozenset({"model", "input", "dimensions", "encoding_format", "user", "stream"})

    def request(self, body: bytes, limits: Limits) -> Request:
        """
        A request; its prompt is as many tokens as it has, where it comes as tokens.

        Raises:
            RequestError: 400.
        """
        fields = self.members(body, limits)
        model = model_of(fields)
        given = inputs(fields.get("input", Raw()))
        if len(given) > limits.inputs:
            raise bad("input", f"must not have more than {limits.inputs} entries")
        reading.integer(fields, "dimensions", 1, MOST_DIMENSIONS)
        reading.choice(fields, "encoding_format", ("float", "base64"))
        text(fields, "user")
        tokens = sum(len(each) for each in given) if isinstance(given[0], list) else None
        return Request(fields=fields, model=model, api=self.name, cap=0, inputs=len(given), tokens=tokens)


def inputs(raw: Raw) -> Inputs:
    """
    What is to be embedded: texts, or arrays of tokens; one or more, and none of them empty.

    Args:
        raw: The ``input`` of a request.
    Raises:
        RequestError: 400; the message names the entry.
    """
    if not raw or raw == reading.NULL:
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


EMBEDDINGS = Embeddings()
