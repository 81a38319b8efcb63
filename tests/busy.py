"""A busy store: a seeded random program whose reports are honest, so that its ledger can be checked line by line."""

import random
from collections.abc import Sequence
from typing import Any

from msgspec import Raw

from hpp_middleware.core import price
from hpp_middleware.ports import QuotaStore
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import (
    Declare,
    Grant,
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
from hpp_middleware.types.quota import Draft, Report

__all__ = ["ACCOUNTS", "Busy"]

ACCOUNTS = ("alice", "bob")
PRICE = Price(base=Rates(input=10**9, output=3 * 10**9, cache_read=123_456_789))
DRAFT = Draft(consumer="someone", model="fake/m", requested_model="m", price=PRICE, client_request_id="c-1")


class Busy:
    """
    Does what requests do: most are settled, some exceed their hold, some die and come back.

    Args:
        store: Where.
        seed: The same one does the same.
        clock: The store's, where time may pass; without it nobody dies.
    """

    def __init__(self, store: QuotaStore, seed: int, clock: Clock | None = None) -> None:
        self.holds: list[str] = []
        self._store = store
        self._clock = clock
        self._random = random.Random(seed)
        self._prefix = f"hold-{seed}"
        self._number = 0

    async def begin(self) -> None:
        """Accounts with room."""
        for account in ACCOUNTS:
            await self.apply(Grant(id=f"grant:{account}", account=account, amount=10**9))
            await self.apply(Declare(account=account, quota=5_000))

    async def run(self, steps: int) -> None:
        """So many requests."""
        for _ in range(steps):
            await self.step()

    async def step(self) -> None:
        """One request, from its hold to its end."""
        self._number += 1
        hold, account = f"{self._prefix}-{self._number:06d}", self._random.choice(ACCOUNTS)
        owner = f"worker-{hold}"
        await self.apply(Renew(owner=owner, ttl_s=30), self._reserve(hold, account, owner))
        self.holds.append(hold)
        endings: Sequence[Any] = [self._settle, self._settle, self._settle, self._estimate, self._release, self._resize]
        if self._clock is not None:
            endings = [*endings, self._die]
        await self._random.choice(endings)(hold)

    async def apply(self, *operations: Operation) -> list[Result]:
        """Carry out operations, all of which must be done."""
        results = await self._store.apply(operations)
        assert all(result.status == "done" for result in results), results
        return results

    def _reserve(self, hold: str, account: str, owner: str) -> Reserve:
        want = self._random.randint(10, 200)
        orphan = self._random.randint(0, 60)
        draft, accounts = DRAFT, (account,)
        return Reserve(
            id=hold, accounts=accounts, want=want, floor=want, owner=owner, ttl_s=60, orphan_amount=orphan, draft=draft
        )

    async def _settle(self, hold: str) -> None:
        usage = Usage(
            input=self._random.randint(0, 90), output=self._random.randint(0, 40), cache_read=self._random.randint(0, 9)
        )
        report = Report(outcome="completed", usage=usage, usage_raw=Raw(b'{"cost":1.50,"n":1}'))
        await self.apply(Settle(id=hold, amount=price.cost(usage, PRICE), report=report))

    async def _estimate(self, hold: str) -> None:
        report = Report(outcome="abandoned", estimated=True, usage=Usage(input=5))
        await self.apply(Settle(id=hold, amount=self._random.randint(0, 10), report=report))

    async def _release(self, hold: str) -> None:
        await self.apply(Release(id=hold))

    async def _resize(self, hold: str) -> None:
        await self.apply(Resize(id=hold, attempt=1, amount=self._random.randint(0, 90), orphan_amount=9, draft=DRAFT))
        await self._settle(hold)

    async def _die(self, hold: str) -> None:
        assert self._clock is not None
        self._clock.now += 31
        await self.apply(Sweep())
        late = self._random.choice([self._settle, self._estimate, self._release, None])
        if late is not None:
            await late(hold)
