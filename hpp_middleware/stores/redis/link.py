"""
One event loop's connection: scripts go out many at a time, and every failure comes back as a StoreError.

A round trip is never cancelled half-way: it has a task of its own, so that no reply stays behind in a connection for
somebody else to read.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import DataError, NoScriptError, RedisClusterException, RedisError, ResponseError

from hpp_middleware.errors import StoreError
from hpp_middleware.stores.redis.rows import Arguments
from hpp_middleware.stores.redis.scripts import scripts

__all__ = ["OTHER_BOOKS", "Call", "Client", "Link"]

T = TypeVar("T")

Client: TypeAlias = Redis | RedisCluster

_UNABLE = "The store cannot be used at the moment."
OTHER_BOOKS = "The store's server was emptied or replaced: its books are not those that were opened."
_AT_ONCE = 32
"""Round trips under way in one event loop; each has a connection of its own, and a pool has a hundred."""

_BACKEND = ("BUSY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "UNKILLABLE", "CLUSTERDOWN", "NOPERM", "WRONGPASS")
"""How errors begin that are the server's, and no operation's own."""


class Call(NamedTuple):
    """A script to run in a shard, on all its keys, or on keys of its own."""

    script: str
    shard: int
    arguments: Arguments
    keys: tuple[str, ...] = ()

    @property
    def node(self) -> tuple[str, int | str]:
        """Where a script has to be known: on one node of a cluster, which all of these keys lie on."""
        return self.script, self.keys[0] if self.keys else self.shard


class Link:
    """
    A client in its event loop.

    Args:
        client: redis-py's.
        keys: The keys of each shard.
        timeout_s: How long a round trip may take.
        owned: Whether the client is closed with the link.
    """

    def __init__(self, client: Client, keys: Sequence[tuple[str, ...]], *, timeout_s: float, owned: bool) -> None:
        self.client = client
        self.opened = False
        self.opening = asyncio.Lock()
        self.looking = asyncio.Lock()
        self._keys = keys
        self._timeout_s = timeout_s
        self._owned = owned
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, calls: Sequence[Call], *, apart: bool = False) -> list[Any]:
        """
        Run scripts in one round trip; the replies come in the same order.

        Args:
            calls: The scripts.
            apart: Whether the caller can try each alone, where one cannot be carried out.
        Raises:
            StoreError: Nothing is known of any of them.
            ResponseError: One of them cannot be carried out, wherever it is; only where that was asked for.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                replies = await self._send(calls, whole=set())
                missing = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
                if missing:
                    again = [calls[place] for place in missing]
                    told = await self._send(again, whole={call.node for call in again})
                    for place, reply in zip(missing, told, strict=True):
                        replies[place] = reply
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise StoreError(_UNABLE) from error
        for reply in replies:
            if isinstance(reply, Exception):
                _fail(reply, apart=apart)
        return replies

    async def load(self) -> None:
        """
        Make every script known. A server that knows some only would answer those before the others, which have to be
        sent again as text, and a batch would be out of order.

        Raises:
            StoreError: The server cannot be reached.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._free:
                for script in scripts().values():
                    await self.client.script_load(script.text)
        except ResponseError:
            return  # a user who may not: they become known as they are used
        except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
            raise StoreError(_UNABLE) from error

    async def alone(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of work that goes on although its caller is cancelled."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait for what is under way, and close a client of our own."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))
        await self.rest()

    async def rest(self) -> None:
        """Close the connections of a client of our own; the next round trip makes new ones."""
        if self._owned:
            await self.client.aclose()

    async def _send(self, calls: Sequence[Call], *, whole: set[tuple[str, int | str]]) -> list[Any]:
        """One pipeline; ``whole`` are the scripts of which the first goes out as text, since the server lost it."""
        known = scripts()
        pipeline: Any = self.client.pipeline(transaction=False)
        for call in calls:
            script, keys = known[call.script], call.keys or self._keys[call.shard]
            first = call.node in whole
            whole.discard(call.node)
            command = ("EVAL", script.text) if first else ("EVALSHA", script.digest)
            pipeline.execute_command(*command, len(keys), *keys, *call.arguments)
        replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, since nobody else may


def _fail(error: Exception, *, apart: bool) -> None:
    if isinstance(error, ResponseError) and str(error).startswith("HPPEPOCH"):
        raise StoreError(OTHER_BOOKS) from error
    own = type(error) is ResponseError and not str(error).startswith(_BACKEND)
    if apart and (own or isinstance(error, DataError)):
        raise error
    raise StoreError(_UNABLE) from error
