"""
Providers, one for each dialect: each holds what it is sent to its vendor's types, and answers in its vendor's words.

They are one HTTP server over loopback; a provider is the first part of the path. What a model says follows from what it
is asked (:func:`matrix.features.said_to`), and every provider reports the same counts, each in its own way.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import converse
import eventstreams
from anthropic.types import Message, RawMessageStreamEvent, message_create_params
from google.genai import types as google
from openai.types.chat import ChatCompletion, ChatCompletionChunk, CompletionCreateParams
from openai.types.responses import Response as Responded
from openai.types.responses import ResponseCreateParams, ResponseStreamEvent
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from matrix.features import CELL, COUNTS, Counts, Said, kinds_in, said_to

__all__ = ["VENDORS", "Provided", "Vendor", "Vendors"]

SSE = "text/event-stream"
_PATH = re.compile(r"/([a-z-]+)(/.*)")


class Vendor(NamedTuple):
    """
    A provider as it is configured.

    Attributes:
        title: For the table.
        settings: Of the gateway's ``Provider``, but for ``base_url``.
        base: What ``base_url`` has after the provider's own part of the path.
        model: A name that the dialect knows to think, where it has to know.
        counts: What it reports.
    """

    title: str
    settings: dict[str, Any]
    base: str = ""
    model: str = "some-model"
    counts: Counts = COUNTS


_SILENT = COUNTS._replace(reasoning=0)  # no word for thoughts: they are a part of the output
VENDORS: dict[str, Vendor] = {
    "openai": Vendor("OpenAI chat", {"dialect": "openai"}, "/v1"),
    "responses": Vendor("OpenAI, with Responses", {"dialect": "openai", "native_apis": {"responses"}}, "/v1"),
    "azure": Vendor("Azure OpenAI", {"dialect": "azure", "options": {"api_version": "2024-10-21"}}),
    "anthropic": Vendor("Anthropic", {"dialect": "anthropic"}, model="claude-sonnet-4-5"),
    "messages": Vendor(
        "OpenAI chat, with Messages", {"dialect": "openai", "native_apis": {"messages"}}, "/v1", "claude-sonnet-4-5"
    ),
    "gemini": Vendor("Gemini", {"dialect": "gemini"}, "/v1beta", "gemini-2.5-flash"),
    "vertex": Vendor("Vertex AI", {"dialect": "vertex"}, "/v1", "gemini-2.5-flash"),
    "bedrock": Vendor(
        "Bedrock Converse", {"dialect": "bedrock"}, model="anthropic.claude-sonnet-4-5-20250929-v1:0", counts=_SILENT
    ),
    "ollama": Vendor("Ollama", {"dialect": "ollama"}, counts=_SILENT),
}


class Provided(NamedTuple):
    """
    A request that was answered.

    Attributes:
        path: Where it was sent, without the provider's part.
        kinds: What it had: see :func:`matrix.features.kinds_in`.
    """

    path: str
    kinds: frozenset[str]


class Vendors:
    """
    All of them as an ASGI app.

    Attributes:
        journal: By the cell's number, what was answered, in order.
    """

    def __init__(self) -> None:
        self.journal: defaultdict[int, list[Provided]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say in a 400 what is wrong with it."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        try:
            response = self._answered(request.url.path, body)
        except (AssertionError, ValueError, KeyError) as error:  # pydantic's are ValueErrors
            message = f"{request.url.path}: {error}"
            response = Response(json.dumps({"error": {"message": message}}), 400, media_type="application/json")
        await response(scope, receive, send)

    def _answered(self, path: str, body: bytes) -> Response:
        match = _PATH.fullmatch(path)
        assert match is not None, "no provider"
        name, rest = match.groups()
        spoken = next((each for ending, each in _SPOKEN if re.search(ending, rest)), None)
        assert spoken is not None, "no such path"
        asked = json.loads(body)
        spoken.check(rest, body)
        kinds = kinds_in(body.decode())
        cell = CELL.search(body.decode())
        assert cell is not None, "whose request is it?"
        if "result" in kinds and spoken.has_ids:
            assert body.count(b'"call_up') >= 2, "a result must name its call"
        said = said_to(kinds, offers_tools=bool(asked.get("tools") or asked.get("toolConfig")))
        streams = spoken.streams(rest, asked)
        self.journal[int(cell[1])].append(Provided(rest, kinds))
        data = (spoken.stream if streams else spoken.whole)(said, VENDORS[name].counts)
        return Response(data, media_type=spoken.stream_type if streams else "application/json")


class _Spoken(NamedTuple):
    check: Callable[[str, bytes], None]
    streams: Callable[[str, Any], bool]
    whole: Callable[[Said, Counts], bytes]
    stream: Callable[[Said, Counts], bytes]
    stream_type: str = SSE
    has_ids: bool = True


def _halves(text: str) -> list[str]:
    return [part for part in (text[: len(text) // 2], text[len(text) // 2 :]) if part]


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _exhaust(value: Any) -> None:
    """Have pydantic look at what iterables have, which it does as they are read."""
    if isinstance(value, dict):
        for inner in value.values():
            _exhaust(inner)
    elif not isinstance(value, str | bytes) and isinstance(value, Iterable):
        for inner in value:
            _exhaust(inner)


def _asks_for_it(_: str, asked: Any) -> bool:
    return asked.get("stream") is True


# --- OpenAI chat, and Azure -------------------------------------------------------------------------------------------

_completion_params: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)


def _check_chat(_: str, body: bytes) -> None:
    _exhaust(_completion_params.validate_python(json.loads(body)))


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


def _chat_whole(said: Said, counts: Counts) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    message |= {"reasoning_content": said.thought} if said.thought else {}
    message |= {"tool_calls": [_chat_call(said)]} if said.tool else {}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if said.tool else "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "theirs"}
    body = {**head, "choices": [choice], "usage": _chat_usage(counts)}
    ChatCompletion.model_validate(body)
    return _json(body)


def _chat_stream(said: Said, counts: Counts) -> bytes:
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"reasoning_content": part} for part in _halves(said.thought)]
    deltas += [{"content": part} for part in _halves(said.text)]
    if said.tool:
        begun = {**_chat_call(said), "function": {"name": said.tool, "arguments": ""}}
        deltas.append({"tool_calls": [{"index": 0, **begun}]})
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in _halves(said.arguments)]
    finish = "tool_calls" if said.tool else "stop"
    choices: list[dict[str, Any]] = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": finish})
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "theirs"}
    chunks: list[Any] = [{**head, "choices": [choice], "usage": None} for choice in choices]
    chunks.append({**head, "choices": [], "usage": _chat_usage(counts)})
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    return b"".join(b"data: " + _json(chunk) + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


# --- OpenAI Responses -------------------------------------------------------------------------------------------------

_response_params: TypeAdapter[Any] = TypeAdapter(ResponseCreateParams)
_response_event: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def _check_responses(_: str, body: bytes) -> None:
    asked = json.loads(body)
    for item in asked["input"] if isinstance(asked["input"], list) else ():
        for part in item["content"] if isinstance(item.get("content"), list) else ():
            if part["type"] == "input_image":
                part.setdefault("detail", "auto")  # which the SDK's types want, and OpenAI does not
    for tool in asked.get("tools", ()):
        tool.setdefault("strict", None)  # likewise
    _exhaust(_response_params.validate_python(asked))
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


def _responses_whole(said: Said, counts: Counts) -> bytes:
    return _json(_response(said, counts))


def _responses_stream(said: Said, counts: Counts) -> bytes:
    begun = _response(said, counts, status="in_progress", output=[], usage=None)
    told: list[tuple[str, dict[str, Any]]] = [("created", {"response": begun}), ("in_progress", {"response": begun})]
    for at, item in enumerate(_items(said)):
        told += _item_told(at, item)
    told.append(("completed", {"response": _response(said, counts)}))
    events = [{"type": f"response.{kind}", "sequence_number": at, **fields} for at, (kind, fields) in enumerate(told)]
    for event in events:
        _response_event.validate_python(event)
    return b"".join(f"event: {event['type']}\ndata: ".encode() + _json(event) + b"\n\n" for event in events)


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
        *((f"{kind}.delta", {**place, "delta": each, **more}) for each in _halves(text)),
        (f"{kind}.done", {**place, **last}),
        *closes,
        ("output_item.done", {"output_index": at, "item": item}),
    ]


# --- Anthropic Messages -----------------------------------------------------------------------------------------------

_message_params: TypeAdapter[Any] = TypeAdapter(message_create_params.MessageCreateParams)
_message_event: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


def _check_messages(_: str, body: bytes) -> None:
    _exhaust(_message_params.validate_python(json.loads(body)))


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


def _messages_whole(said: Said, counts: Counts) -> bytes:
    body = _message(counts, content=_blocks(said), stop_reason="tool_use" if said.tool else "end_turn")
    Message.model_validate(body)
    return _json(body)


def _messages_stream(said: Said, counts: Counts) -> bytes:
    usage = _message(counts)["usage"]
    early = {**usage, "output_tokens": 1, "output_tokens_details": None}
    begun = _message(counts, content=[], stop_reason=None, usage=early)
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(_blocks(said)):
        if block["type"] == "thinking":
            empty: dict[str, Any] = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _halves(said.thought)]
            deltas.append({"type": "signature_delta", "signature": "c2ln"})
        elif block["type"] == "text":
            empty, deltas = {"text": ""}, [{"type": "text_delta", "text": part} for part in _halves(said.text)]
        else:
            empty = {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in _halves(said.arguments)]
        events.append({"type": "content_block_start", "index": index, "content_block": {**block, **empty}})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    ended = {"stop_reason": "tool_use" if said.tool else "end_turn", "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ended, "usage": usage}, {"type": "message_stop"}]
    for event in events:
        _message_event.validate_python(event)
    events.insert(2, {"type": "ping"})
    return b"".join(f"event: {event['type']}\ndata: ".encode() + _json(event) + b"\n\n" for event in events)


# --- Gemini, and Vertex -----------------------------------------------------------------------------------------------


def _check_google(path: str, body: bytes) -> None:
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


def _google_whole(said: Said, counts: Counts) -> bytes:
    return _json(_google_body(_parts(said, [said.text] if said.text else []), counts))


def _google_stream(said: Said, counts: Counts) -> bytes:
    parts = _parts(said, _halves(said.text))
    bodies = [_google_body([part], counts, last=at == len(parts) - 1) for at, part in enumerate(parts)]
    return b"".join(b"data: " + _json(body) + b"\r\n\r\n" for body in bodies)


# --- Bedrock ----------------------------------------------------------------------------------------------------------


def _check_bedrock(path: str, body: bytes) -> None:
    model = VENDORS["bedrock"].model
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


def _bedrock_whole(said: Said, counts: Counts) -> bytes:
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
    data = _json({"output": output, "stopReason": reason, **_bedrock_end(counts)})
    assert converse.parsed(data)["stopReason"] == reason
    return data


def _bedrock_stream(said: Said, counts: Counts) -> bytes:
    events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    blocks: list[list[dict[str, Any]]] = []
    if said.thought:
        told = [{"reasoningContent": {"text": part}} for part in _halves(said.thought)]
        blocks.append([*told, {"reasoningContent": {"signature": "c2ln"}}])
    if said.text:
        blocks.append([{"text": part} for part in _halves(said.text)])
    if said.tool:
        blocks.append([{"toolUse": {"input": part}} for part in _halves(said.arguments)])
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


def _check_ollama(_: str, body: bytes) -> None:
    asked = json.loads(body)
    assert asked.keys() <= _OLLAMA, asked.keys()
    for message in asked["messages"]:
        assert isinstance(message.get("content", ""), str), "content is a string there"
        assert message.keys() <= {"role", "content", "images", "tool_calls", "thinking", "tool_name", "tool_call_id"}


def _ollama_lines(said: Said, counts: Counts) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"content": "", "thinking": part} for part in _halves(said.thought)]
    messages += [{"content": part} for part in _halves(said.text)]
    if said.tool:
        call = {"id": "call_up", "function": {"name": said.tool, "arguments": json.loads(said.arguments)}}
        messages.append({"content": "", "tool_calls": [call]})
    lines = [{"model": "m", "message": {"role": "assistant", **each}, "done": False} for each in messages]
    tokens = {"prompt_eval_count": counts.prompt, "prompt_eval_cached_count": counts.cached}
    end = {"done": True, "done_reason": "stop", **tokens, "eval_count": counts.completion}
    return [*lines, {"model": "m", "message": {"role": "assistant", "content": ""}, **end}]


def _ollama_whole(said: Said, counts: Counts) -> bytes:
    *said_lines, last = _ollama_lines(said, counts)
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    message |= {"thinking": said.thought} if said.thought else {}
    message |= {"tool_calls": said_lines[-1]["message"]["tool_calls"]} if said.tool else {}
    return _json({**last, "message": message})


def _ollama_stream(said: Said, counts: Counts) -> bytes:
    return b"".join(_json(line) + b"\n" for line in _ollama_lines(said, counts))


# --- who speaks what --------------------------------------------------------------------------------------------------

_SPOKEN: list[tuple[str, _Spoken]] = [
    (r"/chat/completions$", _Spoken(_check_chat, _asks_for_it, _chat_whole, _chat_stream)),
    (r"/responses$", _Spoken(_check_responses, _asks_for_it, _responses_whole, _responses_stream)),
    (r"/v1/messages$", _Spoken(_check_messages, _asks_for_it, _messages_whole, _messages_stream)),
    (
        r":(stream)?[gG]enerateContent$",
        _Spoken(
            _check_google,
            lambda path, _: path.endswith(":streamGenerateContent"),
            _google_whole,
            _google_stream,
            has_ids=False,
        ),
    ),
    (
        r"/converse(-stream)?$",
        _Spoken(
            _check_bedrock,
            lambda path, _: path.endswith("-stream"),
            _bedrock_whole,
            _bedrock_stream,
            "application/vnd.amazon.eventstream",
        ),
    ),
    (
        r"/api/chat$",
        _Spoken(
            _check_ollama,
            lambda _, asked: asked.get("stream") is not False,
            _ollama_whole,
            _ollama_stream,
            "application/x-ndjson",
            has_ids=False,
        ),
    ),
]
