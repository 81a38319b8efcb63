"""One step of a mover: what the stream names goes to the archive, and is then forgotten here."""

from collections.abc import Sequence
from typing import Any

import msgspec

from hpp_middleware.ports import Archive
from hpp_middleware.stores.redis.keys import Key
from hpp_middleware.stores.redis.rows import entry_from
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Entry

__all__ = ["move", "waiting"]

_grant = msgspec.json.Decoder(Grant)


async def move(server: Server, archive: Archive, most: int = 1000, *, trim: bool = False) -> int:
    """Move up to ``most`` lines and grants of each shard; how many there were."""
    moved = 0
    for shard in range(server.shards):
        moved += await _move(server, archive, shard, most, trim=trim)
    return moved


async def waiting(server: Server, most: int = 1000) -> list[Entry | Grant]:
    """What would be moved next, of all shards."""
    items: list[Entry | Grant] = []
    for shard in range(server.shards):
        items += await _items(server, shard, await _next(server, shard, most))
    return items


async def _move(server: Server, archive: Archive, shard: int, most: int, *, trim: bool) -> int:
    found = await _next(server, shard, most)
    if not found:
        return 0
    items = await _items(server, shard, found)
    await archive.archive(items)  # idempotent: two movers at once, or one that dies here, archive nothing twice
    last: dict[str, int] = {}
    for item in items:
        if trim and isinstance(item, Entry):
            last[item.account] = max(item.seq, last.get(item.account, 0))
    forgotten = [text for account, seq in last.items() for text in (account, str(seq))]
    places = [place for place, _ in found]
    await server.one("moved", shard, str(len(places)), *places, *forgotten)
    server.moved += len(found)
    return len(found)


async def _next(server: Server, shard: int, most: int) -> list[Any]:
    return list(await server.ask(shard, "XRANGE", Key.STREAM, "-", "+", "COUNT", str(most)))


async def _items(server: Server, shard: int, found: Sequence[Any]) -> list[Entry | Grant]:
    named = [values[1] for _, values in found if values[0] == b"line"]
    lines = dict(zip(named, await server.values(shard, Key.LINES, named), strict=True))
    items: list[Entry | Grant] = []
    for _, (kind, value) in found:
        if kind == b"grant":
            items.append(_grant.decode(value))
        elif (text := lines[value]) is not None:  # None: another mover was quicker, and forgot it
            items.append(entry_from(text))
    return items
