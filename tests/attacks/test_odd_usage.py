"""Counts that can be none, one at a time, in every place where a dialect tells usage: none of them spoils an answer."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from rig import Witness, check_books, gateway, read_chat

from attacks.answers import CONVERSE, GEMINI, MESSAGE, NATIVE, OLLAMA, STREAMS, WHOLE, sse
from attacks.mutating import Written, written
from attacks.targets import target
from attacks.test_mutated_answers import ask, charging, streamed, whole
from hpp_middleware.core.settlement import MOST_NANO, End
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.script import Script

ODD = ("-1", "1.5", '"5"', "true", "null", "{}", "[]", "1e400", "10000000000", "9223372036854775808", "1" * 400)
COUNTS = frozenset({"usage", "usageMetadata", "prompt_eval_count", "eval_count", "prompt_eval_cached_count"})
LAST: dict[str, Any] = dict(OLLAMA[1])  # type: ignore[call-overload]
ANSWERED: dict[str, list[Any]] = {**WHOLE, "gemini": GEMINI[1:], "ollama": [LAST | {"message": {"content": "hi"}}]}


def places(value: Any, *, counts: bool = False) -> Iterator[tuple[Any, Any]]:
    """Where a report has something: what it is in, and at which key or index."""
    for at in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        inside = counts or at in COUNTS
        if inside:
            yield value, at
        yield from places(value[at], counts=inside)


def odd_ones(value: Any) -> Iterator[Any]:
    """Copies in each of which one thing of a report is another, or gone."""
    for number, _ in enumerate(places(value)):
        for odd in (*map(Written, ODD), None):
            copy = json.loads(json.dumps(value))
            within, at = list(places(copy))[number]
            if odd is None:
                del within[at]
            else:
                within[at] = odd
            yield copy


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini", "bedrock", "ollama"])
def test_no_count_spoils_a_completion(dialect: str) -> None:
    where = target(dialect, "gemini-2.5-flash" if dialect == "gemini" else "claude-sonnet-4-5", native=False)
    request, found, _ = ask("chat", where)
    for body in odd_ones(ANSWERED[dialect][0]):
        assert whole(request, found, where, written(body).encode(), charging(where)) == "answer", written(body)
    request, found, _ = ask("chat", where, stream=True)
    events, wire = STREAMS[dialect]
    for odd in odd_ones([event for event in events if "error" not in {*event, event.get("type")}]):
        assert streamed(request, found, where, wire(odd), charging(where), step=10**6) == "answer", written(odd)


@pytest.mark.parametrize(
    ("dialect", "api"),
    [
        *(("openai", api) for api in ("responses", "embeddings", "images")),
        ("anthropic", "messages"),
        ("gemini", "images"),
    ],
)
def test_no_count_spoils_an_answer_of_another_api(dialect: str, api: str) -> None:
    where = target(dialect, "gemini-2.5-flash" if dialect == "gemini" else "claude-sonnet-4-5")
    request, found, _ = ask(api, where)
    for body in odd_ones(GEMINI[1] if dialect == "gemini" else NATIVE[api][1][0]):
        assert whole(request, found, where, written(body).encode(), charging(where)) == "answer", written(body)
    events = [event for event in NATIVE[api][0] if event["type"] != "error"]
    if events:
        request, found, _ = ask(api, where, stream=True)
    for odd in odd_ones(events):
        assert streamed(request, found, where, sse(odd), charging(where), step=10**6) == "answer", written(odd)


def test_a_report_behind_another_that_cannot_be_read_puts_that_in_doubt() -> None:
    where = target("gemini", "gemini-2.5-flash")
    request, dialect, _ = ask("chat", where, stream=True)
    reader = dialect.stream(request, where, event_bytes=1 << 20, cap=1000, request_id="req_1")
    said = {"candidates": [{"content": {"parts": [{"text": "hi"}]}}]}
    ends = {"candidates": [{"finishReason": "STOP"}]}
    for event, counted in ((said, 3), (ends, 1.5)):
        usage = {"promptTokenCount": 10, "candidatesTokenCount": counted}
        reader.feed(sse([{**event, "usageMetadata": usage}]))
    reader.close()
    assert (reader.seen.usage.completion if reader.seen.usage else None, reader.seen.usage_doubtful) == (3, True)


def test_an_answer_whose_report_cannot_be_read_is_charged_as_one_without() -> None:
    where = target("bedrock")
    request, dialect, _ = ask("chat", where)
    body = {**CONVERSE[0], "usage": {"inputTokens": 10.5, "outputTokens": 5}}
    seen = dialect.answer(json.dumps(body).encode(), request, where, request_id="req_1")[1]
    settled = charging(where)(End.COMPLETED, seen)
    assert (seen.usage, settled.outcome, settled.estimated, settled.usage.output > 0) == (None, "completed", True, True)


@pytest.mark.anyio
async def test_a_report_that_no_store_can_count_leaves_no_hold() -> None:
    witness = Witness()
    usage = {"input_tokens": 5, "output_tokens": 3, "server_tool_use": {"web_search_requests": 10**9}}
    async with FakeUpstream() as upstream:
        provider = {"dialect": "anthropic", "base_url": upstream.url.removesuffix("/v1")}
        async with gateway(upstream, provider=provider, model={"web_search": "10"}, observers=(witness,)) as found:
            body = json.dumps({**MESSAGE[0], "usage": usage}).encode()
            upstream.next(Script(raw_body=body, content_type="application/json"))
            assert (await read_chat(found))[0] == 200
            (line,) = await check_books(found)
    assert (line.line, line.report.estimated, 0 < line.amount <= line.held) == ("resolution", True, True)
    assert (witness.alarms, line.held < MOST_NANO) == (["doubtful_usage"], True)


@pytest.mark.anyio
async def test_thoughts_that_only_the_total_of_googles_other_endpoint_has_are_charged() -> None:
    """As it came of ``/v1beta/openai`` for 100 tokens at most: https://discuss.ai.google.dev/t/127400."""
    chunks = [
        {"choices": [{"delta": {"content": text}, "index": 0, "finish_reason": reason}], "usage": usage}
        for text, reason, usage in (
            ("1", None, {"completion_tokens": 1, "prompt_tokens": 9, "total_tokens": 103}),
            (", ", None, {"completion_tokens": 3, "prompt_tokens": 9, "total_tokens": 105}),
            ("", "length", {"completion_tokens": 3, "prompt_tokens": 9, "total_tokens": 105}),
        )
    ]
    async with FakeUpstream() as upstream, gateway(upstream) as found:
        upstream.next(Script(raw_body=sse(chunks) + b"data: [DONE]\n\n", content_type="text/event-stream"))
        assert (await read_chat(found, stream=True, max_tokens=100))[0] == 200
        (line,) = await check_books(found)
    used = line.report.usage
    assert (used.input, used.output, used.reasoning, line.report.estimated) == (9, 3, 93, True)
    assert line.amount == 9 * 1_000 + 96 * 2_000
