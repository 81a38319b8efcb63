"""
Where a method of a model is, and what a call to it says in its head.

The name of a model comes from the client, and becomes a part of the path: one that would lead to another place than a
model's is refused, since what is priced by one name must not be asked for by another.

Sources: https://ai.google.dev/api (the Gemini API), https://cloud.google.com/vertex-ai/docs/reference/rest (Vertex AI),
https://cloud.google.com/vertex-ai/generative-ai/docs/learn/locations (its hosts).
"""

import re
from typing import Literal

from hpp_middleware.dialects.chat import bad
from hpp_middleware.types.completion import Target
from hpp_middleware.types.provider import Provider

__all__ = ["MULTI_REGIONS", "VERTEX_HOST", "Method", "gemini", "headers", "vertex"]

Method = Literal["generateContent", "streamGenerateContent", "embedContent", "batchEmbedContents", "predict"]

VERTEX_HOST = "https://aiplatform.googleapis.com"
"""Vertex's host for ``global``; a base URL that begins with it is led to the host of the location."""

MULTI_REGIONS = frozenset({"us", "eu"})
"""Locations with a host of another form."""

_MODEL = re.compile(r"(?:(?P<kind>models|tunedModels|endpoints)/)?(?P<name>[A-Za-z0-9_-][A-Za-z0-9._-]*(?:@[\w.-]+)?)")


def gemini(target: Target, method: Method) -> str:
    """
    The URL of a method of the Gemini API.

    Raises:
        RequestError: 400: the model's name is none.
    """
    kind, name = _named(target)
    return f"{target.provider.base_url.rstrip('/')}/{kind or 'models'}/{name}:{_said(method)}"


def vertex(target: Target, method: Method) -> str:
    """
    The URL of a method of Vertex AI; without a project, as its express mode has it, for the owner of the API key.

    Raises:
        RequestError: 400: the model's name is none.
    """
    kind, name = _named(target)
    provider = target.provider
    project, location = provider.options.get("project"), provider.options.get("location", "global")
    base = provider.base_url.rstrip("/")
    if base.startswith(f"{VERTEX_HOST}/") and location != "global":
        host = f"aiplatform.{location}.rep" if location in MULTI_REGIONS else f"{location}-aiplatform"
        base = f"https://{host}.googleapis.com{base.removeprefix(VERTEX_HOST)}"
    within = f"/projects/{project}/locations/{location}" if project else ""
    collection = "endpoints" if kind == "endpoints" else "publishers/google/models"
    return f"{base}{within}/{collection}/{name}:{_said(method)}"


def headers(provider: Provider, accept: str = "application/json") -> tuple[tuple[str, str], ...]:
    """
    All that a call says in its head but what is its own; Vertex's access token is put in by what sends it.

    Args:
        provider: Whom it goes to; its key is never in the URL, where logs would keep it.
        accept: The media type of the answer.
    """
    key = provider.api_key
    return (
        ("Content-Type", "application/json"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        *provider.headers.items(),
        *(() if key is None else (("x-goog-api-key", key),)),
    )


def _named(target: Target) -> tuple[str | None, str]:
    found = _MODEL.fullmatch(target.model_name)
    if found is None:
        raise bad("model", "is no name of a model of this provider")
    return found["kind"], found["name"]


def _said(method: Method) -> str:
    return f"{method}?alt=sse" if method == "streamGenerateContent" else method
