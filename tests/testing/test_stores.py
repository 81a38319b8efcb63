"""The conformance suites: a good store passes, and whoever breaks a promise is told which."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import msgspec
import pytest

from hpp_middleware import MemoryStore
from hpp_middleware.testing import (
    CREDENTIAL_PROMISES,
    LEDGER_PROMISES,
    QUOTA_PROMISES,
    STORE_PROMISES,
    check_audit,
    check_credential_store,
    check_ledger,
    check_quota_store,
    check_store,
)
from hpp_middleware.testing.stores.bench import DRAFT
from hpp_middleware.types.consumer import Credential
from hpp_middleware.types.operations import (
    Checkpoint,
    Declare,
    Grant,
    Kept,
    Operation,
    Release,
    Renew,
    Reserve,
    Resize,
    Result,
    Settle,
    Sweep,
)
from hpp_middleware.types.quota import Balance, Entry, Seal, Statement

pytestmark = pytest.mark.anyio

Clock = Callable[[], float]


class Bare:
    """A quota store that is no more than its port: nothing to open, no ledger, no clock to set."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        return await self._store.apply(operations)

    async def balance(self, account: str) -> Balance:
        return await self._store.balance(account)


class Breaking(MemoryStore):
    """A store whose operations or results are tampered with."""

    def before(self, operation: Operation) -> Operation:
        return operation

    def after(self, operation: Operation, result: Result) -> Result:
        return result

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        results = await super().apply([self.before(operation) for operation in operations])
        return [self.after(*pair) for pair in zip(operations, results, strict=True)]


class Forgetful(Breaking):
    """Takes every repeat for something new."""

    count = 0

    def before(self, operation: Operation) -> Operation:
        self.count += 1
        if isinstance(operation, Reserve):
            return msgspec.structs.replace(operation, id=f"{operation.id}:{self.count}")
        return operation


class Generous(Breaking):
    """Adds to what was granted."""

    def before(self, operation: Operation) -> Operation:
        return (
            msgspec.structs.replace(operation, amount=operation.amount + 1)
            if isinstance(operation, Grant)
            else operation
        )


class Greedy(Breaking):
    """Charges what was held, not what was used."""

    def before(self, operation: Operation) -> Operation:
        return (
            msgspec.structs.replace(operation, amount=operation.amount + 1)
            if isinstance(operation, Settle)
            else operation
        )


class Unfenced(Breaking):
    """Lets everybody reserve."""

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        owners = [Renew(owner=each.owner, ttl_s=600) for each in operations if isinstance(each, Reserve)]
        return (await super().apply([*owners, *operations]))[len(owners) :]


class Silent(Breaking):
    """Says nothing of the ledger lines it writes."""

    def after(self, operation: Operation, result: Result) -> Result:
        return msgspec.structs.replace(result, entries=())


class AllOrNothing(Breaking):
    """One refusal takes the whole batch back, or says so."""

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        results = await super().apply(operations)
        if any(result.status != "done" for result in results):
            return [msgspec.structs.replace(result, status="refused", entries=()) for result in results]
        return results


class Sweepless(Breaking):
    """Never expires a hold."""

    def before(self, operation: Operation) -> Operation:
        return Renew(owner="nobody", ttl_s=0) if isinstance(operation, Sweep) else operation


class Rerunning(Breaking):
    """Lets anybody have a key that is in use."""

    def before(self, operation: Operation) -> Operation:
        return msgspec.structs.replace(operation, claim=None) if isinstance(operation, Reserve) else operation


class Hoarding(Breaking):
    """Keeps whatever answer it is given."""

    def before(self, operation: Operation) -> Operation:
        if isinstance(operation, Settle) and operation.kept is not None:
            return msgspec.structs.replace(operation, kept=Kept(body=operation.kept.body, most=10**9))
        return operation


class Unlimited(Breaking):
    """Does not look at budgets: whoever has a quota has room."""

    def before(self, operation: Operation) -> Operation:
        if not isinstance(operation, Reserve):
            return operation
        limits = tuple(msgspec.structs.replace(limit, amount=10**15) for limit in operation.limits)
        return msgspec.structs.replace(operation, limits=limits)


class Undeclared(Breaking):
    """Takes a budget for an account that nobody granted anything."""

    def before(self, operation: Operation) -> Operation:
        return msgspec.structs.replace(operation, limits=()) if isinstance(operation, Reserve) else operation


class Fatherless(Breaking):
    """Holds in the payer's account alone."""

    def before(self, operation: Operation) -> Operation:
        if not isinstance(operation, Reserve):
            return operation
        return msgspec.structs.replace(operation, accounts=operation.accounts[:1], limits=())


class Mute(Breaking):
    """Refuses, and does not say which account was short."""

    def after(self, operation: Operation, result: Result) -> Result:
        return msgspec.structs.replace(result, short="")


class Halving(Breaking):
    """Never grants the rest of what is there."""

    def before(self, operation: Operation) -> Operation:
        return msgspec.structs.replace(operation, rest=False) if isinstance(operation, Reserve) else operation


class Settled(Breaking):
    """Leaves a hold in the accounts that it was placed in, wherever a resize moves it."""

    def before(self, operation: Operation) -> Operation:
        if not isinstance(operation, Resize):
            return operation
        return msgspec.structs.replace(operation, accounts=(), limits=())


class Terse(Breaking):
    """Keeps the tokens that it has columns for."""

    def before(self, operation: Operation) -> Operation:
        if not isinstance(operation, Settle):
            return operation
        usage = msgspec.structs.replace(operation.report.usage, cache_write=0, cache_write_1h=0)
        return msgspec.structs.replace(operation, report=msgspec.structs.replace(operation.report, usage=usage))


class Stale(Breaking):
    """Keeps the prices of the first attempt, whoever answered in the end."""

    def before(self, operation: Operation) -> Operation:
        return msgspec.structs.replace(operation, draft=DRAFT) if isinstance(operation, Resize) else operation


class Micro(Breaking):
    """Counts millionths of a dollar, where there are some."""

    def before(self, operation: Operation) -> Operation:
        if isinstance(operation, Settle) and operation.amount > 10**6:
            return msgspec.structs.replace(operation, amount=operation.amount // 1000 * 1000)
        return operation

    def after(self, operation: Operation, result: Result) -> Result:
        if isinstance(operation, Settle) and result.status == "done":
            return msgspec.structs.replace(result, amount=operation.amount)
        return result


class Unexpecting(Breaking):
    """Takes a quota of nothing that is expected for no expectation."""

    def before(self, operation: Operation) -> Operation:
        if isinstance(operation, Grant) and not operation.expect:
            return msgspec.structs.replace(operation, expect=None)
        return operation


class Shy(Breaking):
    """Takes a settlement of nothing that is repeated for another one."""

    def after(self, operation: Operation, result: Result) -> Result:
        is_repeat = isinstance(operation, Settle) and result.status == "done" and not (result.amount or result.entries)
        return msgspec.structs.replace(result, status="conflict") if is_repeat else result


class Confused(MemoryStore):
    """States one account's sums for another's."""

    async def statement(self, account: str) -> Statement:
        found = await super().statement(account)
        return msgspec.structs.replace(found, held=found.held + found.charged)


class Reseal(MemoryStore):
    """Lets a seal be overwritten."""

    async def add_seals(self, seals: Sequence[Seal]) -> None:
        for seal in seals:
            self._books.seals.setdefault(seal.account, {})[seal.seq] = seal


class Disordered(MemoryStore):
    """Reads its ledger backwards."""

    async def lines(self, account: str, after: int = 0, most: int = 1000) -> list[Entry]:
        return (await super().lines(account, after, most))[::-1]


class Indiscreet(MemoryStore):
    """Shows one account the requests of another."""

    async def entries(self, account: str, hold: str) -> list[Entry]:
        return await super().entries(account, hold) or await super().entries("alice", hold)


class Vague(MemoryStore):
    """Compares the beginning of a digest."""

    async def find(self, digest: bytes) -> Credential | None:
        return next((each for each in await self.credentials() if each.digest[:16] == digest[:16]), None)


class Deleting(MemoryStore):
    """Forgets what is revoked."""

    async def revoke(self, key_id: str, at: float) -> bool:
        for digest, credential in list(self._credentials.items()):
            if credential.id == key_id:
                return bool(self._credentials.pop(digest))
        return False


class Lenient(MemoryStore):
    """Lets a later revocation take an earlier one back."""

    async def revoke(self, key_id: str, at: float) -> bool:
        for digest, credential in self._credentials.items():
            if credential.id == key_id:
                self._credentials[digest] = msgspec.structs.replace(credential, revoked=at)
                self._epoch += 1
                return True
        return False


class Uncounted(MemoryStore):
    """Takes a revocation for no change."""

    async def revoke(self, key_id: str, at: float) -> bool:
        known = await super().revoke(key_id, at)
        self._epoch -= known
        return known


class Reviving(MemoryStore):
    """Loses a revocation when a key moves to another pepper."""

    async def rehash(self, digest: bytes, to: bytes, pepper: str) -> bool:
        moved = await super().rehash(digest, to, pepper)
        if moved:
            self._credentials[to] = msgspec.structs.replace(self._credentials[to], revoked=None)
        return moved


BROKEN: list[tuple[Callable[..., Any], type[MemoryStore]]] = [
    *((check_quota_store, kind) for kind in (Forgetful, Generous, Greedy, Unfenced, Silent, AllOrNothing, Sweepless)),
    *((check_quota_store, kind) for kind in (Rerunning, Hoarding)),
    *((check_quota_store, kind) for kind in (Unlimited, Undeclared, Fatherless, Mute, Halving, Settled)),
    *((check_quota_store, kind) for kind in (Terse, Stale, Micro, Unexpecting, Shy)),
    *((check_audit, kind) for kind in (Confused, Reseal)),
    *((check_ledger, kind) for kind in (Disordered, Indiscreet)),
    *((check_credential_store, kind) for kind in (Vague, Deleting, Lenient, Uncounted, Reviving)),
]


async def test_a_good_store_passes() -> None:
    opened = closed = 0

    class Counting(MemoryStore):
        async def open(self) -> None:
            nonlocal opened
            opened += 1

        async def aclose(self) -> None:
            nonlocal closed
            closed += 1

    async def make(clock: Clock) -> Counting:
        return Counting(clock=clock)

    await check_store(make)
    assert opened == closed == len(STORE_PROMISES)


async def test_a_store_is_no_more_than_its_port() -> None:
    async def make() -> Bare:
        return Bare()

    promises: tuple[Any, ...] = QUOTA_PROMISES
    async with anyio.create_task_group() as group:  # at once: this one has to live through its leases
        for promise in promises:
            group.start_soon(promise, make)


@pytest.mark.parametrize(("check", "kind"), BROKEN, ids=lambda value: value.__name__)
async def test_a_broken_store_is_found_out(check: Callable[..., Any], kind: type[MemoryStore]) -> None:
    async def make(clock: Clock | None = None) -> MemoryStore:
        return kind() if clock is None else kind(clock=clock)

    with pytest.raises(AssertionError) as caught:
        await check(make)
    assert str(caught.value).split("\n")[0]  # says which promise


@pytest.mark.parametrize("operation", [Reserve, Resize, Checkpoint, Settle, Release, Grant, Declare, Renew, Sweep])
async def test_every_operation_is_checked(operation: type[Operation]) -> None:
    """A store that refuses one kind of operation, whichever, is found out."""

    class Refusing(Breaking):
        def after(self, each: Operation, result: Result) -> Result:
            if isinstance(each, operation):
                return msgspec.structs.replace(result, status="unknown", entries=())
            return result

    async def make(clock: Clock) -> Refusing:
        return Refusing(clock=clock)

    with pytest.raises(AssertionError):
        await check_quota_store(make)


def test_every_promise_has_a_name_of_its_own() -> None:
    names = [promise.__name__ for promise in STORE_PROMISES]
    assert len(set(names)) == len(names) == len(QUOTA_PROMISES) + len(LEDGER_PROMISES) + len(CREDENTIAL_PROMISES)


async def test_a_factory_that_passes_its_settings_on_is_given_the_clock() -> None:
    given: list[bool] = []

    async def make(**settings: Any) -> MemoryStore:
        given.append("clock" in settings)
        return MemoryStore(**settings)

    await check_quota_store(make)
    assert given
    assert all(given)
