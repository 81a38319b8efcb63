"""
Ollama's own chat API, which tells more than its OpenAI port: how long a model took to load, why it did not, thoughts.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md and ``api/types.go`` beside it. Counts that are zero are
left out there. ``prompt_eval_count`` is the whole prompt, ``prompt_eval_cached_count`` the part of it that was in the
cache; versions before mid-2024 left the first out for a prompt that was cached wholly
(https://github.com/ollama/ollama/issues/2068): that is no report, and settled as any other answer without usage.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.relay import BROKEN
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import chat, translating
from hpp_middleware.dialects.chat import Chat, Message, Part, bad, parts_of
from hpp_middleware.dialects.ollama_embeddings import OllamaEmbeddings
from hpp_middleware.dialects.ollama_shared import TOO_LONG, head, loaded, refused, url
from hpp_middleware.dialects.options import check_names
from hpp_middleware.dialects.translating import Delta, End, Failed, Finish, Piece, Reported
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Usage
from hpp_middleware.types.provider import Provider

__all__ = ["OPTIONS", "Chunks", "Ollama"]

NDJSON = "application/x-ndjson"

OPTIONS = frozenset({"keep_alive", "num_ctx"})
"""``keep_alive``: how long the model stays loaded: ``10m``, or seconds, ``-1`` for ever. ``num_ctx``: its context."""

MORE_TOKENS = 64
TOOL_TOKENS = 512
"""What a model's template adds to a prompt, and to one with tools, at most."""

_LEVELS = ("low", "medium", "high")
_SAID = frozenset(
    {
        "tools",
        "tool_choice",
        "response_format",
        "stop",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "reasoning_effort",
        "reasoning",
    }
)

_NULL = Raw(b"null")
_REPORT = ("prompt_eval_count", "prompt_eval_cached_count", "eval_count", "load_duration", "total_duration")

_encode = msgspec.json.Encoder().encode
_arguments = msgspec.json.Decoder(dict[str, Any])
_mapping = msgspec.json.Decoder(dict[str, Any])


class _Function(Struct):
    name: str
    arguments: Any = None


class _Call(Struct):
    function: _Function
    id: str | None = None


class _Said(Struct):
    content: str = ""
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Counts(Struct):
    prompt_eval_count: int | None = None
    prompt_eval_cached_count: int | None = None
    eval_count: int | None = None


class _Chunk(Struct):
    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Raw = _NULL
    prompt_eval_cached_count: Raw = _NULL
    eval_count: Raw = _NULL
    load_duration: Raw = _NULL
    total_duration: Raw = _NULL
    error: str | None = None


_decode = msgspec.json.Decoder(_Chunk).decode
_decode_counts = msgspec.json.Decoder(_Counts).decode


class Ollama:
    """The dialect."""

    def __init__(self) -> None:
        self._embeddings = OllamaEmbeddings(_embed)

    def native(self, api: str, provider: Provider) -> OllamaEmbeddings | None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return self._embeddings if api == "embeddings" and api in provider.native_apis else None

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        check_names(provider, OPTIONS)
        if not re.fullmatch(r"[1-9]\d{0,8}", provider.options.get("num_ctx", "1")):
            raise ConfigurationError("options.num_ctx must be a number of tokens", param="options.num_ctx")

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        asked, provider = chat.read(request), target.provider
        dropped = chat.unsaid(request, _SAID)
        return HTTPCall(
            url=url(provider, "chat"),
            headers=[*head(provider, NDJSON if request.stream else "application/json"), ("X-Request-Id", request_id)],
            body=_encode(_body(asked, target, chat.cap_of(request, cap), stream=request.stream)),
            connect_s=provider.timeouts.connect,
            more_tokens=MORE_TOKENS + TOOL_TOKENS * bool(asked.tools),
            dropped=dropped,
            stream_type=NDJSON,
        )

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> translating.Reader:
        """See :class:`hpp_middleware.ports.Dialect`."""
        chunks = Chunks(event_bytes, request_id, show_reasoning=_shows_reasoning(request))
        return translating.Reader(chunks, request, target, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        chunks = Chunks(len(body) + 1, request_id, show_reasoning=_shows_reasoning(request))
        return translating.answer(chunks.whole(body), target, charge=charge, request_id=request_id)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:  # noqa: ARG002
        """See :class:`hpp_middleware.ports.Dialect`."""
        return refused(status, body)

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`: of several lines the last one says it."""
        try:
            report = _reported(_decode(body.rstrip().rpartition(b"\n")[2]))
        except BROKEN:
            return Seen()
        return translating.alone(report)


def _embed(target: Target, path: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return url(target.provider, path), head(target.provider, "application/json")


class Chunks:
    """
    A :class:`~hpp_middleware.dialects.translating.Translation`: lines of JSON.

    Args:
        event_bytes: The longest line.
        request_id: Ours; names calls that have no ids of their own, as most versions give none.
        show_reasoning: Whether the client is to see what is thought.
    """

    def __init__(self, event_bytes: int, request_id: str, *, show_reasoning: bool = True) -> None:
        self._most = event_bytes
        self._pieces: list[bytes] = []  # of the line that has not ended
        self._size = 0
        self._calls = 0
        self._spoken = False
        self._named_by = request_id.removeprefix("req_")
        self._shows = show_reasoning

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """
        See :class:`~hpp_middleware.dialects.translating.Translation`.

        Raises:
            ValueError: A line is too long, or no JSON.
        """
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            whole = b"".join((*self._pieces, line))
            self._pieces, self._size = [], 0
            if len(whole) > self._most:
                raise ValueError("a line is too long")
            yield from self.whole(whole)
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
            if self._size > self._most:
                raise ValueError("a line is too long")

    def close(self) -> Iterator[Piece]:
        """See :class:`~hpp_middleware.dialects.translating.Translation`."""
        yield from self.feed(b"\n") if self._pieces else ()

    def whole(self, line: bytes) -> Iterator[Piece]:
        """The pieces of one object, which in an answer that is no stream is all of it."""
        if not line.strip():
            return
        chunk = _decode(line)
        if chunk.error is not None:
            yield from _told(_reported(chunk))
            yield Failed(_error(chunk.error))
            return
        said = chunk.message
        if said is not None:
            self._spoken = self._spoken or bool(said.thinking or said.content or said.tool_calls)
            if said.thinking and self._shows:
                yield Delta({"reasoning_content": said.thinking})
            if said.content:
                yield Delta({"content": said.content})
            for call in said.tool_calls or ():
                yield Delta({"tool_calls": [self._call(call)]})
        if chunk.done:
            reason = "length" if chunk.done_reason == "length" else "tool_calls" if self._calls else "stop"
            yield Finish(reason, native=chunk.done_reason)
            yield from _told(_reported(chunk, spoken=self._spoken))
            yield End()

    def _call(self, call: _Call) -> dict[str, Any]:
        number, self._calls = self._calls, self._calls + 1
        arguments = call.function.arguments
        told = arguments if isinstance(arguments, str) else _encode({} if arguments is None else arguments).decode()
        return {
            "index": number,
            "id": call.id or f"call_{self._named_by}_{number}",
            "type": "function",
            "function": {"name": call.function.name, "arguments": told},
        }


def _told(report: Reported | None) -> Iterator[Piece]:
    if report is not None:
        yield report


def _reported(chunk: _Chunk, *, spoken: bool = False) -> Reported | None:
    """
    What the last line counts; None where that is no report.

    Args:
        chunk: The line.
        spoken: Whether anything has come out: then a count of it that is left out is not 0.
    """
    said = {name: value for name in _REPORT if (value := getattr(chunk, name)) != _NULL}
    if "prompt_eval_count" not in said and (spoken or chunk.done_reason not in {"load", "unload"}):
        return None
    raw = Raw(_encode(said))
    try:
        found = _decode_counts(raw)
    except BROKEN:
        return Reported(None, raw)
    prompt, cached = found.prompt_eval_count or 0, found.prompt_eval_cached_count or 0
    usage = Usage(input=prompt - min(cached, prompt), cache_read=min(cached, prompt), output=found.eval_count or 0)
    return Reported(usage, raw, doubtful=cached > prompt, early=spoken and found.eval_count is None)


def _error(message: str) -> dict[str, Any]:
    code = "context_length_exceeded" if TOO_LONG.search(message) else "server"
    return {"message": message, "code": code, "status": 400 if code == "context_length_exceeded" else 500}


def _body(asked: Chat, target: Target, cap: int | None, *, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"model": target.model_name, "messages": _messages(asked.messages), "stream": stream}
    if isinstance(asked.tool_choice, str | None):
        if asked.tool_choice == "required":
            raise bad("tool_choice", "cannot be required with this model's provider")
    else:
        raise bad("tool_choice", "cannot name a function with this model's provider")
    if asked.tools and asked.tool_choice != "none":
        body["tools"] = [{"type": "function", "function": _function(tool.function)} for tool in asked.tools]
    form = asked.response_format
    if form is not None:
        body["format"] = "json" if form.schema is None else form.schema
    effort = chat.effort_of(asked)
    if effort is None and asked.reasoning_tokens is not None:
        effort = chat.effort_for(asked.reasoning_tokens)  # num_predict bounds thoughts as well
    if asked.reasoning_effort == "none":
        body["think"] = False
    elif effort is not None:
        # Of the models here only gpt-oss has levels; the others think, or do not.
        body["think"] = (effort if effort in _LEVELS else "low") if "gpt-oss" in target.model_name else True
    options = {
        "num_predict": cap,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_k": asked.top_k,
        "min_p": asked.min_p,
        "seed": asked.seed,
        "stop": asked.stop or None,
        "frequency_penalty": asked.frequency_penalty,
        "presence_penalty": asked.presence_penalty,
    }
    kept, how = loaded(target.provider)
    options |= how
    body["options"] = {name: value for name, value in options.items() if value is not None}
    return {**body, **kept}


def _function(function: chat.Function) -> dict[str, Any]:
    described = {} if function.description is None else {"description": function.description}
    return {
        "name": function.name,
        **described,
        "parameters": function.parameters or {"type": "object", "properties": {}},
    }


def _messages(messages: list[Message]) -> list[dict[str, Any]]:
    named: dict[str, str] = {}  # calls' ids, and what was called
    found = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        said = _content(message, where)
        if message.reasoning_content:
            said["thinking"] = message.reasoning_content
        if message.tool_calls:
            calls = enumerate(message.tool_calls)
            said["tool_calls"] = [_called(call, f"{where}.tool_calls[{place}]") for place, call in calls]
            named.update({call.id: call.function.name for call in message.tool_calls})
        if message.role == "tool":
            if not message.tool_call_id:
                raise bad(f"{where}.tool_call_id", "is required")
            said["tool_call_id"] = message.tool_call_id
            if message.tool_call_id in named:
                said["tool_name"] = named[message.tool_call_id]
        found.append(said)
    return found


def _content(message: Message, where: str) -> dict[str, Any]:
    texts: list[str] = []
    images: list[str] = []
    for place, part in enumerate(parts_of(message)):
        text = part.refusal if part.type == "refusal" else part.text if part.type == "text" else None
        if text is not None:
            texts.append(text)
        elif part.type == "image_url" and message.role == "user":
            images.append(_image(part, f"{where}.content[{place}]"))
        elif part.type not in {"thinking", "redacted_thinking"} or message.role != "assistant":
            raise bad(f"{where}.content[{place}].type", "must be text, or a user's image_url, with this provider")
    role = "system" if message.role == "developer" else message.role
    said: dict[str, Any] = {"role": role, "content": "".join(texts) or message.refusal or ""}
    if images:
        said["images"] = images
    return said


def _called(call: chat.Call, where: str) -> dict[str, Any]:
    try:
        arguments = _arguments.decode(call.function.arguments.strip() or "{}")
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise bad(f"{where}.function.arguments", "must be a JSON object") from None
    return {"id": call.id, "function": {"name": call.function.name, "arguments": arguments}}


def _image(part: Part, where: str) -> str:
    given = part.image_url
    url = given if isinstance(given, str) else (given or {}).get("url")
    found = chat.data_url(url) if isinstance(url, str) else None
    if found is None or not found[1]:
        raise bad(f"{where}.image_url.url", "must be a data URL of base64 with this model's provider")
    return found[1].replace("-", "+").replace("_", "/")


def _shows_reasoning(request: Request) -> bool:
    return "reasoning" not in request.fields or not chat.read(request).exclude_reasoning
