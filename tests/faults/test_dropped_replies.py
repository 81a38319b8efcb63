"""Replies that are lost after the commit: what is repeated by its id changes nothing, and nobody is charged twice."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from rig import USAGE_NANO, read_chat
from tcp_proxy import TCPProxy, tcp_proxy

from faults.fail_closed import lines_once_settled, opened, reconciled
from faults.places import made
from hpp_middleware import StoreError
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stores.redis.scripts import scripts
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import reserve, resize, settle
from hpp_middleware.types.operations import (
    Checkpoint,
    Claim,
    Declare,
    Grant,
    Operation,
    Release,
    Renew,
    Result,
    Sweep,
)
from hpp_middleware.types.quota import Balance, Hold, Statement

pytestmark = pytest.mark.anyio

KINDS = ["postgres", "redis"]
QUOTA = 10**6
COST = 10_000
"""What the bench's usage costs at its prices."""
START = (Renew(owner="worker", ttl_s=600), Grant(id="start", account="alice", amount=QUOTA))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """These stores are served on asyncio only."""
    return "asyncio"


class Case(NamedTuple):
    """An operation, what was done before it, and what the books then say; quota is what was added to it."""

    name: str
    operation: Operation
    before: Sequence[Operation] = ()
    held: int = 0
    used: int = 0
    quota: int = 0
    lines: int = 0


PLACED = (reserve("hold", 20_000),)
SMALL = (reserve("hold", 4_000),)
DUE = (reserve("hold", 20_000, ttl_s=0, orphan=25),)  # its deadline is now
CASES = [
    Case("reserve", reserve("hold", 100), held=100),
    Case("reserve", reserve("hold", QUOTA + 9, floor=50), held=QUOTA // 2),
    Case("reserve", reserve("hold", 300, claim=Claim(key="key", fingerprint="f", ttl_s=60)), held=300),
    Case("resize", resize("hold", 30_000), PLACED, held=30_000),
    Case("checkpoint", Checkpoint(id="hold", orphan_amount=40), PLACED, held=20_000),
    Case("settle", settle("hold", COST), PLACED, used=COST, lines=1),
    Case("settle", settle("hold", COST), SMALL, used=COST, lines=2),  # with an overage
    Case("settle", settle("hold", COST), (*DUE, Sweep()), used=COST, lines=2),  # with a correction
    Case("release", Release(id="hold"), PLACED),
    Case("release", Release(id="hold")),
    Case("release", Release(id="hold"), (*DUE, Sweep()), used=0, lines=2),
    Case("grant", Grant(id="more", account="alice", amount=500), quota=500),
    Case("grant", Grant(id="more", account="alice", amount=500, expect=QUOTA), quota=500),
    Case("declare", Declare(account="alice", quota=700), quota=700),
    Case("renew", Renew(owner="another", ttl_s=600)),
    Case("sweep", Sweep(), DUE, used=25, lines=1),
]


class Books(NamedTuple):
    """All that an operation may have changed."""

    statement: Statement
    balance: Balance
    holds: list[Hold]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    if kind == "redis":
        with redis.Redis.from_url(found) as admin:
            for script in scripts().values():  # so that a script's first call is carried out, and not only loaded
                admin.script_load(script.text)
    return found


@pytest.fixture
def proxy(place: str) -> Iterator[TCPProxy]:
    with tcp_proxy(place) as found:
        yield found


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{case.used}-{case.lines}")
async def test_an_operation_whose_reply_is_lost_is_carried_out_once(
    case: Case, times: int, kind: str, place: str, proxy: TCPProxy
) -> None:
    async with _open(kind, place) as witness, _open(kind, proxy.url) as store:
        await _apply(store, *START, *case.before)
        proxy.drop_replies(times, to=_asks(kind, case.name))
        told = await _told(store, case.operation)
        assert proxy.dropped == times
        assert told is None or told.status == "done"
        after = await _books(witness)
        assert after.balance == Balance(
            account="alice",
            quota=QUOTA + case.quota,
            used=case.used,
            held=case.held,
            requests=min(case.lines, 1),
            tokens=after.balance.tokens,
        )
        assert after.statement.lines == case.lines
        for _ in range(2):
            (repeated,) = await store.apply([case.operation])
            assert (repeated.status, repeated.entries) == ("done", ())
            assert await _books(witness) == after
        await reconciled(witness)


async def test_a_lease_whose_reply_was_lost_is_one(kind: str, place: str, proxy: TCPProxy) -> None:
    async with _open(kind, place) as witness, _open(kind, proxy.url) as store:
        await _apply(store, *START)
        proxy.drop_replies(2, to=_asks(kind, "renew"))
        with pytest.raises(StoreError):
            await store.apply([Renew(owner="another", ttl_s=600)])
        await _apply(witness, reserve("hold", 100, owner="another"))


async def test_of_a_batch_whose_reply_is_lost_everything_is_carried_out_once(
    kind: str, place: str, proxy: TCPProxy
) -> None:
    batch: list[Operation] = [
        *(reserve(f"hold-{number}", 20_000) for number in range(9)),
        *(settle(f"hold-{number}", COST) for number in range(6)),
        Release(id="hold-8"),
        Grant(id="more", account="alice", amount=5),
    ]
    async with _open(kind, place) as witness, _open(kind, proxy.url) as store:
        await _apply(store, *START)
        for times in (2, 1, 1):
            proxy.drop_replies(times, to=_asks(kind, "reserve"))
            await _told(store, *batch)
            balance = await witness.balance("alice")
            assert (balance.quota, balance.used, balance.held) == (QUOTA + 5, 6 * COST, 40_000)
        assert proxy.dropped == 4
        assert len(await witness.lines("alice")) == 6
        await reconciled(witness)


# --- through the gateway --------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reserve_whose_reply_is_lost_once_is_not_noticed(
    *, stream: bool, kind: str, proxy: TCPProxy, fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    async with opened(made(kind, proxy.url), fake_upstream, tmp_path) as found:
        proxy.drop_replies(1, to=_asks(kind, "reserve"))
        assert (await read_chat(found, stream=stream))[0] == 200
        assert proxy.dropped == 1
        lines = await lines_once_settled(found)
        assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)]
        await reconciled(found.store)
    assert len(fake_upstream.log) == 1


async def test_a_reserve_whose_replies_are_lost_is_a_503_and_holds_nothing(
    kind: str, proxy: TCPProxy, fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    async with opened(made(kind, proxy.url), fake_upstream, tmp_path) as found:
        proxy.drop_replies(2, to=_asks(kind, "reserve"))
        assert (await read_chat(found))[0] == 503
        assert proxy.dropped == 2
        assert fake_upstream.log == []
        assert await lines_once_settled(found) == []
        assert (await read_chat(found))[0] == 200
        await reconciled(found.store)


@pytest.mark.parametrize("times", [1, 2, 6])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_settlement_whose_replies_are_lost_is_charged_once(
    *, stream: bool, times: int, kind: str, proxy: TCPProxy, fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    async with opened(made(kind, proxy.url), fake_upstream, tmp_path) as found:
        proxy.drop_replies(times, to=_asks(kind, "settle"))
        assert (await read_chat(found, stream=stream))[0] == 200
        lines = await lines_once_settled(found)
        assert proxy.dropped == times
        assert [(line.line, line.amount) for line in lines] == [("resolution", USAGE_NANO)]
        assert found.journal.pending == 0
        await reconciled(found.store)
    assert len(fake_upstream.log) == 1


@pytest.mark.parametrize("times", [1, 2])
async def test_a_release_whose_replies_are_lost_gives_back_once(
    *,
    times: int,
    kind: str,
    proxy: TCPProxy,
    fake_upstream: FakeUpstream,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(made(kind, proxy.url), fake_upstream, tmp_path) as found:
        proxy.drop_replies(times, to=_asks(kind, "release"))
        with monkeypatch.context() as patched:
            # As after a long sleep: what was held is given back.
            patched.setattr(Lease, "covers", lambda _lease, _term: False)
            assert (await read_chat(found))[0] == 503
        assert fake_upstream.log == []
        assert await lines_once_settled(found) == []
        assert proxy.dropped == times
        assert (await read_chat(found))[0] == 200
        await reconciled(found.store)


# --- the parts ------------------------------------------------------------------------------------


def _asks(kind: str, name: str) -> bytes:
    """What stands in a request for an operation of a kind."""
    return f'"op":"{name}"'.encode() if kind == "postgres" else scripts()[name].digest.encode()


@asynccontextmanager
async def _open(kind: str, place: str) -> AsyncGenerator[Any]:
    store = made(kind, place)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def _apply(store: Any, *operations: Operation) -> None:
    results = await store.apply(operations)
    assert {result.status for result in results} == {"done"}


async def _told(store: Any, *operations: Operation) -> Result | None:
    """The last result, or None where nothing is known."""
    try:
        results: list[Result] = await store.apply(operations)
    except StoreError:
        return None
    return results[-1]


async def _books(store: Any) -> Books:
    return Books(await store.statement("alice"), await store.balance("alice"), await store.holds(["hold"]))
