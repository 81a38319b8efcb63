"""
What a store promises that several processes share, and what is left when one of them is killed.

The processes are real ones, which open the store themselves. So they are told where to find it::

    # my_store_for_tests.py
    async def make(place: str) -> MyStore:
        return MyStore(place)

    # a test
    await check_shared_store("my_store_for_tests:make", new_place())
    await check_crashes("my_store_for_tests:make", new_place())

``place`` is a string of your own, such as a path or a URL, of an empty store; the module must be importable from the
folder in which the tests run.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from typing import Any

import anyio
from anyio.abc import Process

from hpp_middleware.testing.stores.bench import reserve
from hpp_middleware.types.operations import Grant, Operation, Renew, Sweep
from hpp_middleware.types.quota import Entry

__all__ = [
    "LEASE_S",
    "NAMES",
    "Worker",
    "check_crashes",
    "check_shared_store",
    "opened",
    "started",
    "store_at",
    "together",
]

NAMES = ("ann", "ben", "cid", "dan")
ROOM = 10
HOLDS = 40
LEASE_S = 2.0
"""The lease of a worker that will be killed: so long it is waited for."""

ROUNDS = 3

TEAM, DAY = "crowd", "crowd/~day:1"
DAYS_ROOM = 8
"""Less than what the team has room for, which is less than what its members have room for together."""

SPENDS, SPENT = ("alice", "alice/team"), "alice/~day:1"
"""What a process that will be killed spends from, and in which budget."""

MODULE = "hpp_middleware.testing.stores.worker"
"""What a process runs."""


async def check_shared_store(factory: str, place: str) -> None:
    """
    Hold a store to what it promises to four processes at once.

    Args:
        factory: ``module:function``, which makes a store for a place.
        place: Where an empty store is.
    """
    async with opened(factory, place) as store:
        await _apply(store, Grant(id="room", account="alice", amount=ROOM * 100))
        said = await together(factory, place, "race", 2 * ROOM)
        assert sum(int(line) for lines in said for line in lines) == ROOM, "processes that race never oversell"
        balance = await store.balance("alice")
        assert (balance.held, balance.available) == (ROOM * 100, 0), "and all the room is taken"

        members = [Grant(id=f"member:{name}", account=f"{TEAM}/{name}", amount=600) for name in NAMES]
        await _apply(store, *members, Grant(id="team", account=TEAM, amount=ROOM * 100))
        said = await together(factory, place, "crowd", ROOM)
        granted = [int(line) for lines in said for line in lines]
        assert sum(granted) == DAYS_ROOM, "a budget that members of a team share is never oversold"
        for account in (TEAM, DAY):
            assert (await store.balance(account)).held == DAYS_ROOM * 100, "and is held in every account"
        for name, count in zip(NAMES, granted, strict=True):
            assert (await store.balance(f"{TEAM}/{name}")).held == count * 100 <= 600, "a member's own among them"

        await _apply(store, Grant(id="more", account="bob", amount=10**6), Renew(owner="owner", ttl_s=600))
        await _apply(store, *(reserve(f"shared-{number}", 60, "bob", owner="owner") for number in range(HOLDS)))
        said = await together(factory, place, "settle", HOLDS)
        for number, answers in enumerate(zip(*said, strict=True)):
            _check_one_settlement([answer.split() for answer in answers], same=bool(number % 2))
        await _check_books(store, "bob", resolutions=HOLDS)


async def check_crashes(factory: str, place: str) -> None:
    """
    Hold a store to what it promises when a process that uses it is killed.

    Args:
        factory: ``module:function``, which makes a store for a place.
        place: Where an empty store is.
    """
    acknowledged: set[str] = set()
    async with opened(factory, place) as store:
        await _apply(store, *(Grant(id=f"room:{name}", account=name, amount=10**9) for name in SPENDS))
    for turn in range(ROUNDS):
        async with started(factory, place, f"killed-{turn}", "spend", 0) as worker:
            assert await worker.line() == "ready", "every process opens the store"
            await worker.begin()
            for _ in range(1 + 7 * turn):
                settled = await worker.line()
                assert settled, "a process that spends is acknowledged"
                acknowledged.add(settled)
            worker.process.kill()
            acknowledged.update(await worker.rest())  # what it said before it died
    await anyio.sleep(LEASE_S + 0.5)
    async with opened(factory, place) as store:
        await store.apply([Renew(owner="sweeper", ttl_s=60), Sweep()])
        lines = await _check_books(store, "alice")
        assert acknowledged <= {line.hold for line in lines}, "no settlement that was acknowledged is lost"
        assert (await store.balance("alice")).held == 0, "every hold is resolved once its owner's lease has run out"
        orphans = {line.hold: line.amount for line in lines if line.report.outcome == "orphaned"}
        assert not acknowledged & set(orphans), "and none that was settled is charged as an orphan"
        assert len(orphans) <= ROUNDS, "a process leaves one hold at most, since it has one at a time"
        assert set(orphans.values()) <= {3}, "and that is charged what its owner said"
        for account in (*SPENDS, SPENT):
            balance = await store.balance(account)
            assert balance.held == 0, "nothing stays held in any account of a killed process"
            assert balance.used == sum(line.amount for line in lines), "and every line is charged in each"


async def store_at(factory: str, place: str) -> Any:
    """The store that ``module:function`` makes for a place, opened."""
    module, _, name = factory.partition(":")
    store = await getattr(import_module(module), name)(place)
    if hasattr(store, "open"):
        await store.open()
    return store


def _check_one_settlement(answers: list[list[str]], *, same: bool) -> None:
    winners = [answer for answer in answers if answer[2] != "0"]
    assert len(winners) == 1, "of several settlements of a hold one is written"
    charged = winners[0][1]
    for status, amount, _ in answers:
        assert amount == charged, "and every process is told what stands"
        assert status in ({"done"} if same else {"done", "conflict"}), "the same amount again is no conflict"


async def _check_books(store: Any, account: str, *, resolutions: int | None = None) -> list[Entry]:
    lines: list[Entry] = []
    while more := await store.lines(account, after=len(lines)):
        lines += more
    balance = await store.balance(account)
    assert [line.seq for line in lines] == list(range(1, len(lines) + 1)), "ledger lines have no gaps"
    assert balance.used == sum(line.amount for line in lines), "what is used is the sum of the ledger's amounts"
    resolved = [line.hold for line in lines if line.line == "resolution"]
    assert len(resolved) == len(set(resolved)) == balance.requests, "a hold is resolved once"
    assert resolutions is None or len(resolved) == resolutions, "and none is missing"
    return lines


async def _apply(store: Any, *operations: Operation) -> None:
    for result in await store.apply(operations):
        assert result.status == "done", f"an operation was {result.status}"


async def together(factory: str, place: str, task: str, count: int, *, module: str = MODULE) -> list[list[str]]:
    """What four processes say that begin a task together."""
    async with AsyncExitStack() as stack:
        workers = [
            await stack.enter_async_context(started(factory, place, name, task, count, module=module)) for name in NAMES
        ]
        for worker in workers:
            assert await worker.line() == "ready", "every process opens the store"
        for worker in workers:
            await worker.begin()
        said = [await worker.rest() for worker in workers]
        assert [await worker.process.wait() for worker in workers] == [0] * len(NAMES), "no process fails"
        return said


class Worker:
    """A process, and what it says line by line."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._said = b""
        self._over = False

    async def line(self) -> str:
        """The next line; empty at the end."""
        while b"\n" not in self._said and not self._over:
            await self._hear()
        line, _, self._said = self._said.partition(b"\n")
        return line.decode().strip()

    async def rest(self) -> list[str]:
        """All that it says until it ends."""
        while not self._over:
            await self._hear()
        said, self._said = self._said.decode().split("\n"), b""
        return [line.strip() for line in said if line.strip()]

    async def begin(self) -> None:
        """Give the word."""
        assert self.process.stdin is not None
        await self.process.stdin.send(b"begin\n")

    async def _hear(self) -> None:
        assert self.process.stdout is not None
        try:
            self._said += await self.process.stdout.receive()
        except anyio.EndOfStream:
            self._over = True


@asynccontextmanager
async def started(
    factory: str, place: str, name: str, task: str, count: int, *, module: str = MODULE
) -> AsyncIterator[Worker]:
    """A process, which is killed at the end."""
    command = [sys.executable, "-m", module, factory, place, name, task, str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    async with await anyio.open_process(command, stderr=None, env=environment) as process:
        try:
            yield Worker(process)
        finally:
            if process.returncode is None:
                process.kill()


@asynccontextmanager
async def opened(factory: str, place: str) -> AsyncIterator[Any]:
    """The store, closed in the end."""
    store = await store_at(factory, place)
    try:
        yield store
    finally:
        if hasattr(store, "aclose"):
            await store.aclose()
