"""
Redis or Valkey: accounts, holds, ledger and credentials, on one server or a cluster, for many hosts.

Each operation is one Lua script, which checks first and then writes; what waits together goes in one round trip. Lease,
deadline and ledger go by the server's clock. Nothing ever expires by itself, and a server that would evict is refused.

What this promises is weaker than a database on disk. An acknowledged write survives the end of the server's process as
``appendfsync`` says: always with ``always``, but for the last second with ``everysec``, not at all without a file. A
failover may lose the last writes that were acknowledged, as many as the replica lagged behind. With an archive
(:class:`hpp_middleware.ports.Archive`, filled by a :class:`~hpp_middleware.stores.redis.mover.Mover`) the store sees
that it fell behind what was archived, refuses everything, and goes on after :meth:`RedisStore.rebuild`. A server that
was emptied refuses in any case.

With several shards an account lies with its root (the part of its name before the first ``/``), a hold's accounts must
have one root, and the ids of holds and grants are compared within a shard only.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from hpp_middleware.core import quota
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import Archive
from hpp_middleware.stores.batch import Batch
from hpp_middleware.stores.redis import audit, credentials, recovery
from hpp_middleware.stores.redis.keys import Key, shard_of
from hpp_middleware.stores.redis.limits import RedisLimits
from hpp_middleware.stores.redis.link import Call, Client, Link
from hpp_middleware.stores.redis.rests import share
from hpp_middleware.stores.redis.rows import ACCOUNT, account_from, arguments, entry_from, result_from
from hpp_middleware.stores.redis.server import Server
from hpp_middleware.stores.unreadable import reading
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.health import Rest
from hpp_middleware.types.limits import Ask, Standing
from hpp_middleware.types.operations import Declare, Grant, Operation, Release, Renew, Reserve, Resize, Result, Sweep
from hpp_middleware.types.quota import Balance, Entry, Hold, Seal, Statement

__all__ = ["RedisStore"]

_REMEMBERED = 10_000
"""Holds whose shard this process remembers; of others it asks every shard."""


class RedisStore:
    """
    Accounts, holds, ledger and credentials on a server.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or ``unix://``.
        client: A client of redis-py's in its place (``Redis`` or ``RedisCluster``), for one event loop; it stays the
            caller's.
        cluster: Whether the URL is a cluster's.
        clock: Seconds since the epoch; None for the server's own clock.
        prefix: How all keys begin.
        shards: Over how many hash slots the accounts are spread; fixed when a server is first used.
        archive: What a mover archives in, if there is one: books that fell behind it are refused. SQLite and PostgreSQL
            stores are archives.
        timeout_s: How long a round trip may take.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        client: Client | None = None,
        cluster: bool = False,
        clock: Callable[[], float] | None = None,
        prefix: str = "hpp",
        shards: int = 1,
        archive: Archive | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self.server = Server(
            url, client=client, cluster=cluster, clock=clock, prefix=prefix, shards=shards, timeout_s=timeout_s
        )
        self.server.changed = lambda: recovery.look_over(self.server, archive)
        self._limits = RedisLimits(self.server, prefix=prefix, clock=clock)
        self._batches: WeakKeyDictionary[Link, Batch] = WeakKeyDictionary()
        self._homes: OrderedDict[str, int] = OrderedDict()

    async def open(self) -> None:
        """
        Connect, and see whose books the server has; one that has none becomes ours.

        Raises:
            ConfigurationError: It cannot be used as it is set up, or the event loop is not asyncio's.
            StoreError: It cannot be reached, was emptied, or fell behind its archive.
        """
        await self.server.ready()

    async def aclose(self) -> None:
        """Finish what waits, and disconnect."""
        link = self.server.here()
        if link is not None and link in self._batches:
            await self._batches[link].drain()
        await self.server.aclose()

    def pepper(self) -> bytes | None:
        """None: a pepper does not belong beside the digests."""
        return None

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        for operation in operations:
            self._check(operation)
        link = await self.server.ready()
        batch = self._batches.get(link)
        if batch is None:
            batch = self._batches[link] = Batch(self._send)
        return await batch.apply(operations)

    async def take(self, ask: Ask) -> Standing:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        return await self._limits.take(ask)

    async def correct(self, ask: Ask) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.correct(ask)

    async def extend(self, asks: Sequence[Ask]) -> None:
        """See :class:`hpp_middleware.ports.LimitStore`."""
        await self._limits.extend(asks)

    async def balance(self, account: str) -> Balance:
        """See :class:`hpp_middleware.ports.QuotaStore`."""
        names = [f"{column}:{account}" for column in ACCOUNT]
        counts = await self.server.ask(self._shard(account), "HMGET", Key.ACCOUNTS, *names)
        return quota.balance(account_from(account, counts))

    async def entries(self, account: str, hold: str) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        found = await self.server.one("entries", self._shard(account), hold, account)
        with reading():
            return [entry_from(line) for line in found[1:]]

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        """See :class:`hpp_middleware.ports.Ledger`."""
        found = await self.server.one("lines", self._shard(account), account, str(after), str(most))
        with reading():
            return [entry_from(line) for line in found[1:]]

    async def share(self, rests: Sequence[Rest]) -> list[Rest]:
        """See :class:`hpp_middleware.ports.HealthStore`."""
        return await share(self.server, rests)

    async def find(self, digest: bytes) -> Credential | None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        return await credentials.find(self.server, digest)

    async def add(self, credential: Credential) -> None:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        await credentials.add(self.server, credential)

    async def revoke(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        return await credentials.revoke(self.server, key_id, at)

    async def expire(self, key_id: str, at: float) -> bool:
        """See :class:`hpp_middleware.ports.CredentialExpiry`."""
        return await credentials.expire(self.server, key_id, at)

    async def reassign(self, key_id: str, consumer: Consumer) -> bool:
        """See :class:`hpp_middleware.ports.CredentialReassign`."""
        return await credentials.reassign(self.server, key_id, consumer)

    async def credentials(self) -> list[Credential]:
        """See :class:`hpp_middleware.ports.CredentialStore`."""
        return await credentials.everybody(self.server)

    async def epoch(self) -> int:
        """See :class:`hpp_middleware.ports.CredentialEpoch`."""
        return int(await self.server.ask(0, "HGET", Key.META, "changes") or 0)

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        """See :class:`hpp_middleware.ports.CredentialRehash`."""
        return await credentials.rehash(self.server, digest, to, pepper)

    async def accounts(self, after: str = "", most: int = 1000) -> list[str]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await audit.accounts(self.server, after, most)

    async def statement(self, account: str) -> Statement:
        """See :class:`hpp_middleware.ports.Audit`; it reads every line of the account while the server waits."""
        return await audit.statement(self.server, account)

    async def holds(self, ids: Sequence[str]) -> list[Hold]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await audit.holds(self.server, ids)

    async def seals(self, account: str, after: int = 0, most: int = 1000) -> list[Seal]:
        """See :class:`hpp_middleware.ports.Audit`."""
        return await audit.seals(self.server, account, after, most)

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        """See :class:`hpp_middleware.ports.Audit`."""
        await audit.add_seals(self.server, seals)

    async def rebuild(self, archive: Archive, accounts: Sequence[str] | None = None) -> int:
        """
        Make the books anew from what was archived, which wins; see :func:`recovery.rebuild`.

        Args:
            archive: Where a mover put what the server had.
            accounts: Which; None for all that the archive lists.
        Returns:
            How many accounts there are.
        """
        return await self.server.safely(recovery.rebuild(self.server, archive, accounts))

    async def _send(self, operations: Sequence[Operation]) -> list[Result]:
        """One round trip; an operation of which only the hold is known goes to every shard that may have it."""
        calls: list[Call] = []
        places: list[range] = []
        for operation in operations:
            script, values = arguments(operation)
            shards = self._shards(operation)
            places.append(range(len(calls), len(calls) + len(shards)))
            calls += [Call(script, shard, values) for shard in shards]
            if isinstance(operation, Renew):
                self.server.doubt()  # about every ten seconds
        replies = await self.server.run(calls, apart=True)
        results: list[Result] = []
        for operation, each in zip(operations, places, strict=True):
            told = [result_from(operation, replies[place]) for place in each]
            result = told[0] if len(told) == 1 else _together(operation, told)
            if isinstance(operation, Reserve) and result.status == "done":
                self._remember(operation.id, calls[each[0]].shard)
            results.append(result)
        return results

    def _check(self, operation: Operation) -> None:
        if isinstance(operation, Reserve) and not operation.accounts:
            raise ValueError("a hold names at least one account")
        accounts = operation.accounts if isinstance(operation, (Reserve, Resize)) else ()
        if not self.holds_together(accounts):
            raise StoreError("The accounts of a hold lie in different shards: they must have one root.")

    def _shards(self, operation: Operation) -> Sequence[int]:
        match operation:
            case Grant() | Declare():
                return (self._shard(operation.account),)
            case Renew() | Sweep():
                return range(self.server.shards)
            case Reserve():
                return (self._homes.get(operation.id, self._shard(operation.accounts[0])),)
            case _:
                home = self._homes.get(operation.id)
                return range(self.server.shards) if home is None else (home,)

    def holds_together(self, accounts: Sequence[str]) -> bool:
        """Whether one hold can be in all of these: they lie in one shard."""
        return len({self._shard(account) for account in accounts}) <= 1

    def _shard(self, account: str) -> int:
        return shard_of(account, self.server.shards)

    def _remember(self, hold: str, shard: int) -> None:
        if self.server.shards > 1:
            self._homes[hold] = shard
            while len(self._homes) > _REMEMBERED:
                self._homes.popitem(last=False)


def _together(operation: Operation, told: Sequence[Result]) -> Result:
    """What several shards say of one operation."""
    match operation:
        case Renew():
            return told[0]
        case Sweep():
            entries = sorted((entry for result in told for entry in result.entries), key=_by_hold)
            amount, more = sum(result.amount for result in told), any(result.more for result in told)
            left = next((result.hold for result in told if result.hold), "")
            return Result(status="done", amount=amount, entries=tuple(entries), hold=left, more=more)
        case Release():  # a shard that never knew the hold has a tombstone now, and says done
            return next((result for result in told if result.status != "done" or result.entries), told[0])
        case _:
            return next((result for result in told if result.status != "unknown"), told[0])


def _by_hold(entry: Entry) -> Any:
    return entry.hold
