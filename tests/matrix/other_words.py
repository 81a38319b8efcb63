"""The words of Anthropic, Google, Bedrock and Ollama."""

import json
from typing import Any

import converse
import eventstreams
from anthropic.types import Message, RawMessageStreamEvent, message_create_params
from google.genai import types as google
from pydantic import TypeAdapter

from matrix.features import Counts, Said
from matrix.wording import as_json, exhaust, halves

__all__ = [
    "BEDROCK_MODEL",
    "bedrock_stream",
    "bedrock_whole",
    "check_bedrock",
    "check_google",
    "check_messages",
    "check_ollama",
    "google_stream",
    "google_whole",
    "messages_stream",
    "messages_whole",
    "ollama_stream",
    "ollama_whole",
]

BEDROCK_MODEL = "anthropic.claude-sonnet-4-5-20250929-v1:0"

# --- Anthropic Messages -----------------------------------------------------------------------------------------------

_message_params: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParams)
_message_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def check_messages(_: str, body: bytes) -> None:
    exhaust(_message_params.validate_python(json.loads(body)))


def _blocks(said: Said) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if said.thought:
        blocks.append({"type": "thinking", "thinking": said.thought, "signature": "c2ln"})
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    if said.tool:
        blocks.append({"type": "tool_use", "id": "call_up", "name": said.tool, "input": json.loads(said.arguments)})
    return blocks


def _message(counts: Counts, **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": counts.prompt - counts.cached,
        "cache_read_input_tokens": counts.cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": counts.completion,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "theirs", "stop_sequence": None}
    return {**head, "usage": usage, **fields}


def messages_whole(said: Said, counts: Counts) -> bytes:
    body = _message(counts, content=_blocks(said), stop_reason="tool_use" if said.tool else "end_turn")
    Message.model_validate(body)
    return as_json(body)


def messages_stream(said: Said, counts: Counts) -> bytes:
    usage = _message(counts)["usage"]
    early = {**usage, "output_tokens": 1, "output_tokens_details": None}
    begun = _message(counts, content=[], stop_reason=None, usage=early)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(_blocks(said)):
        if block["type"] == "thinking":
            empty: dict[str, Any] = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in halves(said.thought)]
            deltas.append({"type": "signature_delta", "signature": "c2ln"})
        elif block["type"] == "text":
            empty, deltas = {"text": ""}, [{"type": "text_delta", "text": part} for part in halves(said.text)]
        else:
            empty = {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in halves(said.arguments)]
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "tool_use" if said.tool else "end_turn", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": usage}, {"type": "message_stop"}]
    for event in events:
        _message_event.validate_python(event)
    events.insert(2, {"type": "ping"})
    return b"".join(f"event: {event['type']}\ndata: ".encode() + as_json(event) + b"\n\n" for event in events)


# --- Gemini, and Vertex -----------------------------------------------------------------------------------------------


def check_google(path: str, body: bytes) -> None:
    asked = json.loads(body)
    config = {**asked.get("generationConfig", {})}
    config |= {name: asked[name] for name in ("systemInstruction", "tools", "toolConfig") if name in asked}
    model = path.rpartition("/")[2].partition(":")[0]
    known = {"contents", "generationConfig", "systemInstruction", "tools", "toolConfig"}
    assert asked.keys() <= known, asked.keys()
    params = {"model": model, "contents": asked["contents"], "config": config}
    google._GenerateContentParameters.model_validate(params)


def _google_body(parts: list[dict[str, Any]], counts: Counts, *, last: bool = True) -> dict[str, Any]:
    usage = {
        "promptTokenCount": counts.prompt,
        "cachedContentTokenCount": counts.cached,
        "candidatesTokenCount": counts.completion - counts.reasoning,
        "thoughtsTokenCount": counts.reasoning,
        "totalTokenCount": counts.prompt + counts.completion,
    }
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": parts}, "index": 0}
    candidate |= {"finishReason": "STOP"} if last else {}
    body = {"candidates": [candidate], "usageMetadata": usage, "responseId": "resp-1", "modelVersion": "theirs"}
    google.GenerateContentResponse.model_validate(body)
    return body


def _parts(said: Said, text: list[str]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": said.thought, "thought": True}] if said.thought else []
    parts += [{"text": part} for part in text]
    if said.tool:
        called = {"name": said.tool, "args": json.loads(said.arguments)}
        parts.append({"functionCall": called, "thoughtSignature": "c2ln"})
    return parts


def google_whole(said: Said, counts: Counts) -> bytes:
    return as_json(_google_body(_parts(said, [said.text] if said.text else []), counts))


def google_stream(said: Said, counts: Counts) -> bytes:
    parts = _parts(said, halves(said.text))
    bodies = [_google_body([part], counts, last=at == len(parts) - 1) for at, part in enumerate(parts)]
    return b"".join(b"data: " + as_json(body) + b"\r\n\r\n" for body in bodies)


# --- Bedrock ----------------------------------------------------------------------------------------------------------


def check_bedrock(path: str, body: bytes) -> None:
    model = BEDROCK_MODEL
    converse.accept(path.replace(model, model.replace(":", "%3A")), body, model=model)


def _bedrock_end(counts: Counts) -> dict[str, Any]:
    usage = {
        "inputTokens": counts.prompt - counts.cached,
        "cacheReadInputTokens": counts.cached,
        "cacheWriteInputTokens": 0,
        "outputTokens": counts.completion,
        "totalTokens": counts.prompt + counts.completion,
    }
    return {"usage": usage, "metrics": {"latencyMs": 1}}


def bedrock_whole(said: Said, counts: Counts) -> bytes:
    content: list[dict[str, Any]] = []
    if said.thought:
        content.append({"reasoningContent": {"reasoningText": {"text": said.thought, "signature": "c2ln"}}})
    if said.text:
        content.append({"text": said.text})
    if said.tool:
        use = {"toolUseId": "call_up", "name": said.tool, "input": json.loads(said.arguments)}
        content.append({"toolUse": use})
    reason = "tool_use" if said.tool else "end_turn"
    output = {"message": {"role": "assistant", "content": content}}
    data = as_json({"output": output, "stopReason": reason, **_bedrock_end(counts)})
    assert converse.parsed(data)["stopReason"] == reason
    return data


def bedrock_stream(said: Said, counts: Counts) -> bytes:
    events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    blocks: list[list[dict[str, Any]]] = []
    if said.thought:
        told = [{"reasoningContent": {"text": part}} for part in halves(said.thought)]
        blocks.append([*told, {"reasoningContent": {"signature": "c2ln"}}])
    if said.text:
        blocks.append([{"text": part} for part in halves(said.text)])
    if said.tool:
        blocks.append([{"toolUse": {"input": part}} for part in halves(said.arguments)])
    for index, deltas in enumerate(blocks):
        if "toolUse" in deltas[0]:
            start = {"toolUse": {"toolUseId": "call_up", "name": said.tool}}
            events.append(("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        events += [("contentBlockDelta", {"contentBlockIndex": index, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": index}))
    events.append(("messageStop", {"stopReason": "tool_use" if said.tool else "end_turn"}))
    events.append(("metadata", _bedrock_end(counts)))
    data = eventstreams.stream(*events)
    assert len(converse.parsed_stream(data)) == len(events)
    return data


# --- Ollama -----------------------------------------------------------------------------------------------------------

_OLLAMA = {"model", "messages", "tools", "format", "options", "stream", "keep_alive", "think"}
"""All that its ``ChatRequest`` has: https://github.com/ollama/ollama/blob/main/api/types.go."""


def check_ollama(_: str, body: bytes) -> None:
    asked = json.loads(body)
    assert asked.keys() <= _OLLAMA, asked.keys()
    for message in asked["messages"]:
        assert isinstance(message.get("content", ""), str), "content is a string there"
        assert message.keys() <= {"role", "content", "images", "tool_calls", "thinking", "tool_name", "tool_call_id"}


def _ollama_lines(said: Said, counts: Counts) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"content": "", "thinking": part} for part in halves(said.thought)]
    messages += [{"content": part} for part in halves(said.text)]
    if said.tool:
        call = {"id": "call_up", "function": {"name": said.tool, "arguments": json.loads(said.arguments)}}
        messages.append({"content": "", "tool_calls": [call]})
    lines = [{"model": "m", "message": {"role": "assistant", **each}, "done": False} for each in messages]
    tokens = {"prompt_eval_count": counts.prompt, "prompt_eval_cached_count": counts.cached}
    end = {"done": True, "done_reason": "stop", **tokens, "eval_count": counts.completion}
    return [*lines, {"model": "m", "message": {"role": "assistant", "content": ""}, **end}]


def ollama_whole(said: Said, counts: Counts) -> bytes:
    *said_lines, last = _ollama_lines(said, counts)
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    message |= {"thinking": said.thought} if said.thought else {}
    message |= {"tool_calls": said_lines[-1]["message"]["tool_calls"]} if said.tool else {}
    return as_json({**last, "message": message})


def ollama_stream(said: Said, counts: Counts) -> bytes:
    return b"".join(as_json(line) + b"\n" for line in _ollama_lines(said, counts))
