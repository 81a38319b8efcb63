"""The settlement table, end to end: what is no answer, but reports usage, costs that, whatever its provider speaks."""

import json
from typing import Any

import pytest
from rig import KEY, MODEL, check_books, gateway

from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

USAGE: dict[str, dict[str, Any]] = {
    "openai": {"usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}},
    "anthropic": {"usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 4}},
    "gemini": {
        "usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 2, "totalTokenCount": 11},
    },
    "bedrock": {
        "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 11, "cacheReadInputTokens": 4},
    },
    "ollama": {"prompt_eval_count": 9, "prompt_eval_cached_count": 4, "eval_count": 2},
}
"""Nine tokens that went in and two that came out, in each dialect's words."""

DEAR = {"input": "1", "output": "2", "cache_read": "1"}
CHARGED = 9 * 1_000 + 2 * 2_000

PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
WAYS: dict[str, dict[str, Any]] = {
    "an object without an answer": {},
    "an object in the place of a stream": {"stream": True},
    "a status that nothing asks for": {"status": 201},
    "an error, by its status": {"status": 500, "error": {"type": "api_error", "message": "It broke.", "code": 500}},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("dialect", USAGE)
async def test_a_usage_without_an_answer_is_charged(
    dialect: str, api: str, way: str, fake_upstream: FakeUpstream
) -> None:
    said = dict(WAYS[way])
    stream, status = said.pop("stream", False), said.pop("status", 200)
    if dialect == "ollama" and "error" in said:
        said["error"] = "It broke."
    body = {"id": "x", **said, **USAGE[dialect]}
    fake_upstream.script = Script(status=status, content_type="application/json", raw_body=json.dumps(body).encode())
    provider = {"dialect": dialect, "base_url": fake_upstream.url.removesuffix("/v1"), "options": {}}
    asked: dict[str, Any] = {"model": MODEL, "stream": stream}
    if api == "responses":
        asked |= {"input": "Hi", "max_output_tokens": 100}
    else:
        asked |= {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    async with gateway(fake_upstream, provider=provider, model=DEAR) as found:
        async with post(found.app, PATHS[api], asked, headers={"apikey": KEY}) as call:
            await call.read()
            assert call.status == 502
        (line,) = await check_books(found)
    assert (line.amount, line.report.outcome, line.report.estimated) == (CHARGED, "failed", False)
    assert line.report.usage.prompt == 9


EVENTS: dict[str, list[dict[str, Any]]] = {
    "openai": [
        {"id": "x", "choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}]},
        {"id": "x", "choices": [], **USAGE["openai"]},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"id": "x", "usage": {**USAGE["anthropic"]["usage"], "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"index": 0, "content": {"parts": [{"text": "Hello"}]}, "finishReason": "STOP"}]},
        {"candidates": [], "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}},
    ],
}


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
@pytest.mark.parametrize("api", PATHS)
@pytest.mark.parametrize("dialect", EVENTS)
async def test_a_stream_that_cannot_be_passed_on_is_charged_what_it_reports(
    dialect: str, api: str, kind: str, fake_upstream: FakeUpstream
) -> None:
    stream = kind == "text/plain"  # in the other one's place
    body = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in EVENTS[dialect])
    provider = {"dialect": dialect, "base_url": fake_upstream.url.removesuffix("/v1"), "options": {}}
    asked: dict[str, Any] = {"model": MODEL, "stream": stream}
    if api == "responses":
        asked |= {"input": "Hi", "max_output_tokens": 100}
    else:
        asked |= {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    async with gateway(fake_upstream, provider=provider, model=DEAR) as found:
        for raw in (body, body.removesuffix(b"\n\n"), body.split(b"\n\n")[0] + b"\n\n", b"<html>data: none</html>"):
            fake_upstream.script = Script(content_type=kind, raw_body=raw)
            async with post(found.app, PATHS[api], asked, headers={"apikey": KEY}) as call:
                await call.read()
                assert call.status == 502
        whole, unended, begun, page = await check_books(found)
    for line in (whole, unended):
        assert (line.amount, line.report.outcome, line.report.estimated) == (CHARGED, "failed", False)
    assert begun.amount < CHARGED
    assert (page.amount, page.report.usage.total) == (0, 0)


DRAWN = {"input_tokens": 9, "output_tokens": 20, "total_tokens": 29, "input_tokens_details": {"image_tokens": 4}}
METADATA = {"promptTokenCount": 9, "candidatesTokenCount": 20, "totalTokenCount": 29}
MEDIA: dict[str, tuple[str, dict[str, Any], int, bool]] = {
    "images": ("openai", {"usage": DRAWN}, 5 * 1_000 + 4 * 3_000 + 20 * 40_000, False),
    "images of Google's": ("gemini", {"usageMetadata": METADATA}, 9 * 1_000 + 20 * 40_000, True),
    "vectors": ("openai", {"usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9 * 1_000, False),
}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("what", MEDIA)
async def test_a_usage_without_images_or_vectors_is_charged_at_their_rates(
    what: str, status: int, fake_upstream: FakeUpstream
) -> None:
    dialect, usage, charged, doubted = MEDIA[what]
    path, said = ("embeddings", {"input": "Hi"}) if what == "vectors" else ("images/generations", {"prompt": "A cat"})
    fake_upstream.script = Script(status=status, content_type="application/json", raw_body=json.dumps(usage).encode())
    price = {"input_image": "3", "output_image": "40"}
    async with gateway(fake_upstream, provider={"dialect": dialect}, model=price) as found:
        async with post(found.app, f"/v1/{path}", {"model": MODEL, **said}, headers={"apikey": KEY}) as call:
            await call.read()
            assert call.status == 502
        (line,) = await check_books(found)
    assert (line.amount, line.report.outcome, line.report.estimated) == (charged, "failed", doubted)
