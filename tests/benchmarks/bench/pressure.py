"""
Tenants that ask at a rate of their own, whatever becomes of what they asked: an open loop, as the world is.

    python -m bench.pressure

Reads :class:`Pressure` as a line of JSON and answers with an :class:`Outcome` for each tenant. A client waits for an
answer for so long and then leaves; what is answered in time is what was good for something.
"""

import asyncio
import gc
import sys
import time

import msgspec
import uvloop
from msgspec import Struct, field

from bench import wire
from bench.peer import Peer

__all__ = ["Outcome", "Pressure", "Tenant"]


class Tenant(Struct, kw_only=True):
    """Who asks, and how often: ``key`` is a number of :data:`bench.wire.KEYS`, ``rate`` requests a second."""

    key: int
    rate: float


class Pressure(Struct, kw_only=True):
    """One measurement: all tenants at once, for so long after so long; who is not answered within a time has left."""

    port: int
    tenants: list[Tenant]
    seconds: float = 2.0
    warm_s: float = 0.5
    patience_s: float = 1.0


class Outcome(Struct, kw_only=True):
    """
    What a tenant got.

    Attributes:
        offered: Requests while it was measured.
        good: Those that were answered in time.
        refused: Those that were told to come again (503).
        left: Those whose client left.
        other: Any other answer.
        p50_ms, p99_ms: Latency of the good ones.
    """

    offered: int = 0
    good: int = 0
    refused: int = 0
    left: int = 0
    other: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    waits: list[float] = field(default_factory=list)


class Asking(Peer):
    """A connection, with one request at a time."""

    def __init__(self, idle: "list[Asking]") -> None:
        super().__init__()
        self._idle = idle
        self._outcome: Outcome | None = None
        self._timer: asyncio.TimerHandle | None = None

    def go(self, request: bytes, outcome: Outcome, patience_s: float) -> None:
        """Ask."""
        self._outcome = outcome
        self._timer = asyncio.get_running_loop().call_later(patience_s, self._leave)
        self.ask(request)

    def _leave(self) -> None:
        if self._outcome is not None:
            self._outcome.left += 1
            self._outcome = None
            self.close()

    def ended(self, *, ok: bool) -> None:
        """An answer."""
        outcome, self._outcome = self._outcome, None
        if self._timer is not None:
            self._timer.cancel()
        if outcome is None:
            return
        if ok:
            outcome.good += 1
            outcome.waits.append((time.monotonic_ns() - self.asked) / 1e6)
        elif self.status == 503:
            outcome.refused += 1
        else:
            outcome.other += 1
        if not self.lost:
            self._idle.append(self)


async def tenant(order: Pressure, who: Tenant, begun: float) -> Outcome:
    """Ask at a rate."""
    loop = asyncio.get_running_loop()
    request = wire.request(wire.json_question(), wire.KEYS[who.key])
    idle: list[Asking] = []
    outcome, warm = Outcome(), True
    number = 0
    tasks: set[asyncio.Task[None]] = set()

    async def connect(counted: Outcome) -> None:
        try:
            _, peer = await loop.create_connection(lambda: Asking(idle), "127.0.0.1", order.port)
        except OSError:
            counted.other += 1
            return
        peer.go(request, counted, order.patience_s)

    while (now := time.monotonic()) < begun + order.warm_s + order.seconds:
        if warm and now >= begun + order.warm_s:
            warm, outcome = False, Outcome()
        due = int((now - begun) * who.rate)
        while number < due:
            number += 1
            outcome.offered += 1
            peer = None
            while idle and (peer := idle.pop()).lost:
                peer = None
            if peer is not None:
                peer.go(request, outcome, order.patience_s)
            else:
                task = loop.create_task(connect(outcome))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        await asyncio.sleep(0.002)
    await asyncio.sleep(order.patience_s + 0.1)
    for peer in idle:
        peer.close()
    outcome.waits.sort()
    if outcome.waits:
        outcome.p50_ms = outcome.waits[len(outcome.waits) // 2]
        outcome.p99_ms = outcome.waits[min(len(outcome.waits) - 1, len(outcome.waits) * 99 // 100)]
    outcome.waits = []
    return outcome


async def main() -> None:
    """Carry out one order after another."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        order = msgspec.json.decode(line, type=Pressure)
        gc.collect()
        gc.disable()
        begun = time.monotonic()
        found = await asyncio.gather(*(tenant(order, who, begun) for who in order.tenants))
        gc.enable()
        print(msgspec.json.encode(found).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
