"""What the tests of the Messages API share: Anthropic's own types and parser as judges, and its event grammar."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import Message, RawMessageStreamEvent
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolUnionParam
from openai.types.chat.completion_create_params import ResponseFormat
from pydantic import TypeAdapter

from hpp_middleware.apis.messages.stream import Reader
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = [
    "ID",
    "LIMITS",
    "TARGET",
    "accumulated",
    "asking",
    "check_chat",
    "events",
    "feed",
    "reader",
    "sse",
    "target",
]

ID = "req_0199aabbccdd00112233445566778899"
LIMITS = Limits()

_event = TypeAdapter[Any](RawMessageStreamEvent)
_message = TypeAdapter[Any](ChatCompletionMessageParam)
_tool = TypeAdapter[Any](ChatCompletionToolUnionParam)
_format = TypeAdapter[Any](ResponseFormat)

_DELTAS = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "redacted_thinking": set(),
    "tool_use": {"input_json_delta"},
}


def target(*, model: Model | None = None, **provider: Any) -> Target:
    """A resolved model of a provider that speaks OpenAI's API."""
    return Target(
        id="fake/m",
        provider_name="fake",
        model_name="m",
        provider=Provider(base_url="http://127.0.0.1:9/v1", **provider),
        model=model or Model(),
        price=Price(base=Rates(input=1, output=2)),
    )


TARGET = target()


def asking(*turns: Any, **fields: Any) -> bytes:
    """A request's body: one question, unless turns are given."""
    messages = list(turns) or [{"role": "user", "content": "Hi"}]
    return json.dumps({"model": "fake/m", "max_tokens": 100, "messages": messages, **fields}).encode()


def check_chat(request: Request) -> Any:
    """The chat completion's body, once OpenAI's own types have taken each message, tool and format of it."""
    body: Any = json.loads(msgspec.json.encode(request.fields))
    for message in body["messages"]:
        _exhaust(_message.validate_python(message))
    for tool in body.get("tools", ()):
        _exhaust(_tool.validate_python(tool))
    if "response_format" in body:
        _exhaust(_format.validate_python(body["response_format"]))
    return body


def _exhaust(value: Any) -> None:
    """Pydantic looks at what an iterable has when it is read."""
    if isinstance(value, dict):
        for inner in value.values():
            _exhaust(inner)
    elif not isinstance(value, str | bytes) and isinstance(value, Iterable):
        for inner in value:
            _exhaust(inner)


def reader(stream: Request | None = None, *, cap: int = 1000, charge: Any = None) -> Reader:
    """A reader over OpenAI's own."""
    request = stream or Request(fields={}, model="fake/m", stream=True, include_usage=True)
    inner = OpenAI().stream(request, TARGET, event_bytes=1 << 20, cap=cap, charge=charge)
    return Reader(inner, TARGET, ID)


def sse(*chunks: Any, done: bool = True) -> bytes:
    """Chunks as an upstream streams them; a dictionary without ``choices`` is a delta, a string a finish reason."""
    made = [_chunk(chunk) for chunk in chunks]
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in made) + (
        b"data: [DONE]\n\n" if done else b""
    )


def _chunk(chunk: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    if isinstance(chunk, str):
        return {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": chunk}]}
    if "choices" in chunk or "error" in chunk:
        return {**head, **chunk}
    return {**head, "choices": [{"index": 0, "delta": chunk, "finish_reason": None}]}


def feed(found: Reader, data: bytes, *, size: int | None = None) -> bytes:
    """All that a reader says of bytes that come in pieces."""
    step = size or len(data) or 1
    return b"".join(found.feed(data[at : at + step]) for at in range(0, len(data), step))


def events(data: bytes) -> list[Any]:
    """A whole stream's events, pings left out, if they are what Anthropic's types and its grammar say."""
    found = [event for event in _parsed(data) if event["type"] != "ping"]
    for event in found:
        _event.validate_python(event)
    kinds = [event["type"] for event in found]
    assert kinds[0] == "message_start"
    assert kinds[-2:] == ["message_delta", "message_stop"]
    assert kinds.count("message_start") == kinds.count("message_delta") == kinds.count("message_stop") == 1
    index, open_kind = -1, ""
    for event in found[1:-2]:
        if event["type"] == "content_block_start":
            assert not open_kind, "a block begins within another"
            index += 1
            open_kind = event["content_block"]["type"]
        elif event["type"] == "content_block_delta":
            assert event["delta"]["type"] in _DELTAS[open_kind]
        else:
            assert event["type"] == "content_block_stop"
            assert open_kind, "a block ends that has not begun"
            open_kind = ""
        assert event["index"] == index
    assert not open_kind, "the last block has not ended"
    return found


def _parsed(data: bytes) -> Iterator[Any]:
    for whole in data.decode().split("\n\n"):
        if whole:
            name, _, rest = whole.partition("\n")
            event = json.loads(rest.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            yield event


def accumulated(found: list[Any]) -> Message:
    """The message that Anthropic's own SDK makes of a stream's events."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for event in found:
        parsed = _event.validate_python(event)
        snapshot = accumulate_event(event=parsed, current_snapshot=snapshot, json_bufs=buffers)
    assert snapshot is not None
    return Message.model_validate(snapshot.model_dump())
