"""Anthropic's usage as it really comes, in buckets, and what it costs to the nano-dollar at real prices."""

import json
from typing import Any

import pytest
from msgspec import Raw

from claude.messages import ID, chat, message, stream_of, target, wire
from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.core import price as pricing
from hpp_middleware.core import settlement
from hpp_middleware.core.settlement import End
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.dialects.anthropic.usage import Tally
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Price, Rates, Usage

REPORTS: list[tuple[str, dict[str, Any], Usage, dict[str, int]]] = [
    (
        "plain",
        {
            "input_tokens": 2095,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
            "output_tokens": 503,
            "service_tier": "standard",
            "inference_geo": "not_available",
        },
        Usage(input=2095, output=503),
        # 2,095 x $3 + 503 x $15, in millionths
        {"claude-sonnet-4-5": 6_285_000 + 7_545_000, "claude-haiku-4-5": 2_095_000 + 2_515_000},
    ),
    (
        "caches of both kinds",
        {
            "input_tokens": 21,
            "cache_read_input_tokens": 188_086,
            "cache_creation_input_tokens": 556,
            "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 393,
        },
        Usage(input=21, cache_read=188_086, cache_write=456, cache_write_1h=100, output=393),
        # read at a tenth of the input, written at 1.25 and at 2 times
        {
            "claude-sonnet-4-5": 63_000 + 56_425_800 + 1_710_000 + 600_000 + 5_895_000,
            "claude-opus-4-5": 105_000 + 94_043_000 + 2_850_000 + 1_000_000 + 9_825_000,
        },
    ),
    (
        "above 200,000, of which what was cached is a part",
        {"input_tokens": 1, "cache_read_input_tokens": 200_000, "cache_creation_input_tokens": 0, "output_tokens": 10},
        Usage(input=1, cache_read=200_000, output=10),
        {"claude-sonnet-4-5": 6_000 + 120_000_000 + 225_000, "claude-opus-4-6": 5_000 + 100_000_000 + 250_000},
    ),
    (
        "200,000 to the token",
        {"input_tokens": 0, "cache_read_input_tokens": 200_000, "output_tokens": 10},
        Usage(cache_read=200_000, output=10),
        {"claude-sonnet-4-5": 60_000_000 + 150_000},
    ),
    (
        "thoughts, which are part of the output",
        {"input_tokens": 10, "output_tokens": 300, "output_tokens_details": {"thinking_tokens": 250}},
        Usage(input=10, output=50, reasoning=250),
        {"claude-sonnet-5": 20_000 + 3_000_000},
    ),
    (
        "searches of the provider's",
        {
            "input_tokens": 105,
            "output_tokens": 239,
            "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        },
        Usage(input=105, output=239, web_searches=2),
        {},
    ),
    (
        "nulls",
        {
            "input_tokens": 3,
            "output_tokens": 4,
            "cache_creation": None,
            "cache_read_input_tokens": None,
            "server_tool_use": None,
        },
        Usage(input=3, output=4),
        {},
    ),
]


@pytest.mark.parametrize(
    ("report", "usage", "costs"), [case[1:] for case in REPORTS], ids=[case[0] for case in REPORTS]
)
def test_reports_in_buckets_and_what_they_cost(report: dict[str, Any], usage: Usage, costs: dict[str, int]) -> None:
    body = json.dumps(message(usage=report, content=[{"type": "text", "text": "A"}], stop_reason="end_turn")).encode()
    _, whole = Anthropic().answer(body, chat(), target(), request_id=ID)
    assert (whole.usage, whole.usage_doubtful, json.loads(bytes(whole.usage_raw or b""))) == (
        usage,
        False,
        {name: value for name, value in report.items() if value is not None},
    )
    block = {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "A"}]}
    last = {
        name: value for name, value in report.items() if name not in {"cache_creation", "service_tier", "inference_geo"}
    }
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=1 << 20, cap=9, request_id=ID)
    reader.feed(
        wire(*stream_of(block, start={**report, "output_tokens": 1, "output_tokens_details": None}, usage=last))
    )
    assert (reader.seen.usage, reader.seen.usage_doubtful) == (usage, False)
    prices = GenaiPrices()
    for model, nano in costs.items():
        found = prices.find("anthropic", model)
        assert found is not None
        assert pricing.cost(usage, found[0]) == nano


def tally(*reports: Any) -> Tally:
    found = Tally()
    for report in reports:
        found.take(Raw(json.dumps(report).encode()))
    return found


def test_what_the_last_report_leaves_out_stays_as_the_first_has_it() -> None:
    start = {
        "input_tokens": 25,
        "cache_read_input_tokens": 7,
        "cache_creation_input_tokens": 9,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 1,
    }
    found = tally(start, {"output_tokens": 15, "input_tokens": None}).reading
    assert found is not None
    assert (found.usage, found.doubtful) == (
        Usage(input=25, cache_read=7, cache_write=4, cache_write_1h=5, output=15),
        False,
    )
    cumulative = tally(start, {"output_tokens": 15, "input_tokens": 30, "cache_creation_input_tokens": 12}).reading
    assert cumulative is not None
    assert cumulative.usage == Usage(input=30, cache_read=7, cache_write=7, cache_write_1h=5, output=15)
    assert cumulative.doubtful  # three more were written, and nobody says for how long


@pytest.mark.parametrize(
    ("report", "usage"),
    [
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 3,
                "cache_creation": {"ephemeral_5m_input_tokens": 9, "ephemeral_1h_input_tokens": 9},
            },
            Usage(input=1, output=2, cache_write_1h=3),
        ),
        (
            {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 5}},
            Usage(input=1, reasoning=2),
        ),
    ],
)
def test_what_contradicts_itself_is_doubtful(report: dict[str, Any], usage: Usage) -> None:
    found = tally(report).reading
    assert found is not None
    assert (found.usage, found.doubtful) == (usage, True)


def test_a_cache_whose_parts_alone_are_told_is_read() -> None:
    found = tally(
        {
            "input_tokens": 1,
            "output_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        }
    ).reading
    assert found is not None
    assert (found.usage, found.doubtful) == (Usage(input=1, output=2, cache_write=3, cache_write_1h=4), False)


@pytest.mark.parametrize(
    "report",
    [
        None,
        [],
        "many",
        {},
        {"input_tokens": 1},
        {"output_tokens": 1},
        {"input_tokens": -1, "output_tokens": 1},
        {"input_tokens": 1, "output_tokens": "2"},
        {"input_tokens": 1.5, "output_tokens": 2},
        {"input_tokens": True, "output_tokens": 2},
        {"input_tokens": 10**10, "output_tokens": 2},
        {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": -1}},
        {"input_tokens": 1, "output_tokens": 2, "cache_creation": [1]},
        {"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": -5},
    ],
)
def test_what_is_no_report_is_none_and_leaves_the_one_before_in_doubt(report: Any) -> None:
    assert tally(report).reading is None
    found = tally({"input_tokens": 5, "output_tokens": 6}, report).reading
    assert found is not None
    assert found.usage == Usage(input=5, output=6) or isinstance(report, dict)
    if not isinstance(report, dict) or -1 in report.values():
        assert found.doubtful


def test_bad_bytes_in_a_report_are_no_exception() -> None:
    found = Tally()
    assert not found.take(Raw(b'{"input_tokens":1,"output_tokens":2,"service_tier":"\xff"'))
    assert found.reading is None


PRICE = Price(base=Rates(input=10**9, output=2 * 10**9))


@pytest.mark.parametrize("end", [End.LEFT, End.DEADLINE, End.BROKEN])
def test_the_report_at_a_streams_beginning_is_no_bill_of_what_came_out(end: End) -> None:
    block = {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "x" * 400}]}
    begun = wire(*stream_of(block, start={"input_tokens": 100, "output_tokens": 1})[:4])
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=1 << 20, cap=900, request_id=ID)
    reader.feed(begun)
    seen = reader.seen
    assert (seen.usage, seen.usage_early) == (Usage(input=100, output=1), True)
    charged = charge(end, seen)
    assert (charged.usage, charged.amount, charged.estimated) == (Usage(input=100, output=100), 300, True)
    assert charge(end, seen, hidden_reasoning=True).amount == (5000 if end is End.LEFT else 300)


def test_an_answer_whose_last_report_is_missing_is_charged_by_the_policy_for_that() -> None:
    block = {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "x" * 400}]}
    found = stream_of(block, start={"input_tokens": 100, "output_tokens": 1})
    data = wire(*found[:5]) + b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n' + wire(found[-1])
    reader = Anthropic().stream(chat(stream=True), target(), event_bytes=1 << 20, cap=900, request_id=ID)
    reader.feed(data)
    assert reader.done
    assert charge(End.COMPLETED, reader.seen).amount == 300
    assert charge(End.COMPLETED, reader.seen, missing_usage="hold").amount == 5000
    assert charge(End.COMPLETED, reader.seen, missing_usage="free").amount == 102


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    "last",
    [
        {},
        {"input_tokens": 100},
        {"input_tokens": 100, "output_tokens": None},
        {"output_tokens": 0},  # nor may it take back what text has borne out
        {"input_tokens": 0, "output_tokens": 100},
    ],
)
def test_a_last_report_without_the_output_leaves_the_first_one_a_lower_bound(
    last: dict[str, Any],
    native: bool,  # noqa: FBT001
) -> None:
    block = {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "x" * 400}]}
    found = stream_of(block, start={"input_tokens": 100, "output_tokens": 1})
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last}
    dialect = Anthropic().native("messages", target().provider) if native else Anthropic()
    assert dialect is not None
    reader = dialect.stream(chat(stream=True), target(), event_bytes=1 << 20, cap=900, request_id=ID)
    reader.feed(wire(*found[:5]) + b"data: " + json.dumps(end).encode() + b"\n\n" + wire(found[-1]))
    charged = charge(End.COMPLETED, reader.seen)
    assert (charged.usage, charged.amount, charged.estimated) == (Usage(input=100, output=100), 300, True)


def fed(start: dict[str, Any], *ends: dict[str, Any], native: bool) -> Seen:
    """What a stream shows with this usage at its start, and these after its text."""
    block = {"type": "text", "text": "", "deltas": [{"type": "text_delta", "text": "x" * 400}]}
    first, *rest = stream_of(block, start={"output_tokens": 1, **start})[:5]
    dialect = Anthropic().native("messages", target().provider) if native else Anthropic()
    assert dialect is not None
    reader = dialect.stream(chat(stream=True), target(), event_bytes=1 << 20, cap=900, request_id=ID)
    reader.feed(data({**first, "message": {**first["message"], "usage": start}}) + wire(*rest))
    for end in ends:
        reader.feed(data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end}))
    return reader.seen


def data(event: dict[str, Any]) -> bytes:
    """An event that may not be as Anthropic has it."""
    return b"data: " + json.dumps(event).encode() + b"\n\n"


@pytest.mark.parametrize("native", [False, True])
def test_a_first_report_may_leave_out_the_output(native: bool) -> None:  # noqa: FBT001
    start = {"input_tokens": 40, "cache_read_input_tokens": 60}
    broken = fed(start, native=native)
    assert (broken.usage, broken.usage_early) == (Usage(input=40, cache_read=60), True)
    assert charge(End.BROKEN, broken).usage == Usage(input=40, cache_read=60, output=100)
    whole = fed(start, {"output_tokens": 9}, native=native)
    assert (whole.usage, whole.usage_early, whole.usage_doubtful) == (
        Usage(input=40, cache_read=60, output=9),
        False,
        False,
    )


@pytest.mark.parametrize("native", [False, True])
def test_a_report_that_cannot_be_leaves_nothing_for_the_next_one(native: bool) -> None:  # noqa: FBT001
    seen = fed({"input_tokens": 40, "output_tokens": 1}, {"input_tokens": 0}, {"output_tokens": 9}, native=native)
    assert (seen.usage, seen.usage_early, seen.usage_doubtful) == (Usage(input=40, output=9), False, False)


def charge(end: End, seen: Seen, **more: Any) -> settlement.Settlement:
    return settlement.settle(end, seen, price=PRICE, hold=5000, prompt_estimate=7, **more)
