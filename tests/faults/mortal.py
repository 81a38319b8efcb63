"""
A gateway in a process of its own that kills itself at a named point: ``python -m faults.mortal ORDERS``.

``kill -9``, from within: no handler, no ``finally``, no buffer is written any more. The first request is answered, and
said so on the output; the next one meets its end. ``ORDERS`` is :class:`Orders` as JSON.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import msgspec
from msgspec import Struct
from rig import ALICE, gateway, question

from faults.places import PEPPER, made
from hpp_middleware import Gateway
from hpp_middleware.errors import StoreError
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.stages.settle.slotfile import SlotFile
from hpp_middleware.stores.books import carry_out
from hpp_middleware.transports.httpx import HttpxTransport
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Operation, Reserve, Result, Settle, Sweep

__all__ = ["Orders"]

KINDS: Mapping[str, type] = {"reserve": Reserve, "settle": Settle, "sweep": Sweep, "correction": Settle}
STREAMS = 8
DURING_S = 0.0005
ASLEEP_S = 31.0
"""Longer than a lease."""


class Orders(Struct, frozen=True, kw_only=True):
    """
    What a worker is to do.

    Attributes:
        point: Where it dies, such as ``before settle``; empty for streams without end, until it is killed.
        ahead_s: How far its clock is ahead.
        orphan: The gateway's policy.
    """

    kind: str
    place: str
    upstream: str
    journal: str
    point: str = ""
    stream: bool = True
    ahead_s: float = 0.0
    orphan: str = "estimate"


def die() -> None:
    """Here and now."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # a thread may run on for a moment


class Mortal:
    """A store, a journal and a transport of a worker that dies at one point, once it is armed."""

    def __init__(self, orders: Orders) -> None:
        self.armed = False
        self._ahead_s = orders.ahead_s
        self._when, _, self._what = orders.point.partition(" ")
        self._inner = made(orders.kind, orders.place, lambda: time.time() + self._ahead_s)
        self._transport = HttpxTransport()
        self._failed = False
        self._pieces = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def dies(self, when: str, what: str) -> bool:
        """Whether this is the point."""
        return self.armed and (when, what) == (self._when, self._what)

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """As the store does it; dead before, during or after."""
        kind = KINDS.get(self._what)
        if self.armed and any(isinstance(operation, Settle) for operation in operations):
            await self._settling()
        if kind is None or not any(isinstance(operation, kind) for operation in operations):
            return list(await self._inner.apply(operations))
        if self.dies("before", self._what):
            die()
        carried_out = asyncio.ensure_future(self._inner.apply(operations))
        if self.dies("during", self._what):
            await asyncio.sleep(DURING_S)
            die()
        results = await carried_out
        if self.dies("after", self._what):
            die()
        return list(results)

    async def _settling(self) -> None:
        """What must have happened before the point is reached."""
        if self._what == "correction":  # it sleeps past its lease, and somebody sweeps
            self._ahead_s += ASLEEP_S
            await self._inner.apply([Sweep()])
        if self._what == "journal" or (self._what == "strike" and not self._failed):
            self._failed = True
            raise StoreError("The store was told to fail.")

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> "UpstreamResponse":
        """As the transport does it; dead before, at the first byte, or when the head has come."""

        def on_sent() -> None:
            sent()
            if self.dies("at", "send"):
                die()

        if self.dies("before", "send"):
            die()
        response = await self._transport.send(call, provider=provider, sent=on_sent)
        if self.dies("after", "head"):
            die()
        return Read(response, self.piece)

    def piece(self, piece: bytes) -> None:
        """A piece of the body has come, and nobody has seen it."""
        self._pieces += 1
        if self.dies("first", "byte") or (self._pieces > 2 and self.dies("mid", "stream")):
            die()
        if b'"prompt_tokens"' in piece and self.dies("usage", "seen"):
            die()

    def die_in_files(self) -> None:
        """Let it die in the journal, and in SQLite's transaction."""
        write, clear = SlotFile.write, SlotFile.clear

        def mortal_write(file: SlotFile, bodies: Mapping[int, bytes]) -> None:
            if self.dies("before", "journal"):
                die()
            if self.dies("during", "journal"):
                write(file, bodies)
                with file.path.open("r+b") as torn:
                    torn.seek(100)
                    torn.write(bytes(100))
                die()
            write(file, bodies)
            if self.dies("after", "journal"):
                die()

        def mortal_clear(file: SlotFile, *given: Any, **settings: Any) -> None:
            if self.dies("before", "strike"):
                die()
            clear(file, *given, **settings)
            if self.dies("after", "strike"):
                die()

        def mortal_carry_out(books: Any, operation: Operation, *, now: float) -> Result:
            result = carry_out(books, operation, now=now)
            if isinstance(operation, KINDS.get(self._what, ())) and self.dies("uncommitted", self._what):
                die()
            return result

        patch.object(SlotFile, "write", mortal_write).start()
        patch.object(SlotFile, "clear", mortal_clear).start()
        patch("hpp_middleware.stores.sqlite.page.carry_out", mortal_carry_out).start()


class Read:
    """A response that tells of its pieces."""

    def __init__(self, inner: UpstreamResponse, tell: Callable[[bytes], None]) -> None:
        self.status = inner.status
        self.headers = inner.headers
        self._inner = inner
        self._tell = tell

    async def read(self) -> bytes:
        """The next piece."""
        piece = await self._inner.read()
        self._tell(piece)
        return piece

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()


async def main(orders: Orders) -> None:
    """Open the gateway, answer, and die."""
    mortal = Mortal(orders)
    mortal.die_in_files()
    mortal.armed = orders.point.endswith("sweep")
    settings: dict[str, Any] = {"pepper": PEPPER, "journal": orders.journal, "journal_slots": 16}
    found = gateway(orders.upstream, store=mortal, transports={"fake": mortal}, orphan=orders.orphan, **settings)
    async with found:
        if not orders.point:
            await asyncio.gather(*(forever(found) for _ in range(STREAMS)))
        await ask(found, stream=orders.stream)
        mortal.armed = True
        await ask(found, stream=orders.stream)


async def ask(found: Gateway, *, stream: bool) -> None:
    """One request; its id and its cost are said once it is answered and settled."""
    reply = await found.complete(ALICE, question(stream=stream))
    sys.stdout.write(f"{reply.id} {reply.cost}\n")
    sys.stdout.flush()


async def forever(found: Gateway) -> None:
    """One stream after the other."""
    while True:
        await ask(found, stream=True)


if __name__ == "__main__":
    asyncio.run(main(msgspec.json.decode(sys.argv[1], type=Orders)))
