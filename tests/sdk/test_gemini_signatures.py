"""Gemini's thought signatures on their way through Anthropic's and OpenAI's other API, and back to it unchanged."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest
from background import BackgroundUpstream
from rig import KEY
from rig import gateway as make_gateway

from hpp_middleware.testing import Script
from sdk.served import CONSUMERS, Router, sdk, served

MODEL = "fake/gemini-3-pro-preview"
CALLS: list[Any] = [
    {"functionCall": {"id": "call_a", "name": "weather", "args": {"city": "Bern"}}, "thoughtSignature": "c2lnMQ=="},
    {"functionCall": {"id": "call_b", "name": "weather", "args": {"city": "Ulm"}}, "thoughtSignature": "c2lnMg=="},
]
SIGNED_TEXT = {"text": "Dry.", "thoughtSignature": "c2lnMw=="}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


@pytest.fixture
def router(background_upstream: BackgroundUpstream) -> Iterator[Router]:
    gateway = make_gateway(
        background_upstream.url,
        provider={"dialect": "gemini"},
        models={MODEL: {"input": "2", "output": "12"}},
        consumers=CONSUMERS,
    )
    with served(background_upstream, gateway) as found:
        yield found


def answers(router: Router, *parts: dict[str, Any], stream: bool) -> None:
    bodies: list[Any] = []
    for number, part in enumerate(parts, 1):
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}, "index": 0}
        if number == len(parts):
            candidate["finishReason"] = "STOP"
        counts = {"promptTokenCount": 20, "candidatesTokenCount": 6, "totalTokenCount": 26}
        bodies.append({"candidates": [candidate], "usageMetadata": counts, "responseId": "resp-1"})
    if stream:
        raw = "".join(f"data: {json.dumps(each)}\r\n\r\n" for each in bodies)
        router.upstream.next(Script(raw_body=raw.encode(), content_type="text/event-stream", chunk_size=7))
        return
    bodies[-1]["candidates"][0]["content"]["parts"] = list(parts)
    router.upstream.next(Script(raw_body=json.dumps(bodies[-1]).encode(), content_type="application/json"))


def of_the_model(router: Router) -> Any:
    return [turn["parts"] for turn in router.upstream.last.json()["contents"] if turn["role"] == "model"]


@pytest.mark.parametrize("stream", [False, True])
def test_they_come_back_through_anthropic_s_messages(router: Router, *, stream: bool) -> None:
    tools: Any = [{"name": "weather", "input_schema": PARAMETERS}]
    asks: dict[str, Any] = {"model": MODEL, "max_tokens": 500, "tools": tools}
    history: list[Any] = [{"role": "user", "content": "How is it?"}]
    http_client = anthropic.DefaultHttpxClient(trust_env=False)
    base = router.url.removesuffix("/llm/v1")
    with anthropic.Anthropic(base_url=base, api_key=KEY, http_client=http_client, max_retries=0) as client:

        def ask() -> Any:
            if not stream:
                return client.messages.create(**asks, messages=history)
            with client.messages.stream(**asks, messages=history) as events:
                return events.get_final_message()

        answers(router, {"text": "Hm.", "thought": True}, *CALLS, stream=stream)
        first = ask()
        calls = [block for block in first.content if block.type == "tool_use"]
        assert [(call.id, call.input) for call in calls] == [("call_a", {"city": "Bern"}), ("call_b", {"city": "Ulm"})]
        results = [{"type": "tool_result", "tool_use_id": call.id, "content": "dry"} for call in calls]
        history += [{"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
        answers(router, SIGNED_TEXT, stream=stream)
        second = ask()
        assert of_the_model(router) == [CALLS]
        history += [{"role": "assistant", "content": second.content}, {"role": "user", "content": "And?"}]
        answers(router, {"text": "Yes."}, stream=stream)
        ask()
    assert of_the_model(router) == [CALLS, [SIGNED_TEXT]]


@pytest.mark.parametrize("stream", [False, True])
def test_they_come_back_through_openai_s_responses(router: Router, *, stream: bool) -> None:
    tools: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}]
    asks: dict[str, Any] = {
        "model": MODEL,
        "tools": tools,
        "store": False,
        "include": ["reasoning.encrypted_content"],
    }
    history: list[Any] = [{"role": "user", "content": "How is it?"}]
    with sdk(router, max_retries=0) as client:

        def ask() -> Any:
            if not stream:
                return client.responses.create(**asks, input=history)
            with client.responses.stream(**asks, input=history) as events:
                return events.get_final_response()

        answers(router, {"text": "Hm.", "thought": True}, *CALLS, stream=stream)
        first = ask()
        calls = [item for item in first.output if item.type == "function_call"]
        assert [call.call_id for call in calls] == ["call_a", "call_b"]
        history += [item.model_dump(exclude={"parsed_arguments"}, exclude_none=True) for item in first.output]
        history += [{"type": "function_call_output", "call_id": call.call_id, "output": "dry"} for call in calls]
        answers(router, SIGNED_TEXT, stream=stream)
        second = ask()
        assert of_the_model(router) == [CALLS]
        history += [item.model_dump(exclude_none=True) for item in second.output]
        history.append({"role": "user", "content": "And?"})
        answers(router, {"text": "Yes."}, stream=stream)
        ask()
    assert of_the_model(router) == [CALLS, [SIGNED_TEXT]]


def test_a_client_of_responses_that_hands_no_thoughts_back_is_told_none(router: Router) -> None:
    answers(router, *CALLS, stream=False)
    with sdk(router, max_retries=0) as client:
        found: openai.types.responses.Response = client.responses.create(model=MODEL, input="Hi", store=False)
    assert [item.type for item in found.output] == ["function_call", "function_call"]
