"""OpenAI's words: chat completions, which Azure's are too, and Responses."""

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk, CompletionCreateParams
from openai.types.responses import Response as Responded
from openai.types.responses import ResponseCreateParams, ResponseStreamEvent
from pydantic import TypeAdapter

from matrix.features import Counts, Said
from matrix.wording import as_json, exhaust, halves

__all__ = ["chat_stream", "chat_whole", "check_chat", "check_responses", "responses_stream", "responses_whole"]

# --- OpenAI chat, and Azure -------------------------------------------------------------------------------------------

_completion_params: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)


def check_chat(_: str, body: bytes) -> None:
    exhaust(_completion_params.validate_python(json.loads(body)))


def _chat_usage(counts: Counts) -> dict[str, Any]:
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
        "completion_tokens_details": {"reasoning_tokens": counts.reasoning},
    }


def _chat_call(said: Said) -> dict[str, Any]:
    return {"id": "call_up", "type": "function", "function": {"name": said.tool, "arguments": said.arguments}}


def chat_whole(said: Said, counts: Counts) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    message |= {"reasoning_content": said.thought} if said.thought else {}
    message |= {"tool_calls": [_chat_call(said)]} if said.tool else {}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.tool else "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "theirs"}
    body = {**head, "choices": [choice], "usage": _chat_usage(counts)}
    ChatCompletion.model_validate(body)
    return as_json(body)


def chat_stream(said: Said, counts: Counts) -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": part} for part in halves(said.thought)]
    deltas += [{"content": part} for part in halves(said.text)]
    if said.tool:
        begun = {**_chat_call(said), "function": {"name": said.tool, "arguments": ""}}
        deltas.append({"tool_calls": [{"index": 0, **begun}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in halves(said.arguments)]
    finish = "tool_calls" if said.tool else "stop"
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
    chunks: list[Any] = [{**head, "choices": [choice], "usage": None} for choice in choices]
    chunks.append({**head, "choices": [], "usage": _chat_usage(counts)})
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    return b"".join(b"data: " + as_json(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


# --- OpenAI Responses -------------------------------------------------------------------------------------------------

_response_params: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
_response_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def check_responses(_: str, body: bytes) -> None:
    asked = json.loads(body)
    for item in asked["input"] if isinstance(asked["input"], list) else ():
        for part in item["content"] if isinstance(item.get("content"), list) else ():
            if part["type"] == "input_image":
                part.setdefault("detail", "auto")  # which the SDK's types want, and OpenAI does not
    for tool in asked.get("tools", ()):
        tool.setdefault("strict", None)  # likewise
    exhaust(_response_params.validate_python(asked))
    assert asked["store"] is False, "nothing is to be kept"


def _items(said: Said) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if said.thought:
        summary = [{"type": "summary_text", "text": said.thought}]
        items.append({"id": "rs_1", "type": "reasoning", "summary": summary})
    if said.text:
        content = [{"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}]
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        items.append(message)
    if said.tool:
        call = {"name": said.tool, "arguments": said.arguments, "status": "completed"}
        items.append({"id": "fc_1", "type": "function_call", "call_id": "call_up", **call})
    return items


def _response(said: Said, counts: Counts, **fields: Any) -> dict[str, Any]:
    usage = {
        "input_tokens": counts.prompt,
        "input_tokens_details": {"cached_tokens": counts.cached, "cache_write_tokens": 0},
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning},
        "total_tokens": counts.prompt + counts.completion,
    }
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "theirs"}
    echoed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    body = {**head, "output": _items(said), **echoed, "usage": usage, **fields}
    Responded.model_validate(body)
    return body


def responses_whole(said: Said, counts: Counts) -> bytes:
    return as_json(_response(said, counts))


def responses_stream(said: Said, counts: Counts) -> bytes:
    begun = _response(said, counts, status="in_progress", output=[], usage=None)
    told: list[tuple[str, dict[str, Any]]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for at, item in enumerate(_items(said)):
        told += _item_told(at, item)
    told.append(("completed", {"response": _response(said, counts)}))
    events = [{"type": f"response.{kind}", "sequence_number": at, **fields} for at, (kind, fields) in enumerate(told)]
    for event in events:
        _response_event.validate_python(event)
    return b"".join(f"event: {event['type']}\ndata: ".encode() + as_json(event) + b"\n\n" for event in events)


def _item_told(at: int, item: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    at_item: dict[str, Any] = {"item_id": item["id"], "output_index": at}
    empty: dict[str, Any]
    part: dict[str, Any]
    if item["type"] == "reasoning":
        empty, part = {"summary": []}, {"type": "summary_text", "text": ""}
        place, text = {**at_item, "summary_index": 0}, item["summary"][0]["text"]
        kind, last = "reasoning_summary_text", {"text": text}
        opens: list[Any] = [("reasoning_summary_part.added", {**place, "part": part})]
        closes: list[Any] = [("reasoning_summary_part.done", {**place, "part": {**part, "text": text}})]
    elif item["type"] == "message":
        empty = {"content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        place, text = {**at_item, "content_index": 0}, item["content"][0]["text"]
        kind, last = "output_text", {"text": text, "logprobs": []}
        opens = [("content_part.added", {**place, "part": part})]
        closes = [("content_part.done", {**place, "part": {**part, "text": text}})]
    else:
        empty, place, text = {"arguments": ""}, at_item, item["arguments"]
        kind, last, opens, closes = "function_call_arguments", {"arguments": text, "name": item["name"]}, [], []
    more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
    status = {} if item["type"] == "reasoning" else {"status": "in_progress"}
    return [
        ("output_item.added", {"output_index": at, "item": {**item, **empty, **status}}),
        *opens,
        *((f"{kind}.delta", {**place, "delta": each, **more}) for each in halves(text)),
        (f"{kind}.done", {**place, **last}),
        *closes,
        ("output_item.done", {"output_index": at, "item": item}),
    ]
