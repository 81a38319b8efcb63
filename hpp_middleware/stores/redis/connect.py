"""Clients of a server: made from a URL, or given, and looked over before they are used."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisError, ResponseError

from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.stores.redis.link import Client

__all__ = ["check_client", "check_policy", "connect", "running_loop"]

_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}


def running_loop() -> asyncio.AbstractEventLoop:
    """
    The event loop.

    Raises:
        ConfigurationError: It is not asyncio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise ConfigurationError("The Redis store works on asyncio only, not on trio.") from error


def connect(url: str, *, cluster: bool, timeout_s: float, connected: Callable[[], None]) -> Client:
    """
    A client of our own.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or ``unix://``.
        cluster: Whether it is a cluster's.
        timeout_s: How long to wait for a connection, and for a reply.
        connected: Told of each new connection.
    Raises:
        ConfigurationError: The URL is none.
    """
    scheme, colon, rest = url.partition(":")
    settings: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "decode_responses": False,
        # A connection that lay idle may be gone; every script may be repeated. A reply that is late stays late.
        "retry": Retry(NoBackoff(), 1, supported_errors=(Disconnected,)),
    }
    try:
        if cluster:
            return RedisCluster.from_url(_SCHEMES.get(scheme, scheme) + colon + rest, **settings)
        hook = _greet(connected)
        return Redis.from_url(_SCHEMES.get(scheme, scheme) + colon + rest, redis_connect_func=hook, **settings)
    except (ValueError, RedisError) as error:
        raise ConfigurationError("The store's URL is not one of a Redis or Valkey server.") from error


def check_client(client: Client) -> None:
    """
    Look over a client that was given.

    Raises:
        ConfigurationError: It decodes replies, which answers and digests do not survive.
    """
    if client.get_encoder().decode_responses:
        raise ConfigurationError("The Redis client must be made with decode_responses=False.")


async def check_policy(client: Client) -> None:
    """
    Look at what the server does when its memory is full.

    Raises:
        ConfigurationError: It would forget books.
        StoreError: It cannot be reached.
    """
    try:
        found: Any = await client.config_get("maxmemory-policy")
    except ResponseError:
        return  # not ours to know, as on many a hosted server
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreError("The store cannot be used at the moment.") from error
    policy = found.get("maxmemory-policy", found.get(b"maxmemory-policy", "noeviction"))
    if (policy.decode() if isinstance(policy, bytes) else str(policy)) != "noeviction":
        raise ConfigurationError("The Redis server's maxmemory-policy must be noeviction: it would forget accounts.")


def _greet(connected: Callable[[], None]) -> Callable[[Any], Awaitable[None]]:
    async def greet(connection: Any) -> None:
        await connection.on_connect()
        connected()

    return greet
