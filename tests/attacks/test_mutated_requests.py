"""Whatever a client sends, in any API, to any dialect: a call, or a refusal that names the client's fault."""

import json
from random import Random
from typing import Any

import pytest
from rounds import rounds

from attacks.mutating import mutated, thinned, written
from attacks.targets import API_OF, DIALECTS, TARGETS, target
from hpp_middleware.dialects.chat import Call, Function, Message
from hpp_middleware.dialects.gemini.contents import Contents
from hpp_middleware.errors import RequestError
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.route.speak import said
from hpp_middleware.types.completion import Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Limits

LIMITS = Limits()
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
KEPT = frozenset({"model", "messages", "input", "prompt", "max_tokens", "type", "role", "content", "function", "name"})
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
LONG = {"type": "ephemeral", "ttl": "1h"}

CHAT = {
    "model": "x/y",
    "max_tokens": 3000,
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "developer", "content": [{"type": "text", "text": "d", "cache_control": LONG}]},
        {
            "role": "user",
            "name": "bob",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image_url", "image_url": {"url": PNG, "detail": "high"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://a/b.png"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x"},
                {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
            ],
        },
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}]},
        {
            "role": "assistant",
            "content": "x",
            "reasoning_content": "h",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "t", "signature": "s", "format": "f"},
                {"type": "reasoning.encrypted", "data": "d", "id": "c1"},
            ],
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"a":1}'},
                    "extra_content": {"google": {"thought_signature": "x"}},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"r":1}'},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True},
            "cache_control": LONG,
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA, "strict": True}},
    "stop": ["a"],
    "temperature": 0.5,
    "frequency_penalty": 0,
    "seed": 1,
    "reasoning": {"effort": "low", "max_tokens": 1024, "exclude": True},
    "stream": True,
    "stream_options": {"include_usage": True},
    "cache_control": LONG,
    "service_tier": "auto",
}
MESSAGES = {
    "model": "x/y",
    "max_tokens": 3000,
    "stream": True,
    "system": [{"type": "text", "text": "s", "cache_control": LONG}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "hi"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "JV"},
                    "title": "t",
                },
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}},
                {
                    "type": "search_result",
                    "source": "https://a",
                    "title": "t",
                    "content": [{"type": "text", "text": "x"}],
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "t"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "t1",
                    "content": [{"type": "text", "text": "x"}],
                    "is_error": True,
                }
            ],
        },
    ],
    "tools": [{"name": "f", "input_schema": SCHEMA, "description": "d", "cache_control": LONG, "strict": True}],
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["a"],
    "temperature": 1,
    "metadata": {"user_id": "u"},
    "cache_control": LONG,
}
RESPONSES = {
    "model": "x/y",
    "max_output_tokens": 3000,
    "stream": True,
    "store": False,
    "instructions": "i",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "hi"},
                {"type": "input_image", "image_url": PNG, "detail": "high"},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "x"},
                {"type": "input_file", "file_data": PDF, "filename": "f.pdf"},
            ],
        },
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}], "encrypted_content": "e"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "message", "role": "assistant", "id": "m", "content": [{"type": "output_text", "text": "x"}]},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "parallel_tool_calls": False,
    "text": {"format": {"type": "json_schema", "name": "r", "schema": SCHEMA, "strict": True}},
    "reasoning": {"effort": "low", "summary": "auto"},
    "truncation": "disabled",
    "include": ["reasoning.encrypted_content"],
}
SEEDS: dict[str, list[dict[str, Any]]] = {
    "chat": [CHAT],
    "messages": [MESSAGES],
    "responses": [RESPONSES],
    "embeddings": [
        {"model": "x/y", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64"},
        {"model": "x/y", "input": [[1, 2], [3]]},
    ],
    "images": [{"model": "x/y", "prompt": "p", "n": 1, "size": "1024x1024", "quality": "low", "output_format": "png"}],
}


def ask(api: str, body: bytes, where: Target) -> HTTPCall:
    """What is sent, as the path makes it."""
    spoken = API_OF[api]
    asked = spoken.request(body, LIMITS)
    request, dialect = said(spoken, asked, where, DIALECTS, LIMITS)
    plan = Plan(request, where, dialect, request_id=f"req_{'0' * 32}", limits=LIMITS, orphan="estimate")
    return plan.job("a", 10**15, missing_usage="estimate").call


def outcome(api: str, body: str, where: Target) -> HTTPCall | RequestError:
    """What is sent, or why nothing is."""
    try:
        return ask(api, body.encode(), where)
    except RequestError as error:
        return error


def check(found: HTTPCall | RequestError, api: str) -> None:
    """What is sent is JSON in UTF-8; what is refused is the client's fault."""
    if isinstance(found, RequestError):
        assert 400 <= found.status < 500
        assert json.loads(API_OF[api].error(found, "req_1"))
    else:
        assert json.loads(found.body.decode())


@pytest.mark.parametrize("api", SEEDS)
def test_no_body_is_our_fault(api: str) -> None:
    random = Random(f"bodies of {api}")
    for _ in range(rounds(600, soak=40_000)):
        seed = random.choice(SEEDS[api])
        body = mutated(thinned(seed, random, kept=KEPT) if random.random() < 0.8 else seed, random)
        where = random.choice(TARGETS)
        check(outcome(api, written(body), where), api)


def test_each_dialect_takes_what_is_not_mutated() -> None:
    plain = {"model": "x/y", "max_tokens": 3000, "messages": [{"role": "user", "content": "hi"}]}
    for where in TARGETS:
        assert json.loads(ask("chat", json.dumps(plain).encode(), where).body)


FUNCTION = {"type": "function", "function": {"name": "f"}}
HI = [{"role": "user", "content": "hi"}]
MARKED = [
    {"role": "user", "content": [{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": {}}}]}
]


@pytest.mark.parametrize("dialect", ["anthropic", "bedrock"])
@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": FUNCTION},
        {"tool_choice": FUNCTION, "tools": [FUNCTION], "parallel_tool_calls": False},
        {"messages": MARKED},
        {"messages": [*HI, {"role": "assistant", "content": "x", "reasoning_details": [{"format": {}}]}, *HI]},
        {"frequency_penalty": "1e400"},
    ],
)
def test_what_cannot_be_hashed_or_written_is_no_500(dialect: str, fields: dict[str, Any]) -> None:
    body = json.dumps({"model": "x/y", "max_tokens": 3000, "messages": HI, **fields}).replace('"1e400"', "1e400")
    check(outcome("chat", body, target(dialect)), "chat")


def test_a_number_out_of_range_in_a_block_that_nobody_knows_is_refused() -> None:
    block = '{"type":"search_result","content":[{"type":"text","text":{"a":1e999}}]}'
    body = '{"model":"x/y","max_tokens":9,"messages":[{"role":"user","content":[BLOCK]}]}'.replace("BLOCK", block)
    with pytest.raises(RequestError, match=r"messages\[0\]\.content\[0\]\.content"):
        ask("messages", body.encode(), target("anthropic"))


def test_proofs_of_many_calls_are_not_sought_one_by_one() -> None:
    calls = [Call(id=f"c{number}", function=Function(name="f", arguments="{}")) for number in range(50)]
    looked = _Counted({"type": "reasoning.encrypted", "data": f"d{number}", "id": f"c{number}"} for number in range(90))
    found = Contents([Message(role="assistant", tool_calls=calls, reasoning_details=looked)], "gemini-3-pro-preview")
    assert found.turns[0]["parts"][49]["thoughtSignature"] == "d49"
    assert looked.times == 1


class _Counted(list[dict[str, Any]]):
    """A list that counts how often it is gone through."""

    times = 0

    def __iter__(self) -> Any:
        self.times += 1
        return super().__iter__()
