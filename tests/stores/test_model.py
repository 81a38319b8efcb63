"""
Four stores are four ways to do the same: random programs have the same results, and leave the same books.

``HPP_PROGRAMS=2000`` runs more of them (``make soak``).
"""

import asyncio
import os
import re
import sqlite3
import tempfile
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from databases import emptied, fresh_database, psql
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.core.quota import KEEP_RESOLVED_S, MAX_NANO
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.stores.sqlite import schema
from hpp_middleware.testing.stores.bench import Bench, Clock, reserve, resize, settle
from hpp_middleware.types.operations import (
    Checkpoint,
    Claim,
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

T = TypeVar("T")

pytestmark = pytest.mark.timeout(7200)  # as long as HPP_PROGRAMS makes it

SHARED_MEMORY = Path("/dev/shm")
TABLES = (
    "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables"
    " WHERE schemaname = 'public' AND tablename NOT IN ('hpp_migration', 'hpp_credential_epoch')"
)
EMPTY = "SET session_replication_role = replica; TRUNCATE {}"  # a ledger is append-only for everybody else
FOLDER = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None  # where a commit need not wait for a disk

HOLDS = st.sampled_from(["hold-1", "hold-2", "hold-3", "hold-4"])
OWNERS = st.sampled_from(["worker", "sleeper"])
PAYERS = st.sampled_from([("alice",), ("bob",), ("alice", "team"), ("bob", "team", "org")])
ACCOUNTS = st.sampled_from(["alice", "bob", "team", "org", "day-1"])
AMOUNTS = st.one_of(st.integers(0, 300), st.sampled_from([-1, 100, MAX_NANO, MAX_NANO + 1, 2**64]))
BOOKED = ("alice", "bob", "team", "org", "day-1", "day-2")
EVERYBODY = {*BOOKED, "nobody"}
LIMITS: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.builds(dict), st.dictionaries(st.sampled_from(["day-1", "day-2"]), st.one_of(AMOUNTS, st.integers(100, 1000)))
)
TTLS = st.sampled_from([10.0, 60.0, 300.0])

CLAIMS = st.one_of(
    st.none(),
    st.builds(
        lambda key, fingerprint, ttl_s: Claim(key=key, fingerprint=fingerprint, ttl_s=ttl_s),
        st.sampled_from(["key-1", "key-2"]),
        st.sampled_from(["asked", "asked", "asked otherwise"]),
        st.sampled_from([8.0, 500.0]),
    ),
)
ANSWERS = st.one_of(st.none(), st.builds(lambda body: Kept(body=body, most=20), st.binary(max_size=15)))

RESERVES = st.builds(
    lambda hold, want, accounts, floor, owner, ttl_s, orphan, claim, limits, rest: reserve(
        *(hold, want, *accounts),
        floor=min(want, floor),
        owner=owner,
        ttl_s=ttl_s,
        orphan=orphan,
        claim=claim,
        limits=limits,
        rest=rest,
    ),
    HOLDS,
    AMOUNTS,
    PAYERS,
    st.integers(0, 300),
    OWNERS,
    TTLS,
    st.integers(-5, 150),
    CLAIMS,
    LIMITS,
    st.booleans(),
)
RESIZES = st.builds(
    lambda hold, amount, accounts, attempt, orphan, limits: resize(
        hold, amount, *accounts, attempt=attempt, orphan=orphan, limits=limits if accounts else {}
    ),
    HOLDS,
    AMOUNTS,
    st.one_of(st.just(()), PAYERS),
    st.integers(0, 3),
    st.integers(-5, 400),
    LIMITS,
)
CHECKPOINTS = st.builds(lambda hold, orphan: Checkpoint(id=hold, orphan_amount=orphan), HOLDS, st.integers(-5, 400))
SPARED: st.SearchStrategy[dict[str, int]] = st.one_of(
    st.builds(dict), st.dictionaries(st.sampled_from(["day-1", "team", "alice", "nobody"]), st.integers(0, 300))
)
SETTLES = st.builds(
    lambda hold, amount, kept, spared: settle(hold, amount, kept, spared=spared), HOLDS, AMOUNTS, ANSWERS, SPARED
)
RELEASES = st.builds(lambda hold: Release(id=hold), HOLDS)
GRANTS = st.builds(
    lambda number, account, amount, expect: Grant(id=f"grant-{number}", account=account, amount=amount, expect=expect),
    st.integers(1, 6),
    ACCOUNTS,
    st.one_of(AMOUNTS, st.integers(-300, -1)),
    st.sampled_from([None, None, 0, 100]),
)
DECLARES = st.builds(lambda account, quota: Declare(account=account, quota=quota), ACCOUNTS, AMOUNTS)
RENEWS = st.builds(lambda owner, ttl_s: Renew(owner=owner, ttl_s=ttl_s), OWNERS, TTLS)
SWEEPS = st.just(Sweep())
OPERATIONS: st.SearchStrategy[Operation] = st.one_of(
    RESERVES, RESIZES, CHECKPOINTS, SETTLES, RELEASES, GRANTS, DECLARES, RENEWS, SWEEPS
)


class Either:
    """Two stores of one file: now the one is asked, and now the other."""

    def __init__(self, *stores: SQLiteStore) -> None:
        self._stores = stores
        self._asked = 0

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        self._asked += 1
        return await self._stores[self._asked.bit_count() % 2].apply(operations)  # each at times twice in a row

    async def open(self) -> None:
        for store in self._stores:
            await store.open()

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stores[0], name)


def of_before(path: str) -> str:
    """A file as the first ones were made, whose holds and ledger lines have no ROWID."""
    connection = sqlite3.connect(path)
    for number, text in schema.migrations():
        tables = re.sub(r"(CREATE TABLE (?:hold|ledger) .*?\) STRICT);", r"\1, WITHOUT ROWID;", text, flags=re.DOTALL)
        connection.executescript(f"{tables} PRAGMA user_version = {number};")
    made = connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%WITHOUT ROWID%'").fetchall()
    connection.close()
    assert {("hold",), ("ledger",)} <= set(made)
    return path


class Stage:
    """The stores on which the programs run, opened once; each program begins with empty ones."""

    def __init__(self, places: dict[str, Any]) -> None:
        self.runner = asyncio.Runner()
        self.clock = Clock()
        self.places = places
        self.stores: dict[str, Any] = {}
        self.postgres: PostgresStore | None = None
        self.tables = ""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def reopen(self) -> None:
        """All but the memory store, which would forget."""
        await asyncio.gather(*(store.aclose() for store in self.stores.values()))
        await asyncio.gather(*(store.open() for store in self.stores.values()))

    def empty(self) -> dict[str, Any]:
        """Every store, with nothing in it."""
        self.close()
        if self.postgres is None:
            self.postgres = PostgresStore(self.places["postgres"], clock=self.clock)
            self.run(self.postgres.open())
            self.tables = psql(self.places["postgres"], TABLES)
        psql(self.places["postgres"], EMPTY.format(self.tables.strip()))
        emptied(self.places["redis"])
        for file in Path(self.places["sqlite"]).parent.iterdir():
            file.unlink()
        shared = of_before(f"{self.places['sqlite']}.shared")
        self.stores = {
            "sqlite": SQLiteStore(self.places["sqlite"], clock=self.clock),
            "two of one file": Either(*[SQLiteStore(shared, clock=self.clock) for _ in range(2)]),
            "postgres": self.postgres,
            "redis": RedisStore(self.places["redis"], clock=self.clock),
        }
        for store in self.stores.values():
            self.run(store.open())
        return {**self.stores, "memory": MemoryStore(clock=self.clock)}

    def close(self) -> None:
        for store in self.stores.values():
            self.run(store.aclose())


class Programs(RuleBasedStateMachine):
    """Each step is applied to every store; a witness on each keeps books of its own. Memory is the pure functions."""

    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.clock = self.stage.clock
        self.number = 0
        self.weeks = 0
        self.stores = self.stage.empty()
        self.memory = Bench(self.stores.pop("memory"), self.clock)

    @initialize(quota=st.integers(100, 1000))
    def begin(self, quota: int) -> None:
        """Most programs have an account with room and workers with leases."""
        grants = [
            Grant(id=f"start:{account}", account=account, amount=quota) for account in ("alice", "bob", "team", "org")
        ]
        self._apply(Renew(owner="worker", ttl_s=300), Renew(owner="sleeper", ttl_s=10), *grants)

    @rule(operation=RESERVES)
    def take_room(self, operation: Operation) -> None:
        self._apply(operation)

    @rule(want=st.integers(50, 300), used=st.integers(0, 400), orphan=st.integers(0, 150), owner=OWNERS)
    def take_room_and_settle(self, want: int, used: int, orphan: int, owner: str) -> None:
        """A hold of its own, which goes through whenever there is room."""
        hold = self._name()
        self._apply(Renew(owner=owner, ttl_s=60), reserve(hold, want, owner=owner, orphan=orphan))
        self._apply(settle(hold, used))

    @rule(
        want=st.integers(1, 50), orphan=st.integers(0, 60), late=st.one_of(SETTLES, RELEASES), slept=st.integers(9, 11)
    )
    def die_and_come_back(self, want: int, orphan: int, late: Operation, slept: int) -> None:
        """A worker that sleeps about as long as its lease, is swept, and settles or releases late."""
        name = self._name()
        holds = [f"{name}-b", f"{name}-a"]
        self._apply(Renew(owner=name, ttl_s=10), *(reserve(hold, want, owner=name, orphan=orphan) for hold in holds))
        self.clock.now += slept
        self._apply(Sweep())
        for hold in holds:
            again = settle(hold, late.amount) if isinstance(late, Settle) else Release(id=hold)
            self._apply(again, again)

    @rule(want=st.integers(1, 50), slept=st.integers(9, 11))
    def run_past_the_deadline(self, want: int, slept: int) -> None:
        """A hold that outlives its own deadline under a live lease."""
        self._apply(Renew(owner="worker", ttl_s=300), reserve(self._name(), want, ttl_s=10, orphan=want))
        self.clock.now += slept
        self._apply(Sweep())

    @rule(operation=st.one_of(RESIZES, CHECKPOINTS))
    def change_the_hold(self, operation: Operation) -> None:
        self._apply(operation)

    @rule(want=st.integers(20, 60), amount=st.integers(0, 200), orphan=st.integers(0, 200), late=st.booleans())
    def try_a_dearer_model(self, want: int, amount: int, orphan: int, late: bool) -> None:  # noqa: FBT001
        """A hold that is resized, raised, and settled or left to the sweeper."""
        hold = self._name()
        self._apply(Renew(owner="worker", ttl_s=60), reserve(hold, want, orphan=5))
        self._apply(resize(hold, amount, orphan=7), Checkpoint(id=hold, orphan_amount=orphan))
        if late:
            self.clock.now += 600
            self._apply(Sweep())
        self._apply(settle(hold, amount))

    @rule(
        payer=PAYERS,
        want=st.integers(20, 60),
        limits=st.tuples(LIMITS, LIMITS),
        amount=st.integers(0, 120),
        used=st.integers(0, 150),
    )
    def fall_back_to_a_model_with_other_budgets(  # Hypothesis gives them
        self, payer: tuple[str, ...], want: int, limits: tuple[dict[str, int], dict[str, int]], amount: int, used: int
    ) -> None:
        """A hold in some budgets that is moved to others, and settled."""
        hold, (first, then) = self._name(), limits
        self._apply(Renew(owner="worker", ttl_s=60), reserve(hold, want, *payer, limits=first, floor=10, rest=True))
        self._apply(resize(hold, amount, *payer, limits=then))
        self._apply(settle(hold, used))

    @rule(claim=CLAIMS, body=ANSWERS, leaves=st.booleans())
    def ask_twice_under_one_key(self, claim: Claim | None, body: Kept | None, leaves: bool) -> None:  # noqa: FBT001
        """A keyed request, its repeat while it runs, and its repeat when it is done or given back."""
        hold = self._name()
        self._apply(
            Renew(owner="worker", ttl_s=60), reserve(hold, 10, claim=claim), reserve(f"{hold}-b", 10, claim=claim)
        )
        self._apply(Release(id=hold) if leaves else settle(hold, 5, body))
        self._apply(reserve(f"{hold}-c", 10, claim=claim))

    @rule(operation=st.one_of(SETTLES, RELEASES))
    def resolve(self, operation: Operation) -> None:
        self._apply(operation)

    @rule(operation=st.one_of(GRANTS, DECLARES))
    def change_the_quota(self, operation: Operation) -> None:
        self._apply(operation)

    @rule(operation=st.one_of(RENEWS, SWEEPS))
    def keep_up(self, operation: Operation) -> None:
        self._apply(operation)

    @rule(operations=st.lists(OPERATIONS, max_size=6))
    def batch(self, operations: list[Operation]) -> None:
        self._apply(*operations)

    @rule(operation=OPERATIONS)
    def repeat(self, operation: Operation) -> None:
        """As after a reply that was lost; in one batch, so that no time passes."""
        self._apply(operation, operation)

    @rule(seconds=st.sampled_from([1, 9, 10, 61, 301]))
    def let_time_pass(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def let_a_week_pass(self) -> None:
        """Holds are forgotten; nobody uses their ids again, which are drawn at random."""
        self.clock.now += KEEP_RESOLVED_S + 1
        self.weeks += 1
        self._apply(Renew(owner="worker", ttl_s=60), Sweep())

    @rule(now=st.integers(0, 4))
    def reopen(self, now: int) -> None:
        if not now:
            self._run(self.stage.reopen())
            self._run(self._compare(EVERYBODY))

    def teardown(self) -> None:
        self._run(self._compare(EVERYBODY))

    def _apply(self, *operations: Operation) -> None:
        self._run(self._step([self._of_this_week(operation) for operation in operations]))

    def _of_this_week(self, operation: Operation) -> Operation:
        if not isinstance(operation, (Reserve, Resize, Checkpoint, Settle, Release)) or not self.weeks:
            return operation
        return msgspec.structs.replace(operation, id=f"{operation.id}-{self.weeks}")

    async def _step(self, operations: Sequence[Operation]) -> None:
        """The witness looks at the books of the memory store; the others must have the same ones."""
        expected = await self.memory.apply(*operations)
        told = await asyncio.gather(*(store.apply(operations) for store in self.stores.values()))
        for name, results in zip(self.stores, told, strict=True):
            assert results == expected, name
        await self._compare({entry.account for result in expected for entry in result.entries})

    async def _compare(self, accounts: set[str]) -> None:
        expected = await self._books(self.memory.store, accounts)
        told = await asyncio.gather(*(self._books(store, accounts) for store in self.stores.values()))
        for name, books in zip(self.stores, told, strict=True):
            assert books == expected, name

    async def _books(self, store: Any, changed: set[str]) -> list[Any]:
        """All that a store says; of ledger lines, those of accounts that have new ones."""
        said: list[Any] = [await store.statement(account) for account in BOOKED]
        for account in sorted(changed):
            said += [await store.balance(account), await store.lines(account)]
        holds = [*(f"hold-{number}" for number in range(1, 5)), *(f"own-{number}" for number in range(self.number + 1))]
        holds += [f"{hold}-{self.weeks}" for hold in holds]
        return [*said, await store.holds(holds), await store.accounts()]

    def _name(self) -> str:
        self.number += 1
        return f"own-{self.number}"

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.stage.run(work)


@pytest.fixture(scope="module", autouse=True)
def _stage(postgres_server: str, redis_server: str) -> Iterator[None]:
    with (
        tempfile.TemporaryDirectory(dir=FOLDER) as folder,
        fresh_database(postgres_server) as postgres,
    ):
        stage = Programs.stage = Stage(
            {"sqlite": str(Path(folder) / "hpp.db"), "postgres": postgres, "redis": redis_server}
        )
        yield
        stage.close()
        stage.runner.close()


TestPrograms = Programs.TestCase
TestPrograms.settings = settings(
    max_examples=int(os.environ.get("HPP_PROGRAMS", "20")), stateful_step_count=50, deadline=None
)
