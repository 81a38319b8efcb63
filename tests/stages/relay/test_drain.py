"""Streams read on for clients that have left: charged what the provider bills, and bounded in all directions."""

import json
from functools import partial

import anyio
import pytest
from anyio.lowlevel import checkpoint
from rig import ALICE, USAGE_NANO, ask, check_books, gateway, question

from hpp_middleware import Gateway
from hpp_middleware.stages.relay.drain import Drain, Slots
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.http import Headers
from hpp_middleware.types.provider import Limits
from stages.draining import draining, estimate, leave_after, leave_before_the_head, left, only_line, result

pytestmark = pytest.mark.anyio


MOST_STEPS = 400
BODY = json.dumps(question(stream=True)).encode()

# --- the slots, and the bound in bytes ---


async def test_a_drain_takes_no_more_bytes_than_it_may() -> None:
    drain = Drain("alice", 5, lambda: None)
    assert [drain.within(piece) for piece in (b"abc", b"", b"de")] == [b"abc", b"", b"de"]
    assert not drain.exceeded
    assert (drain.within(b"f"), drain.exceeded) == (b"", True)
    cut = Drain("alice", 5, lambda: None)
    assert (cut.within(b"abcdef"), cut.exceeded) == (b"abcde", True)


async def test_slots_are_bounded_for_a_worker_and_for_a_consumer_and_freed() -> None:
    slots = Slots(3, 2)

    def begin(account: str) -> Drain | None:
        return slots.begin(account, most_bytes=1, stop=lambda: None)

    first, second = begin("alice"), begin("alice")
    assert first is not None
    assert second is not None
    assert begin("alice") is None
    third = begin("bob")
    assert third is not None
    assert begin("carol") is None
    slots.end(first)
    assert begin("carol") is not None
    assert begin("alice") is None
    slots.end(third)
    assert begin("alice") is not None


async def test_closed_slots_stop_every_drain_and_begin_none() -> None:
    slots, stopped = Slots(9, 9), list[str]()
    for name in ("alice", "bob"):
        assert slots.begin(name, most_bytes=1, stop=partial(stopped.append, name)) is not None
    assert slots.close() == 2
    assert sorted(stopped) == ["alice", "bob"]
    assert slots.begin("carol", most_bytes=1, stop=lambda: None) is None


# --- to the end ---


@pytest.mark.parametrize("events", [1, 2, 3, 4])
async def test_a_stream_left_after_k_events_is_read_on_and_costs_what_it_reports(
    events: int, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(delay_between_s=0.01)
    async with draining(fake_upstream) as found:
        await leave_after(found, events)
        assert not await left(fake_upstream)
        assert fake_upstream.log[0].finished
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


async def test_a_stream_left_before_its_head_is_read_on(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=0.1)
    async with draining(fake_upstream) as found:
        await leave_before_the_head(found, fake_upstream)
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


async def test_a_client_that_had_left_before_the_upstream_was_asked_costs_nothing(fake_upstream: FakeUpstream) -> None:
    async with draining(fake_upstream) as found:
        await found.balance(ALICE)
        await leave_after(found, 0)
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_refusal_that_comes_after_the_client_has_left_costs_nothing(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=0.1, status=503)
    async with draining(fake_upstream) as found:
        await leave_before_the_head(found, fake_upstream)
        assert result(await only_line(found)) == (0, "failed", False)


@pytest.mark.parametrize(
    "script", [Script(delay_head_s=0.2, close_before_head=True), Script(delay_head_s=0.2, truncate_at_byte=0)]
)
async def test_an_upstream_that_fails_before_its_answer_costs_nothing_when_the_client_has_left_either(
    script: Script, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = script
    async with draining(fake_upstream) as found:
        await leave_before_the_head(found, fake_upstream)
        assert result(await only_line(found)) == (0, "failed", False)


async def test_a_drained_stream_without_usage_costs_an_estimate_of_all_of_it(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(usage=None, delay_between_s=0.01)
    async with draining(fake_upstream) as found:
        await leave_after(found, 2)
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (estimate(fake_upstream, "Hello world"), "abandoned", True)


async def test_a_stream_that_breaks_off_while_it_is_drained_costs_an_estimate_of_what_came(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(truncate_after_events=3, delay_between_s=0.01)
    async with draining(fake_upstream) as found:
        await leave_after(found, 1)
        assert result(await only_line(found)) == (estimate(fake_upstream, "Hello world"), "abandoned", True)


async def test_a_drained_stream_that_runs_past_its_cap_is_closed_and_costs_the_hold(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(texts=("word ",), endless=True)
    async with draining(fake_upstream) as found:
        await leave_after(found, 2, max_tokens=10)
        assert await left(fake_upstream)
        line = await only_line(found)
        assert result(line) == (line.held, "abandoned", True)


async def test_a_reader_that_stands_still_is_drained_for_too(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(texts=("word ",) * 50)
    async with draining(fake_upstream, limits=Limits(send_s=0.2)) as found:
        async with ask(found, stream=True) as call:
            for _ in range(3):
                await call.event()
            with anyio.fail_after(5):
                await call.returned()  # without having taken any more
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


class Stuck:
    """A client whose server does not return from ``send`` when it has left."""

    patient = True

    def __init__(self) -> None:
        self.started = False
        self.taking = anyio.Event()
        self.left = anyio.Event()

    async def start(self, _status: int, _headers: Headers) -> None:
        self.started = True

    async def send(self, _data: bytes, *, more: bool) -> None:
        assert more
        self.taking.set()
        await anyio.sleep_forever()

    def hear(self, _left: object) -> None:
        return None

    async def gone(self) -> None:
        await self.left.wait()


async def test_a_piece_that_nobody_takes_does_not_hold_up_the_drain(fake_upstream: FakeUpstream) -> None:
    client = Stuck()
    async with draining(fake_upstream) as found:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(found.answer, ALICE, BODY, client, request_id="req_1"))
                await client.taking.wait()
                client.left.set()
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


async def test_a_json_answer_is_awaited_whatever_the_policy(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=0.1)
    async with draining(fake_upstream, provider={"drain_bytes": 1}, limits=Limits(drain_slots=0)) as found:
        async with ask(found) as call:
            await fake_upstream.arrived()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


# --- a request with a key of its own ---


async def test_a_keyed_stream_is_drained_although_its_provider_would_stop(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_between_s=0.01)
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=True, headers={"idempotency-key": "once-and-no-more"}) as call:
            await call.event()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


async def test_without_a_key_the_same_stream_is_closed(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream) as found:
        await leave_after(found, 2)
        assert await left(fake_upstream)
        assert result(await only_line(found)) == (estimate(fake_upstream, "Hello"), "abandoned", True)


# --- a prompt whose size only its usage tells ---

PDF = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
VIDEO = {"type": "video", "video": ["https://example.com/1.jpg"]}


@pytest.mark.parametrize("part", [PDF, VIDEO])
async def test_a_stream_about_a_document_is_drained_although_its_provider_would_stop(
    part: dict[str, object], fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(delay_between_s=0.01)
    asked = [{"role": "user", "content": [part]}]
    async with gateway(fake_upstream) as found:
        await leave_after(found, 1, messages=asked)
        assert not await left(fake_upstream)
        assert result(await only_line(found)) == (USAGE_NANO, "abandoned", False)


async def test_a_stream_about_a_document_that_is_not_drained_costs_the_hold(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    asked = [{"role": "user", "content": [PDF]}]
    async with gateway(fake_upstream, limits=Limits(drain_slots=0)) as found:
        await leave_after(found, 2, messages=asked)
        assert await left(fake_upstream)
        line = await only_line(found)
        assert result(line) == (line.held, "abandoned", True)


# --- at every step ---


async def test_wherever_its_client_leaves_a_stream_that_was_sent_costs_what_it_reports(
    fake_upstream: FakeUpstream,
) -> None:
    # Cancelled as often as it takes steps: each time at another one.
    released = abandoned = completed = known = 0
    async with draining(fake_upstream) as found:
        for number in range(MOST_STEPS):
            fake_upstream.log.clear()
            async with ask(found, stream=True) as call, anyio.create_task_group() as tasks:
                tasks.start_soon(call.read)
                for _ in range(number):
                    await checkpoint()
                tasks.cancel_scope.cancel()
                call.disconnect()
                with anyio.fail_after(5):
                    await call.returned()
            with anyio.fail_after(5):
                await fake_upstream.idle()
            lines = await found.store.lines("alice", after=known)
            known += len(lines)
            assert (await found.store.balance("alice")).held == 0
            assert bool(lines) == any(exchange.bytes_sent for exchange in fake_upstream.log)
            assert all((line.amount, line.report.estimated) == (USAGE_NANO, False) for line in lines)
            released += not lines
            abandoned += any(line.report.outcome == "abandoned" for line in lines)
            completed += any(line.report.outcome == "completed" for line in lines)
            if completed == 5:
                break
        await check_books(found)
    assert released > 0
    assert abandoned > 0
    assert completed == 5


# --- a caller of our own, and a host that cancels ---


async def test_a_caller_that_cancels_a_completion_is_not_drained_for(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    begun = anyio.Event()

    async def take(data: bytes) -> None:
        if b"Hello" in data:
            begun.set()

    async def ask_directly(found: Gateway) -> None:
        await found.complete(ALICE, question(stream=True), send=take)

    async with draining(fake_upstream) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_directly, found)
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert await left(fake_upstream)
        assert result(await only_line(found)) == (estimate(fake_upstream, "Hello"), "failed", True)
