"""
The LLM router you mount, not deploy.

    from hpp_middleware import Gateway, SQLiteStore, provider

    gateway = Gateway(providers={"openai": provider("openai", api_key=...)}, store=SQLiteStore("hpp.db"))
    app.mount("/ai", gateway.app)

Names are imported when they are first used, so that a part of the package can be used without the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpp_middleware.asgi.app import Gateway
    from hpp_middleware.dialects.presets import provider
    from hpp_middleware.errors import ConfigurationError, RequestError, StoreError, UpstreamError
    from hpp_middleware.stores.memory import MemoryStore
    from hpp_middleware.stores.sqlite import SQLiteStore
    from hpp_middleware.types.consumer import Consumer
    from hpp_middleware.types.provider import Model, Provider

__all__ = [
    "ConfigurationError",
    "Consumer",
    "Gateway",
    "MemoryStore",
    "Model",
    "Provider",
    "RequestError",
    "SQLiteStore",
    "StoreError",
    "UpstreamError",
    "provider",
]

_WHERE = {
    "ConfigurationError": "errors",
    "Consumer": "types.consumer",
    "Gateway": "asgi.app",
    "MemoryStore": "stores.memory",
    "Model": "types.provider",
    "Provider": "types.provider",
    "RequestError": "errors",
    "SQLiteStore": "stores.sqlite",
    "StoreError": "errors",
    "UpstreamError": "errors",
    "provider": "dialects.presets",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
