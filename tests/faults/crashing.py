"""Workers that die, the upstream that saw what they did, and the gateway that finds what they left."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from background import BackgroundUpstream
from forking import FORKS, Forked, forked
from rig import ALICE, USAGE_NANO, Witness, gateway, question

from faults.mortal import ASLEEP_S, Orders
from faults.places import PEPPER, made
from hpp_middleware import Gateway
from hpp_middleware.audit import Auditor
from hpp_middleware.types.quota import Entry

__all__ = ["Scene"]

TESTS = Path(__file__).parent.parent


class Scene:
    """
    A store at a place, and those who work at it one after the other.

    Args:
        kind: Which store.
        place: Where it is.
        upstream: What all of them send to.
        journal: Where they keep what the store does not take.

    Attributes:
        acknowledged: What was answered and settled, by the workers' own word: the cost by id.
        witness: What the gateway told that came after them.
    """

    def __init__(self, kind: str, place: str, upstream: BackgroundUpstream, journal: Path) -> None:
        self.kind = kind
        self.upstream = upstream
        self.acknowledged: dict[str, int] = {}
        self.witness = Witness()
        self._place = place
        self._journal = str(journal)

    def forwarded(self) -> list[str]:
        """The ids of the requests that the upstream has seen."""
        return [exchange.header("x-request-id") or "" for exchange in self.upstream.log]

    def dies(self, point: str, **settings: Any) -> None:
        """A worker dies at a point; nobody else kills it."""
        with self.working(point=point, **settings) as process:
            said, complaints = process.communicate()
        assert process.returncode == -9, f"it was to die at {point!r}: {complaints}"
        self.heard(said)

    @contextmanager
    def working(self, **settings: Any) -> "Iterator[Forked | subprocess.Popen[str]]":
        """A worker in a process of its own, for as long as the block lasts."""
        orders = msgspec.json.encode(
            Orders(kind=self.kind, place=self._place, upstream=self.upstream.url, journal=self._journal, **settings)
        ).decode()
        if FORKS:
            folder = TESTS.parent
            with forked("faults.mortal", orders, folder=folder, environment=os.environ, path=[str(TESTS)]) as program:
                yield program
            return
        path = os.pathsep.join([str(TESTS), str(TESTS.parent)])
        with subprocess.Popen(
            [sys.executable, "-m", "faults.mortal", orders],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def heard(self, said: str) -> None:
        """Take note of what a worker has acknowledged; a line that it could not end is none."""
        for line in said.splitlines(keepends=True):
            if line.endswith("\n"):
                request_id, cost = line.split()
                self.acknowledged[request_id] = int(cost)

    @asynccontextmanager
    async def afterwards(self) -> AsyncGenerator[Gateway]:
        """A gateway at the same store, when every lease of those before it has run out."""
        self.upstream.wait_until_idle()
        store = made(self.kind, self._place, lambda: time.time() + ASLEEP_S)
        settings: dict[str, Any] = {"pepper": PEPPER, "journal": self._journal, "journal_slots": 16}
        async with gateway(self.upstream.url, store=store, observers=[self.witness], **settings) as found:
            yield found

    async def judged(self) -> list[Entry]:
        """
        The ledger, once a gateway has come after: whole, resolved, reconciled, and open for the next request.

        What was acknowledged is in it as it was; what was forwarded is in it once.
        """
        async with self.afterwards() as found:
            balance = await found.balance(ALICE)
            assert balance.held == 0
            lines = await _lines(found)
            assert balance.used == sum(line.amount for line in lines)
            assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
            resolved = {line.hold: line for line in lines if line.line == "resolution"}
            assert len(resolved) == balance.requests == sum(line.line == "resolution" for line in lines)
            for request_id, cost in self.acknowledged.items():
                assert resolved[request_id].amount == cost == USAGE_NANO
            forwarded = self.forwarded()
            assert len(set(forwarded)) == len(forwarded)
            assert set(forwarded) <= set(resolved)
            store: Any = found.store
            assert (await Auditor(store).reconcile("alice")).findings == ()

            reply = await found.complete(ALICE, question())
            assert reply.cost == USAGE_NANO
            assert [line.hold for line in (await _lines(found))[len(lines) :]] == [reply.id]
            self.upstream.log.pop()
        assert "conflict" not in self.witness.alarms
        return lines


async def _lines(found: Gateway) -> list[Entry]:
    lines: list[Entry] = []
    while more := await found.store.lines("alice", after=len(lines)):
        lines += more
    return lines
