"""A model of every dialect, and of every way in which a dialect has something of its own to say."""

from collections.abc import Mapping

from hpp_middleware.asgi.paths import APIS
from hpp_middleware.dialects import known
from hpp_middleware.ports import API, Dialect
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

__all__ = ["API_OF", "DIALECTS", "TARGETS", "target"]

DIALECTS: Mapping[str, Dialect] = {
    name: known.find(name) for name in ("openai", "anthropic", "gemini", "vertex", "bedrock", "azure", "ollama")
}
API_OF: Mapping[str, API] = {api.name: api for api in APIS.values()}

_NATIVE = {
    "openai": ("messages", "responses", "embeddings", "images"),
    "gemini": ("embeddings", "images"),
    "vertex": ("images",),
    "azure": ("responses", "embeddings", "images"),
}
_MODELS = ("claude-sonnet-4-5", "gemini-2.5-flash", "gemini-3-pro-image", "gpt-5", "openai.gpt-oss-120b")
_MICRO = 10**12


def target(dialect: str, model: str = "claude-sonnet-4-5", *, native: bool = True, drawn: int | None = None) -> Target:
    """A model at a provider of this dialect: a micro-dollar a token that goes in, and two one that comes out."""
    provider = Provider(
        base_url="http://127.0.0.1:9",
        dialect=dialect,
        api_key="sk-a-key-of-the-operator",
        native_apis=frozenset(_NATIVE.get(dialect, ()) if native else ()),
        options={"project": "p"} if dialect == "vertex" else {},
    )
    rates = Rates(input=_MICRO, output=2 * _MICRO, input_audio=_MICRO, output_image=drawn)
    return Target(
        id=f"{dialect}/{model}",
        provider_name=dialect,
        model_name=model,
        provider=provider,
        model=Model(),
        price=Price(base=rates),
    )


TARGETS = [
    target(dialect, model, native=native) for dialect in DIALECTS for model in _MODELS for native in (True, False)
]
