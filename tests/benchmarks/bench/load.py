"""
The load generator: raw bytes from an ``asyncio.Protocol`` under uvloop, in a process of its own.

    python -m bench.load

Reads an :class:`~bench.orders.Order` a line and answers each with a :class:`~bench.orders.Report`.
"""

import asyncio
import gc
import re
import sys
import time
from collections.abc import Sequence
from typing import Literal

import msgspec
import uvloop

from bench import wire
from bench.accounting import cpu_ns
from bench.orders import Order, Report
from bench.peer import Peer, connect

Measured = Literal["middle", "whole", "apart"]

_STAMP = re.compile(rb"@(\d{19})@")


class Tally:
    """What arrived, and a window of CPU time and wall time around it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.waits: list[int] = []
        self.failed = 0
        self.finished = 0
        self.window: tuple[int, ...] | None = None
        self.report: Report | None = None

    def begin(self) -> None:
        """From here on it is measured."""
        self.waits.clear()
        self.window = self._clocks()

    def end(self) -> None:
        """Up to here."""
        if self.window is None or self.report is not None:
            return
        now = self._clocks()
        wall, server, load, upstream = (after - before for after, before in zip(now, self.window, strict=True))
        units = len(self.waits)
        self.report = Report(
            units=units,
            cpu_us=server / 1000 / max(1, units),
            wall_s=wall / 1e9,
            server=server / wall,
            load=load / wall,
            upstream=upstream / wall,
            p50_ms=_share(self.waits, 0.5) / 1e6,
            p99_ms=_share(self.waits, 0.99) / 1e6,
        )

    def _clocks(self) -> tuple[int, ...]:
        order = self._order
        return (time.monotonic_ns(), cpu_ns(order.pids), time.process_time_ns(), cpu_ns([order.upstream]))


class Closed(Peer):
    """Asks again when it has its answer."""

    def __init__(self, tally: Tally, request: bytes) -> None:
        super().__init__()
        self._tally, self._request = tally, request
        self.over = False

    def go(self) -> None:
        """Ask."""
        self.ask(self._request)

    def ended(self, *, ok: bool) -> None:
        """Count it, and ask again."""
        self._tally.waits.append(time.monotonic_ns() - self.asked)
        self._tally.finished += ok
        self._tally.failed += not ok
        if not self.over and not self.lost:
            self.ask(self._request)


class Streaming(Peer):
    """Reads one stream, and how long each of its chunks was held up."""

    def __init__(self, tally: Tally, counter: "Streams", request: bytes, number: int) -> None:
        super().__init__()
        self._number = number.to_bytes(4, "big")
        self._tally, self._counter, self._request = tally, counter, request
        self._kept = b""
        self._begun = False

    def go(self) -> None:
        """Ask."""
        self.ask(self._request)

    def received(self, data: bytes) -> None:
        """Some chunks; where the upstream goes by steps, it is told that they are here."""
        now = time.monotonic_ns()
        if not self._begun:
            self._begun = True
            self._counter.begun(now - self.asked)
        if self._kept:
            data = self._kept + data
        waits, end = self._tally.waits, 0
        for match in _STAMP.finditer(data):
            waits.append(now - int(match[1]))
            self._counter.chunks += 1
            end = match.end()
        self._kept = data[max(end, len(data) - 20) :]
        if end and self._counter.steps is not None:
            self._counter.steps.write(self._number)

    def ended(self, *, ok: bool) -> None:
        """The last of it."""
        self._begun, self._kept = False, b""
        self._tally.finished += ok
        self._tally.failed += not ok
        self._counter.ended()


class Streams:
    """
    How many streams have begun and ended.

    Args:
        measured: ``middle`` is between all of them having begun and one having ended, for paced ones; ``whole`` is
            for those that go flat out, of which much is under way, in buffers, at any moment; ``apart`` is measured
            by somebody else.
    """

    def __init__(self, tally: Tally, count: int, measured: Measured) -> None:
        self._tally, self._count, self._measured = tally, count, measured
        self._begun = self._ended = 0
        self.chunks = 0
        self.steps: asyncio.Transport | None = None
        self.firsts: list[int] = []
        self.all_begun = asyncio.Event()
        self.all_ended = asyncio.Event()

    def begun(self, waited: int) -> None:
        """One has begun."""
        self.firsts.append(waited)
        self._begun += 1
        if self._begun == self._count:
            self.all_begun.set()
            if self._measured == "middle":
                self._tally.begin()

    def ended(self) -> None:
        """One has ended."""
        self._ended += 1
        if self._ended == {"middle": 1, "whole": self._count}.get(self._measured):
            self._tally.end()
        if self._ended == self._count:
            self.all_ended.set()

    def again(self) -> None:
        """Another burst."""
        self._begun = self._ended = 0
        self.all_ended.clear()


def _share(waits: Sequence[int], part: float) -> int:
    ordered = sorted(waits)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0


async def closed(order: Order) -> Report:
    """Requests for one JSON answer each."""
    tally = Tally(order)
    body = wire.agent_question() if order.agent else wire.json_question(order.image_bytes)
    requests = [wire.request(body, key) for key in wire.KEYS]
    keys = iter(range(order.connections))
    peers = await connect(lambda: Closed(tally, requests[next(keys) % len(requests)]), order.port, order.connections)
    for peer in peers:
        peer.go()
    await _passed(order.warm_s, tally, order.connections, order.deadline_s)
    tally.failed = tally.finished = 0
    tally.begin()
    await _passed(order.seconds, tally, order.connections, order.deadline_s)
    tally.end()
    for peer in peers:
        peer.over = True
    await asyncio.sleep(0.05)
    lost = sum(peer.lost for peer in peers)
    report = _finished(tally, peers)
    if lost:
        report.notes.append(f"{lost} connections were closed")
    return report


async def streams(order: Order) -> Report:
    """One stream a connection."""
    tally = Tally(order)
    counter = Streams(tally, order.connections, "middle" if order.gap_us else "whole")
    peers = await _streaming(order, tally, counter)
    if not order.gap_us:
        tally.begin()
    begun = time.monotonic()
    for number, peer in enumerate(peers):
        peer.go()
        if order.spread_s:
            await asyncio.sleep(begun + (number + 1) * order.spread_s / len(peers) - time.monotonic())
    await _at_most(order.deadline_s, counter.all_ended)
    if counter.steps is not None:
        counter.steps.close()
    total = time.monotonic() - begun
    tally.end()
    report = _finished(tally, peers)
    report.total_s = total
    whole = order.connections * order.events
    short = whole - counter.chunks
    if short > whole // 100:  # a proxy may cut a time stamp in two where it frames anew
        report.notes.append(f"{short} chunks are missing")
    return report


async def first(order: Order) -> Report:
    """Bursts of streams that begin together; how long each waited for its first token."""
    tally = Tally(order)
    counter = Streams(tally, order.connections, "apart")
    peers = await _streaming(order, tally, counter)
    begun = time.monotonic()
    for number in range(order.times + 2):
        if number == 2:
            tally.begin()
            counter.firsts.clear()
        counter.again()
        for peer in peers:
            peer.go()
        await _at_most(order.deadline_s, counter.all_ended)
        await asyncio.sleep(0.002)
        if time.monotonic() - begun > order.seconds and number > 5:
            break
    tally.waits = counter.firsts
    tally.end()
    return _finished(tally, peers)


class Held:
    """Streams that are left open."""

    def __init__(self) -> None:
        self._peers: list[Streaming] = []

    async def hold(self, order: Order) -> Report:
        """Open them."""
        tally = Tally(order)
        counter = Streams(tally, order.connections, "apart")
        self._peers = await _streaming(order, tally, counter)
        for peer in self._peers:
            peer.go()
        await _at_most(order.deadline_s, counter.all_begun)
        await asyncio.sleep(order.seconds)
        return Report(units=len(counter.firsts), finished=len(counter.firsts), failed=tally.failed)

    def drop(self) -> None:
        """Leave them."""
        for peer in self._peers:
            peer.close()
        self._peers = []


async def _streaming(order: Order, tally: Tally, counter: Streams) -> list[Streaming]:
    numbers = iter(range(order.connections))

    def make() -> Streaming:
        number = next(numbers)
        body = wire.stream_question(order.events, order.gap_us, step=number if order.steps else None)
        return Streaming(tally, counter, wire.request(body, wire.KEYS[number % len(wire.KEYS)]), number)

    if order.steps:
        loop = asyncio.get_running_loop()
        counter.steps, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", order.steps)
        counter.steps.write(wire.STEPS)
    return await connect(make, order.port, order.connections)


async def _passed(seconds: float, tally: Tally, least: int, deadline_s: float) -> None:
    """Some time, and as many answers as there are connections, so that a slow server's are not half of one each."""
    begun = time.monotonic()
    await asyncio.sleep(seconds)
    while len(tally.waits) < least and time.monotonic() < begun + deadline_s:  # noqa: ASYNC110  # no event a request
        await asyncio.sleep(0.05)


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return


def _finished(tally: Tally, peers: Sequence[Peer]) -> Report:
    for peer in peers:
        peer.close()
    report = tally.report or Report()
    report.finished, report.failed = tally.finished, tally.failed
    return report


async def main() -> None:
    """Carry out one order after another."""
    held = Held()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        order = msgspec.json.decode(line, type=Order)
        held.drop()
        gc.collect()
        gc.disable()
        match order.kind:
            case "closed":
                report = await closed(order)
            case "streams":
                report = await streams(order)
            case "first":
                report = await first(order)
            case "hold":
                report = await held.hold(order)
        gc.enable()
        await asyncio.sleep(0.05)
        print(msgspec.json.encode(report).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
