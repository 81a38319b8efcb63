"""What the tests of Anthropic's dialect share: models, requests, and the vendor's own types as judges."""

import base64
import json
from typing import Any

import anthropic.types as vendor
from anthropic.types import message_create_params
from pydantic import TypeAdapter

from hpp_middleware.core import parse
from hpp_middleware.dialects.anthropic import Anthropic
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = [
    "ID",
    "PDF",
    "PNG",
    "body_of",
    "call_of",
    "chat",
    "events",
    "message",
    "stream_of",
    "target",
    "vendor",
    "wire",
]

ID = "req_0199aabbccdd00112233445566778899"
PNG = base64.b64encode(b"\x89PNG made up").decode()
PDF = base64.b64encode(b"%PDF-1.7 made up").decode()

_whole: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsNonStreaming)
_stream: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParamsStreaming)
_SAMPLING = {"temperature", "top_p", "top_k"}  # models up to 4.6 take them; the SDK has dropped them for all
_KNOWN = set(message_create_params.MessageCreateParamsStreaming.__annotations__) | _SAMPLING
_event: TypeAdapter[Any] = TypeAdapter(vendor.RawMessageStreamEvent)


def target(name: str = "claude-opus-4-5", *, provider: dict[str, Any] | None = None, **model: Any) -> Target:
    """A model at Anthropic."""
    settings: dict[str, Any] = {
        "base_url": "https://api.anthropic.com",
        "api_key": "sk-ant-made-up",
        "dialect": "anthropic",
    }
    return Target(
        id=f"anthropic/{name}",
        provider_name="anthropic",
        model_name=name,
        provider=Provider(**{**settings, **(provider or {})}),
        model=Model(**model),
        price=Price(base=Rates(input=1, output=2)),
    )


def chat(*messages: dict[str, Any], **fields: Any) -> Request:
    """A chat completion as a client sends it."""
    asked = list(messages) or [{"role": "user", "content": "Hi"}]
    body = {"model": "anthropic/m", "messages": asked, **fields}
    return parse.completion(json.dumps(body).encode(), Limits())


def call_of(request: Request, found: Target | None = None, *, cap: int | None = 1000) -> HTTPCall:
    """The call, whose body the vendor's own types take."""
    call = Anthropic().call(request, found or target(), cap=None if request.cap else cap, request_id=ID)
    body = json.loads(call.body)
    assert body.keys() <= _KNOWN
    (_stream if request.stream else _whole).validate_python(body)
    return call


def body_of(request: Request, found: Target | None = None, *, cap: int | None = 1000) -> Any:
    """The call's body."""
    return json.loads(call_of(request, found, cap=cap).body)


def wire(*found: dict[str, Any]) -> bytes:
    """Events as Anthropic sends them, each of which the vendor's own type takes, but for ``ping`` and ``error``."""
    for event in found:
        if event["type"] not in {"ping", "error"}:
            _event.validate_python(event)
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in found)


def events(data: bytes) -> list[Any]:
    """The data of events, parsed; ``[DONE]`` as it is."""
    found = [
        line.removeprefix("data: ")
        for event in data.decode().split("\n\n")
        for line in event.split("\n")
        if line.startswith("data: ")
    ]
    return [event if event == "[DONE]" else json.loads(event) for event in found]


def message(**fields: Any) -> dict[str, Any]:
    """A message as a stream begins with it."""
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-5-20251101",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
        **fields,
    }


def stream_of(
    *blocks: dict[str, Any],
    start: dict[str, Any] | None = None,
    usage: dict[str, Any] | None = None,
    reason: str = "end_turn",
) -> list[dict[str, Any]]:
    """The events of a whole answer; each block comes with its ``deltas``."""
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": message(**({"usage": start} if start else {}))},
    ]
    for index, block in enumerate(blocks):
        begun = {name: value for name, value in block.items() if name != "deltas"}
        found.append({"type": "content_block_start", "index": index, "content_block": begun})
        if not index:
            found.append({"type": "ping"})
        found += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in block["deltas"]]
        found.append({"type": "content_block_stop", "index": index})
    found += [
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": usage or {"output_tokens": 15},
        },
        {"type": "message_stop"},
    ]
    return found
