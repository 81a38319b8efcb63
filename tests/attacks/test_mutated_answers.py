"""Whatever a provider answers, in any dialect and to any client API: an answer, or a fault that is told as its own."""

import binascii
import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from rounds import rounds

from attacks.mutating import mutated, scratched, written
from attacks.targets import API_OF, DIALECTS, TARGETS, target
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.settlement import End, Settlement, settle
from hpp_middleware.dialects.gemini import refusal
from hpp_middleware.errors import RequestError, UpstreamError
from hpp_middleware.ports import Dialect
from hpp_middleware.stages.speak import said
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.provider import Limits

LIMITS = Limits()
ID = f"req_{'0' * 32}"
HOLD = 10**9

MESSAGE_EVENTS = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "c",
            "content": [],
            "stop_reason": None,
            "usage": {
                "input_tokens": 10,
                "cache_creation_input_tokens": 5,
                "cache_read_input_tokens": 2,
                "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 1,
            },
        },
    },
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a":1}'}},
    {"type": "content_block_stop", "index": 2},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 20, "server_tool_use": {"web_search_requests": 0}},
    },
    {"type": "message_stop"},
    {"type": "error", "error": {"type": "overloaded_error", "message": "m"}},
]
MESSAGE = [
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "c",
        "content": [
            {"type": "thinking", "thinking": "t", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            {"type": "text", "text": "hi", "citations": None},
            {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10,
            "output_tokens": 5,
            "cache_creation_input_tokens": 5,
            "cache_read_input_tokens": 2,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
        },
    }
]
GEMINI = [
    {
        "responseId": "r",
        "candidates": [
            {
                "index": 0,
                "content": {
                    "role": "model",
                    "parts": [{"text": "th", "thought": True}, {"text": "hi", "thoughtSignature": "s"}],
                },
            }
        ],
        "usageMetadata": {"promptTokenCount": 10, "totalTokenCount": 10},
    },
    {
        "candidates": [
            {
                "content": {
                    "parts": [
                        {"functionCall": {"name": "f", "args": {"a": 1}, "id": "x"}},
                        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
                    ]
                },
                "finishReason": "STOP",
            }
        ],
        "promptFeedback": {"blockReason": None},
        "usageMetadata": {
            "promptTokenCount": 10,
            "cachedContentTokenCount": 3,
            "candidatesTokenCount": 5,
            "thoughtsTokenCount": 2,
            "toolUsePromptTokenCount": 0,
            "totalTokenCount": 17,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 8}, {"modality": "AUDIO", "tokenCount": 2}],
            "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 1}],
            "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 3}],
        },
    },
    {"error": {"code": 400, "message": "m", "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]}},
]
CONVERSE_EVENTS = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t", "name": "f"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"a":1}'}}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "hi"}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"reasoningContent": {"text": "x"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"reasoningContent": {"signature": "x"}}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    ("messageStop", {"stopReason": "end_turn"}),
    (
        "metadata",
        {
            "usage": {
                "inputTokens": 10,
                "outputTokens": 5,
                "totalTokens": 15,
                "cacheReadInputTokens": 2,
                "cacheWriteInputTokens": 1,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 1}],
            },
            "metrics": {"latencyMs": 5},
        },
    ),
]
CONVERSE = [
    {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"text": "hi"},
                    {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
                    {"reasoningContent": {"reasoningText": {"text": "x", "signature": "s"}, "redactedContent": "d"}},
                    {"citationsContent": {"content": [{"text": "c"}]}},
                ],
            }
        },
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 15,
            "cacheReadInputTokens": 2,
            "cacheWriteInputTokens": 1,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 1}],
        },
    }
]
OLLAMA = [
    {
        "model": "m",
        "message": {
            "role": "assistant",
            "content": "hi",
            "thinking": "t",
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}, "id": "x"}],
        },
        "done": False,
    },
    {
        "message": {"content": ""},
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 5,
        "prompt_eval_cached_count": 2,
        "eval_count": 3,
        "load_duration": 1,
        "total_duration": 2,
    },
    {"error": "boom"},
]
CHUNKS = [
    {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "delta": {
                    "role": "assistant",
                    "content": "hi",
                    "reasoning_content": "r",
                    "tool_calls": [
                        {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                    ],
                },
                "finish_reason": None,
            }
        ],
    },
    {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {
        "id": "c",
        "choices": [],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    },
]
COMPLETION = [
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hi",
                    "reasoning_content": "r",
                    "reasoning_details": [{"type": "reasoning.text", "text": "x", "signature": "s"}],
                    "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }
]
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "x"}],
            "content": [{"type": "reasoning_text", "text": "r"}],
        },
        {
            "type": "message",
            "id": "m",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        },
        {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"},
    ],
    "usage": {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    },
}
RESPONSE_EVENTS = [
    {
        "type": "response.created",
        "response": {**RESPONSE, "output": [], "usage": None, "status": "in_progress"},
        "sequence_number": 0,
    },
    {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "message", "id": "m", "content": []},
        "sequence_number": 1,
    },
    {
        "type": "response.content_part.added",
        "item_id": "m",
        "output_index": 0,
        "content_index": 0,
        "part": {"type": "output_text", "text": ""},
    },
    {
        "type": "response.output_text.delta",
        "item_id": "m",
        "output_index": 0,
        "content_index": 0,
        "delta": "hi",
        "sequence_number": 2,
    },
    {"type": "response.output_item.done", "output_index": 0, "item": RESPONSE["output"][1]},
    {"type": "response.completed", "response": RESPONSE, "sequence_number": 5},
    {"type": "error", "code": "x", "message": "m"},
]
EMBEDDED = [
    {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [1, 2]}],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
]
GEMINI_EMBEDDED = [{"embeddings": [{"values": [1, 2]}, {"values": [3]}], "usageMetadata": {"promptTokenCount": 3}}]
DRAWN = [
    {
        "created": 1,
        "data": [{"b64_json": "x"}],
        "usage": {
            "input_tokens": 3,
            "output_tokens": 10,
            "total_tokens": 13,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 3, "cached_tokens": 1},
            "output_tokens_details": {"image_tokens": 9, "text_tokens": 1},
        },
    }
]

WHOLE: dict[str, list[Any]] = {
    "openai": COMPLETION,
    "azure": COMPLETION,
    "anthropic": MESSAGE,
    "gemini": GEMINI,
    "vertex": GEMINI,
    "bedrock": CONVERSE,
    "ollama": OLLAMA,
}


def sse(events: list[Any]) -> bytes:
    """Server-sent events."""
    return b"".join(b"data: " + written(event).encode() + b"\n\n" for event in events)


def named_header(name: str, value: str) -> bytes:
    return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()


def eventstream(events: list[Any]) -> bytes:
    """AWS's."""
    found = []
    for event in events:
        (name, payload), *_ = (event if isinstance(event, dict) and event else {"metadata": event}).items()
        headers = named_header(":message-type", "event") + named_header(":event-type", name[:40])
        data = written(payload).encode()
        head = struct.pack(">II", 16 + len(headers) + len(data), len(headers))
        whole = head + struct.pack(">I", binascii.crc32(head)) + headers + data
        found.append(whole + struct.pack(">I", binascii.crc32(whole)))
    return b"".join(found)


def lines(events: list[Any]) -> bytes:
    """Ollama's."""
    return b"".join(written(event).encode() + b"\n" for event in events)


STREAMS: dict[str, tuple[list[Any], Callable[[list[Any]], bytes]]] = {
    "openai": (CHUNKS, sse),
    "azure": (CHUNKS, sse),
    "anthropic": (MESSAGE_EVENTS, sse),
    "gemini": (GEMINI, sse),
    "vertex": (GEMINI, sse),
    "bedrock": ([{name: payload} for name, payload in CONVERSE_EVENTS], eventstream),
    "ollama": (OLLAMA, lines),
}
NATIVE: dict[str, tuple[list[Any], list[Any]]] = {
    "messages": (MESSAGE_EVENTS, MESSAGE),
    "responses": (RESPONSE_EVENTS, [RESPONSE]),
    "embeddings": ([], EMBEDDED),
    "images": ([], DRAWN),
}
ASKED: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": "hi"}]},
    "messages": {"max_tokens": 2000, "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"input": "hi"},
    "embeddings": {"input": ["a", "b"]},
    "images": {"prompt": "p"},
}


def ask(api: str, where: Target, **fields: Any) -> tuple[Request, Dialect, bool]:
    """A request and its dialect, and whether that is the provider's own of the API."""
    spoken = API_OF[api]
    asked = spoken.request(json.dumps({"model": "x/y", **ASKED[api], **fields}).encode(), LIMITS)
    request, dialect = said(spoken, asked, where, DIALECTS, LIMITS)
    return request, dialect, api != "chat" and request is asked


def charging(where: Target) -> Charge:
    def charge(end: End, seen: Seen) -> Settlement:
        return settle(end, seen, price=where.price, hold=HOLD, prompt_estimate=10)

    return charge


def check(seen: Seen, where: Target) -> None:
    """What was seen can be settled, however it ends, and written down."""
    for end in End:
        assert settle(end, seen, price=where.price, hold=HOLD, prompt_estimate=10).amount >= 0
    if seen.usage_raw is not None:
        json.loads(bytes(seen.usage_raw).decode())


def whole(request: Request, dialect: Dialect, where: Target, data: bytes, charge: Charge | None) -> str:
    try:
        out, seen = dialect.answer(data, request, where, charge=charge, request_id=ID)
    except ProtocolError:
        return "fault"
    except StreamedError as error:
        check(error.args[1] if len(error.args) > 1 else Seen(), where)
        return "error"
    assert out
    check(seen, where)
    return "answer"


def streamed(
    request: Request, dialect: Dialect, where: Target, data: bytes, charge: Charge | None, *, step: int
) -> str:
    reader = dialect.stream(request, where, event_bytes=1 << 20, cap=1000, charge=charge, request_id=ID)
    found = "answer"
    try:
        for at in range(0, len(data), step):
            reader.feed(data[at : at + step])
        reader.close()
    except ProtocolError:
        found = "fault"
    except StreamedError:
        found = "error"
    assert reader.failed(UpstreamError("x", status=502, code="server", provider="p"), None)
    check(reader.seen, where)
    return found


@pytest.mark.parametrize("api", ASKED)
def test_no_answer_is_our_fault(api: str) -> None:
    random, ends = Random(f"answers to {api}"), set()
    for _ in range(rounds(600, soak=40_000)):
        where = random.choice(TARGETS)
        streams = api not in {"embeddings", "images"} and random.random() < 0.6
        try:
            request, dialect, native = ask(api, where, **({"stream": True} if streams else {}))
        except RequestError:
            continue  # it serves no embeddings, or no images
        google = where.provider.dialect in {"gemini", "vertex"}
        charge = charging(where) if random.random() < 0.5 else None
        if streams:
            events, wire = STREAMS[where.provider.dialect] if not native else (NATIVE[api][0], sse)
            data = wire(mutated([event for event in events if random.random() < 0.9], random))
            data = scratched(data, random) if random.random() < 0.3 else data
            ends.add(streamed(request, dialect, where, data, charge, step=random.choice([1, 7, 50, 10**6])))
            continue
        bodies = WHOLE[where.provider.dialect] if not native else NATIVE[api][1]
        if native and google:
            bodies = GEMINI_EMBEDDED if api == "embeddings" else GEMINI
        data = written(mutated(random.choice(bodies), random)).encode()
        data = scratched(data, random) if random.random() < 0.2 else data
        ends.add(whole(request, dialect, where, data, charge))
    assert {"answer", "fault"} <= ends


BAD_NAME = b'"usage":{"input_tokens":3,"output_tokens":2,"\xff":1}'


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("usage", [BAD_NAME, b'"usage":"none"', b'"usage":9223372036854775808', b'"usage":{"x":1e999}'])
def test_an_odd_usage_of_a_message_or_a_response_spoils_no_answer(usage: bytes, *, told: bool) -> None:
    message = b'{"id":"m","type":"message","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn",%s}' % usage
    response = b'{"id":"r","status":"completed","output":[],%s}' % usage
    for api, dialect, body in (("messages", "anthropic", message), ("responses", "openai", response)):
        where = target(dialect)
        request, found, native = ask(api, where)
        assert native
        assert whole(request, found, where, body, charging(where) if told else None) == "answer"


def test_items_whose_ids_are_no_strings_are_passed_on() -> None:
    where = target("openai")
    request, dialect, _ = ask("responses", where, stream=True)
    item = {"type": "message", "id": ["odd"], "content": [{"type": "output_text", "text": "hi"}]}
    events = [{"type": f"response.output_item.{part}", "item": item} for part in ("added", "done")]
    assert streamed(request, dialect, where, sse([*events, RESPONSE_EVENTS[-2]]), None, step=10**6) == "answer"


def test_a_usage_in_no_utf_8_is_kept_as_text_by_every_way_in() -> None:
    where = target("anthropic")
    request, dialect, _ = ask("messages", where, stream=True)
    data = sse(MESSAGE_EVENTS[:-1]).replace(b'"input_tokens":10', b'"input_tokens":10,"note":"\xff"')
    assert streamed(request, dialect, where, data, None, step=10**6) == "answer"


def test_a_long_error_of_google_s_is_searched_in_its_head_only() -> None:
    """The search takes the square of a text's length."""
    message = "token count " * 20_000 + "exceeds"
    body = json.dumps({"error": {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}}).encode()
    assert json.loads(refusal.refused(body))["error"]["code"] == "invalid_request"
    short = body.replace(b"token count " * 20_000, b"token count 5 ")
    assert json.loads(refusal.refused(short))["error"]["code"] == "context_length_exceeded"
