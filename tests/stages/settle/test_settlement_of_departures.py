"""The settlement table, end to end: clients that leave, at every point of a request, and readers that stand still."""

from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest
from rig import ALICE, KEY, USAGE_NANO, Delegate, ask, check_books, chunks, gateway, read

from hpp_middleware import Gateway
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.testing import USAGE, FakeUpstream, Script, post
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Settle
from hpp_middleware.types.provider import Limits, Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True])


async def only_line(found: Gateway) -> Entry:
    (line,) = await check_books(found)
    return line


async def left(upstream: FakeUpstream) -> bool:
    """Whether the upstream was closed before it had finished."""
    with anyio.fail_after(5):
        await upstream.idle()
    return upstream.log[0].closed_early


def estimate(upstream: FakeUpstream, text: str = "") -> int:
    return -(-len(upstream.log[0].body) // 4) * 1_000 + -(-len(text.encode()) // 4) * 2_000


@BOTH
async def test_a_client_that_had_left_before_the_upstream_was_asked_costs_nothing(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream) as found:
        await found.balance(ALICE)
        async with ask(found, stream=stream) as call:
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await check_books(found) == []
    assert fake_upstream.log == []


class Connecting:
    """A transport that never gets as far as sending."""

    def __init__(self) -> None:
        self.asked = anyio.Event()

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        self.asked.set()
        await anyio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        """Nothing to close."""


@BOTH
async def test_a_client_that_leaves_while_we_connect_costs_nothing_and_nothing_is_sent(stream: bool) -> None:  # noqa: FBT001
    transport = Connecting()
    async with gateway("http://127.0.0.1:9/v1", transports={"fake": transport}) as found:
        async with ask(found, stream=stream) as call:
            await transport.asked.wait()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await check_books(found) == []


async def test_a_client_that_leaves_in_the_middle_of_its_request_costs_nothing(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        headers = {"apikey": KEY, "content-type": "application/json"}
        async with post(found.app, "/llm/v1/chat/completions", b'{"model":', headers=headers, unfinished=True) as call:
            call.disconnect()
            await call.returned()
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_stream_left_before_its_head_costs_the_prompt(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=60)
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=True) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream), "abandoned")
        assert line.report.estimated


@pytest.mark.parametrize(("events", "text"), [(1, ""), (2, "Hello"), (3, "Hello world")])
async def test_a_stream_left_after_k_events_closes_the_upstream_and_costs_what_was_relayed(
    events: int, text: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(stall_after_events=events)
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=True) as call:
            for _ in range(events):
                assert await call.event()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream, text), "abandoned")
        assert line.report.estimated


async def test_a_stream_left_that_has_reported_usage_costs_that(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(usage_in="every chunk", stall_after_events=2)
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=True) as call:
            await call.event()
            await call.event()
            call.disconnect()
            await call.returned()
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.estimated) == (9 * 1_000 + 1 * 2_000, False)


@pytest.mark.parametrize("fields", [{"reasoning_effort": "high"}, {}])
async def test_a_stream_left_whose_model_thinks_out_of_sight_costs_the_hold(
    fields: dict[str, Any], fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream, model={} if fields else {"reasoning_model": True}) as found:
        async with ask(found, stream=True, **fields) as call:
            await call.event()
            call.disconnect()
            await call.returned()
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (line.held, "abandoned", True)


async def test_a_stream_left_after_its_finish_reason_is_read_on_to_the_usage(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_between_s=0.05)
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=True) as call:
            while b'"finish_reason":"stop"' not in await call.event():
                pass
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert not await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "abandoned", False)


async def test_a_usage_that_never_comes_is_not_waited_for_for_ever(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=4)
    async with gateway(fake_upstream, limits=Limits(usage_wait_s=0.1)) as found:
        async with ask(found, stream=True) as call:
            while b'"finish_reason":"stop"' not in await call.event():
                pass
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream, "Hello world"), "abandoned")


@pytest.mark.parametrize("usage", [True, False])
async def test_a_json_answer_that_is_paid_for_is_awaited(usage: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(delay_head_s=1.0, usage=USAGE if usage else None)
    async with gateway(fake_upstream) as found:
        async with ask(found) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert not await left(fake_upstream)
        line = await only_line(found)
        amount = USAGE_NANO if usage else estimate(fake_upstream, "Hello world")
        assert (line.amount, line.report.outcome, line.report.estimated) == (amount, "abandoned", not usage)


@pytest.mark.parametrize("script", [Script(delay_head_s=60), Script(stall_after_events=0)])
async def test_a_json_answer_is_not_awaited_for_ever(script: Script, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = script
    async with gateway(fake_upstream, limits=Limits(json_wait_s=0.1)) as found:
        async with ask(found) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (line.held, "abandoned", True)


async def test_a_refusal_that_comes_after_the_client_has_left_costs_nothing(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_head_s=0.1, status=503)
    async with gateway(fake_upstream) as found:
        async with ask(found) as call:
            await fake_upstream.arrived()
            call.disconnect()
            await call.returned()
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


@pytest.mark.parametrize(
    "script", [Script(delay_head_s=0.2, close_before_head=True), Script(delay_head_s=0.2, truncate_at_byte=0)]
)
@pytest.mark.parametrize("thinks", [False, True])
async def test_an_upstream_that_fails_before_its_answer_costs_nothing_when_the_client_has_left_either(
    thinks: bool,  # noqa: FBT001
    script: Script,
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = script
    async with gateway(fake_upstream, provider={"reasoning": ("*",) if thinks else ()}) as found:
        async with ask(found) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        line = await only_line(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (0, "failed", False)


@BOTH
async def test_a_client_that_leaves_with_the_last_byte_has_its_answer(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream) as found:
        async with ask(found, stream=stream) as call:
            body = await call.read()
            call.disconnect()
            await call.returned()
        assert body
        line = await only_line(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


async def test_a_reader_that_stands_still_has_left(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(endless=True, texts=("word " * 20,))
    async with gateway(fake_upstream, limits=Limits(send_s=0.2)) as found:
        async with ask(found, stream=True, max_tokens=100_000) as call:
            for _ in range(3):
                await call.event()
            with anyio.fail_after(5):
                await call.returned()  # without having taken any more
        assert await left(fake_upstream)
        line = await only_line(found)
        assert (line.report.outcome, line.report.estimated) == ("abandoned", True)
        assert estimate(fake_upstream, "word " * 40) <= line.amount <= line.held


async def test_a_reader_who_is_slow_is_not_blamed_for_a_slow_upstream(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(delay_between_s=0.5)
    timeouts = Timeouts(connect=1, first_byte=5, idle=0.8, total=30)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        async with ask(found, stream=True) as call:
            await call.event()
            await anyio.sleep(1.0)  # in which the second event has come and waits: together longer than the deadline
            rest = await call.read()
        assert chunks(rest)[-1] == "[DONE]"
        assert (await only_line(found)).report.outcome == "completed"


@pytest.mark.parametrize("way", ["json", "stream", "stream left"])
async def test_a_read_after_the_response_sees_the_request_although_settling_is_slow(
    way: str, fake_upstream: FakeUpstream
) -> None:
    store = Delegate()

    async def slow(operations: Sequence[Any]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            await anyio.sleep(0.3)

    store.before = slow
    fake_upstream.script = Script(stall_after_events=2 if way == "stream left" else None)
    async with gateway(fake_upstream, store=store) as found, ask(found, stream=way != "json") as call:
        if way == "stream left":
            await call.event()
            call.disconnect()
            await anyio.wait_all_tasks_blocked()  # until it was heard
        else:
            await call.read()
        assert not call._returned.is_set()
        figures = await read(found, "/api/usage")
        assert (figures["requests"], figures["used"] > 0) == (1, True)
        assert (await read(found, "/api/quota-check"))["held"] == 0
