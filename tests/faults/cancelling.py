"""A mounted gateway in which requests are cancelled, and what is asked of it after each of them."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any

import anyio
import msgspec
import psutil  # type: ignore[import-untyped]  # ships no types
from anyio.lowlevel import checkpoint
from rig import ALICE, KEY, USAGE_NANO, gateway, question
from starlette.applications import Starlette
from starlette.routing import Mount

from faults.places import PEPPER
from faults.suspensions import Cancelled, How, cancelled_at, counting
from hpp_middleware import Gateway
from hpp_middleware.audit import Auditor
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Store
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.quota import Entry

__all__ = ["Cancelling", "cancelling"]

PATH = "/gate/llm/v1/chat/completions"


class Cancelling:
    """
    A mounted gateway, and what became of the requests in it.

    Attributes:
        ends: How many of the cancelled ones ended in which way: an outcome of the ledger, or ``released`` without one.
        unseen: How many of them were charged as sent, of which the upstream saw nothing.
    """

    def __init__(self, found: Gateway, upstream: FakeUpstream, *, stream: bool) -> None:
        self.ends: Counter[str] = Counter()
        self.unseen = 0
        self._gateway = found
        self._upstream = upstream
        self._app = Starlette(routes=[Mount("/gate", app=found.app)])
        self._body = msgspec.json.encode(question(stream=stream))
        self._lines: list[Entry] = []
        self._sent: list[Any] = []

    async def whole(self) -> None:
        """One request that nobody cancels is answered, and charged what it cost."""
        assert await self.ask() == 200
        assert [(line.amount, line.report.outcome) for line in await self._new()] == [(USAGE_NANO, "completed")]

    async def cancelled(self, at: int, how: How) -> Cancelled:
        """One request that is cancelled; what is left of it is judged."""
        seen = len(self._upstream.log)
        run = await cancelled_at(at, self._call, how=how)
        await self._idle()
        self._judge(await self._new(), len(self._upstream.log) - seen)
        return run

    async def cancelled_and_repeated(self, at: int, how: How) -> Cancelled:
        """One request with a key of its own that is cancelled, and asked once more: it is run and charged once."""
        seen, key = len(self._upstream.log), f"key-{at}"
        run = await cancelled_at(at, lambda: self._call(key), how=how)
        await self._idle()
        lines = await self._new()
        status = await self.ask(key)
        lines += await self._new()
        assert len(self._upstream.log) - seen == len(lines) == 1
        (line,) = lines
        assert line.amount == USAGE_NANO or line.report.estimated
        self.ends[f"{status} {line.report.outcome}"] += 1
        return run

    async def check(self) -> None:
        """What was forwarded is what is in the ledger, but for what was on its way out when it was cancelled."""
        forwarded = [exchange.header("x-request-id") for exchange in self._upstream.log]
        written = [line.hold for line in self._lines]
        assert len(set(forwarded)) == len(forwarded)
        assert len(set(written)) == len(written)
        assert set(forwarded) <= set(written)
        assert len(written) - len(forwarded) == self.unseen
        assert connections(self._upstream) == 1  # which is in the pool
        store: Any = self._gateway.store
        assert (await Auditor(store).reconcile("alice")).findings == ()

    async def ask(self, key: str | None = None) -> int:
        """One request that nobody cancels; its status."""
        await self._call(key)
        assert not self._sent[-1]["more_body"]
        return int(self._sent[0]["status"])

    async def _call(self, key: str | None = None) -> None:
        """One request, whose client stays."""
        body = [{"type": "http.request", "body": self._body, "more_body": False}]
        self._sent = sent = []

        async def receive() -> Mapping[str, Any]:
            await checkpoint()
            if not body:
                await anyio.sleep_forever()
            return body.pop()

        async def send(message: Any) -> None:
            await checkpoint()
            sent.append(message)

        await self._app(_scope(key), receive, send)  # type: ignore[arg-type]  # as a server does

    async def _idle(self) -> None:
        with anyio.fail_after(5):
            await self._upstream.idle()

    def _judge(self, lines: list[Entry], forwarded: int) -> None:
        assert forwarded <= 1
        assert len(lines) <= 1
        if not lines:
            assert not forwarded
            self.ends["released"] += 1
            return
        (line,) = lines
        self.unseen += not forwarded
        assert line.line == "resolution"
        assert 0 < line.amount <= line.held
        assert line.amount == USAGE_NANO or line.report.estimated
        self.ends[line.report.outcome] += 1

    async def _new(self) -> list[Entry]:
        """The ledger lines since the last time, nothing being held or owed."""
        balance = await self._gateway.balance(ALICE)
        assert balance.held == 0
        new = await self._gateway.store.lines("alice", after=len(self._lines))
        self._lines += new
        assert balance.used == sum(line.amount for line in self._lines)
        assert [line.seq for line in self._lines] == list(range(1, len(self._lines) + 1))
        return new


@asynccontextmanager
async def cancelling(store: Store, *, stream: bool, warm: bool = True) -> AsyncGenerator[Cancelling]:
    """
    A gateway that no lifespan opens, before a fake upstream; at the end it is checked, and closed.

    Args:
        store: Its store.
        stream: What is asked of it.
        warm: Whether a first request has opened store and connection; there is another answer in flight then, too.
    """
    async with FakeUpstream() as upstream:
        found = gateway(upstream, store=store, pepper=PEPPER)
        each = Cancelling(found, upstream, stream=stream)
        try:
            with counting():
                if warm:
                    await each.whole()
                with _another(found) if warm else nullcontext():
                    yield each
                await each.whole()
                await each.check()
        finally:
            async with found:  # whoever leaves last closes
                pass
        with anyio.fail_after(5):
            await upstream.idle()
        assert connections(upstream) == 0


@contextmanager
def _another(found: Gateway) -> Iterator[None]:
    """Another answer is in flight, so that a stream that ends gives way: those are suspensions, too."""
    answering, other = found.here().answering, _Other()
    answering.began(other)
    try:
        yield
    finally:
        answering.ended(other)


class _Other:
    """An answer as far as others see it."""

    def expire(self, error: GatewayError) -> None:
        """It is not told to."""


def connections(upstream: FakeUpstream) -> int:
    """How many of this process's sockets are connected to an upstream."""
    port = int(upstream.url.rpartition(":")[2].removesuffix("/v1"))
    mine = psutil.Process().net_connections("tcp4")
    return sum(each.status == "ESTABLISHED" and bool(each.raddr) and each.raddr.port == port for each in mine)


def _scope(key: str | None) -> dict[str, Any]:
    headers = [(b"content-type", b"application/json"), (b"apikey", KEY.encode())]
    if key is not None:
        headers.append((b"idempotency-key", key.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": PATH,
        "raw_path": PATH.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
