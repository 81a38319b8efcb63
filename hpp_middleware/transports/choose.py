"""Which client reaches a provider; the figures behind the choice are in docs/performance.md."""

from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import urlsplit

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Transport
from hpp_middleware.transports.tls import context
from hpp_middleware.types.provider import Provider, TransportKind

__all__ = ["check", "choose"]

_NEEDS = {"native": ("httptools", "fast"), "aiohttp": ("aiohttp", "aiohttp")}


def check(name: str, provider: Provider) -> None:
    """
    Whether a provider's transport can be had.

    Args:
        name: The provider's.
        provider: Its settings.
    Raises:
        ConfigurationError: It cannot: something is not installed, or cannot be read.
    """
    where = f"providers.{name}"
    if not _is_reachable(provider.base_url):
        raise ConfigurationError(f"{where}.base_url is no URL with a host and a port", param=f"{where}.base_url")
    if "@" in provider.base_url.split("/")[2]:
        _check_named(where, provider)
    needed = _NEEDS.get(provider.transport)
    if needed is not None and find_spec(needed[0]) is None:
        raise ConfigurationError(
            f"{where}.transport needs `pip install hpp_middleware[{needed[1]}]`", param=f"{where}.transport"
        )
    if provider.ca_file is not None:
        try:
            context(provider.ca_file)
        except OSError:
            raise ConfigurationError(
                f"{where}.ca_file is no file of certificates that can be read", param=f"{where}.ca_file"
            ) from None


def _check_named(where: str, provider: Provider) -> None:
    """A user in the URL is sent as ``Authorization``: not by every client, nor beside a key that stands there."""
    if provider.transport == "native":
        raise ConfigurationError(
            f"{where}.transport cannot be native with a user in base_url: set aiohttp or httpx",
            param=f"{where}.transport",
        )
    if provider.api_key is not None and provider.dialect == "openai":
        raise ConfigurationError(
            f"{where}.base_url names a user, and there is an api_key: each would be the Authorization",
            param=f"{where}.base_url",
        )


def choose(name: str, provider: Provider, *, is_asyncio: bool) -> Transport:
    """
    A pool of our own for a provider.

    Args:
        name: The provider's.
        provider: Its settings.
        is_asyncio: Whether the event loop is asyncio's, or one in its place.
    Raises:
        ConfigurationError: The one that is named does not run on this event loop.
    """
    kind = provider.transport
    if not is_asyncio and kind in _NEEDS:
        raise ConfigurationError(
            f"providers.{name}.transport = {kind!r} needs asyncio: set httpx, or auto",
            param=f"providers.{name}.transport",
        )
    if kind == "auto":
        kind = _best(provider) if is_asyncio else "httpx"
    if kind == "native":
        from hpp_middleware.transports.native import NativeTransport

        return NativeTransport(connections=provider.connections, ca_file=provider.ca_file)
    make: Callable[..., Transport]
    if kind == "aiohttp":
        from hpp_middleware.transports.aiohttp import AiohttpTransport

        make = AiohttpTransport
    else:
        from hpp_middleware.transports.httpx import HttpxTransport

        make = HttpxTransport
    return make(connections=provider.connections, proxy=provider.proxy, ca_file=provider.ca_file)


def _is_reachable(url: str) -> bool:
    """Whether a URL says where to connect."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0  # reading it refuses what is no port
    except ValueError:
        return False


def _best(provider: Provider) -> TransportKind:
    """The one that costs least, of those that are installed and can do it."""
    has_user = "@" in urlsplit(provider.base_url).netloc  # whose name and password only the others send
    if provider.proxy is None and not has_user and find_spec("httptools") is not None:
        return "native"
    return "aiohttp" if find_spec("aiohttp") is not None else "httpx"
