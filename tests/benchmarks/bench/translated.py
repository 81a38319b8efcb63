"""What a translation costs: requests, chunks and answers of each dialect, as clients of each API ask for them."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import eventstreams

from hpp_middleware.apis.chat import CHAT
from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.core import price
from hpp_middleware.dialects import known
from hpp_middleware.ports import API, StreamReader
from hpp_middleware.stages.route import speak
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Limits, Model, Provider

__all__ = ["APIS", "CHUNKS", "SPEECHES", "Case", "Speech", "cases"]

CHUNKS = 256
"""Of one stream, with a few letters each, as models write them."""
ID = "req_0199aabbccdd00112233445566778899"
LIMITS = Limits()
_WORDS = "The quick brown fox jumps over the lazy dog while the benchmark counts what that costs. "
_TEXT = _WORDS * 5
_PIECES = [_TEXT[at % 400 : at % 400 + 4] for at in range(0, 4 * CHUNKS, 4)]


class Speech(NamedTuple):
    """
    A provider's words: a stream up to its text, an event for each piece of text, and a whole answer.

    Attributes:
        settings: Of its ``Provider``.
        model: A name that it knows.
    """

    settings: dict[str, Any]
    begun: bytes
    event: Callable[[str], bytes]
    whole: dict[str, Any]
    model: str = "some-model"


def _sse(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _named(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + _sse(value)


# --- OpenAI -----------------------------------------------------------------------------------------------------------

_HEAD: dict[str, Any] = {"id": "chatcmpl-1", "created": 1_767_225_600, "model": "theirs"}


def _chat(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return _sse({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]})


_MESSAGE = {"role": "assistant", "content": _TEXT}
_CHAT_WHOLE = {
    **_HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 210, "completion_tokens": 96, "total_tokens": 306},
}
_PLACE: dict[str, Any] = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
_PART: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": []}
_ITEM: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1_767_225_600,
    "status": "completed",
    "model": "theirs",
    "output": [{**_ITEM, "content": [{**_PART, "text": _TEXT}]}],
    "usage": {"input_tokens": 210, "output_tokens": 96, "total_tokens": 306},
}
_OPENS: list[tuple[str, dict[str, Any]]] = [
    ("created", {"response": {**_RESPONSE, "status": "in_progress", "output": [], "usage": None}}),
    ("output_item.added", {"output_index": 0, "item": {**_ITEM, "content": []}}),
    ("content_part.added", {**_PLACE, "part": {**_PART, "text": ""}}),
]
_RESPONSE_BEGUN = b"".join(
    _named({"type": f"response.{kind}", "sequence_number": at, **fields}) for at, (kind, fields) in enumerate(_OPENS)
)


def _responses(text: str) -> bytes:
    return _named({"type": "response.output_text.delta", "sequence_number": 9, **_PLACE, "delta": text, "logprobs": []})


# --- the others -------------------------------------------------------------------------------------------------------

_MESSAGE_HEAD = {"id": "msg_1", "type": "message", "role": "assistant", "model": "theirs", "stop_sequence": None}
_MESSAGE_USAGE = {"input_tokens": 210, "output_tokens": 96}
_MESSAGES_BEGUN = _named(
    {
        "type": "message_start",
        "message": {**_MESSAGE_HEAD, "content": [], "stop_reason": None, "usage": _MESSAGE_USAGE},
    }
) + _named({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})


def _messages(text: str) -> bytes:
    return _named({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}})


_GOOGLE_USAGE = {"promptTokenCount": 210, "candidatesTokenCount": 96, "totalTokenCount": 306}


def _google(text: str, **candidate: Any) -> dict[str, Any]:
    content = {"role": "model", "parts": [{"text": text}]}
    head = {"usageMetadata": _GOOGLE_USAGE, "modelVersion": "theirs", "responseId": "resp-1"}
    return {"candidates": [{"content": content, "index": 0, **candidate}], **head}


def _bedrock(text: str) -> bytes:
    return eventstreams.event("contentBlockDelta", contentBlockIndex=0, delta={"text": text})


_OLLAMA_HEAD = {"model": "m", "created_at": "2026-11-29T00:00:00.000000000Z"}


def _ollama(text: str) -> bytes:
    line = {**_OLLAMA_HEAD, "message": {"role": "assistant", "content": text}, "done": False}
    return json.dumps(line).encode() + b"\n"


_OLLAMA_END = {"done": True, "done_reason": "stop", "prompt_eval_count": 210, "eval_count": 96}
_OPENAI: dict[str, Any] = {"dialect": "openai", "cap_fields": ("max_completion_tokens", "max_tokens")}
_ANTHROPIC_WHOLE = {
    **_MESSAGE_HEAD,
    "content": [{"type": "text", "text": _TEXT}],
    "stop_reason": "end_turn",
    "usage": _MESSAGE_USAGE,
}

SPEECHES: dict[str, Speech] = {
    "openai": Speech(_OPENAI, b"", _chat, _CHAT_WHOLE),
    "azure": Speech({"dialect": "azure"}, b"", _chat, _CHAT_WHOLE),
    "anthropic": Speech(
        {"dialect": "anthropic"}, _MESSAGES_BEGUN, _messages, _ANTHROPIC_WHOLE, model="claude-sonnet-4-5"
    ),
    "gemini": Speech(
        {"dialect": "gemini"},
        b"",
        lambda text: _sse(_google(text)),
        _google(_TEXT, finishReason="STOP"),
        model="gemini-2.5-flash",
    ),
    "vertex": Speech(
        {"dialect": "vertex"},
        b"",
        lambda text: _sse(_google(text)),
        _google(_TEXT, finishReason="STOP"),
        model="gemini-2.5-flash",
    ),
    "bedrock": Speech(
        {"dialect": "bedrock"},
        eventstreams.event("messageStart", role="assistant"),
        _bedrock,
        {
            "output": {"message": {"role": "assistant", "content": [{"text": _TEXT}]}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 210, "outputTokens": 96, "totalTokens": 306},
        },
        model="anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    "ollama": Speech(
        {"dialect": "ollama"},
        b"",
        _ollama,
        {**_OLLAMA_HEAD, "message": {"role": "assistant", "content": _TEXT}, **_OLLAMA_END},
    ),
}
"""By dialect."""

_PASSED_ON: dict[tuple[str, str], Speech] = {
    ("openai", "responses"): Speech(
        {**_OPENAI, "native_apis": frozenset({"responses"})}, _RESPONSE_BEGUN, _responses, _RESPONSE
    ),
}
"""Where a provider takes the API as it is; Anthropic's dialect does so by itself."""


# --- what clients ask -------------------------------------------------------------------------------------------------

_SYSTEM, _ASKED = _WORDS * 5, _WORDS * 3
_TOOL = {
    "name": "weather",
    "description": "Tells the weather.",
}
_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _chat_question() -> dict[str, Any]:
    function = {**_TOOL, "parameters": _SCHEMA}
    messages = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": _ASKED}]
    return {"messages": messages, "tools": [{"type": "function", "function": function}], "max_tokens": 4096}


def _messages_question() -> dict[str, Any]:
    messages = [{"role": "user", "content": _ASKED}]
    return {"system": _SYSTEM, "messages": messages, "tools": [{**_TOOL, "input_schema": _SCHEMA}], "max_tokens": 4096}


def _responses_question() -> dict[str, Any]:
    tools = [{"type": "function", **_TOOL, "parameters": _SCHEMA, "strict": False}]
    return {"instructions": _SYSTEM, "input": _ASKED, "tools": tools, "max_output_tokens": 4096, "store": False}


APIS: dict[str, tuple[API, Callable[[], dict[str, Any]]]] = {
    "chat": (CHAT, _chat_question),
    "messages": (MESSAGES, _messages_question),
    "responses": (RESPONSES, _responses_question),
}
"""What clients speak, and how a question of about 1 KB with a tool is asked in it."""


class Case(NamedTuple):
    """
    One dialect before one API.

    Attributes:
        passed_on: Whether nothing is translated.
        request: Parses a question, and makes the provider's request of it.
        reader: A reader of a stream that has begun.
        chunks: What it is fed: one event each.
        answer: Makes the client's answer of the provider's.
    """

    dialect: str
    api: str
    passed_on: bool
    request: Callable[[], object]
    reader: Callable[[], StreamReader]
    chunks: list[bytes]
    answer: Callable[[], bytes]


def cases() -> Iterator[Case]:
    """Each dialect before each API; OpenAI's Responses passed on besides."""
    for name, speech in SPEECHES.items():
        for api in APIS:
            yield _case(name, api, speech)
    for (name, api), speech in _PASSED_ON.items():
        yield _case(name, api, speech)


def _case(name: str, api_name: str, speech: Speech) -> Case:
    api, question = APIS[api_name]
    target = Target(
        id="fake/m",
        provider_name="fake",
        model_name=speech.model,
        provider=Provider(base_url="http://127.0.0.1:9/v1", api_key="of-the-operator", **speech.settings),
        model=Model(),
        price=Price(base=price.rates_from_usd({"input": "1.25", "output": "10"}, "benchmark")),
    )
    dialects = {speech.settings["dialect"]: known.find(speech.settings["dialect"])}
    body = json.dumps({"model": "fake/m", **question()}).encode()
    streaming = json.dumps({"model": "fake/m", "stream": True, **question()}).encode()
    asked, dialect = speak.said(api, api.request(body, LIMITS), target, dialects, LIMITS)
    streamed, streams = speak.said(api, api.request(streaming, LIMITS), target, dialects, LIMITS)
    passed_on = api_name != "chat" and asked.api == api_name
    whole = json.dumps(speech.whole).encode()

    def request() -> object:
        found, spoken = speak.said(api, api.request(body, LIMITS), target, dialects, LIMITS)
        return spoken.call(found, target, cap=None, request_id=ID)

    def reader() -> StreamReader:
        found = streams.stream(streamed, target, event_bytes=LIMITS.event_bytes, cap=10**6, request_id=ID)
        found.feed(speech.begun)
        return found

    def answer() -> bytes:
        return dialect.answer(whole, asked, target, request_id=ID)[0]

    return Case(name, api_name, passed_on, request, reader, [speech.event(piece) for piece in _PIECES], answer)
