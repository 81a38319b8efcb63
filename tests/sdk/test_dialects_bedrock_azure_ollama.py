"""OpenAI's SDK before Bedrock, Azure and Ollama: what it asks arrives in their words, and is billed by theirs."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import eventstreams
import openai
import pytest
from background import BackgroundUpstream
from openai.types.chat import ChatCompletionMessage, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel
from rig import KEY
from rig import gateway as make_gateway

from hpp_middleware.testing import Script
from hpp_middleware.types.provider import Provider
from sdk.served import CONSUMERS, HI, Router, error_of, sdk, served

MODEL = "fake/fake-1"
PNG = base64.b64encode(b"\x89PNG-not-really").decode()
NANO = 9 * 1_000 + 2 * 2_000
"""What nine tokens in and two out cost at the rig's prices."""

TOOL: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SEE: list[ChatCompletionMessageParam] = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        ],
    }
]


class City(BaseModel):
    """What is asked for in JSON."""

    name: str
    people: int


class Said(NamedTuple):
    """What a model says, whichever its provider."""

    text: str = ""
    thought: str = ""
    arguments: str = ""


class Vendor(NamedTuple):
    """A provider: its settings, and what it answers."""

    settings: dict[str, Any]
    path: Callable[[bool], str]
    whole: Callable[[Said], Script]
    stream: Callable[[Said], Script]
    sees: Callable[[Any], str]
    """Finds the image in what it was asked."""


def _bedrock_blocks(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thought:
        blocks.append({"reasoningContent": {"reasoningText": {"text": said.thought, "signature": "sig"}}})
    if said.text:
        blocks.append({"text": said.text})
    if said.arguments:
        called = {"toolUseId": "call_up", "name": "weather", "input": json.loads(said.arguments)}
        blocks.append({"toolUse": called})
    return blocks


BEDROCK_END = {"usage": {"inputTokens": 9, "outputTokens": 2, "totalTokens": 11}, "metrics": {"latencyMs": 1}}


def _bedrock_whole(said: Said) -> Script:
    body = {
        "output": {"message": {"role": "assistant", "content": _bedrock_blocks(said)}},
        "stopReason": "tool_use" if said.arguments else "end_turn",
        **BEDROCK_END,
    }
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def _bedrock_stream(said: Said) -> Script:
    events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    for index, block in enumerate(_bedrock_blocks(said)):
        if "toolUse" in block:
            start = {"toolUse": {"toolUseId": "call_up", "name": "weather"}}
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
            deltas: list[Any] = [{"toolUse": {"input": piece}} for piece in (said.arguments[:4], said.arguments[4:])]
        elif "text" in block:
            deltas = [{"text": piece} for piece in (said.text[:3], said.text[3:])]
        else:
            deltas = [{"reasoningContent": {"text": said.thought}}, {"reasoningContent": {"signature": "sig"}}]
        events += [("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
    events.append(("messageStop", {"stopReason": "tool_use" if said.arguments else "end_turn"}))
    events.append(("metadata", BEDROCK_END))
    return Script(
        raw_body=eventstreams.stream(*events), content_type="application/vnd.amazon.eventstream", chunk_size=31
    )


BEDROCK = Vendor(
    {"dialect": "bedrock"},
    lambda stream: f"/model/fake-1/converse{'-stream' if stream else ''}",
    _bedrock_whole,
    _bedrock_stream,
    lambda sent: str(sent["messages"][0]["content"][1]["image"]["source"]["bytes"]),
)

OPENAI_USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}


def _azure_message(said: Said) -> dict[str, Any]:
    function = {"name": "weather", "arguments": said.arguments}
    calls = {"tool_calls": [{"index": 0, "id": "call_up", "type": "function", "function": function}]}
    thought = {"reasoning_content": said.thought} if said.thought else {}
    return {"role": "assistant", "content": said.text or None, **thought, **(calls if said.arguments else {})}


def _azure_whole(said: Said) -> Script:
    finish = "tool_calls" if said.arguments else "stop"
    choice = {"index": 0, "message": _azure_message(said), "finish_reason": finish, "content_filter_results": {}}
    head = {"id": "chatcmpl-az", "object": "chat.completion", "created": 1, "model": "gpt-4o"}
    body = {**head, "choices": [choice], "prompt_filter_results": [], "usage": OPENAI_USAGE}
    return Script(raw_body=json.dumps(body).encode(), content_type="application/json")


def _azure_stream(said: Said) -> Script:
    head = {"id": "chatcmpl-az", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "usage": None}
    empty = {"id": "", "object": "", "created": 0, "model": ""}
    finish = "tool_calls" if said.arguments else "stop"
    chunks: list[dict[str, Any]] = [
        {**empty, "choices": [], "prompt_filter_results": []},
        {**head, "choices": [{"index": 0, "delta": _azure_message(said), "finish_reason": None}]},
        {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
        {**head, "choices": [], "usage": OPENAI_USAGE},
    ]
    data = b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    return Script(raw_body=data, content_type="text/event-stream", chunk_size=31)


AZURE = Vendor(
    {"dialect": "azure", "options": {"api_version": "2024-10-21"}},
    lambda _: "/openai/deployments/fake-1/chat/completions",
    _azure_whole,
    _azure_stream,
    lambda sent: str(sent["messages"][0]["content"][1]["image_url"]["url"]).rpartition(",")[2],
)


def _ollama_lines(said: Said) -> list[dict[str, Any]]:
    call = {"function": {"name": "weather", "arguments": json.loads(said.arguments or "{}")}}
    spoken = {"role": "assistant", "content": said.text}
    message = {**spoken, **({"thinking": said.thought} if said.thought else {})}
    if said.arguments:
        message = {**message, "tool_calls": [call]}  # type: ignore[dict-item]  # a message of several kinds
    return [
        {"model": "fake-1", "message": message, "done": False},
        {
            "model": "fake-1",
            "message": {"role": "assistant", "content": ""},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 9,
            "eval_count": 2,
        },
    ]


def _ollama_whole(said: Said) -> Script:
    first, last = _ollama_lines(said)
    return Script(raw_body=json.dumps({**last, "message": first["message"]}).encode(), content_type="application/json")


def _ollama_stream(said: Said) -> Script:
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in _ollama_lines(said))
    return Script(raw_body=lines, content_type="application/x-ndjson", chunk_size=31)


OLLAMA = Vendor(
    {"dialect": "ollama"},
    lambda _: "/api/chat",
    _ollama_whole,
    _ollama_stream,
    lambda sent: str(sent["messages"][0]["images"][0]),
)

every = pytest.mark.parametrize("vendor", [BEDROCK, AZURE, OLLAMA], ids=["bedrock", "azure", "ollama"])


@contextmanager
def asking(upstream: BackgroundUpstream, vendor: Vendor) -> Iterator[tuple[openai.OpenAI, Callable[[], int]]]:
    """A client before the vendor, and what it has been charged so far."""
    url = upstream.url.removesuffix("/v1")
    provider = Provider(base_url=url, api_key="vendor-key", breaker=None, retries=0, **vendor.settings)
    gateway = make_gateway(upstream.url, consumers=CONSUMERS, providers={"fake": provider})
    with served(upstream, gateway) as router, sdk(router, max_retries=0) as client:
        yield client, lambda: _used(router)


def _used(router: Router) -> int:
    url = router.url.removesuffix("/llm/v1")
    with openai.DefaultHttpxClient(trust_env=False) as client:
        usage: dict[str, float] = client.get(f"{url}/api/usage", headers={"apikey": KEY}).json()
    return round(usage["used"] * 10**9)


@every
def test_a_completion(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    background_upstream.next(vendor.whole(Said("Hello")))
    with asking(background_upstream, vendor) as (client, used):
        answer = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=50)
        assert answer.choices[0].message.content == "Hello"
        assert (answer.choices[0].finish_reason, answer.model) == ("stop", MODEL)
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (9, 2)
        assert used() == NANO
    assert background_upstream.last.path == vendor.path(False)


@every
def test_a_stream(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    background_upstream.next(vendor.stream(Said("Hello")))
    with asking(background_upstream, vendor) as (client, used):
        chunks = list(
            client.chat.completions.create(
                model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == "Hello"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.total_tokens == 11
        assert used() == NANO
    assert background_upstream.last.path == vendor.path(True)


@every
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_answered(background_upstream: BackgroundUpstream, vendor: Vendor, stream: bool) -> None:  # noqa: FBT001
    said = Said(arguments='{"city":"Bonn"}')
    background_upstream.next(vendor.stream(said) if stream else vendor.whole(said), vendor.whole(Said("It is sunny.")))
    with asking(background_upstream, vendor) as (client, used):
        message: ChatCompletionMessage
        if stream:
            with client.chat.completions.stream(model=MODEL, messages=HI, tools=[TOOL]) as events:
                message = events.get_final_completion().choices[0].message
        else:
            message = client.chat.completions.create(model=MODEL, messages=HI, tools=[TOOL]).choices[0].message
        assert message.tool_calls is not None
        (call,) = message.tool_calls
        assert call.type == "function"
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bonn"})
        result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        spoken: Any = message.model_dump(exclude_none=True, exclude={"parsed": True})
        for one in spoken["tool_calls"]:
            one["function"].pop("parsed_arguments", None)
            one.pop("index", None)
        again = client.chat.completions.create(model=MODEL, messages=[*HI, spoken, result], tools=[TOOL])
        assert again.choices[0].message.content == "It is sunny."
        assert used() == 2 * NANO
    assert b"sunny" in background_upstream.last.body


@every
def test_an_image_is_seen(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    background_upstream.next(vendor.whole(Said("A picture.")))
    with asking(background_upstream, vendor) as (client, used):
        answer = client.chat.completions.create(model=MODEL, messages=SEE)
        assert answer.choices[0].message.content == "A picture."
        assert used() == NANO
    assert vendor.sees(background_upstream.last.json()) == PNG


@every
@pytest.mark.parametrize("stream", [False, True])
def test_thoughts_are_told_apart(background_upstream: BackgroundUpstream, vendor: Vendor, stream: bool) -> None:  # noqa: FBT001
    said = Said("Yes.", thought="Hm.")
    background_upstream.next(vendor.stream(said) if stream else vendor.whole(said))
    with asking(background_upstream, vendor) as (client, used):
        if stream:
            deltas = [
                chunk.choices[0].delta
                for chunk in client.chat.completions.create(model=MODEL, messages=HI, stream=True)
                if chunk.choices
            ]
            thoughts = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
            text = "".join(delta.content or "" for delta in deltas)
        else:
            message = client.chat.completions.create(model=MODEL, messages=HI).choices[0].message
            thoughts, text = getattr(message, "reasoning_content", ""), message.content or ""
        assert (thoughts, text) == ("Hm.", "Yes.")
        assert used() == NANO


@every
def test_an_answer_has_the_shape_that_was_asked_for(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    background_upstream.next(vendor.whole(Said('{"name":"Bonn","people":330000}')))
    with asking(background_upstream, vendor) as (client, used):
        answer = client.chat.completions.parse(model=MODEL, messages=HI, response_format=City)
        assert answer.choices[0].message.parsed == City(name="Bonn", people=330_000)
        assert used() == NANO
    assert b"people" in background_upstream.last.body


@every
def test_an_error_is_one_of_openai_s_and_costs_nothing(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    bodies = {
        "bedrock": {"message": "Could not resolve the model identifier."},
        "azure": {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
        "ollama": {"error": "model 'fake-1' not found"},
    }
    body = json.dumps(bodies[vendor.settings["dialect"]]).encode()
    kind = [("x-amzn-errortype", "ResourceNotFoundException")]
    background_upstream.next(Script(status=404, raw_body=body, content_type="application/json", headers=kind))
    with asking(background_upstream, vendor) as (client, used):
        with pytest.raises(openai.NotFoundError) as raised:
            client.chat.completions.create(model=MODEL, messages=HI)
        assert error_of(raised)["code"] == "not_found"
        assert used() == 0


@every
def test_a_stream_that_breaks_off_is_told_so(background_upstream: BackgroundUpstream, vendor: Vendor) -> None:
    script = vendor.stream(Said("Hello"))
    assert script.raw_body is not None
    cut = Script(raw_body=script.raw_body, content_type=script.content_type, truncate_at_byte=len(script.raw_body) // 2)
    background_upstream.next(cut)
    with asking(background_upstream, vendor) as (client, used):
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
        assert 0 < used() < 10**6


def test_bedrock_s_exception_in_a_stream_ends_it(background_upstream: BackgroundUpstream) -> None:
    text = eventstreams.event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hel"})
    body = text + eventstreams.exception("throttlingException", "Too many tokens, please wait.")
    background_upstream.next(Script(raw_body=body, content_type="application/vnd.amazon.eventstream"))
    with asking(background_upstream, BEDROCK) as (client, _):
        with pytest.raises(openai.APIError) as raised:
            list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
        assert "rate" in str(raised.value)


def test_fields_that_were_left_out_are_told(background_upstream: BackgroundUpstream) -> None:
    background_upstream.next(BEDROCK.whole(Said("Hello")))
    with asking(background_upstream, BEDROCK) as (client, _):
        raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, seed=1, user="u")
        assert raw.headers["x-hpp-router-dropped-fields"] == "seed, user"
