"""
A store on the bench: the operations that the promises are made of, and a witness that keeps its own books.

After every operation the witness compares: what was charged is the sum of the ledger lines that were reported, what is
held the sum of the holds that live, the quota the sum of the grants, and the lines are numbered without a gap.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import anyio
import msgspec
from msgspec import Raw

from hpp_middleware.core.quota import MAX_NANO
from hpp_middleware.ports import QuotaStore
from hpp_middleware.types.auto import Routed
from hpp_middleware.types.operations import (
    Claim,
    Declare,
    Grant,
    Kept,
    Limit,
    Operation,
    Release,
    Renew,
    Reserve,
    Resize,
    Result,
    Settle,
    Sweep,
)
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Attempt, Balance, Draft, Entry, Report

__all__ = [
    "DRAFT",
    "LEASE_S",
    "REPORT",
    "Bench",
    "Clock",
    "Make",
    "Promise",
    "fresh",
    "promise",
    "reserve",
    "resize",
    "settle",
]

StoreT = TypeVar("StoreT", bound=QuotaStore)

Make = Callable[..., Awaitable[Any]]
"""Makes a fresh and empty store, opened or not; one that takes ``clock`` is given the clock to go by."""

Promise = Callable[[Make], Awaitable[None]]
"""Holds the stores that a factory makes to one promise; raises AssertionError, whose message is the promise."""

DRAFT = Draft(
    consumer="alice",
    model="fake/model-1",
    requested_model="fast",
    price=Price(base=Rates(input=10**12, output=3 * 10**12), tiers=((1000, Rates(input=2 * 10**12, output=10**13)),)),
    key_id="key-1",
    client_request_id="client-1",
    stream=True,
    routed=Routed(basket="complex", rule="complex-T2", version="2026-11-01", tier="T2", score=0.1, reason="\u00e9"),
)
_USED = Usage(input=3, cache_read=1, output=2)
REPORT = Report(
    outcome="completed",
    usage=_USED,
    usage_raw=Raw(b'{"prompt_tokens":4,"completion_tokens":2,"note":"\xc3\xa9 1e2"}'),
    attempts=(
        Attempt(
            provider="fake",
            model="model-1",
            status=200,
            upstream_id="chatcmpl-1",
            usage=_USED,
            cost=7,
            price=DRAFT.price,
        ),
    ),
)

LEASE_S = 0.25
"""A short lease; a store without a clock to set has to live through it."""

MARGIN_S = 0.1
"""By how much a real clock is let run over."""


class Clock:
    """Seconds since the epoch, as a test sets them."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """The time as it was set."""
        return self.now


def reserve(
    hold: str,
    want: int,
    *accounts: str,
    floor: int | None = None,
    owner: str = "worker",
    ttl_s: float = 600,
    orphan: int = 0,
    claim: Claim | None = None,
    limits: Mapping[str, int] | None = None,
    rest: bool = False,
) -> Reserve:
    """
    A reserve of ``want``, or of at least ``floor`` where that is given, for ``alice`` unless accounts are; ``limits``
    are accounts too, with what is declared of them.
    """
    accounts = (*(accounts or ("alice",)), *(limits or ()))
    return Reserve(
        id=hold,
        accounts=accounts,
        want=want,
        floor=want if floor is None else floor,
        owner=owner,
        ttl_s=ttl_s,
        orphan_amount=orphan,
        draft=msgspec.structs.replace(DRAFT, also=accounts[1:]) if accounts[1:] else DRAFT,
        claim=claim,
        limits=_limits(limits),
        rest=rest,
    )


def resize(
    hold: str,
    amount: int,
    *accounts: str,
    attempt: int = 1,
    orphan: int = 0,
    limits: Mapping[str, int] | None = None,
) -> Resize:
    """A resize for another attempt; where accounts are given, the hold is then in them, and in those of ``limits``."""
    whose = (*accounts, *(limits or ()))
    return Resize(
        id=hold,
        attempt=attempt,
        amount=amount,
        orphan_amount=orphan,
        draft=msgspec.structs.replace(DRAFT, also=whose[1:]) if whose else DRAFT,
        accounts=whose,
        limits=_limits(limits),
    )


def _limits(limits: Mapping[str, int] | None) -> tuple[Limit, ...]:
    if not limits:
        return ()  # the benchmarks count what making an operation takes
    return tuple(Limit(account=account, amount=amount) for account, amount in limits.items())


def settle(hold: str, amount: int, kept: Kept | None = None, *, spared: Mapping[str, int] | None = None) -> Settle:
    """A settlement of a completed request; ``spared``: by how much less accounts besides the payer's are charged."""
    report = msgspec.structs.replace(REPORT, spared=tuple(spared.items())) if spared else REPORT
    return Settle(id=hold, amount=amount, report=report, kept=kept)


class Bench(Generic[StoreT]):
    """
    A fresh store, its time, and the witness.

    Attributes:
        store: What is checked.
        lines: The ledger lines that its results reported, an account's in the order of the reports.
    """

    def __init__(self, store: StoreT, clock: Clock | None) -> None:
        self.store = store
        self.lines: dict[str, list[Entry]] = {}
        self._clock = clock
        self._quota: dict[str, int] = {}
        self._declared: dict[str, int] = {}
        self._grants: set[str] = set()
        self._live: dict[str, int] = {}
        self._attempts: dict[str, int] = {}
        self._accounts: dict[str, tuple[str, ...]] = {}
        self._named: set[str] = set()

    @property
    def has_clock(self) -> bool:
        """Whether the store goes by a clock that is set."""
        return self._clock is not None

    async def wait(self, seconds: float) -> None:
        """Let time pass for the store: its clock is set, where it takes one."""
        if self._clock is None:
            await anyio.sleep(seconds + MARGIN_S)
        else:
            self._clock.now += seconds

    async def start(self, quota: int, account: str = "alice") -> None:
        """An account with a quota, and a worker with a lease that outlasts the check."""
        await self.apply(Renew(owner="worker", ttl_s=3600), Grant(id=f"start:{account}", account=account, amount=quota))

    async def apply(self, *operations: Operation) -> list[Result]:
        """Carry out operations in one batch, and compare the books."""
        results = await self.store.apply(operations)
        assert len(results) == len(operations), "every operation of a batch is answered"
        for operation, result in zip(operations, results, strict=True):
            self.note(operation, result)
        await self.compare()
        return results

    async def one(self, operation: Operation) -> Result:
        """Carry out one operation, and compare the books."""
        return (await self.apply(operation))[0]

    async def balance(self, account: str = "alice") -> Balance:
        """Read an account."""
        return await self.store.balance(account)

    def note(self, operation: Operation, result: Result) -> None:
        """Keep what a result says; for operations that went to the store directly."""
        if isinstance(operation, (Reserve, Resize)):
            self._named.update(operation.accounts)
        if result.status != "done":
            assert not result.entries, "what is not done writes no ledger line"
            return
        self._note_holds(operation, result)
        if isinstance(operation, Grant) and operation.id not in self._grants:
            self._grants.add(operation.id)
            self._quota[operation.account] = self._quota.get(operation.account, 0) + operation.amount
        if isinstance(operation, Declare):
            self._declare(operation.account, operation.quota)
        for entry in result.entries:
            self.lines.setdefault(entry.account, []).append(entry)

    def _note_holds(self, operation: Operation, result: Result) -> None:
        match operation:
            case Reserve():
                if operation.id not in self._accounts:  # a repeat declares nothing
                    self._declare_limits(operation.limits)
                    self._accounts[operation.id] = operation.accounts
                self._live[operation.id] = result.amount
            case Resize():
                if operation.attempt > self._attempts.get(operation.id, 0):
                    self._declare_limits(operation.limits)
                    self._accounts[operation.id] = operation.accounts or self._accounts[operation.id]
                    self._attempts[operation.id] = operation.attempt
                self._live[operation.id] = result.amount
            case Settle() | Release():
                self._live.pop(operation.id, None)
            case Sweep():
                for entry in result.entries:
                    self._live.pop(entry.hold, None)

    def _declare_limits(self, limits: Sequence[Limit]) -> None:
        for limit in limits:
            quota = self._quota.get(limit.account, 0) + limit.amount - self._declared.get(limit.account, 0)
            if 0 <= limit.amount <= MAX_NANO and 0 <= quota <= MAX_NANO:
                self._declare(limit.account, limit.amount)

    def _declare(self, account: str, quota: int) -> None:
        change = quota - self._declared.get(account, 0)
        self._declared[account] = quota
        self._quota[account] = self._quota.get(account, 0) + change

    async def compare(self) -> None:
        """Compare the store's accounts with the books."""
        for account in sorted(self._named | set(self._quota)):
            balance = await self.store.balance(account)
            held = [amount for hold, amount in self._live.items() if account in self._accounts[hold]]
            charged = [
                entry.amount if account == entry.account else entry.share(account)
                for lines in self.lines.values()
                for entry in lines
                if account in self._accounts[entry.hold]
            ]
            assert balance.quota == self._quota.get(account, 0), "the quota is the sum of its grants"
            assert balance.held == sum(held), "what is held is the sum of the live holds"
            assert balance.used == sum(charged), "what is used is the sum of the ledger's amounts"
        for account, lines in self.lines.items():
            await self._compare_lines(account, lines)

    async def _compare_lines(self, account: str, lines: Sequence[Entry]) -> None:
        balance = await self.store.balance(account)
        assert sorted(entry.seq for entry in lines) == list(range(1, len(lines) + 1)), "ledger lines have no gaps"
        resolutions = [entry.hold for entry in lines if entry.line == "resolution"]
        assert len(resolutions) == len(set(resolutions)), "a hold is resolved once"
        assert balance.requests == len(resolutions), "requests counts the resolutions"
        tokens = sum(entry.report.usage.total for entry in lines if entry.line != "overage")
        assert balance.tokens == tokens, "tokens counts those of the ledger, an overage's only once"


def promise(check: Callable[[Bench[Any]], Awaitable[None]]) -> Promise:
    """A check of a bench as a promise that a factory's stores can be held to."""

    @functools.wraps(check)
    async def keep(make: Make) -> None:
        async with fresh(make) as (store, clock):
            await check(Bench(store, clock))

    return keep


@asynccontextmanager
async def fresh(make: Make) -> AsyncGenerator[tuple[Any, Clock | None]]:
    """A new store and the clock it goes by; opened, and closed in the end, so far as it can be."""
    parameters = inspect.signature(make).parameters.values()
    takes_it = any(each.name == "clock" or each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    clock = Clock() if takes_it else None
    store = await (make() if clock is None else make(clock=clock))
    if hasattr(store, "open"):
        await store.open()
    try:
        yield store, clock
    finally:
        if hasattr(store, "aclose"):
            with anyio.CancelScope(shield=True):
                await store.aclose()
