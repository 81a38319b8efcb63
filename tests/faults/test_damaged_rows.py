"""A row that another version, a bug or an operator's hand has damaged: nobody else notices, and it is named."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from rig import KEY, Witness, gateway, read, read_chat

from faults.damaging import (
    HOLDS,
    Forbidden,
    damage_account,
    damage_credential,
    damage_drafts,
    damage_hold,
    damage_lines,
)
from faults.places import PEPPER, made
from hpp_middleware import ConfigurationError
from hpp_middleware.audit import Auditor, Sealer, Sealing
from hpp_middleware.stages.reserve import lease as lease_stage
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle.journal import Journal
from hpp_middleware.stores.books import MOST_SWEPT
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock, reserve, settle
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Claim, Grant, Operation, Renew, Result, Sweep

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "redis"]
QUOTA = 10**6
HELD, ORPHAN = 20_000, 25
COST = 10_000
"""What the bench's usage costs at its prices."""
NAMES = ("alice", "bob", "carol")
CHARGED = {"that costs less than nothing": 0, "that costs more than it holds": HELD}
"""What two of the damaged holds are charged: as much as can be meant. The others are left as they are."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of the stores are served on asyncio only."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return str(tmp_path / "hpp.db")
    found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(kind: str, place: str, clock: Clock) -> AsyncGenerator[Any]:
    """Three accounts, in each of which a worker holds something: ``a-bob``, ``b-alice`` and ``c-carol``."""
    found = made(kind, place, clock)
    await found.open()
    await _done(found, Renew(owner="worker", ttl_s=30), *(Grant(id=each, account=each, amount=QUOTA) for each in NAMES))
    for hold, account in (("a-bob", "bob"), ("b-alice", "alice"), ("c-carol", "carol")):
        await _done(found, reserve(hold, HELD, account, orphan=ORPHAN))
    yield found
    await found.aclose()


@pytest.mark.parametrize("damage", HOLDS, ids=lambda damage: damage.replace(" ", "-"))
async def test_a_damaged_hold_keeps_no_other_from_being_swept(
    damage: str, kind: str, place: str, store: Any, clock: Clock
) -> None:
    try:
        damage_hold(kind, place, "b-alice", HOLDS[damage])
    except Forbidden:
        assert (kind, damage) == ("postgres", "of less than nothing")
        return
    clock.now += 60
    for swept in (["a-bob", "c-carol"], []):
        result = await _swept(store)
        entries = {entry.hold: entry.amount for entry in result.entries if entry.line == "resolution"}
        if damage in CHARGED and swept:
            assert entries.pop("b-alice") == CHARGED[damage]
        assert entries == dict.fromkeys(swept, ORPHAN)
        assert result.amount == len(swept) + (damage in CHARGED and bool(swept))
        assert result.hold == ("" if damage in CHARGED else "b-alice")
    used, held = (CHARGED[damage], 0) if damage in CHARGED else (0, HELD)
    balance = await store.balance("alice")
    assert (balance.used, balance.held) == (used, held)
    await _others_are_well(store)


@pytest.mark.parametrize(
    "figure",
    [("held", 1), ("settled", 2**63 - 1), ("settled", -(2**63)), ("seq", 2**63 - 1), ("requests", 2**63 - 1)],
    ids=str,
)
async def test_a_damaged_account_keeps_no_others_hold_from_being_swept(
    figure: tuple[str, int], kind: str, place: str, store: Any, clock: Clock
) -> None:
    damage_account(kind, place, "alice", *figure)
    clock.now += 60
    result = await _swept(store)
    assert [entry.hold for entry in result.entries] == ["a-bob", "c-carol"]
    assert result.hold == "b-alice"
    await _others_are_well(store)
    assert (await Auditor(store).reconcile("alice")).findings


@pytest.mark.parametrize("damage", ["of their own", "of their account"])
async def test_a_thousand_damaged_holds_hide_none_behind_them(
    damage: str, kind: str, place: str, store: Any, clock: Clock
) -> None:
    await _done(store, Renew(owner="a dead one", ttl_s=20), Grant(id="more", account="alice", amount=QUOTA))
    for start in range(0, MOST_SWEPT + 100, 100):
        bad = [reserve(f"a-{number}", 10, "alice", owner="a dead one") for number in range(start, start + 100)]
        await _done(store, *bad)
    if damage == "of their own":
        damage_drafts(kind, place, "a dead one")
    else:
        damage_account(kind, place, "alice", "held", 5)
    clock.now += 60
    result = await _swept(store)
    found = {entry.hold for entry in result.entries}
    assert found == {"a-bob", "c-carol", *(["b-alice"] if damage == "of their own" else [])}
    assert not result.more, "or every request would sweep"
    assert result.hold.startswith("a-" if damage == "of their own" else ("a-", "b-alice"))
    await _others_are_well(store)


async def test_more_than_a_sweep_may_do_are_swept_one_after_the_other(kind: str, store: Any, clock: Clock) -> None:
    for start in range(0, MOST_SWEPT + 100, 100):
        await _done(store, *(reserve(f"a-{number}", 10, "bob") for number in range(start, start + 100)))
    clock.now += 60
    swept = [await _swept(store) for _ in range(3)]
    assert [(result.amount, result.more) for result in swept] == [(MOST_SWEPT, True), (103, False), (0, False)]
    assert len({entry.hold for result in swept for entry in result.entries}) == MOST_SWEPT + 103
    await _others_are_well(store)


async def test_of_workers_that_sweep_at_once_none_takes_a_hold_for_damaged_that_another_one_has_swept(
    kind: str, place: str, store: Any, clock: Clock
) -> None:
    names = [f"{number:04}" for number in range(400)]
    await _done(store, *(Grant(id=each, account=each, amount=HELD) for each in names))
    await _done(store, *(reserve(f"h-{each}", HELD, each) for each in names))  # each account holds this alone
    clock.now += 60
    others = [made(kind, place, clock) for _ in range(4)]
    for each in others:
        await each.open()
    swept = [result for each in await asyncio.gather(*(_swept_thrice(one) for one in others)) for result in each]
    assert {result.hold for result in swept} == {""}
    assert sum(result.amount for result in swept) == len(names) + 3
    for each in others:
        await each.aclose()


async def test_a_hold_of_which_the_server_has_only_the_name_keeps_no_other_from_being_swept(
    redis_url: str, clock: Clock
) -> None:
    found = made("redis", redis_url, clock)
    await found.open()
    with redis.Redis.from_url(redis_url) as client:
        for broken in (b"\xc1", b"\x93\x01\x02\x03", None):
            await _done(found, Renew(owner="worker", ttl_s=30), Grant(id="bob", account="bob", amount=QUOTA))
            await _done(found, *(reserve(f"{hold}-{broken!r}", HELD, "bob") for hold in ("bad", "good")))
            key, bad = "hpp{hpp:0}:holds", f"bad-{broken!r}"
            client.hdel(key, bad) if broken is None else client.hset(key, bad, broken)
            clock.now += 60
            result = await _swept(found)
            assert [entry.hold for entry in result.entries] == [f"good-{broken!r}"]
            assert result.hold.startswith("bad-")
            assert (await Auditor(found).reconcile("bob")).findings
    assert (await found.balance("bob")).requests == 3
    await found.aclose()


async def test_a_claim_that_is_none_keeps_nothing_from_being_swept(redis_url: str, clock: Clock) -> None:
    found = made("redis", redis_url, clock)
    await found.open()
    await _done(found, Renew(owner="worker", ttl_s=30), Grant(id="bob", account="bob", amount=QUOTA))
    for key in ("a", "b"):
        claim = Claim(key=key, fingerprint="f", ttl_s=10)
        await _done(found, reserve(f"hold-{key}", HELD, "bob", claim=claim), settle(f"hold-{key}", COST))
    await _done(found, reserve("orphan", HELD, "bob", orphan=ORPHAN))
    with redis.Redis.from_url(redis_url) as client:
        client.hset("hpp{hpp:0}:claims", "a", b"\xc1")
        clock.now += 60
        assert (await _swept(found)).amount == 1
        assert client.hkeys("hpp{hpp:0}:claims") == [b"a"]
    await found.aclose()


async def test_a_draft_of_a_later_version_is_swept_as_any_other(
    kind: str, place: str, store: Any, clock: Clock
) -> None:
    (hold,) = await store.holds(["b-alice"])
    later = {**msgspec.to_builtins(hold.draft), "what comes later": [1]}
    damage_hold(kind, place, "b-alice", {"draft": msgspec.json.encode(later).decode()})
    clock.now += 60
    assert (await _swept(store)).amount == 3
    await _others_are_well(store)
    assert (await Auditor(store).reconcile("alice")).findings == ()


async def test_a_worker_names_the_hold_that_it_cannot_sweep_once(
    kind: str, place: str, store: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_stage, "SWEEP_AFTER_S", 0)
    alarms: list[Alarm] = []
    damage_hold(kind, place, "b-alice", HOLDS["in no account"])
    clock.now += 60
    worker = Lease(store, "another", swept=lambda _: None, journal=Journal(alarm=alarms.append))
    for number in range(3):
        await worker.apply([Grant(id=f"more-{number}", account="bob", amount=1)])
    assert [(alarm.kind, alarm.request_id) for alarm in alarms] == [("hold", "b-alice")]
    assert (await store.balance("bob")).used == ORPHAN


async def test_ledger_lines_that_are_none_are_found_and_keep_no_other_account_from_being_sealed(
    kind: str, place: str, store: Any, tmp_path: Path
) -> None:
    for hold in ("a-bob", "b-alice", "c-carol"):
        await _done(store, settle(hold, COST))
    damage_lines(kind, place)
    auditor = Auditor(store)
    for account in await auditor.accounts():
        kinds = [finding.kind for finding in (await auditor.reconcile(account)).findings]
        assert kinds == (["unreadable"] if account == "alice" else []), account
    sealed = await Sealer(store, Sealing(key=b"k" * 32, heads=tmp_path / "heads")).seal()
    assert sealed.seals == 2
    assert [(finding.account, finding.kind) for finding in sealed.findings] == [("alice", "unreadable")]
    await _others_are_well(store)


async def test_requests_and_figures_go_on_beside_what_is_damaged(
    kind: str, place: str, store: Any, clock: Clock, fake_upstream: FakeUpstream
) -> None:
    await _done(store, settle("c-carol", COST))
    damage_hold(kind, place, "b-alice", HOLDS["with a draft that is none"])
    damage_account(kind, place, "carol", "settled", 2**62)
    clock.now += 60
    witness = Witness()
    async with gateway(fake_upstream, store=store, pepper=PEPPER, journal=None, observers=[witness]) as found:
        assert (await read_chat(found))[0] == 200
        assert (await read_chat(found, key=KEY))[0] == 200
        usage = await read(found, "/api/usage")
        assert usage["requests"] == 2
        assert (await read(found, "/api/quota-check"))["held"] == HELD / 10**9
    assert [alarm for alarm in witness.alarms if alarm != "overage"] == ["hold"]


async def test_a_damaged_key_is_named_and_all_others_are_listed_and_work(
    kind: str, place: str, store: Any, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream, store=store, pepper=PEPPER, journal=None) as found:
        keys = [await found.accounts.create_key(each) for each in NAMES]
        digest = next(each.digest for each in await store.credentials() if each.id == keys[1].id)
        damage_credential(kind, place, keys[1].id, digest)
        listed = {each.id: (each.consumer.id, each.damaged) for each in await found.accounts.keys()}
        assert [listed[each.id] for each in keys] == [("alice", False), ("", True), ("carol", False)]
        assert [(await read_chat(found, key=each.key))[0] for each in keys] == [200, 503, 200]
        with pytest.raises(ConfigurationError, match="cannot be read"):
            await found.accounts.rotate_key(keys[1].id)
        another = await found.accounts.create_key("bob")
        assert (await read_chat(found, key=another.key))[0] == 200
        assert await found.accounts.set_parent("carol", "team") == 1


# --- the parts ------------------------------------------------------------------------------------


async def _done(store: Any, *operations: Operation) -> None:
    results = await store.apply(list(operations))
    assert {result.status for result in results} == {"done"}


async def _swept(store: Any) -> Result:
    (result,) = await store.apply([Sweep()])
    assert result.status == "done"
    found: Result = result
    return found


async def _swept_thrice(store: Any) -> list[Result]:
    return [await _swept(store) for _ in range(3)]


async def _others_are_well(store: Any) -> None:
    await _done(store, Renew(owner="another", ttl_s=30))
    for account in ("bob", "carol"):
        await _done(store, reserve(f"after-{account}", HELD, account, owner="another"))
        await _done(store, settle(f"after-{account}", COST))
        assert (await Auditor(store).reconcile(account)).findings == ()
