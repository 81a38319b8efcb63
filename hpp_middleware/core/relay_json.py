"""Whole JSON answers in OpenAI's shape: the upstream's but for ``model``, and ``usage`` where that says the cost."""

import msgspec
from msgspec import Raw

from hpp_middleware.core.relay import BROKEN, NULL, ProtocolError, Reader, StreamedError, members, mended
from hpp_middleware.core.relay_cost import Charge, priced
from hpp_middleware.core.settlement import End
from hpp_middleware.core.usage import read_openai
from hpp_middleware.types.completion import Request, Seen, Target

__all__ = ["answer", "usage_in"]

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
    reader = Reader(request, target)
    try:
        fields = members.decode(body)
        reader.take(fields)
    except BROKEN:
        raise ProtocolError("the body is not a JSON object") from None
    except StreamedError as error:
        raise StreamedError(error.args[0], reader.seen) from None
    if bytes(memoryview(fields.get("choices", NULL))[:1]) != b"[":
        raise ProtocolError("the body has no choices")
    fields["model"] = reader.model
    seen = reader.seen
    if charge is not None:
        fields["usage"] = priced(seen, charge(End.COMPLETED, seen))
    return _encode(fields), seen


def usage_in(body: bytes) -> Seen:
    """What a body that is no answer says of usage, if it says anything."""
    try:
        usage: Raw = members.decode(body).get("usage", NULL)
    except BROKEN:
        return Seen()
    reading = read_openai(usage) if usage != NULL else None
    if reading is None:
        return Seen()
    return Seen(usage=reading.usage, usage_raw=mended(usage), usage_doubtful=reading.doubtful)
