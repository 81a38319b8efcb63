"""
When the server may have forgotten: its books are compared with the archive, fenced, and rebuilt from it.

The archive is never ahead of a server that lost nothing. So where it is ahead, the server refuses everything, in every
process, until somebody decides to rebuild it: the archive wins, and what it never got is lost. Where instead lines that
were moved are not in the archive, that is the older one: nothing is fenced, and nobody goes on until it is put right.
"""

import logging
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, Protocol, runtime_checkable

from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import Archive, Ledger
from hpp_middleware.stores.redis import moving
from hpp_middleware.stores.redis.keys import shard_of
from hpp_middleware.stores.redis.server import AHEAD, BEHIND, Server
from hpp_middleware.types.quota import Entry

__all__ = ["look_over", "rebuild"]

_AT_ONCE = 1000

_logger = logging.getLogger("hpp_middleware")


@runtime_checkable
class Listing(Protocol):
    """An archive that says whom it knows."""

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        ...


async def look_over(server: Server, archive: Archive | None) -> None:
    """
    Compare every account with the archive; the server was opened, or is another one than before.

    Raises:
        StoreError: The server is behind, and fenced now; or the archive is; or it cannot be known.
    """
    if archive is None:
        if server.known:
            _logger.warning("The store's server was restarted or replaced: the last writes may be lost.")
        return
    try:
        while await moving.move(server, archive, _AT_ONCE) >= _AT_ONCE:
            pass
    except StoreError:
        if await _has_forked(server, archive):
            await _fence(server)
        raise
    is_ahead = False
    async with aclosing(_listed(archive)) as names:
        async for name in names:
            stands = await _compared(server, archive, name)
            if stands == "behind":
                await _fence(server)
            is_ahead |= stands == "ahead"
    if is_ahead:
        raise StoreError(AHEAD)


async def rebuild(server: Server, archive: Archive, accounts: Sequence[str] | None) -> int:
    """
    Make accounts anew from the archive: grants, charges and counts as it has them, nothing held, no lease.

    The ids of grants come back too, so that one that is repeated is not granted twice, and one that was lost can be.
    Credentials and seals stay where they are still there; what a configuration file declares comes back with the next
    start. What is charged above payers, and in budgets, is the sum of the lines that name it.
    Every other process has to be restarted.

    Raises:
        StoreError: The server or the archive cannot be reached; what was begun is refused until it is repeated.
        ConfigurationError: The archive cannot list its accounts.
    """
    return await server.inside(_rebuild(server, archive, accounts))


async def _rebuild(server: Server, archive: Archive, accounts: Sequence[str] | None) -> int:
    if accounts is None:
        async with aclosing(_listed(archive)) as listed:
            accounts = [name async for name in listed]
    epoch = secrets.token_hex(16)
    await server.begin_anew(f"rebuilding:{epoch}")
    shares = await _shares(archive, accounts)
    for name in dict.fromkeys([*accounts, *sorted(shares)]):
        await _restore(server, archive, name, shares[name])
    await server.name(epoch)
    return len(accounts)


async def _shares(archive: Archive, accounts: Sequence[str]) -> Counter[str]:
    """What lines charge to accounts besides their payer's; nothing where the archive cannot be read line by line."""
    found: Counter[str] = Counter()
    if isinstance(archive, Ledger):
        for name in accounts:
            after = 0
            while page := await archive.lines(name, after, _AT_ONCE):
                for line in page:
                    for other in line.draft.also:
                        found[other] += line.share(other)
                after = page[-1].seq
    return found


async def _fence(server: Server) -> None:
    await server.everywhere("note", "epoch", f"fenced:{server.epoch}")
    raise StoreError(BEHIND)


async def _has_forked(server: Server, archive: Archive) -> bool:
    """
    Whether a line that is to be moved stands where the archive has another one: the server forgot lines, and has given
    their numbers out again before anybody saw it.
    """
    if not isinstance(archive, Ledger):
        return False
    for item in await moving.waiting(server, _AT_ONCE):
        if isinstance(item, Entry):
            there = await archive.lines(item.account, item.seq - 1, 1)
            if any(line.seq == item.seq and line.id != item.id for line in there):
                return True
    return False


async def _restore(server: Server, archive: Archive, name: str, share: int) -> None:
    shard, after, named = shard_of(name, server.shards), "", 0
    while page := await archive.grants(name, after, _AT_ONCE):
        texts = [text for grant in page for text in (grant.id, str(grant.amount))]
        await server.one("regrant", shard, name, *texts)
        named += sum(grant.amount for grant in page)
        after = page[-1].id
    account = await archive.totals(name)
    # What a file had declared to an archive that was once served from is declared anew, like any other.
    quota = account.quota - account.declared
    sums = (quota, account.settled, account.seq, account.requests, account.tokens, quota - named, share)
    await server.one("restore", shard, name, *map(str, sums))


async def _compared(server: Server, archive: Archive, name: str) -> Literal["alike", "behind", "ahead"]:
    """How an account of the server's stands beside the archive's."""
    before = await archive.totals(name)
    _, seq, quota, declared, pending = await server.one("standing", shard_of(name, server.shards), name)
    if int(seq) < before.seq:
        return "behind"
    # Where all was moved, and nothing was meanwhile, both have the same; that shows a grant that was lost, too.
    differs = (int(seq), int(quota) - int(declared)) != (before.seq, before.quota - before.declared)
    if not differs or pending or await archive.totals(name) != before:
        return "alike"
    return "ahead" if int(seq) > before.seq else "behind"


async def _listed(archive: Archive) -> AsyncGenerator[str]:
    if not isinstance(archive, Listing):
        raise ConfigurationError("The archive cannot list its accounts.")
    after = ""
    while page := await archive.accounts(after):
        for name in page:
            yield name
        after = page[-1]
