"""
One step of a mover: what the stream names goes to the archive, and is then forgotten here.

What cannot be read, whoever damaged it, keeps nothing else from being moved: it stays in the stream, is looked at again
each time, and goes the way of all others once it is mended.
"""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from hpp_middleware.core.damage import MOST_COUNTED
from hpp_middleware.core.names import can_be_kept
from hpp_middleware.ports import Archive
from hpp_middleware.stores.redis.keys import Key
from hpp_middleware.stores.redis.rows import entry_from
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.types.operations import Grant
from hpp_middleware.types.quota import Entry

__all__ = ["move", "waiting"]

_grant = msgspec.json.Decoder(Grant)

_logger = logging.getLogger("hpp_middleware")


class _Next(Struct):
    """
    What is to be moved next.

    Attributes:
        places: Where the stream names it.
        items: The lines and grants; fewer than places, where another mover was quicker, and forgot some.
        left: The first line of an account that cannot be read.
    """

    places: list[bytes] = field(default_factory=list)
    items: list[Entry | Grant] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


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
        items += (await _next(server, shard, most)).items
    return items


async def _move(server: Server, archive: Archive, shard: int, most: int, *, trim: bool) -> int:
    found = await _next(server, shard, most)
    if not found.places:
        return 0
    await archive.archive(found.items)  # idempotent: two movers at once, or one that dies here, archive nothing twice
    last: dict[str, int] = {}
    for item in found.items:
        if trim and isinstance(item, Entry):  # up to the last but for what the archive has not got
            before = found.left.get(item.account, item.seq + 1)
            last[item.account] = max(min(item.seq, before - 1), last.get(item.account, 0))
    forgotten = [text for account, seq in last.items() for text in (account, str(seq))]
    await server.one("moved", shard, str(len(found.places)), *found.places, *forgotten)
    server.moved += len(found.places)
    return len(found.places)


async def _next(server: Server, shard: int, most: int) -> _Next:
    """The first ``most`` that can be read, past those that cannot."""
    found = _Next()
    after = b"-"
    while len(found.places) < most:
        page = await server.ask(shard, "XRANGE", Key.STREAM, after, "+", "COUNT", str(most))
        await _read(server, shard, page, found, most)
        if len(page) < most:
            break
        milliseconds, number = page[-1][0].split(b"-")
        after = b"%b-%d" % (milliseconds, int(number) + 1)
    return found


async def _read(server: Server, shard: int, page: Sequence[Any], found: _Next, most: int) -> None:
    named = [values[1] for _, values in page if values[0] == b"line"]
    lines = dict(zip(named, await server.values(shard, Key.LINES, named), strict=True))
    for place, (kind, value) in page:
        if len(found.places) == most:
            return
        try:
            if kind == b"grant":
                found.items.append(_granted(value))
            elif (text := lines[value]) is not None:  # None: another mover was quicker, and forgot it
                found.items.append(_line(text, value))
        except (msgspec.DecodeError, ValueError):
            _leave(server, place, kind, value, found)
        else:
            found.places.append(place)


def _granted(text: bytes) -> Grant:
    """A grant, as below."""
    grant = _grant.decode(text)
    if abs(grant.amount) > MOST_COUNTED or not (can_be_kept(grant.id) and can_be_kept(grant.account)):
        raise ValueError("it is none that every store can keep")
    return grant


def _line(text: bytes, where: bytes) -> Entry:
    """A line that an archive takes; one that it would refuse keeps the others of its batch from it."""
    entry = entry_from(text)
    is_counted = abs(entry.amount) <= MOST_COUNTED and (entry.amount >= 0 or entry.line == "correction")
    if f"{entry.seq}:{entry.account}".encode() != where or not is_counted:
        raise ValueError("it is not what was written there")
    return entry


def _leave(server: Server, place: bytes, kind: bytes, value: bytes, found: _Next) -> None:
    name = f"the grant at {place.decode()}"
    if kind == b"line":
        seq, _, account = value.decode().partition(":")
        found.left.setdefault(account, int(seq))
        name = f"line {seq} of {account}"
    if name not in server.unreadable:
        server.unreadable.append(name)
        _logger.warning("The ledger is moved but for what cannot be read, and stays where it is: %s.", name)
