"""
OpenAI's embeddings and images, as its dialect and others of its kind send them on: the client's JSON, with ``model``
rewritten both ways. Answers come in one piece, and of their images and vectors nothing is decoded.
"""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec
from msgspec import Raw

from hpp_middleware.core import relay
from hpp_middleware.core.relay import BROKEN, NULL, ProtocolError, StreamedError, mended
from hpp_middleware.core.relay_cost import Charge, priced
from hpp_middleware.core.settlement import End
from hpp_middleware.core.usage import Reading
from hpp_middleware.core.usage_media import read_embeddings, read_images, told_embeddings, told_images
from hpp_middleware.dialects import unpriced
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage

__all__ = ["Embeddings", "Endpoint", "Images", "whole"]

Endpoint = Callable[[Target, str], tuple[str, tuple[tuple[str, str], ...]]]
"""Where one of a provider's APIs is (``embeddings``, ``images/generations``), and the headers that every call has."""

SPECIAL_TOKENS = 2
"""Tokens that models put around each text, at most: BERT's kind one before and one after, OpenAI's none."""

PROMPT_TOKENS = 64
"""Tokens that a model may put around the prompt of an image."""

_ANYWHERE = ("fallbacks", "mock_testing_fallbacks", "provideroptions", "guardrails", "safety_model", "speed")
"""What other gateways know in each API, as in chats. (``moderation`` of images says how strict OpenAI's filter is.)"""

_REFUSED = {
    **{name: unpriced.COST_FIELDS[name] for name in _ANYWHERE},
    "partial_images": "each of them is billed, and they come in streams only",
    "image": "what is edited is billed by its size",
    "images": "what is edited is billed by its size",
    "image_url": "what is edited is billed by its size",
    "reference_images": "what is edited is billed by its size",
    "input_references": "what is edited is billed by its size",
    "mask": "what is edited is billed by its size",
    "input_fidelity": "what is edited is billed by its size",
    "best_of": "it multiplies the output",
    **dict.fromkeys(("width", "height", "resolution"), "use size"),
    "steps": "they multiply what an image costs",
    "image_loras": "they are billed besides",
    "sequential_image_generation": "use n",
    "messages": "what it says in the input's stead is not held for",
}
"""Fields that change the cost in a way that is not priced."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[Raw])


class Media:
    """
    What both have in common.

    Args:
        endpoint: Where a call goes.
    """

    path = ""
    reads: Callable[[Raw], Reading | None]
    """What reads the ``usage`` of an answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:  # noqa: ARG002
        """See :class:`hpp_middleware.ports.Dialect`; there is no cap."""
        refuse_unpriced(request, target)
        url, shared = self._endpoint(target, self.path)
        body = _encode({**request.fields, "model": target.model_name})
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=body,
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=self.more_tokens(request, -(-len(body) // target.provider.bytes_per_token)),
        )

    def more_tokens(self, request: Request, prompt: int) -> int:
        """
        What the prompt may be billed for above what is sent.

        Args:
            request: What is asked.
            prompt: The tokens of the body, at most.
        """
        raise NotImplementedError

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> NoReturn:
        """Never asked for: both refuse ``stream``."""
        raise NotImplementedError

    def answer(
        self,
        body: bytes,
        request: Request,  # noqa: ARG002  # any is answered alike
        target: Target,
        *,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # answers have no id
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return self.passed(body, target, charge)

    def passed(self, body: bytes, target: Target, charge: Charge | None) -> tuple[bytes, Seen]:
        """The answer for the client, and what it showed."""
        raise NotImplementedError

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        try:
            usage: Raw = relay.members.decode(body).get("usage", NULL)
        except BROKEN:
            return Seen()
        return _seen(usage, self.reads)


class Embeddings(Media):
    """The dialect of embeddings."""

    path = "embeddings"
    reads = staticmethod(read_embeddings)

    def more_tokens(self, request: Request, prompt: int) -> int:  # noqa: ARG002  # they are around each text
        """What a model puts around each text; where tokens are given, nothing."""
        return SPECIAL_TOKENS * request.inputs if request.tokens is None else 0

    def passed(self, body: bytes, target: Target, charge: Charge | None) -> tuple[bytes, Seen]:
        """The same, with the model's resolved id."""
        fields, seen = whole(body, read_embeddings)
        return told({**fields, "model": Raw(_encode(target.shown or target.id))}, seen, charge, told_embeddings), seen


class Images(Media):
    """The dialect of images."""

    path = "images/generations"
    reads = staticmethod(read_images)

    def more_tokens(self, request: Request, prompt: int) -> int:
        """The prompt again for each image but the first, in case that it is billed so, and what is put around it."""
        return (request.n - 1) * prompt + request.n * PROMPT_TOKENS

    def passed(self, body: bytes, target: Target, charge: Charge | None) -> tuple[bytes, Seen]:
        """The very same bytes, where nothing has to be changed: an answer of images seldom names its model."""
        fields, seen = whole(body, read_images)
        if "model" not in fields and charge is None:
            return body, seen
        named = {**fields, "model": Raw(_encode(target.shown or target.id))} if "model" in fields else fields
        return told(named, seen, charge, told_images), seen


def whole(body: bytes, read: Callable[[Raw], Reading | None]) -> tuple[dict[str, Raw], Seen]:
    """
    An answer's members, each raw, and what it showed.

    Args:
        body: The upstream's.
        read: What reads its ``usage``.
    Raises:
        ProtocolError: It has no ``data``.
        StreamedError: It is an error in spite of its status; ``args[1]`` is what it showed.
    """
    try:
        fields: dict[str, Raw] = relay.members.decode(body)
        error, data, usage = (fields.get(name, NULL) for name in ("error", "data", "usage"))
        count = len(_raws.decode(data)) if data != NULL and error == NULL else 0
    except BROKEN:
        raise ProtocolError("the body is not a JSON object with data") from None
    seen = _seen(usage, read, images=count if read is read_images else 0)
    if error != NULL:
        raise StreamedError(bytes(error), seen)
    if data == NULL:
        raise ProtocolError("the body has no data")
    return fields, seen


def _seen(usage: Raw, read: Callable[[Raw], Reading | None], *, images: int = 0) -> Seen:
    reading = read(usage) if usage != NULL else None
    return Seen(
        usage=reading.usage if reading is not None else None,
        usage_raw=mended(usage) if usage != NULL else None,
        usage_doubtful=reading is not None and reading.doubtful,
        images=images,
        finished=True,
    )


def told(
    fields: Mapping[str, Any], seen: Seen, charge: Charge | None, tokens: Callable[[Usage], dict[str, Any]]
) -> bytes:
    """
    The answer as JSON, with what it cost in its ``usage``, where the client is told so.

    Args:
        fields: Its members.
        seen: What it showed.
        charge: What it is charged; None where the client is not told.
        tokens: The form of ``usage``, where the upstream gave none.
    """
    if charge is None:
        return _encode(fields)
    return _encode({**fields, "usage": priced(seen, charge(End.COMPLETED, seen), tokens=tokens)})


def refuse_unpriced(request: Request, target: Target) -> None:
    """
    Refuse fields that change the cost in a way that is not priced.

    Raises:
        RequestError: 400; it names the field.
    """
    unpriced.refuse(request.fields, _REFUSED, target.provider)
