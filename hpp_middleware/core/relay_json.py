"""Whole JSON answers in OpenAI's shape: the upstream's but for ``model``, and ``usage`` where that says the cost."""

from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.core.relay import (
    BROKEN,
    NULL,
    ProtocolError,
    StreamedError,
    decode_choices,
    members,
    mended,
    text,
    text_bytes,
)
from hpp_middleware.core.relay_cost import Charge, priced
from hpp_middleware.core.settlement import End
from hpp_middleware.core.usage import read_openai, read_responses
from hpp_middleware.types.completion import Request, Seen, Target

__all__ = ["answer", "usage_in"]

_ARRAY = ord("[")
_encode = msgspec.json.Encoder().encode


def answer(body: bytes, request: Request, target: Target, *, charge: Charge | None = None) -> tuple[bytes, Seen]:
    """
    What the client gets, and what the answer showed.

    Args:
        body: The upstream's.
        request: What the client asked.
        target: The resolved model.
        charge: What the answer is charged, where the client is told so in its usage.
    Raises:
        ProtocolError: The body is no completion.
        StreamedError: It is an error in spite of its status; ``args[1]`` is what it showed.
    """
    try:
        fields = members.decode(body)
        error = fields.get("error", NULL)
        choices = fields.get("choices", NULL) if error == NULL else NULL
        seen = _seen(fields, choices, request)
    except BROKEN:
        raise ProtocolError("the body is not a JSON object") from None
    if error != NULL:
        raise StreamedError(bytes(error), seen)
    if memoryview(choices)[0] != _ARRAY:
        raise ProtocolError("the body has no choices")
    shown: dict[str, Any] = fields
    shown["model"] = target.shown or target.id
    if charge is not None:
        shown["usage"] = priced(seen, charge(End.COMPLETED, seen))
    return _encode(shown), seen


def _seen(fields: dict[str, Raw], choices: Raw, request: Request) -> Seen:
    usage = fields.get("usage", NULL)
    reading = read_openai(usage) if usage != NULL else None
    size = texts = 0
    finished: set[int] = set()
    for choice in decode_choices(choices) if choices != NULL else ():
        length = text_bytes(choice)
        size += length
        texts += length > 0
        if choice.finish_reason is not None:
            finished.add(choice.index)
        if reading is None and request.n == 1 and choice.usage and choice.usage != NULL:
            usage = choice.usage
            reading = read_openai(usage)
    return Seen(
        usage=reading.usage if reading is not None else None,
        usage_raw=mended(usage) if usage != NULL else None,
        usage_doubtful=reading is not None and reading.doubtful,
        relayed_bytes=size,
        texts=texts,
        finished=len(finished) >= request.n,
        upstream_id=text(fields.get("id", NULL)),
    )


def usage_in(body: bytes) -> Seen:
    """What a body that is no answer says of usage, if it says anything."""
    try:
        usage: Raw = members.decode(body).get("usage", NULL)
    except BROKEN:
        return Seen()
    reading = (read_openai(usage) or read_responses(usage)) if usage != NULL else None
    if reading is None:
        return Seen()
    return Seen(usage=reading.usage, usage_raw=mended(usage), usage_doubtful=reading.doubtful)
