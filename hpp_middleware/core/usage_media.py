"""
Usage of embeddings and of images, into the same buckets as :mod:`hpp_middleware.core.usage`, by the same rules.

Sources: https://developers.openai.com/api/reference/resources/embeddings/methods/create and
https://developers.openai.com/api/reference/resources/images/methods/generate.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.usage import Reading, reading
from hpp_middleware.types.price import Usage

__all__ = ["read_embeddings", "read_images", "told_embeddings", "told_images"]

_Count = int | None


class _Embedded(Struct, frozen=True, gc=False):
    prompt_tokens: _Count = None
    total_tokens: _Count = None
    completion_tokens: _Count = None  # some servers' 0


class _Into(Struct, frozen=True, gc=False):
    image_tokens: _Count = None
    text_tokens: _Count = None
    cached_tokens: _Count = None


class _Out(Struct, frozen=True, gc=False):
    image_tokens: _Count = None
    text_tokens: _Count = None


class _Drawn(Struct, frozen=True, gc=False):
    input_tokens: int
    output_tokens: int
    total_tokens: _Count = None
    input_tokens_details: _Into | None = None
    output_tokens_details: _Out | None = None


_embedded = msgspec.json.Decoder(_Embedded)
_drawn = msgspec.json.Decoder(_Drawn)


def read_embeddings(raw: Raw | bytes) -> Reading | None:
    """
    The ``usage`` of embeddings, which is a prompt alone; a server that tells the total only means the same.

    Returns:
        None where it is no usable report.
    """
    try:
        found = _embedded.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    prompt = found.prompt_tokens if found.prompt_tokens is not None else found.total_tokens
    if prompt is None:
        return None
    output = found.completion_tokens or 0
    doubtful = found.total_tokens is not None and found.total_tokens != prompt + output
    return reading(Usage(input=prompt, output=output), doubtful=doubtful)


def read_images(raw: Raw | bytes) -> Reading | None:
    """
    The ``usage`` of images. What comes out is images where it is not told to be text; what goes in is text where it is
    not told to be images, or cached.

    Returns:
        None where it is no usable report.
    """
    try:
        found = _drawn.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    into, out = found.input_tokens_details or _Into(), found.output_tokens_details or _Out()
    seen, cached, written = into.image_tokens or 0, into.cached_tokens or 0, out.text_tokens or 0
    if min(seen, cached, written) < 0:
        return None
    # A part cannot exceed its whole: what does is cut, and the report is doubtful.
    kept = min(cached, found.input_tokens)
    looked = min(seen, found.input_tokens - kept)
    text = min(written, found.output_tokens)
    usage = Usage(
        input=found.input_tokens - kept - looked,
        cache_read=kept,
        input_image=looked,
        output=text,
        output_image=found.output_tokens - text,
    )
    drawn = out.image_tokens if out.image_tokens is not None else usage.output_image
    adds_up = found.total_tokens is None or found.total_tokens == usage.total
    is_whole = (kept, looked, text, drawn) == (cached, seen, written, usage.output_image)
    return reading(usage, doubtful=not (adds_up and is_whole))


def told_embeddings(usage: Usage) -> dict[str, Any]:
    """Buckets as the ``usage`` of embeddings."""
    return {"prompt_tokens": usage.prompt, "total_tokens": usage.prompt}


def told_images(usage: Usage) -> dict[str, Any]:
    """Buckets as the ``usage`` of images."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "image_tokens": usage.input_image,
            "text_tokens": usage.prompt - usage.input_image,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {
            "image_tokens": usage.output_image,
            "text_tokens": usage.completion - usage.output_image,
        },
        "total_tokens": usage.total,
    }
