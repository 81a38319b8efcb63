"""OpenAI's official SDK: tools, images, schemas, and fields that nobody knows pass through both ways."""

import json
from typing import Any

import openai
from openai.types.chat import ChatCompletionToolParam
from pydantic import BaseModel
from rig import MODEL

from hpp_middleware.testing import USAGE, Script
from sdk.served import HI, Router

TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "How the weather is.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
            "strict": True,
        },
    }
]
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Ulm"}'}}


def tool_answer() -> bytes:
    """A completion that calls a tool."""
    message = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls", "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "fake-1"}
    return json.dumps({**head, "choices": [choice], "usage": USAGE}).encode()


def test_tools_their_calls_and_their_answers_pass_through(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(raw_body=tool_answer(), content_type="application/json"))
    first = client.chat.completions.create(
        model=MODEL, messages=HI, tools=TOOLS, tool_choice="auto", parallel_tool_calls=False
    )
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].type == "function"
    assert (calls[0].id, calls[0].function.arguments) == ("call_1", '{"city": "Ulm"}')
    sent = router.upstream.last.json()
    assert (sent["tools"], sent["tool_choice"], sent["parallel_tool_calls"]) == (TOOLS, "auto", False)

    asked: Any = [*HI, first.choices[0].message, {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}]
    second = client.chat.completions.create(model=MODEL, messages=asked, tools=TOOLS)
    assert second.choices[0].message.content == "Hello world"
    sent = router.upstream.last.json()["messages"]
    assert sent[1]["tool_calls"] == [CALL]
    assert sent[2] == asked[2]


def test_tool_calls_of_a_stream_pass_through(client: openai.OpenAI, router: Router) -> None:
    deltas = [
        {"tool_calls": [{"index": 0, **CALL, "function": {"name": "weather", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Ulm"}'}}]},
    ]
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "fake-1"}
    body = b"".join(b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n" for choice in choices)
    router.upstream.next(Script(raw_body=body + b"data: [DONE]\n\n", content_type="text/event-stream"))
    with client.chat.completions.stream(model=MODEL, messages=HI, tools=TOOLS) as stream:
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.arguments == '{"city": "Ulm"}'


def test_image_parts_pass_through(client: openai.OpenAI, router: Router) -> None:
    parts: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://images.example/cat.png"}},
    ]
    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert router.upstream.last.json()["messages"][0]["content"] == parts


class Answer(BaseModel):
    """What is asked of the model below."""

    city: str


def test_a_schema_passes_through_and_the_answer_is_parsed_by_it(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(texts=('{"city": ', '"Ulm"}')))
    completion = client.chat.completions.parse(model=MODEL, messages=HI, response_format=Answer)
    assert completion.choices[0].message.parsed == Answer(city="Ulm")
    assert router.upstream.last.json()["response_format"]["json_schema"]["name"] == "Answer"


def test_fields_that_nobody_knows_pass_through_both_ways(client: openai.OpenAI, router: Router) -> None:
    answer: dict[str, Any] = {**json.loads(tool_answer()), "x_new": {"deep": [1, 2.50]}}
    router.upstream.next(Script(raw_body=json.dumps(answer).encode(), content_type="application/json"))
    completion = client.chat.completions.create(model=MODEL, messages=HI, extra_body={"x_also_new": [None, "ü"]})
    assert router.upstream.last.json()["x_also_new"] == [None, "ü"]
    assert completion.model_extra is not None
    assert completion.model_extra["x_new"] == {"deep": [1, 2.50]}
