"""What changes the cost in a way that has no price, or no bound, here: refused by name, before anything is held."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Raw

from hpp_middleware.core.body import decoded, words
from hpp_middleware.dialects.sound import is_bounded
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.provider import Provider

__all__ = [
    "CONTEXT",
    "COST_FIELDS",
    "PACKED",
    "SERVICE_TIERS",
    "packed_tokens",
    "refuse",
    "refuse_dear_caching",
    "said",
    "sound_tokens",
]

COST_FIELDS = {
    "prediction": "rejected predictions are billed beyond the output cap",
    "speculation": "rejected predictions are billed beyond the output cap",
    "moderation": "it is another model's work, without a price here",
    "safety_model": "it is another model's work, without a price here",
    "guardrails": "they are another model's work, without a price here",
    "fallbacks": "another model, of another price, may answer: use models",
    "mock_testing_fallbacks": "another model, of another price, would answer",
    "provideroptions": "another model, of another price, may answer: use models and provider",
    "speed": "a faster mode has another price",
    "inference_geo": "a region has another price",
    "compound_custom": "the tools that it starts are billed by the call",
    "search_settings": "searches are billed by the call",
    "enable_code_interpreter": "what runs at the provider is billed besides",
    "web_search_options": "searches are billed by the call",
    "search_parameters": "searches are billed by the source",
    "enable_search": "searches are billed by the call",
    "deferred": "it is answered later, when nobody is there to be charged",
    "chat_template": "it may say the prompt any number of times",
    "vl_high_resolution_images": "it changes how many tokens an image is",
    "max_dynamic_patch": "it changes how many tokens an image is",
    "mm_processor_kwargs": "it changes how many tokens an image is",
    "media_io_kwargs": "it changes how many tokens an image is",
    "conversation": "the prompt would be longer than what is sent",
    "previous_response_id": "the prompt would be longer than what is sent",
    "best_of": "it multiplies the output",
    "n_cmpl": "use n",
    "n_predict": "use max_tokens",
    "num_predict": "use max_tokens",
    "max_new_tokens": "use max_tokens",
    "max_output_tokens": "use max_tokens",
    "max_length": "use max_tokens",
}
"""
Fields known to change the cost in a way that is not priced, each with the reason: refused, unless the operator lets
them in (:attr:`~hpp_middleware.types.provider.Provider.allow_fields`). Most are of one provider, or of another gateway
behind this one: Fireworks' ``speculation``, Together's ``safety_model``, Mistral's ``guardrails``, LiteLLM's
``fallbacks``, the ``providerOptions`` of Vercel's, Groq's ``compound_custom``, DashScope's ``enable_code_interpreter``.
"""

SERVICE_TIERS = frozenset({"auto", "default", "standard", "standard_only", "flex", "on_demand"})
"""Those that cost what the model costs, or less; any other one has another price."""

CONTEXT = 200_000
"""Tokens: what fits into a model whose context is not known."""

PACKED = re.compile(
    rb'"file_data"\s*:\s*"(?!data:text/|")|"(?:[a-z]{1,20}_)?url"\s*:\s*"data:(?!image/|text/)', re.IGNORECASE
)
"""A document whose pages are billed: what is neither text nor an image."""

RESIZED = re.compile(rb'_(?:pixels|dynamic_patch)"\s*:')
"""A member that says how many tokens an image is to be: DashScope's ``max_pixels``, or how many tiles of SGLang's."""

_NULL = Raw(b"null")


def refuse(fields: Mapping[str, Raw], known: Mapping[str, str], provider: Provider) -> None:
    """
    Refuse fields that change the cost, but for those that the provider's operator allows.

    Args:
        fields: The request's.
        known: Those of its API, each with the reason.
        provider: Which has some of its own.
    Raises:
        RequestError: 400; it names the field.
    """
    theirs, allowed = provider.cost_fields, provider.allow_fields
    for field, value in fields.items():
        if field in allowed:
            continue
        plain = field.casefold()  # some servers match keys without case
        reason = known.get(plain)
        if reason is None and theirs and (field in theirs or plain in theirs):
            reason = "it changes what this provider charges"
        if plain == "service_tier" and field != plain:
            reason = "it must be written service_tier"
        if reason is not None and value != _NULL:
            raise RequestError(f"{field} is not accepted: {reason}.", param=field)
    tier = _NULL if "service_tier" in allowed else fields.get("service_tier", _NULL)
    if tier != _NULL and bytes(tier).strip(b'"').decode("ascii", "replace") not in SERVICE_TIERS:
        raise RequestError("service_tier is not accepted: this tier has another price.", param="service_tier")


def said(fields: Mapping[str, Raw], *names: str) -> dict[str, bytes]:
    """What these of a request's fields say, for the searches below."""
    return {name: words(fields[name]) for name in names if name in fields}


def refuse_dear_caching(fields: Mapping[str, bytes]) -> None:
    """
    Refuse a cache that lasts an hour in one of these fields.

    Args:
        fields: What :func:`said` told of them.
    Raises:
        RequestError: 400; it names the field.
    """
    for name, value in fields.items():
        if (name == "cache_control" or value.find(b'"cache_control"') >= 0) and value.find(b'"1h"') >= 0:
            raise RequestError("cache_control.ttl 1h is not accepted: it has another price.", param=name)


def packed_tokens(request: Request, conversation: bytes, target: Target) -> int:
    """
    What documents cost above their bytes, at most: a PDF's pages are read as text and as images, of which its bytes say
    little (a thousand of them may be one, referred to again and again), so that only the model's context bounds them.
    So it is with a video, an image that is to be larger than usual, and whatever else is not known here.

    Args:
        request: What is asked.
        conversation: What :func:`said` told of it.
        target: The model.
    """
    unbounded = request.unbounded or (request.images.count > 0 and RESIZED.search(conversation) is not None)
    if not unbounded and (conversation.find(b'"file_data"') >= 0 or conversation.find(b'url"') >= 0):
        unbounded = PACKED.search(conversation) is not None
    return (target.model.context or CONTEXT) if unbounded else 0


def sound_tokens(request: Request, name: str, target: Target) -> int:
    """
    What sound costs above its bytes, at most: where it is packed (FLAC, Opus), or calls a byte a second, a few of them
    may be hours.

    Args:
        request: What is asked.
        name: The field that its conversation is in.
        target: The model.
    Raises:
        RequestError: 400: a number in it is none that can be read.
    """
    if not request.audio_input or all(_sounds_bounded(decoded(request.fields[name]))):
        return 0
    return target.model.context or CONTEXT


def _sounds_bounded(found: Any) -> Iterator[bool]:
    """Of each sound inside, whether its bytes bound its length."""
    sound = found.get("input_audio") if isinstance(found, dict) else None
    if sound is not None:
        told = sound if isinstance(sound, dict) else {"data": sound}  # Mistral's short form
        data, forms = told.get("data"), [told["format"]] if "format" in told else ["wav", "mp3"]
        yield isinstance(data, str) and any(form in ("wav", "mp3") and is_bounded(data, form) for form in forms)
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _sounds_bounded(inner)
