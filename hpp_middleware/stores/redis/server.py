"""
The server as this process opened it: whose books it has, in how many shards, and whether it is still the same one.

The books have a random epoch, written once when a server that held none of ours became ours. Every script compares it
first, so that a server that was emptied or replaced refuses instead of inventing accounts. When its replication id
changes, which a failover and a restart do, no reply is passed on until the books have been looked over.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.stores.redis import connect
from hpp_middleware.stores.redis.keys import Key, keys
from hpp_middleware.stores.redis.link import Call, Client, Link

__all__ = ["AHEAD", "BEHIND", "Server"]

T = TypeVar("T")

BEHIND = "The store's server is behind its archive, and refuses until it is rebuilt (hpp-router ledger rebuild)."
AHEAD = (
    "The archive lacks what was moved to it: it is an older one, or another. Put the right one back; or, where that "
    "cannot be, have this one count, and lose what it lacks (hpp-router ledger rebuild)."
)
VERSION = b"1"
_TOGETHER = 1000
_WITHOUT_EPOCH = {"open", "wipe", "take", "correct", "extend"}


class Server:
    """
    A Redis or Valkey server, or a cluster.

    Args:
        url: Where it is; a client is made for each event loop.
        client: One of the caller's, for the event loop that uses it.
        cluster: Whether the URL is a cluster's.
        clock: Seconds since the epoch; None for the server's own.
        prefix: How its keys begin.
        shards: How many hash slots the accounts are spread over.
        timeout_s: How long a round trip may take.

    Attributes:
        epoch: Whose books were opened.
        changed: Looks the books over when the server is another one than before.
        moved: How many lines and grants this process has moved to an archive.
        unreadable: Which of them it could not read, and left where they are.
    """

    def __init__(
        self,
        url: str | None,
        *,
        client: Client | None,
        cluster: bool,
        clock: Callable[[], float] | None,
        prefix: str,
        shards: int,
        timeout_s: float,
    ) -> None:
        if (url is None) == (client is None):
            raise ConfigurationError("The Redis store takes a URL or a client.")
        if not prefix or "{" in prefix or "}" in prefix or shards < 1:
            raise ConfigurationError("The Redis store takes a prefix without braces, and at least one shard.")
        if client is not None:
            connect.check_client(client)
        self.shards = shards
        self.epoch: str | None = None
        self.moved = 0
        self.unreadable: list[str] = []
        self.changed: Callable[[], Coroutine[Any, Any, None]] | None = None
        self._url = url
        self._client = client
        self._cluster = cluster
        self._clock = clock
        self._timeout_s = timeout_s
        self._keys = [keys(prefix, shard) for shard in range(shards)]
        self._inside = ContextVar("inside", default=False)
        self._links: WeakKeyDictionary[asyncio.AbstractEventLoop, Link] = WeakKeyDictionary()
        self._marks = itertools.count()
        self._doubts = 0
        self._settled = 0
        self._places: list[bytes] = []

    @property
    def known(self) -> bool:
        """Whether this process had looked at it before."""
        return bool(self._places)

    def here(self) -> Link | None:
        """This event loop's link, if there is one."""
        try:
            return self._links.get(connect.running_loop())
        except ConfigurationError:
            return None  # not asyncio: it never was opened here

    async def ready(self) -> Link:
        """
        This event loop's link, opened.

        Raises:
            ConfigurationError: The server cannot be used as it is set up, or the event loop is not asyncio's.
            StoreError: It cannot be reached, or its books are not those that were opened.
        """
        link = self._link()
        if not link.opened and not self._inside.get():
            await link.alone(self._open(link))
        return link

    async def aclose(self) -> None:
        """Close this event loop's client, and those of other loops while they run; it may be opened again."""
        mine = self.here()
        if not self._links:
            return
        if mine is not None:
            del self._links[connect.running_loop()]
            await mine.aclose()
        asked = []
        for loop, link in list(self._links.items()):
            if loop.is_running():
                asked.append(asyncio.wrap_future(asyncio.run_coroutine_threadsafe(link.aclose(), loop)))
                self._links.pop(loop, None)
        if asked:
            await asyncio.wait(asked, timeout=self._timeout_s)  # one that ends at this moment never answers

    def doubt(self) -> None:
        """Before the next reply is passed on, see whether it is still the same server."""
        self._doubts += 1

    async def run(self, calls: Sequence[Call], *, apart: bool = False) -> list[Any]:
        """Run scripts, with their arguments after the common ones, in one round trip; see :meth:`Link.run`."""
        link = await self.ready()
        try:
            replies = await link.run([self._call(call) for call in calls], apart=apart)
        except StoreError:
            self.doubt()
            raise
        if self._doubts != self._settled and not self._inside.get():
            async with link.looking:
                await self._look(link)
        return replies

    async def one(self, script: str, shard: int, *arguments: str | bytes) -> Any:
        """
        A script's reply to one question, which begins with what was asked for.

        Raises:
            StoreError: It cannot be had.
        """
        try:
            return await self.safely(self._one(Call(script, shard, arguments)))
        except UnicodeEncodeError as error:
            raise StoreError("No store can keep such a name.") from error

    async def ask(self, shard: int, command: str, key: Key, *arguments: str | bytes) -> Any:
        """The reply to a reading command."""
        mark = str(next(self._marks))
        return (await self.one("read", shard, mark, command, str(int(key)), *arguments))[1]

    async def values(self, shard: int, key: Key, names: Sequence[str | bytes]) -> list[bytes | None]:
        """What stands under each name in a hash; a thousand at a time, since Lua takes so many arguments only."""
        found: list[bytes | None] = []
        for start in range(0, len(names), _TOGETHER):
            found += await self.ask(shard, "HMGET", key, *names[start : start + _TOGETHER])
        return found

    async def everywhere(self, script: str, *arguments: str) -> list[Any]:
        """Run a script in every shard."""
        calls = [Call(script, shard, arguments) for shard in range(self.shards)]
        return await self.safely(self.run(calls))

    async def safely(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that goes on although its caller is cancelled."""
        return await self._link().alone(work)

    async def inside(self, work: Coroutine[Any, Any, T]) -> T:
        """Work on books that are not opened, or are being looked over: what it asks is answered as it is."""
        before = self._inside.set(True)
        try:
            return await work
        finally:
            self._inside.reset(before)

    async def begin_anew(self, epoch: str) -> None:
        """Empty every shard, for books that are to be rebuilt under a new epoch."""
        link = self._link()
        calls = [Call("wipe", shard, (epoch, str(self.shards))) for shard in range(self.shards)]
        for call in calls:  # the first shard first: whatever happens on the way, nobody opens half of it
            await link.run([call])
        self.epoch = epoch

    async def name(self, epoch: str) -> None:
        """Give the books another epoch: the first shard's last, by which they are opened."""
        link = self._link()
        for shard in reversed(range(self.shards)):
            await link.run([self._call(Call("note", shard, ("epoch", epoch)))])
        self.epoch = epoch
        await link.run([self._call(Call("note", 0, ("ready", "1")))])
        link.opened = True

    async def _one(self, call: Call) -> Any:
        (reply,) = await self.run([call])
        if not isinstance(reply, list) or reply[0] != _encoded(call.arguments[0]):
            raise StoreError("The store answered something else.")
        return reply

    def _call(self, call: Call) -> Call:
        if call.script in _WITHOUT_EPOCH:
            return call
        now = "" if self._clock is None else msgspec.json.encode(float(self._clock()))
        return call._replace(arguments=(self.epoch or "", now, *call.arguments))

    def _link(self) -> Link:
        loop = connect.running_loop()
        link = self._links.get(loop)
        if link is None:
            link = self._links[loop] = self._connected()
        return link

    def _connected(self) -> Link:
        if self._client is not None:
            if self._links:
                raise ConfigurationError("A Redis client that is given serves one event loop; give a URL for several.")
            return Link(self._client, self._keys, timeout_s=self._timeout_s, owned=False)
        client = connect.connect(
            self._url or "", cluster=self._cluster, timeout_s=self._timeout_s, connected=self.doubt
        )
        return Link(client, self._keys, timeout_s=self._timeout_s, owned=True)

    async def _open(self, link: Link) -> None:
        async with link.opening:
            if link.opened:
                return
            try:
                await self._look_in(link)
            except BaseException:
                await link.rest()
                raise
            link.opened = True

    async def _look_in(self, link: Link) -> None:
        await connect.check_policy(link.client)
        epoch = await self._whose(link)
        if epoch.partition(":")[0] in {"fenced", "rebuilding"}:
            raise StoreError(BEHIND)
        before, self.epoch = self.epoch, epoch
        try:
            await self._look(link, anyway=not self._places)
        except BaseException:
            self.epoch = before
            raise

    async def _whose(self, link: Link) -> str:
        """The epoch of the books; a server without any becomes ours, unless it was before."""
        wanted = secrets.token_hex(16) if self.epoch is None else ""
        (found,) = await link.run([Call("open", 0, (wanted, str(self.shards)))])
        epoch, shards, version, ready = found
        if version != VERSION:
            raise StoreError("The store's server belongs to another version of hpp_middleware.")
        if int(shards) != self.shards:
            raise ConfigurationError(f"The Redis server's accounts lie in {int(shards)} shards, not in {self.shards}.")
        name: str = epoch.decode()
        mine = name == (self.epoch or name)
        # Until all shards are ready, one without books has not been reached yet; after that, it was emptied.
        others = [Call("open", shard, ("" if ready else name, shards)) for shard in range(1, self.shards)]
        replies = await link.run(others) if others else []
        if not mine or any(reply[0] != epoch for reply in replies):
            raise StoreError("The store's server has other books than those that were opened.")
        if not ready:
            await link.run([Call("note", 0, (name, "", "ready", "1"))])
        return name

    async def _look(self, link: Link, *, anyway: bool = False) -> None:
        """See whether it is the same server; if not, the books are looked over before anybody is told anything."""
        doubts = self._doubts
        if doubts == self._settled and not anyway:
            return
        places = await link.run([self._call(Call("where", shard, ())) for shard in range(self.shards)])
        if anyway or places != self._places:
            await link.load()
            if self.changed is not None:
                await self.inside(self.changed())
        self._places, self._settled = places, doubts


def _encoded(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
