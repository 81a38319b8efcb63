"""Upstreams that are left alone, in one hash of the first shard: key and model, as JSON, to the time by the server."""

from collections.abc import Sequence

import msgspec

from hpp_middleware.stores.redis.server import Server
from hpp_middleware.types.health import Rest

__all__ = ["share"]


async def share(server: Server, rests: Sequence[Rest]) -> list[Rest]:
    """Tell, and be told."""
    arguments = ["rests"]
    for rest in rests:
        arguments += [msgspec.json.encode((rest.key, rest.model)).decode(), f"{rest.for_s:.6f}"]
    found = (await server.one("rests", 0, *arguments))[1:]
    return [
        Rest(*msgspec.json.decode(name, type=tuple[str, str]), for_s=float(left))
        for name, left in zip(found[::2], found[1::2], strict=True)
    ]
