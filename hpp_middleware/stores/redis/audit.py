"""What an auditor reads of the server."""

import heapq
from collections.abc import Sequence

import msgspec

from hpp_middleware.core.ledger import OVERDUE_S
from hpp_middleware.errors import StoreError
from hpp_middleware.stores.redis.keys import Key, shard_of
from hpp_middleware.stores.redis.rows import hold_from, statement_from
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.stores.unreadable import reading
from hpp_middleware.types.quota import Hold, Seal, Statement

__all__ = ["accounts", "add_seals", "holds", "seals", "statement"]

_seal = msgspec.json.Decoder(Seal)


async def accounts(server: Server, after: str, most: int) -> list[str]:
    """Account ids in order, of all shards."""
    found = []
    for shard in range(server.shards):
        names = await server.ask(shard, "ZRANGEBYLEX", Key.NAMES, f"({after}", "+", "LIMIT", "0", str(most))
        found.append([name.decode() for name in names])
    return list(heapq.merge(*found))[:most]


async def statement(server: Server, account: str) -> Statement:
    """An account and what its rows add up to."""
    reply = await server.one("statement", shard_of(account, server.shards), account, repr(OVERDUE_S))
    return statement_from(account, reply)


async def holds(server: Server, ids: Sequence[str]) -> list[Hold]:
    """The holds that are known, in the order asked for; a tombstone only where no shard knows more."""
    found: dict[str, Hold] = {}
    for shard in range(server.shards):
        for name, packed in zip(ids, await server.values(shard, Key.HOLDS, ids), strict=True):
            if packed is not None and not (name in found and found[name].accounts):
                with reading():
                    found[name] = hold_from(name, packed)
    return [found[name] for name in ids if name in found]


async def seals(server: Server, account: str, after: int, most: int) -> list[Seal]:
    """An account's seals, in order."""
    shard, name = shard_of(account, server.shards), account.encode()
    prefix = b"%d:%s" % (len(name), name)
    first, last = b"(%s%020d" % (prefix, after), b"(%s\xff" % prefix
    members = await server.ask(shard, "ZRANGEBYLEX", Key.SEALED, first, last, "LIMIT", "0", str(most))
    places = [b"%s:%s" % (member[len(prefix) :], name) for member in members]
    texts = await server.values(shard, Key.SEALS, places)
    return [_seal.decode(text) for text in texts if text is not None]


async def add_seals(server: Server, given: Sequence[Seal]) -> None:
    """Append seals, each once."""
    for shard in range(server.shards):
        values: list[str | bytes] = []
        for seal in given:
            if shard_of(seal.account, server.shards) == shard:
                values += [seal.account, f"{seal.seq:020d}", seal.mac, msgspec.json.encode(seal)]
        if values and (await server.one("add_seals", shard, *values))[1] != b"done":
            raise StoreError("Another seal stands there already.")
