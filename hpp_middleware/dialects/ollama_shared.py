"""What all of Ollama's APIs have in common: where they are, what the operator sets, and errors."""

import re
from typing import Any

import msgspec

from hpp_middleware.types.provider import Provider

__all__ = ["TOO_LONG", "head", "loaded", "refused", "url"]

_WHOLE = re.compile(r"-?\d{1,9}")
TOO_LONG = re.compile(r"context length|context window|too long", re.IGNORECASE)
"""What is said of a prompt that does not fit."""

_encode = msgspec.json.Encoder().encode
_mapping = msgspec.json.Decoder(dict[str, Any])


def url(provider: Provider, path: str) -> str:
    """Where an API is, whichever port is configured: ``/v1`` is its OpenAI port."""
    return f"{provider.base_url.rstrip('/').removesuffix('/v1')}/api/{path}"


def head(provider: Provider, accept: str) -> tuple[tuple[str, str], ...]:
    """The headers of a call, but for its own."""
    key = provider.api_key
    return (
        ("Content-Type", "application/json"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        *provider.headers.items(),
        *(() if key is None else (("Authorization", f"Bearer {key}"),)),
    )


def loaded(provider: Provider) -> tuple[dict[str, Any], dict[str, Any]]:
    """How a model is loaded, as the operator has it: members of the body, and of its ``options``."""
    kept, context = provider.options.get("keep_alive"), provider.options.get("num_ctx")
    members = {"keep_alive": int(kept) if _WHOLE.fullmatch(kept) else kept} if kept else {}
    return members, {} if context is None else {"num_ctx": int(context)}


def refused(status: int, body: bytes) -> bytes:
    """
    An error in OpenAI's shape; one that is none as it came.

    Raises:
        DecodeError: It is no JSON object.
    """
    message = _mapping.decode(body).get("error")
    if not isinstance(message, str):
        return body
    code = "context_length_exceeded" if status == 400 and TOO_LONG.search(message) else None
    return _encode({"error": {"message": message, "code": code}})
