"""The settlement table, end to end: streams that break off, go on for too long, or report usage in strange ways."""

import json
from dataclasses import replace
from typing import Any

import anyio
import pytest
from rig import ALICE, KEY, USAGE_NANO, Witness, check_books, chunks, gateway, read_chat

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.upstream import Exchange
from hpp_middleware.types.provider import Limits, Timeouts
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

IDLE = Timeouts(connect=1, first_byte=5, idle=0.2, total=10)
EVENTS = 6  # role, two texts, finish reason, usage, [DONE]


def text_of(stream: bytes) -> str:
    """The text that the client got."""
    found = [item for item in chunks(stream) if item != "[DONE]"]
    return "".join(item["choices"][0]["delta"].get("content", "") for item in found if item["choices"])


def estimate(exchange: Exchange, text: str) -> int:
    """By the witness's body and the client's text: a token for four bytes."""
    return -(-len(exchange.body) // 4) * 1_000 + -(-len(text.encode()) // 4) * 2_000


async def stream_to_its_end(found: Gateway) -> tuple[bytes, Entry]:
    """What the client got, and the last ledger line, the books being in order."""
    status, body = await read_chat(found, stream=True)
    assert status == 200
    return body, (await check_books(found))[-1]


def broke(body: bytes) -> dict[str, Any]:
    """The error that a broken stream ends in, which has no end mark."""
    assert b"[DONE]" not in body
    last = chunks(body)[-1]
    error: dict[str, Any] = last["error"]
    assert error["type"] == "upstream_error"
    assert not any("error" in item for item in chunks(body)[:-1])
    return error


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("events", range(EVENTS))
async def test_a_stream_that_breaks_off_after_k_events(events: int, reset: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(truncate_after_events=events, reset=reset, delay_between_s=0.002)
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        exchange = fake_upstream.log[0]
        if exchange.usage is not None:
            assert (line.amount, line.report.estimated) == (USAGE_NANO, False)
        elif exchange.bytes_sent:
            assert (line.amount, line.report.estimated) == (estimate(exchange, text_of(body)), True)
        else:
            assert (line.amount, line.report.estimated) == (0, False)
        error = broke(body)
        assert error["retryable"] is True
        assert line.report.outcome == "failed"


async def test_a_stream_cut_at_every_byte_is_charged_for_what_was_relayed(fake_upstream: FakeUpstream) -> None:
    short = Script(texts=("Hi there",))
    fake_upstream.script = short
    async with gateway(fake_upstream) as found:
        await stream_to_its_end(found)
        for cut in range(fake_upstream.log[0].bytes_sent):
            fake_upstream.script = replace(short, truncate_at_byte=cut)
            _, body = await read_chat(found, stream=True)
            exchange, (line,) = fake_upstream.log[-1], await found.store.lines("alice", after=cut + 1)
            broke(body)
            assert text_of(body) in {"", "Hi there"}
            free = exchange.bytes_sent == 0
            reported = exchange.usage is not None
            assert line.amount == (USAGE_NANO if reported else 0 if free else estimate(exchange, text_of(body)))
            assert (line.report.outcome, line.report.estimated) == ("failed", not free and not reported)
        assert (await found.balance(ALICE)).held == 0


async def test_what_came_before_the_fault_in_the_same_bytes_still_reaches_the_client(
    fake_upstream: FakeUpstream,
) -> None:
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "words that were paid for"}}]}
    good = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    faults = (b"data: {oops\n\n", b'data: {"error":{"message":"no"}}\n\n', b"data: " + b"x" * 5000 + b"\n\n")
    async with gateway(fake_upstream, limits=Limits(event_bytes=1000)) as found:
        for fault in faults:
            fake_upstream.script = Script(raw_body=good + fault, content_type="text/event-stream")
            body, line = await stream_to_its_end(found)
            broke(body)
            assert text_of(body) == "words that were paid for"
            assert line.amount == estimate(fake_upstream.log[-1], "words that were paid for")


def broken_stream(*events: dict[str, Any]) -> Script:
    """A stream of these events that ends before its finish reason."""
    raw = b"".join(b"data: " + json.dumps({"id": "c", **event}).encode() + b"\n\n" for event in events)
    return Script(raw_body=raw, content_type="text/event-stream")


def piece(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}]}


async def test_each_piece_of_a_broken_stream_is_a_token_at_least(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = broken_stream(*(piece(digit) for digit in "31415926"))
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        assert text_of(body.partition(b'data: {"error"')[0]) == "31415926"
        assert line.report.usage.output == 8
        assert line.amount == estimate(fake_upstream.log[0], "four" * 8)


async def test_a_report_at_the_start_of_a_broken_stream_is_a_lower_bound(fake_upstream: FakeUpstream) -> None:
    first = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}}
    fake_upstream.script = broken_stream(first, *(piece("word") for _ in range(5)))
    async with gateway(fake_upstream) as found:
        _, line = await stream_to_its_end(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (9 * 1_000 + 5 * 2_000, "failed", True)


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_report_that_more_of_a_whole_answer_has_followed_is_a_lower_bound_where_it_is_the_only_one(
    before: int, fake_upstream: FakeUpstream
) -> None:
    told = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": before, "total_tokens": 9 + before}}
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    pieces = [piece("word") for _ in range(5)]
    fake_upstream.script = broken_stream(*pieces[:before], told, *pieces[before:], last)
    async with gateway(fake_upstream) as found:
        _, line = await stream_to_its_end(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (9 * 1_000 + 5 * 2_000, "completed", True)


@pytest.mark.parametrize("last", [None, "response.completed", "response.incomplete"])
async def test_a_report_of_a_response_in_progress_is_a_lower_bound(
    last: str | None, fake_upstream: FakeUpstream
) -> None:
    response = {"id": "r", "object": "response", "status": "in_progress", "output": []}
    early = {**response, "usage": {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}}
    told = [{"type": "response.created", "response": early}]
    told += [{"type": "response.output_text.delta", "item_id": "i", "delta": "word"} for _ in range(5)]
    told += [{"type": last, "response": {**response, "status": "completed"}}] if last else []
    events = [f"data: {json.dumps(each)}\n\n".encode() for each in told]
    fake_upstream.script = Script(raw_events=events, content_type="text/event-stream")
    async with gateway(fake_upstream, provider={"native_apis": frozenset({"responses"})}) as found:
        body = {"model": "fake/fake-1", "input": "Hi", "max_output_tokens": 100, "stream": True}
        async with post(found.app, "/v1/responses", body, headers={"apikey": KEY}, ahead=0) as call:
            await call.read()
            await call.returned()
        (line,) = await check_books(found)
        outcome = "completed" if last else "failed"
        assert (line.amount, line.report.outcome, line.report.estimated) == (9 * 1_000 + 5 * 2_000, outcome, True)


@pytest.mark.parametrize("code", [None, 429, 503, "rate_limit_exceeded"])
async def test_an_error_event_ends_the_stream_as_an_error_of_ours(
    code: int | str | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(error_event={"error": {"message": "secret-host died", "code": code}})
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        assert "secret" not in str(broke(body))
        assert text_of(body) == "Hello world"
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream.log[0], "Hello world"), "failed")


async def test_an_error_event_before_any_text_costs_nothing(fake_upstream: FakeUpstream) -> None:
    raw = b'data: {"error":{"message":"no room","code":429}}\n\n'
    fake_upstream.script = Script(raw_body=raw, content_type="text/event-stream")
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        assert broke(body)["code"] == "rate_limit_exceeded"
        assert (line.amount, line.report.outcome) == (0, "failed")


async def test_a_stream_that_ends_properly_without_its_mark_gets_one(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(omit_done=True)
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        assert body.endswith(b"data: [DONE]\n\n")
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")


async def test_a_stream_without_a_finish_reason_or_mark_broke_off(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(omit_done=True, finish_reason=None)
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        broke(body)
        assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "failed", False)


@pytest.mark.parametrize("where", ["own chunk", "last chunk", "every chunk"])
@pytest.mark.parametrize("asked", [False, True])
async def test_usage_counts_wherever_it_stands_and_is_shown_only_where_asked(
    where: Any,
    asked: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(usage_in=where)
    async with gateway(fake_upstream) as found:
        options = {"stream_options": {"include_usage": True}} if asked else {}
        _, body = await read_chat(found, stream=True, **options)
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "completed", False)
        shown = [item.get("usage") for item in chunks(body)[:-1] if "usage" in item]
        assert bool(shown) == asked
        assert fake_upstream.log[0].json()["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_of_zero_is_a_report(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.script = Script(usage="zero")
    async with gateway(fake_upstream) as found:
        await read_chat(found, stream=stream)
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (0, "completed", False)


INVALID: list[Any] = [-1, 1.5, "12", True, 2**63, 10**400, None, [], {}]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_usage_that_is_none_is_an_estimate_and_raises_an_alarm(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    witness = Witness()
    async with gateway(fake_upstream, observers=[witness]) as found:
        for number, value in enumerate(INVALID):
            usage = {"prompt_tokens": value, "completion_tokens": 2, "total_tokens": 11}
            fake_upstream.script = Script(usage=usage, usage_in="last chunk")
            status, _ = await read_chat(found, stream=stream)
            assert status == 200
            line = (await check_books(found))[-1]
            assert line.amount == estimate(fake_upstream.log[number], "Hello world")
            assert (line.report.outcome, line.report.estimated) == ("completed", True)
        assert witness.alarms == ["missing_usage"] * len(INVALID)


async def test_usage_above_the_hold_is_charged_with_a_line_of_its_own_and_an_alarm(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(usage={"prompt_tokens": 9, "completion_tokens": 1000, "total_tokens": 1009})
    witness = Witness()
    async with gateway(fake_upstream, observers=[witness]) as found:
        await read_chat(found)
        first, second = await check_books(found)
        assert first.amount + second.amount == 9 * 1_000 + 1000 * 2_000
        assert (first.line, first.amount, second.line) == ("resolution", first.held, "overage")
        assert witness.alarms == ["overage"]


async def test_an_endless_stream_is_cut_where_its_cap_is_passed(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(endless=True, texts=("word ",))
    async with gateway(fake_upstream) as found:
        body, line = await stream_to_its_end(found)
        assert body.endswith(b"data: [DONE]\n\n")
        assert chunks(body)[-2]["choices"][0]["finish_reason"] == "length"
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        assert (line.amount, line.report.outcome, line.report.estimated) == (line.held, "completed", True)


async def test_an_event_that_is_too_large_breaks_the_stream(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(texts=("Hello", "x" * 50_000, "never"), chunk_size=1000, endless=True)
    async with gateway(fake_upstream, limits=Limits(event_bytes=10_000)) as found:
        body, line = await stream_to_its_end(found)
        broke(body)
        assert text_of(body) == "Hello"
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        assert (line.amount, line.report.outcome) == (estimate(fake_upstream.log[0], "Hello"), "failed")


@pytest.mark.parametrize("events", range(EVENTS))
async def test_silence_past_the_idle_deadline_ends_the_stream(events: int, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=events)
    timeouts = IDLE if events else Timeouts(connect=1, first_byte=0.2, idle=0.2, total=10)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        body, line = await stream_to_its_end(found)
        assert broke(body)["code"] == "timeout"
        with anyio.fail_after(5):
            await fake_upstream.idle()
        exchange = fake_upstream.log[0]
        assert exchange.closed_early
        expected = USAGE_NANO if exchange.usage is not None else estimate(exchange, text_of(body))
        assert (line.amount, line.report.outcome) == (expected, "failed")


async def test_a_slow_first_event_is_waited_for_longer_than_the_others(fake_upstream: FakeUpstream) -> None:
    timeouts = Timeouts(connect=1, first_byte=5, idle=0.3, total=10)
    fake_upstream.script = Script(delay_head_s=0.5)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        for stream in (False, True):
            assert (await read_chat(found, stream=stream))[0] == 200
        assert [line.amount for line in await check_books(found)] == [USAGE_NANO] * 2
