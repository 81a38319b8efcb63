"""OpenAI's SDK in front of Gemini: every feature over loopback, and the ledger to the nano-dollar."""

import json
from collections.abc import Iterator
from typing import Any

import anyio
import openai
import pytest
from background import BackgroundUpstream
from pydantic import BaseModel
from rig import CANARY
from rig import gateway as make_gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, HI, Router, sdk, served

MODEL = "fake/gemini-2.5-flash"
COUNTS = {"promptTokenCount": 20, "candidatesTokenCount": 6, "thoughtsTokenCount": 4, "totalTokenCount": 30}
COUNTS["cachedContentTokenCount"] = 8
NANO = 12 * 300 + 8 * 30 + 10 * 2_500
WAV = "UklGRgAAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="  # 8 kHz, 8 bits, one channel
PRICE = {"input": "0.30", "output": "2.50", "cache_read": "0.03", "input_audio": "1"}
DRAWING = "fake/gemini-2.5-flash-image"
TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def gateway(background_upstream: BackgroundUpstream) -> Gateway:
    return make_gateway(
        background_upstream.url,
        provider={"dialect": "gemini"},
        models={MODEL: PRICE, DRAWING: {**PRICE, "output_image": "30"}},
        consumers=CONSUMERS,
    )


@pytest.fixture
def router(background_upstream: BackgroundUpstream, gateway: Gateway) -> Iterator[Router]:
    with served(background_upstream, gateway) as found:
        yield found


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    with sdk(router, max_retries=0) as found:
        yield found


def body(*parts: dict[str, Any], finish: str = "STOP", usage: Any = COUNTS) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": usage, "responseId": "resp-1"}


def answers(router: Router, *parts: dict[str, Any]) -> None:
    router.upstream.next(Script(raw_body=json.dumps(body(*parts)).encode(), content_type="application/json"))


def streams(router: Router, *bodies: dict[str, Any], **script: Any) -> None:
    raw = "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in bodies).encode()
    script = {"content_type": "text/event-stream", "chunk_size": 7, **script}
    router.upstream.next(Script(raw_body=raw, **script))


def charged(gateway: Gateway) -> list[int]:
    async def lines() -> list[int]:
        return [line.amount for line in await gateway.store.lines("alice")]

    return anyio.run(lines)


def sent(router: Router) -> Any:
    return router.upstream.last.json()


def test_an_answer_and_its_bill(router: Router, client: openai.OpenAI, gateway: Gateway) -> None:
    answers(router, {"text": "Hello"})
    found = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=50)
    assert found.choices[0].message.content == "Hello"
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (20, 10)
    assert found.usage.prompt_tokens_details is not None
    assert found.usage.prompt_tokens_details.cached_tokens == 8
    assert charged(gateway) == [NANO]
    last = router.upstream.last
    assert last.path == "/v1/models/gemini-2.5-flash:generateContent"
    assert (last.header("x-goog-api-key"), last.header("authorization")) == (CANARY, None)
    assert sent(router)["generationConfig"] == {"maxOutputTokens": 50}


def test_a_stream_and_its_bill(router: Router, client: openai.OpenAI, gateway: Gateway) -> None:
    first = body({"text": "Hm", "thought": True})
    del first["candidates"][0]["finishReason"]
    streams(router, first, body({"text": "Hello"}))
    with client.chat.completions.stream(
        model=MODEL, messages=HI, reasoning_effort="low", stream_options={"include_usage": True}
    ) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        found = stream.get_final_completion()
    assert found.choices[0].message.content == "Hello"
    deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks if chunk.choices]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Hm"
    assert found.usage is not None
    assert found.usage.completion_tokens_details is not None
    assert found.usage.completion_tokens_details.reasoning_tokens == 4
    assert charged(gateway) == [NANO]
    assert sent(router)["generationConfig"]["thinkingConfig"] == {"includeThoughts": True, "thinkingBudget": 1024}


def test_tools_are_called_and_their_signature_comes_back(router: Router, client: openai.OpenAI) -> None:
    called = {"functionCall": {"name": "weather", "args": {"a": 1}}, "thoughtSignature": "c2ln"}
    streams(router, body(called))
    with client.chat.completions.stream(model=MODEL, messages=HI, tools=[TOOL]) as stream:
        found = stream.get_final_completion().choices[0]
    assert found.finish_reason == "tool_calls"
    assert found.message.tool_calls is not None
    (call,) = found.message.tool_calls
    assert json.loads(call.function.arguments) == {"a": 1}
    answers(router, {"text": "Rain."})
    said: Any = found.message.model_dump(exclude_none=True)
    for each in said["tool_calls"]:
        each["function"].pop("parsed_arguments", None)
    said.pop("parsed", None)
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "wet"}
    answer = client.chat.completions.create(model=MODEL, messages=[*HI, said, result], tools=[TOOL])
    assert answer.choices[0].message.content == "Rain."
    _, model, results = sent(router)["contents"]
    assert model["parts"] == [{**called, "functionCall": {**called["functionCall"], "id": call.id}}]  # type: ignore[dict-item]  # a dict it is
    answered = {"id": call.id, "name": "weather", "response": {"output": "wet"}}
    assert results["parts"] == [{"functionResponse": answered}]


def test_an_image_and_sound_are_seen_and_heard(router: Router, client: openai.OpenAI, gateway: Gateway) -> None:
    parts: Any = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "input_audio", "input_audio": {"data": WAV, "format": "wav"}},
        {"type": "text", "text": "?"},
    ]
    heard = [{"modality": "AUDIO", "tokenCount": 10}]
    usage = {"promptTokenCount": 20, "candidatesTokenCount": 1, "totalTokenCount": 21, "promptTokensDetails": heard}
    raw = json.dumps(body({"text": "A dot."}, usage=usage)).encode()
    router.upstream.next(Script(raw_body=raw, content_type="application/json"))
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert [next(iter(part)) for part in sent(router)["contents"][0]["parts"]] == ["inlineData", "inlineData", "text"]
    assert charged(gateway) == [10 * 300 + 10 * 1_000 + 2_500]


def test_images_come_out(router: Router, client: openai.OpenAI, gateway: Gateway) -> None:
    drawn = [{"modality": "IMAGE", "tokenCount": 1290}]
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1290, "totalTokenCount": 1295}
    large = "iVBORw0K" * 200_000  # more than an event may have that brings none
    picture = body(
        {"inlineData": {"mimeType": "image/png", "data": large}}, usage={**usage, "candidatesTokensDetails": drawn}
    )
    streams(router, picture, chunk_size=None)
    stream = client.chat.completions.create(
        model=DRAWING, messages=HI, stream=True, extra_body={"modalities": ["text", "image"]}
    )
    deltas = [chunk.choices[0].delta.model_dump() for chunk in stream if chunk.choices]
    images = [image for delta in deltas for image in delta.get("images") or []]
    assert [image["image_url"]["url"] for image in images] == [f"data:image/png;base64,{large}"]
    assert charged(gateway) == [5 * 300 + 1290 * 30_000]


class Weather(BaseModel):
    city: str
    rain: bool


def test_structured_output_is_parsed(router: Router, client: openai.OpenAI) -> None:
    answers(router, {"text": '{"city":"Ulm","rain":true}'})
    found = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Weather)
    assert found.choices[0].message.parsed == Weather(city="Ulm", rain=True)
    config = sent(router)["generationConfig"]
    assert config["responseMimeType"] == "application/json"
    assert set(config["responseJsonSchema"]["properties"]) == {"city", "rain"}


def test_what_cannot_be_said_never_leaves_and_costs_nothing(
    router: Router, client: openai.OpenAI, gateway: Gateway
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI, parallel_tool_calls=False, tools=[TOOL])
    assert raised.value.param == "parallel_tool_calls"
    assert (router.upstream.log, charged(gateway)) == ([], [])


def test_a_refusal_of_google_s_is_told_in_openai_s_words(
    router: Router, client: openai.OpenAI, gateway: Gateway
) -> None:
    error = {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED"}}
    router.upstream.next(Script(status=429, raw_body=json.dumps(error).encode(), content_type="application/json"))
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert raised.value.code == "rate_limit_exceeded"
    assert charged(gateway) == [0]


def test_an_error_in_a_stream_ends_it_and_bills_what_was_reported(
    router: Router, client: openai.OpenAI, gateway: Gateway
) -> None:
    first = body({"text": "Hel"})
    del first["candidates"][0]["finishReason"]
    streams(router, first, {"error": {"code": 503, "message": "Overloaded.", "status": "UNAVAILABLE"}})
    stream = client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    with pytest.raises(openai.APIError):
        list(stream)
    assert charged(gateway) == [NANO]


def test_a_blocked_prompt_is_finished_by_a_filter(router: Router, client: openai.OpenAI) -> None:
    blocked = {
        "promptFeedback": {"blockReason": "SAFETY"},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5},
    }
    streams(router, blocked)
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    assert chunks[-1].choices[0].finish_reason == "content_filter"
