"""Whoever leaves, whatever does not fit or is lost between two attempts: nothing stays held, and all is charged."""

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from chains import A_NANO, B_NANO, Pair, answered, pair, the_entry
from rig import ALICE, CHAT, Delegate, Lossy, Witness, ask, check_books, question
from stages.leasing import Clock

from hpp_middleware import MemoryStore
from hpp_middleware.core import ledger
from hpp_middleware.stages.reserve.lease import LEASE_S
from hpp_middleware.testing import Script, post
from hpp_middleware.types.operations import Operation, Reserve, Resize, Result, Settle, Sweep
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio

BUSY = Script(status=429, headers=[("retry-after", "20")])
SLOW = Timeouts(connect=5, first_byte=0.4, idle=20, total=30)


async def waiting(found: Pair) -> None:
    """Return when the one attempt so far has failed, and the next one is waited for."""
    await found.fake.arrived()
    await found.fake.idle()
    await anyio.wait_all_tasks_blocked()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_in_a_pause_is_asked_for_no_more(*, stream: bool) -> None:
    async with pair(retries=1, fallbacks={}) as found:
        found.fake.script = BUSY
        async with ask(found.gateway, model="fake/a", stream=stream) as call:
            await waiting(found)
            call.disconnect()
            await call.returned()
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.report.outcome, len(entry.report.attempts)) == (0, "failed", 1)
        assert found.asked == (["a"], [])


async def test_a_host_that_cancels_in_a_pause_leaves_no_hold() -> None:
    async with pair(retries=1, fallbacks={}) as found:
        found.fake.script = BUSY
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: found.gateway.complete(ALICE, question(model="fake/a")))
            await waiting(found)
            group.cancel_scope.cancel()
        assert (await the_entry(found.gateway)).amount == 0
        assert found.asked == (["a"], [])


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_during_the_second_attempt_is_charged_for_it(*, stream: bool) -> None:
    async with pair() as found:
        found.fake.script = Script(status=500)
        found.other.script = Script(delay_head_s=0.3 if not stream else 60)
        async with ask(found.gateway, model="fake/a", stream=stream) as call:
            await found.other.arrived()
            call.disconnect()
            await call.returned()
        entry = await the_entry(found.gateway)
        assert (entry.report.outcome, entry.draft.model) == ("abandoned", "other/c")
        assert entry.amount > 0
        assert [each.cost for each in entry.report.attempts] == [0, entry.amount]


async def test_a_host_that_cancels_the_second_attempt_leaves_no_hold_and_books_that_agree() -> None:
    async with pair(timeouts=SLOW) as found:
        found.fake.script = Script(delay_head_s=60)
        found.other.script = Script(stall_after_events=0)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: found.gateway.complete(ALICE, question(model="fake/a")))
            await found.other.arrived()
            group.cancel_scope.cancel()
        entry = await the_entry(found.gateway)
        first, second = entry.report.attempts
        assert first.cost > 0
        assert second.cost > 0


class Leaving(Delegate):
    """A store under whose first resize something happens."""

    happens: Any = None

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Carry out; and then, once, what is to happen."""
        results = await super().apply(operations)
        if self.happens is not None and any(isinstance(each, Resize) for each in operations):
            happens, self.happens = self.happens, None
            await happens()
        return results


async def test_a_client_that_leaves_while_more_is_held_is_asked_for_no_more() -> None:
    store = Leaving()
    async with pair(store=store) as found:
        found.fake.script = Script(status=500)
        async with ask(found.gateway, model="fake/a") as call:

            async def leave() -> None:
                call.disconnect()
                await anyio.wait_all_tasks_blocked()

            store.happens = leave
            await call.returned()
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model) == (0, "fake/a")
        assert found.asked == (["a"], [])
        assert len(store.asked(Resize)) == 2


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize("times", [1, 2])
async def test_where_a_resize_is_lost_the_first_error_is_told_and_the_books_are_right(
    times: int, *, does: bool
) -> None:
    async with pair(store=Lossy(times, does=does)) as found:
        found.fake.script = Script(status=500)
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["attempts"], headers["resolved-model"]) == (502, "1", "fake/a")
        entry = await the_entry(found.gateway)
        assert (entry.amount, ledger.recomputed(entry)) == (0, 0)
        assert found.asked == (["a"], [])
        assert times == 2 or entry.draft.model == "fake/a"


async def test_a_model_that_does_not_fit_in_the_quota_is_passed_over() -> None:
    # 100 tokens of answer cost $2 a million of the first, and $5 and $1 of the others
    async with pair(nano=320_000, fallbacks={"fake/a": ["other/c", "fake/cheap"]}) as found:
        found.fake.next(Script(status=500))
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["resolved-model"], headers["attempts"]) == (200, "fake/cheap", "2")
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model) == (9 * 500 + 2 * 1_000, "fake/cheap")
        assert found.asked == (["a", "cheap"], [])


async def test_where_none_fits_the_last_error_is_told() -> None:
    async with pair(nano=320_000) as found:
        found.fake.script = Script(status=429)
        status, headers, body = await answered(found.gateway)
        assert (status, headers["attempts"], headers["resolved-model"]) == (429, "1", "fake/a")
        assert b"rate_limit_exceeded" in body
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model) == (0, "fake/a")


async def test_a_cap_of_ours_is_lowered_to_what_there_is_room_for() -> None:
    store = Delegate()
    async with pair(store=store, nano=40_000_000) as found:
        found.fake.script = Script(status=500)
        async with post(
            found.gateway.app,
            CHAT,
            {"model": "fake/a", "messages": [{"role": "user", "content": "Hi"}]},
            headers={"apikey": "alice-shows-this-key-of-hers"},
            ahead=0,
        ) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        (reserve,), (first, second) = store.asked(Reserve), store.asked(Resize)
        assert reserve.want < 40_000_000 < first.amount
        assert second.amount < 40_000_000
        sent = found.other.log[0].json()["max_tokens"]
        assert 256 <= sent < 16_384
        assert sent * 5_000 < second.amount
        await the_entry(found.gateway)


async def test_the_hold_is_what_was_spent_and_what_the_next_can_cost() -> None:
    store = Delegate()
    async with pair(store=store, timeouts=SLOW, fallbacks={"fake/a": ["other/c", "fake/cheap"]}) as found:
        found.fake.next(Script(delay_head_s=60))
        found.other.script = Script(status=500)
        _, headers, _ = await answered(found.gateway)
        assert (headers["resolved-model"], headers["attempts"]) == ("fake/cheap", "3")
        (reserve,), (dearer, cheaper) = store.asked(Reserve), store.asked(Resize)
        entry = await the_entry(found.gateway)
        spent = entry.report.attempts[0].cost
        assert 0 < spent < reserve.want < dearer.amount
        assert cheaper.amount < reserve.want
        assert spent + 100 * 1_000 < cheaper.amount
        assert spent < dearer.orphan_amount < dearer.amount
        assert [each.draft.model for each in (reserve, dearer, cheaper)] == ["fake/a", "other/c", "fake/cheap"]
        assert (dearer.attempt, cheaper.attempt) == (1, 2)
        assert entry.amount == spent + 9 * 500 + 2 * 1_000


async def test_an_answer_of_a_later_attempt_is_given_again_under_its_key() -> None:
    async with pair(retries=1) as found:
        for stream in (False, True):
            found.fake.script = Script(truncate_after_events=0) if stream else Script(status=500)
            found.fake.log.clear()
            key = {"Idempotency-Key": f"stream={stream}"}
            first = await answered(found.gateway, headers=key, stream=stream)
            assert (first[0], first[1]["resolved-model"], first[1]["attempts"]) == (200, "other/c", "3")
            asked = len(found.other.log)
            again = await answered(found.gateway, headers=key, stream=stream)
            assert again[2] == first[2]
            assert (again[1]["resolved-model"], again[1]["attempts"]) == ("other/c", "3")
            assert len(found.other.log) == asked
        assert [each.amount for each in await check_books(found.gateway)] == [B_NANO, B_NANO]


async def test_under_a_key_a_request_whose_attempts_all_failed_is_run_anew() -> None:
    async with pair() as found:
        found.fake.next(Script(status=500))
        found.other.next(Script(status=500))
        key = {"Idempotency-Key": "k"}
        assert (await answered(found.gateway, headers=key))[0] == 502
        assert (await answered(found.gateway, headers=key))[0] == 200
        assert [each.amount for each in await check_books(found.gateway)] == [0, A_NANO]


async def test_observers_hear_of_one_request() -> None:
    witness = Witness()
    async with pair(observers=[witness]) as found:
        found.fake.script = Script(status=500)
        await answered(found.gateway)
        (settled,) = witness.settled
        assert settled.entries[0].amount == B_NANO <= settled.held
        assert witness.alarms == []


@pytest.mark.parametrize("fallbacks", [{}, {"fake/a": ["other/c"]}])
async def test_while_everything_fails_there_are_no_more_attempts_than_the_budget_has(
    fallbacks: dict[str, list[str]],
) -> None:
    async with pair(retries=1, fallbacks=fallbacks) as found:
        found.fake.script = found.other.script = Script(status=500, headers=[("retry-after", "0")])

        async def one() -> None:
            assert (await answered(found.gateway))[0] == 502

        for _ in range(10):
            async with anyio.create_task_group() as group:
                for _ in range(20):
                    group.start_soon(one)
        first, other = found.asked
        assert 200 < len(first) + len(other) <= 240
        assert {each.amount for each in await check_books(found.gateway)} == {0}


async def test_where_a_fallback_answers_all_may_turn_to_it() -> None:
    async with pair() as found:
        found.fake.script = Script(status=500)
        for _ in range(60):
            assert (await answered(found.gateway))[1]["resolved-model"] == "other/c"


async def test_all_attempts_have_one_deadline() -> None:
    async with pair(retries=5, fallbacks={}, timeouts=Timeouts(connect=5, first_byte=20, idle=20, total=1.5)) as found:
        found.fake.script = Script(status=500)
        status, headers, _ = await answered(found.gateway)
        # Of five pauses, each twice as long as the one before, only the first two can be within the deadline.
        assert status == 502
        assert 2 <= int(headers["attempts"]) <= 3
    async with pair(timeouts=Timeouts(connect=5, first_byte=20, idle=20, total=3)) as found:
        found.fake.script = Script(status=500, delay_head_s=0.4)
        found.other.script = Script(delay_head_s=60)
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["attempts"]) == (504, "2")
        assert (await the_entry(found.gateway)).report.attempts[1].error == "timeout"


async def test_a_worker_that_dies_in_a_later_attempt_is_charged_for_what_was_spent_and_what_was_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hpp_middleware.stages.settle.settling._PAUSES_S", ())
    clock = Clock()
    store = MemoryStore(clock=clock)
    dead = Delegate(store)

    async def die(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            raise OSError

    dead.before = die
    async with pair(store=dead, timeouts=SLOW) as found:
        found.fake.script = Script(delay_head_s=60)
        await found.gateway.complete(ALICE, question(model="fake/a"))
        prompt = -(-len(found.other.log[0].body) // 4) * 3_000
    (resize,) = dead.asked(Resize)
    assert (await store.balance("alice")).held == resize.amount
    clock.now += LEASE_S + 1
    await store.apply([Sweep()])
    (line,) = await store.lines("alice")
    assert (line.report.outcome, line.draft.model, line.amount) == ("orphaned", "other/c", resize.orphan_amount)
    assert line.amount > prompt  # which is what the second alone would come to
    assert (await store.balance("alice")).held == 0


async def test_an_estimate_and_more_than_was_held_for_add_up_for_an_auditor() -> None:
    models = {"fake/a": {"input": "100", "output": "200"}, "other/c": {"input": "1", "output": "2"}}
    async with pair(models=models, timeouts=SLOW) as found:
        found.fake.script = Script(delay_head_s=60)
        found.other.script = Script(usage={"prompt_tokens": 9, "completion_tokens": 5_000, "total_tokens": 5_009})
        assert (await answered(found.gateway))[0] == 200
        lines = await check_books(found.gateway)
        assert [line.line for line in lines] == ["resolution", "overage"]
        assert sum(line.amount for line in lines) == sum(each.cost for each in lines[0].report.attempts)
        walk = ledger.Walk("alice")
        assert [finding for line in lines for finding in walk.feed(line)] + walk.close() == []
