"""
What a gateway has in one event loop: its pools, its lease, its credential cache, and its settlements in flight.

A worker is made by the first request of a loop, or by the host's lifespan, once and race-free. It dies with its loop.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import anyio

from hpp_middleware.core import auth
from hpp_middleware.core.attempts import Budget
from hpp_middleware.errors import ConfigurationError, StoreError
from hpp_middleware.ports import CredentialStore, Ledger, LimitStore, QuotaStore, Transport
from hpp_middleware.stages.auth import Authenticator
from hpp_middleware.stages.limits.limiter import Limiter
from hpp_middleware.stages.relay.drain import Slots
from hpp_middleware.stages.reserve.holds import unavailable
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle.journal import Journal
from hpp_middleware.stages.settle.settling import Pending
from hpp_middleware.stages.tasks.guard import asyncios
from hpp_middleware.stages.upstream.health import Health
from hpp_middleware.stages.worker.answering import Answering
from hpp_middleware.stages.worker.queue import Queue, stopping
from hpp_middleware.stores.opening import opening
from hpp_middleware.types.budget import Group
from hpp_middleware.types.consumer import Consumer, Credential
from hpp_middleware.types.operations import Declare
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.quota import Entry

__all__ = ["Backends", "Worker", "declared_credentials", "new_id"]

CLOSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Backends:
    """
    Who keeps what; often one store for all.

    Attributes:
        limits: None where nothing is limited.
        needs_limits: Whether it cannot be done without the limits being counted.
    """

    credentials: CredentialStore
    quota: QuotaStore
    ledger: Ledger
    limits: LimitStore | None = None
    needs_limits: bool = True

    def each(self) -> list[object]:
        """Every backend once."""
        found = (self.limits, self.credentials, self.quota, self.ledger)
        return list({id(backend): backend for backend in found if backend is not None}.values())

    def named(self) -> dict[int, tuple[str, object]]:
        """Every backend once, with the setting that names it; an archive before the store that asks it."""
        named = (
            ("limit_store.url", self.limits),
            ("ledger.url", self.ledger),
            ("credentials.url", self.credentials),
            ("store.url", self.quota),
        )
        return {id(backend): (where, backend) for where, backend in named if backend is not None}

    async def open(self) -> None:
        """Open those that can be opened."""
        for where, backend in self.named().values():
            if hasattr(backend, "open"):
                spared = () if self.needs_limits or where != "limit_store.url" else (StoreError,)
                with suppress(*spared), opening(where):
                    await backend.open()

    async def aclose(self) -> None:
        """Close those that can be closed."""
        for backend in self.each():
            if hasattr(backend, "aclose"):
                await backend.aclose()

    def pepper(self) -> bytes:
        """
        The credential store's own pepper.

        Raises:
            ConfigurationError: It has none: digests that outlive the process need a pepper that does.
        """
        own = getattr(self.credentials, "pepper", None)
        with opening(self.named()[id(self.credentials)][0]):
            pepper = own() if own is not None else None
        if pepper is None:
            raise auth.no_pepper()
        return auth.check_pepper(pepper)


@dataclass(slots=True)
class Worker:
    """
    One event loop's share of a gateway.

    Attributes:
        transports: By provider.
        limiter: Counts what consumers may ask for; None where that is not limited.
        own: Those that are closed with the worker.
        slots: Where streams whose clients have left are read on.
        health: Which upstreams may be asked.
        queue: The way in.
        budget: How many attempts there may be besides the first of each request.
        timed: Whether a timer renews the lease and sweeps.
        opened: How often it has been opened by a lifespan.
        end: What is closed when the worker, or its event loop, ends.
        loop: Its event loop, where that is asyncio's or takes its place; None for trio's.
    """

    backends: Backends
    authenticator: Authenticator
    lease: Lease
    transports: dict[str, Transport]
    own: tuple[Transport, ...]
    slots: Slots
    health: Health
    queue: Queue
    limiter: Limiter | None = None
    pending: Pending = field(default_factory=Pending)
    budget: Budget = field(default_factory=Budget)
    ready: bool = False
    timed: bool = False
    opened: int = 0
    end: AsyncGenerator[None] | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    answering: Answering = field(default_factory=Answering)
    loop: asyncio.AbstractEventLoop | None = field(default_factory=asyncios)
    # The worker's own, and so never two processes': no event loop outlives a fork.
    _chance: random.Random = field(default_factory=lambda: random.Random(os.urandom(64)))

    @classmethod
    def make(
        cls,
        backends: Backends,
        given: Mapping[str, Transport],
        own: Mapping[str, Transport],
        declared: Mapping[bytes, Credential],
        *,
        peppers: auth.Peppers,
        swept: Callable[[Sequence[Entry]], None],
        slots: Slots,
        health: Health,
        queue: Queue,
        journal: Journal,
        limiter: Limiter | None = None,
    ) -> "Worker":
        """A worker that is not started yet; nothing here waits."""
        owner = f"{os.getpid()}-{secrets.token_hex(8)}"
        return cls(
            backends=backends,
            authenticator=Authenticator(backends.credentials, peppers, declared),
            lease=Lease(backends.quota, owner, swept=swept, journal=journal),
            transports={**given, **own},
            own=tuple(own.values()),
            slots=slots,
            health=health,
            queue=queue,
            limiter=limiter,
        )

    async def keep(self) -> None:
        """Keep the lease, and the places of requests that are held under limits, until cancelled."""
        if self.limiter is None:
            await self.lease.keep()
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.lease.keep)
            tasks.start_soon(self.limiter.keep)

    def new_id(self) -> str:
        """A request's id; see :func:`new_id`. It is like no other, and not to be relied on as a secret."""
        number = (time.time_ns() // 1_000_000 << 80) | self._chance.getrandbits(80)
        return "req_" + number.to_bytes(16, "big").hex()

    def chance(self) -> float:
        """From 0 to 1, for what is to differ each time."""
        return self._chance.random()

    async def start(self, consumers: Mapping[str, Declared], groups: Mapping[str, Group]) -> None:
        """
        Open the backends and say what the configuration declares, once.

        Raises:
            NotOpenedError: A backend cannot be reached; the next request tries again.
            ConfigurationError: A declared quota cannot be.
        """
        async with self.lock:
            if self.ready:
                return
            try:
                await self.backends.open()
                with opening("journal.dir"):
                    await self.lease.journal.open()
                await self._declare("consumers", consumers)
                await self._declare("accounts", groups)
            except BaseException:
                self.lease.journal.close()  # a worker that never starts keeps no file from those that do
                raise
            self.ready = True
        await self.lease.drain()  # what a process before this one has left

    async def admit(self) -> None:
        """
        Refuse a request that had no slot of the journal to fall back on, should its store not answer in the end.

        Raises:
            StoreError: 503; nothing was held.
        """
        if self.has_room():
            return
        with suppress(StoreError):
            await self.lease.apply([])  # replays: refused requests are traffic, too
        if not self.has_room():
            raise unavailable()

    def has_room(self) -> bool:
        """Whether one more request has a slot of the journal to fall back on."""
        return self.lease.journal.has_room(self.answering.count)

    async def _declare(self, section: str, accounts: Mapping[str, Declared] | Mapping[str, Group]) -> None:
        operations = [
            Declare(account=name, quota=declared.quota)
            for name, declared in accounts.items()
            if declared.quota is not None
        ]
        with opening("store.url"):
            results = await self.lease.apply(operations)
        for operation, result in zip(operations, results, strict=True):
            if result.status != "done":
                where = f"{section}.{operation.account}.quota"
                raise ConfigurationError(f"{where} would leave the account below what it was granted", param=where)

    async def settled(self) -> None:
        """
        Return when no answer is in flight, or after a while.

        A server that stops cancels what it does not await: it must still find the stores open to settle. What is
        drained by then is closed, and settled too.
        """
        await self.answering.none_is_left(CLOSE_S)
        if self.slots.close():
            await self.answering.none_is_left(CLOSE_S)
        with anyio.move_on_after(CLOSE_S):
            await self.lease.drain()
        await self.lease.journal.leave_all()

    async def drain(self, grace_s: float) -> None:
        """
        Take nothing more on, and return when what is in flight has ended and is settled.

        Args:
            grace_s: How long it may go on; then it is ended, and streams are told so by an error event.
        """
        self.queue.close()
        with anyio.move_on_after(grace_s):
            await self.queue.none_is_left()
            await self.answering.none_is_left()
        self.answering.expire(stopping)
        await self.settled()
        with anyio.move_on_after(CLOSE_S):  # what they are told is on its way
            await self.queue.none_is_left()

    async def aclose(self) -> None:
        """Close the pools that are our own, and give the journal up with what it holds."""
        self.ready = False
        self.lease.journal.close()
        for transport in self.own:
            await transport.aclose()


def declared_credentials(consumers: Mapping[str, Declared], pepper: bytes) -> dict[bytes, Credential]:
    """
    The credentials that a configuration declares, by digest.

    Raises:
        ConfigurationError: A key is none, or two consumers declare the same one.
    """
    found: dict[bytes, Credential] = {}
    for name, declared in consumers.items():
        for number, secret in enumerate(declared.keys):
            where = f"consumers.{name}.keys[{number}]"
            digest = auth.digest(auth.check_secret(secret, where), pepper)
            if digest in found and found[digest].consumer.id != name:
                raise ConfigurationError(f"{where} is declared for another consumer too", param=where)
            key_id = f"config-{digest.hex()[:12]}"
            consumer = Consumer(id=name, key_id=key_id, models=declared.models)
            found[digest] = Credential(digest=digest, id=key_id, consumer=consumer)
    return found


def new_id() -> str:
    """A request's id: time-ordered, 48 bits of milliseconds and 80 random ones."""
    return f"req_{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"
