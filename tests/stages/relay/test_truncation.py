"""A stream that ends before its end is an error, never a clean end: every dialect, cut behind each of its events."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import eventstreams
import pytest
from rig import ALICE, KEY, check_books, gateway

from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

SSE = "text/event-stream"


class Streamed(NamedTuple):
    """
    A provider's whole stream.

    Attributes:
        provider: The gateway's settings of it.
        events: One after another.
        whole: How many of them make an answer that has its reason to end.
        media_type: The stream's.
        path: The client's API.
        body: What it asks, but for the model.
        ends: What the last event of a clean end has, and no other.
        options: Of the dialect.
    """

    provider: dict[str, Any]
    events: Sequence[bytes]
    whole: int
    media_type: str = SSE
    path: str = "/v1/chat/completions"
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}  # noqa: RUF012  # is not changed
    ends: bytes = b"[DONE]"


def data(*events: dict[str, Any]) -> list[bytes]:
    return [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events]


def typed(*events: dict[str, Any]) -> list[bytes]:
    return [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]


CHAT = data(
    *(
        {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in (({"role": "assistant", "content": ""}, None), ({"content": "Hello"}, None), ({}, "stop"))
    ),
    {"id": "c", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}},
)
MESSAGE = typed(
    {
        "type": "message_start",
        "message": {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "usage": {"input_tokens": 9, "output_tokens": 1},
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
GEMINI = data(
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "Hel"}]}, "index": 0}]},
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "lo"}]}, "index": 0}]},
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "!"}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11},
    },
)
BEDROCK = [
    eventstreams.event("messageStart", role="assistant"),
    eventstreams.event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hello"}),
    eventstreams.event("contentBlockStop", contentBlockIndex=0),
    eventstreams.event("messageStop", stopReason="end_turn"),
    eventstreams.event("metadata", usage={"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}),
]
OLLAMA = [
    json.dumps(event).encode() + b"\n"
    for event in (
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {"model": "m", "message": {"role": "assistant", "content": "lo"}, "done": False},
        {"model": "m", "done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 2},
    )
]
RESPONSE: dict[str, Any] = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": []}
RESPONSES = typed(
    {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "status": "in_progress"}},
    {"type": "response.output_text.delta", "sequence_number": 1, "item_id": "i", "output_index": 0, "delta": "Hello"},
    {
        "type": "response.completed",
        "sequence_number": 2,
        "response": {
            **RESPONSE,
            "status": "completed",
            "usage": {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11},
        },
    },
)  # fmt: skip
ASKED: dict[str, Any] = {"input": "Hi", "max_output_tokens": 100}

STREAMS = {
    "openai": Streamed({}, [*CHAT, b"data: [DONE]\n\n"], whole=3),
    "openai, as a message": Streamed(
        {"native_apis": frozenset()}, [*CHAT, b"data: [DONE]\n\n"], 3, path="/v1/messages", ends=b"message_stop"
    ),
    "openai, as a response": Streamed(
        {"native_apis": frozenset()},
        [*CHAT, b"data: [DONE]\n\n"],
        3,
        path="/v1/responses",
        body=ASKED,
        ends=b"response.completed",
    ),
    "anthropic": Streamed({"dialect": "anthropic"}, MESSAGE, whole=5),
    "messages": Streamed(
        {"dialect": "anthropic", "native_apis": frozenset({"messages"})},
        MESSAGE,
        5,
        path="/v1/messages",
        ends=b"message_stop",
    ),
    "gemini": Streamed({"dialect": "gemini"}, GEMINI, whole=3),
    "bedrock": Streamed(
        {"dialect": "bedrock", "options": {"region": "eu-central-1"}},
        BEDROCK,
        4,
        media_type="application/vnd.amazon.eventstream",
    ),
    "ollama": Streamed({"dialect": "ollama"}, OLLAMA, 3, media_type="application/x-ndjson"),
    "responses": Streamed(
        {"native_apis": frozenset({"responses"})},
        RESPONSES,
        3,
        path="/v1/responses",
        body=ASKED,
        ends=b"response.completed",
    ),
}
CUTS = [(name, number) for name, streamed in STREAMS.items() for number in range(len(streamed.events) + 1)]


@pytest.mark.parametrize(("name", "number"), CUTS, ids=[f"{name}: {number}" for name, number in CUTS])
async def test_a_stream_that_ends_behind_an_event_is_whole_or_an_error(
    name: str, number: int, fake_upstream: FakeUpstream
) -> None:
    streamed = STREAMS[name]
    raw = b"".join(streamed.events[:number])  # and a proper end of the HTTP response
    fake_upstream.script = Script(raw_body=raw, content_type=streamed.media_type)
    provider = {"retries": 0, **streamed.provider}
    async with gateway(fake_upstream.url.removesuffix("/v1"), provider=provider) as found:
        body = {"model": "fake/fake-1", "stream": True, **streamed.body}
        async with post(found.app, streamed.path, body, headers={"apikey": KEY}, ahead=0) as call:
            assert await call.started() == 200, await call.read()
            answer = await call.read()
            await call.returned()
        (line,) = await check_books(found)
        last = answer.rstrip(b"\n").split(b"\n\n")[-1]
        if number >= streamed.whole:
            assert streamed.ends in last
            assert (line.report.outcome, b'"error":{' in answer) == ("completed", False)
        else:
            assert streamed.ends not in answer
            assert b'"error":{' in answer
            assert line.report.outcome == "failed"
            assert (line.amount > 0) == (number > 0)
    assert ALICE.id == line.draft.consumer
