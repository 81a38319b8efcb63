"""Bedrock, Azure and Ollama keep every promise of dialects."""

import json
from typing import Any

import eventstreams
import pytest

from hpp_middleware.dialects import known
from hpp_middleware.testing import DIALECT_PROMISES, Sample
from hpp_middleware.testing.dialects import DialectPromise
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Provider

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CACHED = Usage(input=5, cache_read=4, output=2)

BEDROCK = Provider(base_url="https://bedrock-runtime.us-east-1.amazonaws.com", dialect="bedrock", api_key="made-up-key")
BEDROCK_END: dict[str, Any] = {
    "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 11, "cacheReadInputTokens": 4},
    "metrics": {"latencyMs": 1},
}
AZURE = Provider(base_url="https://acme.openai.azure.com", dialect="azure", api_key="made-up-key")
AZURE_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 2,
    "total_tokens": 11,
    "prompt_tokens_details": {"cached_tokens": 4},
}
OLLAMA = Provider(base_url="http://127.0.0.1:11434", dialect="ollama", api_key="made-up-key")
OLLAMA_END = {
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 9,
    "prompt_eval_cached_count": 4,
    "eval_count": 2,
}


def converse(stop: str, *blocks: dict[str, Any]) -> bytes:
    message = {"role": "assistant", "content": list(blocks)}
    return json.dumps({"output": {"message": message}, "stopReason": stop, **BEDROCK_END}).encode()


def sse(*chunks: dict[str, Any]) -> bytes:
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"".join(b"data: " + json.dumps({**head, **chunk}).encode() + b"\n\n" for chunk in chunks)


def lines(*objects: dict[str, Any]) -> bytes:
    return b"".join(json.dumps({"model": "m", **one}).encode() + b"\n" for one in objects)


def choice(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


SAMPLES = {
    "bedrock": Sample(
        provider=BEDROCK,
        answer=converse("end_turn", {"text": "Hello!"}),
        stream=eventstreams.stream(
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hel"}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "lo!"}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("messageStop", {"stopReason": "end_turn"}),
            ("metadata", BEDROCK_END),
        ),
        text="Hello!",
        usage=CACHED,
    ),
    "bedrock, which thinks and calls": Sample(
        provider=BEDROCK,
        answer=converse(
            "tool_use",
            {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
            {"text": "Wait."},
            {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"x": 1}}},
        ),
        stream=eventstreams.stream(
            ("messageStart", {"role": "assistant"}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}),
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}),
            ("contentBlockStop", {"contentBlockIndex": 0}),
            ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"text": "Wait."}}),
            ("contentBlockStop", {"contentBlockIndex": 1}),
            ("contentBlockStart", {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "t1", "name": "f"}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"x":'}}}),
            ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolUse": {"input": " 1}"}}}),
            ("contentBlockStop", {"contentBlockIndex": 2}),
            ("messageStop", {"stopReason": "tool_use"}),
            ("metadata", BEDROCK_END),
        ),
        text="Wait.",
        usage=CACHED,
        reasoning="Hm.",
        tool_calls=(("f", {"x": 1}),),
        finish="tool_calls",
        fields={"tools": [TOOL]},
    ),
    "azure": Sample(
        provider=AZURE,
        answer=json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "prompt_filter_results": [],
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}
                ],
                "usage": AZURE_USAGE,
            }
        ).encode(),
        stream=sse(
            {"id": "", "object": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []},
            choice(role="assistant", content=""),
            choice(content="Hel"),
            choice(content="lo!"),
            choice("stop"),
            {"choices": [], "usage": AZURE_USAGE},
        )
        + b"data: [DONE]\n\n",
        text="Hello!",
        usage=CACHED,
    ),
    "ollama": Sample(
        provider=OLLAMA,
        answer=lines({"message": {"role": "assistant", "content": "Hello!"}, **OLLAMA_END}),
        stream=lines(
            {"message": {"role": "assistant", "content": "Hel"}, "done": False},
            {"message": {"role": "assistant", "content": "lo!"}, "done": False},
            {"message": {"role": "assistant", "content": ""}, **OLLAMA_END},
        ),
        text="Hello!",
        usage=CACHED,
    ),
    "ollama, which thinks and calls": Sample(
        provider=OLLAMA,
        answer=lines(
            {
                "message": {
                    "role": "assistant",
                    "content": "Wait.",
                    "thinking": "Hm.",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
                },
                **OLLAMA_END,
            }
        ),
        stream=lines(
            {"message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
            {"message": {"role": "assistant", "content": "Wait."}, "done": False},
            {
                "message": {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}],
                },
                "done": False,
            },
            {"message": {"role": "assistant", "content": ""}, **OLLAMA_END},
        ),
        text="Wait.",
        usage=CACHED,
        reasoning="Hm.",
        tool_calls=(("f", {"x": 1}),),
        finish="tool_calls",
        fields={"tools": [TOOL]},
    ),
}


@pytest.mark.parametrize("promise", DIALECT_PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", SAMPLES)
def test_a_promise_is_kept(name: str, promise: DialectPromise) -> None:
    sample = SAMPLES[name]
    promise(known.find(sample.provider.dialect), sample)
