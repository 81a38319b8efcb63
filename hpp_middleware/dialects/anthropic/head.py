"""Where a Messages request goes, and what its head says: the same in every call to a provider."""

from msgspec import Struct

from hpp_middleware.types.provider import Provider

__all__ = ["VERSION", "Heads"]

VERSION = "2023-06-01"
"""The one version of the API that its SDKs send."""

MOST_PROVIDERS = 256
"""A host that makes its providers anew for each request is not to fill the memory."""

Headers = tuple[tuple[str, str], ...]


class _Fixed(Struct, frozen=True):
    provider: Provider
    url: str
    json: Headers
    stream: Headers


class Heads:
    """They are remembered, so that a transport can do so too."""

    def __init__(self) -> None:
        self._fixed: dict[int, _Fixed] = {}

    def of(self, provider: Provider, *, stream: bool) -> tuple[str, Headers]:
        """The URL, and the headers."""
        found = self._fixed.get(id(provider))
        if found is None:  # it keeps the provider, so that no other one can come to have its id
            base = provider.base_url.rstrip("/")
            path = "/v1/messages" if provider.dialect == "anthropic" else "/messages"
            found = _Fixed(
                provider, base + path, _headers(provider, "application/json"), _headers(provider, "text/event-stream")
            )
            if len(self._fixed) >= MOST_PROVIDERS:
                self._fixed.clear()
            self._fixed[id(provider)] = found
        return found.url, found.stream if stream else found.json


def _headers(provider: Provider, accept: str) -> Headers:
    """An operator may set ``anthropic-version`` and ``anthropic-beta`` himself: he knows what they cost."""
    key, own = provider.api_key, {name.lower() for name in provider.headers}
    named = ("x-api-key", key) if provider.dialect == "anthropic" else ("Authorization", f"Bearer {key}")
    return (
        ("Content-Type", "application/json"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        *(() if "anthropic-version" in own else (("anthropic-version", VERSION),)),
        *provider.headers.items(),
        *(() if key is None else (named,)),
    )
