"""Google's dialects held to the suite, and compared with another translator where that one is right."""

import json
from typing import Any

import pytest
from google_shapes import asked
from llm_rosetta import ConversionPipeline

from hpp_middleware import Provider
from hpp_middleware.dialects.gemini import Gemini, Vertex
from hpp_middleware.testing import Sample, check_dialect
from hpp_middleware.types.price import Usage

COUNTS = {
    "promptTokenCount": 9,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 2,
    "thoughtsTokenCount": 3,
    "totalTokenCount": 14,
}
USAGE = Usage(input=5, cache_read=4, output=2, reasoning=3)
GEMINI = Provider(base_url="https://api.example.com/v1beta", api_key="made-up-key-of-ours")
VERTEX = Provider(base_url="https://api.example.com/v1", dialect="vertex", options={"project": "p", "location": "eu"})


def body(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}
    return {"candidates": [candidate], "usageMetadata": COUNTS, "responseId": "r1", "modelVersion": "gemini"}


def stream(*bodies: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(each).encode() + b"\r\n\r\n" for each in bodies)


THOUGHT = {"text": "Hm.", "thought": True}
CALL = {"functionCall": {"name": "f", "args": {"x": 1}}, "thoughtSignature": "c2ln"}


@pytest.mark.parametrize(("dialect", "provider"), [(Gemini(), GEMINI), (Vertex(), VERTEX)], ids=["gemini", "vertex"])
def test_both_keep_every_promise(dialect: Gemini, provider: Provider) -> None:
    hello = body(THOUGHT, {"text": "Hello!"}, finishReason="STOP")
    check_dialect(
        dialect,
        Sample(
            provider=provider,
            answer=json.dumps(hello, indent=2).encode(),
            stream=stream(body(THOUGHT), body({"text": "Hel"}), body({"text": "lo!"}, finishReason="STOP")),
            text="Hello!",
            reasoning="Hm.",
            usage=USAGE,
        ),
    )
    check_dialect(
        dialect,
        Sample(
            provider=provider,
            answer=json.dumps(body(CALL, finishReason="STOP")).encode(),
            stream=stream(body(CALL), body({"text": ""}, finishReason="STOP")),
            text="",
            usage=USAGE,
            tool_calls=(("f", {"x": 1}),),
            finish="tool_calls",
        ),
    )


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE]},
    {
        "role": "assistant",
        "content": "Let me see.",
        "tool_calls": [
            {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": f'{{"x": {number}}}'}}
            for number in (1, 2)
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a dot"},
    {"role": "tool", "tool_call_id": "c2", "content": "a line"},
    {"role": "user", "content": "Which?"},
]
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}}
FIELDS: dict[str, Any] = {
    "tools": [{"type": "function", "function": {"name": "f", "description": "Looks.", "parameters": PARAMETERS}}],
    "tool_choice": "required",
    "max_tokens": 9,
    "temperature": 0.5,
    "top_p": 0.25,
    "stop": ["END"],
    "seed": 4,
}


def test_another_translator_says_the_same() -> None:
    ours = json.loads(asked(None, CONVERSATION, **FIELDS).body)
    theirs = ConversionPipeline("openai_chat", "google").convert_request(
        {"model": "gemini-2.5-flash", "messages": CONVERSATION, **FIELDS}
    )
    question, calls, first, second, last = _camel(theirs["contents"])
    results = {"role": "user", "parts": [*first["parts"], *second["parts"]]}  # Google wants those of one turn in one
    assert ours["contents"] == [question, calls, results, last]
    assert ours["systemInstruction"]["parts"] == theirs["system_instruction"]["parts"]
    assert ours["toolConfig"] == _camel(theirs["tool_config"])
    assert ours["generationConfig"] == _camel(theirs["generationConfig"])
    (declared,) = ours["tools"][0]["functionDeclarations"]
    (other,) = theirs["tools"][0]["function_declarations"]
    assert (declared["name"], declared["description"]) == (other["name"], other["description"])


def _camel(value: Any) -> Any:
    """Google's names as its documentation writes them, which takes the others as well."""
    if isinstance(value, list):
        return [_camel(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {_name(name): _camel(each) for name, each in value.items()}


def _name(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
