"""How each upstream is reached: by a transport of the host's, or by a pool of our own."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Transport
from hpp_middleware.transports import choose, signing
from hpp_middleware.types.provider import Provider

if TYPE_CHECKING:
    from hpp_middleware.transports.httpx import HTTPClient

__all__ = ["check", "given", "keyed", "own"]


def keyed(name: str, provider: Provider) -> Iterator[tuple[str, Provider]]:
    """A provider's upstreams, each by its key, as a provider of its own; or itself, where it has none."""
    if not provider.upstreams:
        yield name, provider
    for upstream, part in provider.parts.items():
        yield f"{name}#{upstream}", part


def check(providers: Mapping[str, Provider], transports: Mapping[str, Transport]) -> None:
    """
    Whether all can be reached.

    Args:
        providers: By name.
        transports: The host's own, by provider; it signs what is to be signed.
    Raises:
        ConfigurationError: One cannot: something is not installed, or cannot be read.
    """
    known = {key for name, provider in providers.items() for key, _ in keyed(name, provider)}
    for name in transports.keys() - known - providers.keys():
        raise ConfigurationError(f"transports.{name}: there is no provider {name}", param=f"transports.{name}")
    for name, provider in providers.items():
        for where, part in provider.places(name):
            choose.check(where, part)
            if name not in transports:
                signing.check(where, part)


def given(providers: Mapping[str, Provider], transports: Mapping[str, Transport]) -> dict[str, Transport]:
    """The host's own transports, by upstream: a provider's serves all of its upstreams."""
    found = dict(transports)
    for name in transports.keys() & providers.keys():
        found.update((key, transports[name]) for key, _ in keyed(name, providers[name]))
    return found


def own(
    providers: Mapping[str, Provider], transports: Mapping[str, Transport], client: "HTTPClient | None", loop: Any
) -> dict[str, Transport]:
    """
    Pools of our own, for the providers that the host has given no transport for. Each upstream has one for itself, so
    that none waits for another's connections; what signs stands in front.

    Args:
        providers: By name.
        transports: The host's own, by provider.
        client: The host's own HTTP client, for all of them.
        loop: The event loop that runs.
    """
    return {
        key: signing.signed(part, _pool(name, part, client, loop))
        for name, provider in providers.items()
        if name not in transports
        for key, part in keyed(name, provider)
    }


def _pool(name: str, provider: Provider, client: "HTTPClient | None", loop: Any) -> Transport:
    if client is not None:
        from hpp_middleware.transports.httpx import HttpxTransport

        return HttpxTransport(client)
    return choose.choose(name, provider, is_asyncio=isinstance(loop, asyncio.AbstractEventLoop))
