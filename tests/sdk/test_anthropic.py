"""OpenAI's official SDK before a provider that speaks Anthropic's Messages: bytes of the one, values of the other."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from background import BackgroundUpstream
from pydantic import BaseModel, TypeAdapter

from hpp_middleware import Gateway, provider
from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, HI, Router, error_of, sdk, served

MODEL = "claude/claude-sonnet-4-5"
PRICES = {"input": "3", "output": "15", "cache_read": "0.30", "cache_write": "3.75"}
"""Anthropic's for this model, in dollars a million tokens."""
USAGE = {
    "input_tokens": 21,
    "cache_read_input_tokens": 1_000,
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
    "output_tokens": 40,
    "service_tier": "standard",
}
NANO = 21 * 3_000 + 1_000 * 300 + 200 * 3_750 + 100 * 6_000 + 40 * 15_000
KEY = "sk-ant-upstream-canary"
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture
def router(background_upstream: BackgroundUpstream) -> Iterator[Router]:
    url = background_upstream.url.removesuffix("/v1")
    gateway = Gateway(
        providers={"claude": provider("anthropic", api_key=KEY, base_url=url, retries=0)},
        models={MODEL: {**PRICES, "max_output": 64_000}, "claude/claude-opus-4-8": PRICES},
        consumers=CONSUMERS,
        prices=None,
    )
    with served(background_upstream, gateway) as found:
        yield found


@pytest.fixture
def client(router: Router) -> Iterator[openai.OpenAI]:
    with sdk(router, max_retries=0) as found:
        yield found


def whole(*blocks: dict[str, Any], reason: str = "end_turn", usage: Any = None) -> Script:
    """A message, as JSON that the vendor's own type takes."""
    body = {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(blocks),
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": usage or USAGE,
    }
    Message.model_validate(body)
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def streamed(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], reason: str = "end_turn", **script: Any) -> Script:
    """The events of one, each of which the vendor's own type takes."""
    head: dict[str, Any] = {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**USAGE, "output_tokens": 3},
    }
    found: list[dict[str, Any]] = [{"type": "message_start", "message": head}]
    for index, (block, deltas) in enumerate(blocks):
        found.append({"type": "content_block_start", "index": index, "content_block": block})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        found.append({"type": "content_block_stop", "index": index})
    last = {"stop_reason": reason, "stop_sequence": None}
    found += [{"type": "message_delta", "delta": last, "usage": {"output_tokens": 40}}, {"type": "message_stop"}]
    for event in found:
        _event.validate_python(event)
    found.insert(2, {"type": "ping"})
    body = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in found)
    return Script(raw_body=body, content_type="text/event-stream; charset=utf-8", **script)


def text(*words: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": word} for word in words]


def nano(client: openai.OpenAI, request_id: str | None) -> int:
    """What the ledger says of a request."""
    entry: Any = client.get(f"../../api/user/audit/{request_id}", cast_to=object)
    return round(Decimal(repr(entry["cost"])) * 10**9)


def test_a_completion_and_its_bill(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(whole({"type": "text", "text": "Hello"}))
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, max_tokens=99)
    found = raw.parse()
    assert (found.choices[0].message.content, found.choices[0].finish_reason, found.model) == ("Hello", "stop", MODEL)
    assert found.usage is not None
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (1_321, 40)
    assert found.usage.prompt_tokens_details is not None
    assert found.usage.prompt_tokens_details.cached_tokens == 1_000
    assert nano(client, raw.request_id) == NANO == round(Decimal(raw.headers["x-hpp-router-cost"]) * 10**9)
    sent = router.upstream.last
    assert (sent.path, sent.header("x-api-key"), sent.header("authorization")) == ("/v1/messages", KEY, None)
    assert sent.header("anthropic-version") == "2023-06-01"
    assert sent.json()["max_tokens"] == 99


@pytest.mark.parametrize("size", [None, 1, 7])
def test_a_stream_and_its_bill(client: openai.OpenAI, router: Router, size: int | None) -> None:
    router.upstream.next(streamed(text("Hel", "lo", " Wörld"), chunk_size=size))
    options: Any = {"include_usage": True}
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HI, stream=True, stream_options=options
    )
    *chunks, last = list(raw.parse())
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello Wörld"
    assert (last.choices, last.usage is not None and last.usage.total_tokens) == ([], 1_361)
    assert nano(client, raw.headers["x-request-id"]) == NANO


def test_tools_in_a_stream_and_back_again(client: openai.OpenAI, router: Router) -> None:
    called = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    parts = [{"type": "input_json_delta", "partial_json": part} for part in ("", '{"city": ', '"Ulm"}')]
    router.upstream.next(streamed(text("Let me see."), (called, parts), reason="tool_use"))
    messages: list[Any] = list(HI)
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=TOOLS) as stream:
        said = stream.get_final_completion().choices[0]
    assert said.finish_reason == "tool_calls"
    assert said.message.tool_calls is not None
    (call,) = said.message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("toolu_1", "weather", '{"city": "Ulm"}')
    messages += [said.message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
    router.upstream.next(whole({"type": "text", "text": "It is sunny."}))
    client.chat.completions.create(model=MODEL, messages=messages, tools=TOOLS)
    _, answer, result = router.upstream.last.json()["messages"]
    assert answer["content"][1] == {**called, "input": {"city": "Ulm"}}
    assert result["content"] == [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "sunny"}]


def test_images_are_seen(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(whole({"type": "text", "text": "A cat."}))
    parts: Any = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    (block,) = router.upstream.last.json()["messages"][0]["content"]
    assert block["source"] == {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


def test_thoughts_come_out_and_go_back(client: openai.OpenAI, router: Router) -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "EqQB"}
    router.upstream.next(whole(thought, {"type": "text", "text": "Yes."}))
    first = client.chat.completions.create(model=MODEL, messages=HI, reasoning_effort="low", max_tokens=10_000)
    assert router.upstream.last.json()["thinking"] == {"type": "enabled", "budget_tokens": 2_000}
    said = first.choices[0].message
    assert said.model_extra is not None
    assert said.model_extra["reasoning_content"] == "Hm."
    router.upstream.next(whole({"type": "text", "text": "Yes."}))
    again: Any = [*HI, said.model_dump(exclude_none=True), *HI]
    client.chat.completions.create(model=MODEL, messages=again)
    assert router.upstream.last.json()["messages"][1]["content"] == [thought, {"type": "text", "text": "Yes."}]
    router.upstream.next(
        streamed(
            ({"type": "thinking", "thinking": "", "signature": ""}, [{"type": "thinking_delta", "thinking": "Hm."}])
        )
    )
    chunks = list(
        client.chat.completions.create(
            model="claude/claude-opus-4-8", messages=HI, stream=True, reasoning_effort="high"
        )
    )
    assert "Hm." in [(chunk.choices[0].delta.model_extra or {}).get("reasoning_content") for chunk in chunks]
    assert router.upstream.last.json()["output_config"] == {"effort": "high"}


class Answer(BaseModel):
    """What is asked of the model below."""

    city: str


def test_a_schema_is_asked_for_and_the_answer_parsed_by_it(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(whole({"type": "text", "text": '{"city": "Ulm"}'}))
    found = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Answer)
    assert found.choices[0].message.parsed == Answer(city="Ulm")
    asked = router.upstream.last.json()["output_config"]["format"]
    assert (asked["type"], asked["schema"]["additionalProperties"]) == ("json_schema", False)


def test_what_cannot_be_said_is_refused_by_name_and_nothing_is_sent(client: openai.OpenAI, router: Router) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI, frequency_penalty=1)
    assert error_of(raised)["param"] == "frequency_penalty"
    assert router.upstream.log == []


def test_what_is_left_out_is_told(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(whole({"type": "text", "text": "A"}))
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, seed=7, user="ann")
    assert set(raw.headers["x-hpp-router-dropped-fields"].split(", ")) == {"seed", "user"}


@pytest.mark.parametrize(
    ("status", "kind", "ours", "code"),
    [
        (400, "invalid_request_error", openai.BadRequestError, "context_length_exceeded"),
        (401, "authentication_error", openai.InternalServerError, "provider_unavailable"),
        (413, "request_too_large", openai.APIStatusError, "payload_too_large"),
        (429, "rate_limit_error", openai.RateLimitError, "rate_limit_exceeded"),
        (529, "overloaded_error", openai.InternalServerError, "provider_overloaded"),
    ],
)
def test_refusals_come_in_our_words_and_cost_nothing(
    client: openai.OpenAI, router: Router, *, status: int, kind: str, ours: type[openai.APIStatusError], code: str
) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "prompt is too long: 3 tokens > 2 maximum"}}
    body = json.dumps(error).encode()
    router.upstream.next(Script(status=status, raw_body=body, content_type="application/json"))
    with pytest.raises(ours) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert error_of(raised)["code"] == code
    assert nano(client, raised.value.request_id) == 0


def test_an_error_in_mid_stream_is_told_and_what_came_before_it_is_charged(
    client: openai.OpenAI, router: Router
) -> None:
    whole_stream = streamed(text("x" * 400)).raw_body or b""
    begun = whole_stream[: whole_stream.index(b"event: content_block_stop")]
    error = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    router.upstream.next(Script(raw_body=begun + error, content_type="text/event-stream"))
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True)
    with pytest.raises(openai.APIError) as raised:
        list(raw.parse())
    assert raised.value.code == "provider_overloaded"
    # what went in as the stream's beginning reports it, and the text that came at four bytes a token
    assert nano(client, raw.headers["x-request-id"]) == NANO - 40 * 15_000 + 100 * 15_000
