"""Answers of every dialect and API, whole and as streams, to be mutated."""

import binascii
import struct
from collections.abc import Callable
from typing import Any

from attacks.mutating import written

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
