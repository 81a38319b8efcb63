"""Settling: repeated by id, alarmed where it cannot be, and waited for by readers."""

from collections.abc import Sequence

import anyio
import pytest
from rig import ALICE, USAGE_NANO, Delegate, Witness, check_books, gateway, question

from hpp_middleware import StoreError
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.stages.reserve.lease import Lease
from hpp_middleware.stages.settle import settling as stage
from hpp_middleware.stages.settle.settling import Ending, Pending, settle
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.types.events import Alarm
from hpp_middleware.types.operations import Grant, Operation, Release, Reserve, Result, Settle
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.quota import Draft, Report

pytestmark = pytest.mark.anyio

DRAFT = Draft(consumer="alice", model="m", requested_model="m", price=Price(base=Rates(input=1, output=1)))
CHARGE = Settlement(40, "completed", estimated=False, usage=Usage(input=1))
NOTHING = Settlement(0, None, estimated=False, usage=Usage())
REPORT = Report(outcome="completed")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "_PAUSES_S", (0.001, 0.001, 0.001, 0.001))


class Stand:
    """A store with a hold of 60 in it, and the alarms."""

    def __init__(self) -> None:
        self.store = Delegate()
        self.lease = Lease(self.store, "worker-1", swept=lambda _: None)
        self.alarms: list[Alarm] = []

    async def hold(self) -> "Stand":
        reserve = Reserve(
            id="req_1",
            accounts=("alice",),
            want=60,
            floor=60,
            owner="worker-1",
            ttl_s=60,
            orphan_amount=1,
            draft=DRAFT,
        )
        await self.lease.apply([Grant(id="g", account="alice", amount=100), reserve])
        return self

    async def settle(self, settlement: Settlement = CHARGE) -> Result | None:
        return await settle(self.lease, "req_1", settlement, REPORT, account="alice", alarm=self.alarms.append)

    async def figures(self) -> tuple[int, int]:
        balance = await self.store.balance("alice")
        return balance.used, balance.held


async def test_a_hold_is_swapped_for_what_was_used() -> None:
    stand = await Stand().hold()
    result = await stand.settle()
    assert result is not None
    assert [entry.amount for entry in result.entries] == [40]
    assert await stand.figures() == (40, 0)
    assert stand.alarms == []


async def test_where_nothing_was_forwarded_the_hold_is_released_without_an_entry() -> None:
    stand = await Stand().hold()
    result = await stand.settle(NOTHING)
    assert result is not None
    assert result.entries == ()
    assert await stand.figures() == (0, 0)
    assert len(stand.store.asked(Release)) == 1


@pytest.mark.parametrize("lost", ["before the commit", "after the commit"])
async def test_a_settle_is_repeated_by_id_until_it_is_answered_and_charges_once(lost: str) -> None:
    stand = await Stand().hold()
    tries = 0

    async def fail(operations: Sequence[Operation], results: list[Result] | None = None) -> list[Result]:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError
        return results or []

    if lost == "before the commit":
        stand.store.before = fail
    else:
        stand.store.after = fail
    await stand.settle()
    assert tries == 4
    assert {operation.id for operation in stand.store.asked(Settle)} == {"req_1"}
    assert await stand.figures() == (40, 0)
    assert stand.alarms == []


async def test_what_cannot_be_settled_raises_one_alarm_and_keeps_its_hold_for_the_sweeper() -> None:
    stand = await Stand().hold()
    stand.store.error = StoreError("secret")
    assert await stand.settle() is None
    (alarm,) = stand.alarms
    assert (alarm.kind, alarm.request_id) == ("settle_failed", "req_1")
    assert "40" in alarm.detail
    assert "secret" not in alarm.detail
    assert len(stand.store.asked(Settle)) == 5
    assert await stand.figures() == (0, 60)


async def test_another_amount_than_before_is_a_conflict_the_first_wins() -> None:
    stand = await Stand().hold()
    await stand.settle()
    await stand.settle(Settlement(41, "completed", estimated=False, usage=Usage()))
    (alarm,) = stand.alarms
    assert (alarm.kind, alarm.detail) == ("conflict", "conflict: wanted 41, stands at 40 nano-dollars")
    assert await stand.figures() == (40, 0)


async def test_a_hold_that_the_store_does_not_know_raises_the_alarm() -> None:
    stand = Stand()
    await stand.settle()
    assert [alarm.kind for alarm in stand.alarms] == ["conflict"]


async def test_an_answer_to_another_question_is_none_and_tells_nobody_its_lines() -> None:
    stand = await Stand().hold()

    async def other(operations: Sequence[Operation], results: list[Result]) -> list[Result]:
        return [
            Result(id="req_9", status="done", entries=result.entries) if isinstance(operation, Settle) else result
            for operation, result in zip(operations, results, strict=True)
        ]

    stand.store.after = other
    assert await stand.settle() is None
    assert [alarm.kind for alarm in stand.alarms] == ["settle_failed"]
    assert await stand.figures() == (40, 0)


async def test_the_answer_is_given_although_it_could_not_be_settled(fake_upstream: FakeUpstream) -> None:
    store, witness = Delegate(), Witness()

    async def fail(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            raise OSError

    async with gateway(fake_upstream, store=store, observers=[witness]) as found:
        store.before = fail
        assert (await found.complete(ALICE, question())).cost == USAGE_NANO
        assert witness.alarms == ["settle_failed"]
        assert witness.settled == []
        with pytest.raises(StoreError):  # no figures are better than wrong ones
            await found.balance(ALICE)
        store.before = None
        assert (await found.balance(ALICE)).used == USAGE_NANO
        (line,) = await check_books(found)
        assert [told.entries for told in witness.settled] == [(line,)]


async def test_settling_is_shielded_from_the_hosts_cancellation(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    settling = anyio.Event()

    async def slow(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            settling.set()
            await anyio.sleep(0.1)

    store.before = slow
    async with gateway(fake_upstream, store=store) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.complete, ALICE, question())
            await settling.wait()
            tasks.cancel_scope.cancel()
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


async def test_a_reader_waits_for_settlements_of_its_own_account_only() -> None:
    pending = Pending()
    first, second = Ending(pending, "alice"), Ending(pending, "alice")
    first.begin()
    second.begin()
    with anyio.fail_after(1):
        await pending.wait("bob", 60)
    done: list[str] = []

    async def wait() -> None:
        await pending.wait("alice", 60)
        done.append("alice")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        first.settled()
        await anyio.wait_all_tasks_blocked()
        assert done == []
        second.settled()
    assert done == ["alice"]


async def test_a_reader_does_not_wait_for_ever() -> None:
    pending = Pending()
    ending = Ending(pending, "alice")
    ending.begin()
    with anyio.fail_after(5):
        await pending.wait("alice", 0.01)
    ending.settled()
    assert not pending.ending
