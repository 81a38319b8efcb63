"""Drains that take too many bytes, too long, or no slot: closed, and charged the hold."""

import json
from typing import Any

import anyio
import pytest
from rig import BOB_KEY, KEY, USAGE_NANO, ask, check_books

from hpp_middleware.stages.worker import worker
from hpp_middleware.testing import USAGE, FakeUpstream, Script
from hpp_middleware.types.provider import Limits
from stages.draining import draining, estimate, leave_after, leave_before_the_head, left, only_line, result

pytestmark = pytest.mark.anyio

# --- the bounds ---


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", **fields}).encode() + b"\n\n"


def choice(finish_reason: str | None = None, **delta: str) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


TEXT = chunk(choices=[choice(content="Hello")]) + chunk(choices=[choice(content=" world")])
TO_FINISH = TEXT + chunk(choices=[choice("stop")])
TO_USAGE = TO_FINISH + chunk(choices=[], usage=USAGE)
WHOLE = TO_USAGE + b"data: [DONE]\n\n"


@pytest.mark.parametrize("chunk_size", [None, 7])
@pytest.mark.parametrize(
    ("most", "cost"),
    [
        (1, "hold"),
        (len(TEXT), "hold"),
        (len(TO_FINISH) - 1, "hold"),
        (len(TO_FINISH), "estimate"),  # it is whole but for its usage
        (len(TO_USAGE) - 1, "estimate"),
        (len(TO_USAGE), "usage"),
        (len(WHOLE) - 1, "usage"),
        (len(WHOLE), "usage"),
    ],
)
async def test_a_drain_is_bounded_in_bytes_to_the_byte(
    most: int, cost: str, chunk_size: int | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(
        raw_body=WHOLE, content_type="text/event-stream", chunk_size=chunk_size, delay_head_s=0.1
    )
    async with draining(fake_upstream, provider={"drain_bytes": most}) as found:
        await leave_before_the_head(found, fake_upstream)
        line = await only_line(found)
        costs = {"hold": line.held, "estimate": estimate(fake_upstream, "Hello world"), "usage": USAGE_NANO}
        assert result(line) == (costs[cost], "abandoned", cost != "usage")


async def test_a_drain_past_its_bytes_closes_the_upstream(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(texts=("word ",), endless=True)
    async with draining(fake_upstream, provider={"drain_bytes": 5_000}) as found:
        await leave_after(found, 2, max_tokens=1_000_000)
        assert await left(fake_upstream)
        line = await only_line(found)
        assert result(line) == (line.held, "abandoned", True)


@pytest.mark.parametrize("script", [Script(stall_after_events=2), Script(stall_after_events=1)])
async def test_a_drain_that_takes_too_long_is_closed_and_costs_the_hold(
    script: Script, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = script
    async with draining(fake_upstream, provider={"drain_s": 0.1}) as found:
        await leave_after(found, 1)
        assert await left(fake_upstream)
        line = await only_line(found)
        assert result(line) == (line.held, "abandoned", True)


async def test_a_drain_that_waits_too_long_for_the_head_costs_the_hold(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=60)
    async with draining(fake_upstream, provider={"drain_s": 0.1}) as found:
        await leave_before_the_head(found, fake_upstream)
        assert await left(fake_upstream)
        line = await only_line(found)
        assert result(line) == (line.held, "abandoned", True)


async def test_a_drain_past_its_bound_that_has_reported_usage_costs_that(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(usage_in="every chunk", stall_after_events=2)
    async with draining(fake_upstream, provider={"drain_s": 0.1}) as found:
        await leave_after(found, 2)
        assert await left(fake_upstream)
        assert result(await only_line(found)) == (9 * 1_000 + 1 * 2_000, "abandoned", False)


async def test_after_the_finish_reason_a_drain_waits_for_the_usage_and_no_longer(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=4)
    async with draining(fake_upstream, limits=Limits(usage_wait_s=0.1)) as found:
        await leave_after(found, 1)
        assert await left(fake_upstream)
        assert result(await only_line(found)) == (estimate(fake_upstream, "Hello world"), "abandoned", True)


# --- the number ---


@pytest.mark.parametrize(
    ("limits", "other_key"), [({"consumer_drain_slots": 1}, KEY), ({"drain_slots": 1}, BOB_KEY)], ids=["own", "all"]
)
async def test_one_drain_too_many_is_closed_and_costs_the_hold(
    limits: dict[str, Any], other_key: str, fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CLOSE_S", 0.1)
    fake_upstream.script = Script(stall_after_events=2)
    found = draining(fake_upstream, limits=Limits(**limits))
    async with ask(found, stream=True) as first, found:
        await first.event()
        first.disconnect()
        await anyio.wait_all_tasks_blocked()
        async with ask(found, stream=True, key=other_key) as second:
            await second.event()
            second.disconnect()
            with anyio.fail_after(5):
                await second.returned()
        (line,) = await found.store.lines("bob" if other_key == BOB_KEY else "alice")
        assert result(line) == (line.held, "abandoned", True)
        assert not first._returned.is_set()
        assert not fake_upstream.log[0].closed_early
    assert await left(fake_upstream, 1)


async def test_another_consumers_drains_take_none_of_ones_own_slots(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CLOSE_S", 0.1)
    fake_upstream.next(Script(stall_after_events=2), Script(delay_between_s=0.01))
    found = draining(fake_upstream, limits=Limits(consumer_drain_slots=1))
    async with ask(found, stream=True, key=BOB_KEY) as first, found:
        await first.event()
        first.disconnect()
        await leave_after(found, 1)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)
        assert not first._returned.is_set()


async def test_a_slot_is_free_again_after_its_drain(fake_upstream: FakeUpstream) -> None:
    endless, cut = Script(texts=("word ",), endless=True), Script(truncate_after_events=3, delay_between_s=0.01)
    fake_upstream.next(endless, cut)
    fake_upstream.script = Script(delay_between_s=0.01)
    limits = Limits(consumer_drain_slots=1)
    async with draining(fake_upstream, provider={"drain_bytes": 5_000}, limits=limits) as found:
        for _ in range(3):
            await leave_after(found, 1, max_tokens=100_000)
        lines = await check_books(found)
        assert lines[0].amount == lines[0].held
        assert [line.report.outcome for line in lines] == ["abandoned"] * 3
        assert lines[2].amount == USAGE_NANO


async def test_a_gateway_that_closes_stops_its_drains_and_settles_them(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "CLOSE_S", 0.1)
    fake_upstream.script = Script(stall_after_events=2)
    found = draining(fake_upstream)
    async with ask(found, stream=True) as call:
        async with found:
            await call.event()
            call.disconnect()
            await anyio.wait_all_tasks_blocked()
            assert not call._returned.is_set()
        (line,) = await found.store.lines("alice")  # by now
        assert result(line) == (line.held, "abandoned", True)
    assert await left(fake_upstream)
