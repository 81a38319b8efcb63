"""
What Converse and ConverseStream answer, as pieces.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html; on usage
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html: ``inputTokens`` are those that were neither
read from a cache nor written to one. Thoughts are part of ``outputTokens``.

OpenAI's models are an exception in streams, by measurement: there ``inputTokens`` hold the cached ones as well (4,995
of which 4,993 written, where the whole answer said 2; https://github.com/maximhq/bifrost/pull/6942).
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.relay import BROKEN
from hpp_middleware.dialects.bedrock.errors import error
from hpp_middleware.dialects.translating import Delta, End, Failed, Finish, Piece, Reported
from hpp_middleware.types.price import Usage

__all__ = ["ConverseStream", "converse", "reported"]

_FINISHES = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
_EVENTS = frozenset({"contentBlockDelta", "contentBlockStart", "contentBlockStop", "messageStop", "metadata"})
_NULL = Raw(b"null")

_json = msgspec.json.Encoder().encode


class _CacheDetail(Struct, rename="camel"):
    ttl: str
    input_tokens: int


class _Usage(Struct, rename="camel"):
    input_tokens: int
    output_tokens: int
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    cache_details: list[_CacheDetail] | None = None


class _ToolUse(Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    input: Any = None
    type: str | None = None


class _ReasoningText(Struct):
    text: str = ""
    signature: str | None = None


class _Reasoning(Struct, rename="camel"):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None
    text: str | None = None  # in a stream
    signature: str | None = None


class _Cited(Struct):
    text: str = ""


class _Citations(Struct):
    content: list[_Cited] | None = None


class _Block(Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Citations | None = None


class _Message(Struct):
    content: list[_Block]


class _Output(Struct):
    message: _Message


class _Answer(Struct, rename="camel"):
    output: _Output
    stop_reason: str
    usage: Raw = _NULL


class _Event(Struct, rename="camel"):
    content_block_index: int = 0
    delta: _Block | None = None
    start: _Block | None = None
    stop_reason: str = ""
    usage: Raw = _NULL
    message: str = ""


_decode_usage = msgspec.json.Decoder(_Usage).decode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def reported(raw: Raw, *, holds_cached: bool = False) -> Reported:
    """
    ``usage`` in disjoint buckets.

    Args:
        raw: As it came.
        holds_cached: Whether ``inputTokens`` hold the cached ones as well, where they are not fewer.
    Returns:
        Doubtful where its parts do not fit together, or what they mean is not documented.
    """
    try:
        found = _decode_usage(raw)
    except BROKEN:
        return Reported(None, Raw(bytes(raw)))
    read, written = found.cache_read_input_tokens or 0, found.cache_write_input_tokens or 0
    details = found.cache_details or []
    long = sum(detail.input_tokens for detail in details if detail.ttl == "1h")
    short = sum(detail.input_tokens for detail in details if detail.ttl != "1h")
    known = found.input_tokens + found.output_tokens
    doubtful = found.total_tokens not in {None, known, known + read + written}
    if details and long + short != written:
        doubtful, long = True, min(long, written)
    fresh = found.input_tokens
    if holds_cached and 0 < read + written <= fresh:
        doubtful, fresh = True, fresh - read - written
    usage = Usage(
        input=fresh,
        cache_read=read,
        cache_write=written - long,
        cache_write_1h=long,
        output=found.output_tokens,
    )
    return Reported(usage, Raw(bytes(raw)), doubtful)


def converse(body: bytes, *, show_reasoning: bool = True) -> Iterator[Piece]:
    """
    The pieces of a whole answer.

    Args:
        body: Converse's JSON.
        show_reasoning: Whether the client is to see what was thought.
    Raises:
        msgspec.DecodeError: It is none.
    """
    answer = _decode_answer(body)
    calls = 0
    for number, block in enumerate(answer.output.message.content):
        text = block.text
        if block.citations_content is not None:
            text = "".join(cited.text for cited in block.citations_content.content or [])
        if text:
            yield Delta({"content": text})
        thought = block.reasoning_content
        if thought is not None and show_reasoning:
            spoken = thought.reasoning_text or _ReasoningText()
            yield from _thought(number, spoken.text, spoken.signature, thought.redacted_content, whole=True)
        call = block.tool_use
        if call is not None and call.type is None:
            arguments = _json(call.input if call.input is not None else {}).decode()
            yield Delta({"tool_calls": [_call(calls, call, arguments)]})
            calls += 1
    yield Finish(_FINISHES.get(answer.stop_reason, "stop"), native=answer.stop_reason)
    if answer.usage != _NULL:
        yield reported(answer.usage)


class ConverseStream:
    """
    A :class:`~hpp_middleware.dialects.translating.Translation` of the event stream.

    Args:
        event_bytes: The largest event.
        show_reasoning: Whether the client is to see what is thought.
        holds_cached: See :func:`reported`.
    """

    def __init__(self, event_bytes: int, *, show_reasoning: bool = True, holds_cached: bool = False) -> None:
        from botocore.eventstream import EventStreamBuffer, ParserError

        self._buffer = EventStreamBuffer()
        self._broken = (ParserError, struct.error)
        self._most = event_bytes
        self._pending = 0  # bytes that are no whole event yet
        self._shows = show_reasoning
        self._holds_cached = holds_cached
        self._calls: dict[int, int] = {}  # by block: the number of the call in it
        self._spoken: set[int] = set()  # blocks of calls whose arguments have begun
        self._thoughts: dict[int, _Thought] = {}

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """
        See :class:`~hpp_middleware.dialects.translating.Translation`.

        Raises:
            ValueError: A checksum is wrong, or an event is too large.
        """
        self._pending += len(chunk)
        self._buffer.add_data(chunk)
        while True:
            try:
                message = next(self._buffer, None)
            except self._broken as problem:
                raise ValueError("an event is broken") from problem
            if message is None:
                break
            self._pending -= message.prelude.total_length
            if message.prelude.total_length > self._most:
                raise ValueError("an event is too large")
            yield from self._told(message.headers, message.payload)
        if self._pending > self._most:
            raise ValueError("an event is too large")

    def close(self) -> Iterator[Piece]:
        """
        See :class:`~hpp_middleware.dialects.translating.Translation`.

        Raises:
            ValueError: The last event is cut.
        """
        if self._pending:
            raise ValueError("the last event is cut")
        yield from ()

    def _told(self, headers: dict[str, Any], payload: bytes) -> Iterator[Piece]:
        kind = headers.get(":message-type")
        if kind == "event":
            name = headers.get(":event-type")
            if name in _EVENTS:  # others say nothing that a client of chat completions knows
                yield from self._event(name, _decode_event(payload))
        elif kind == "exception":
            message = _decode_event(payload).message if payload else ""
            yield Failed(error(str(headers.get(":exception-type", "")), message))
        else:  # an error that is none of the API's own
            yield Failed(error(str(headers.get(":error-code", "")), str(headers.get(":error-message", ""))))

    def _event(self, name: str, event: _Event) -> Iterator[Piece]:
        if name == "contentBlockDelta":
            if event.delta is not None:
                yield from self._delta(event.content_block_index, event.delta)
        elif name == "contentBlockStart":
            if event.start is not None and event.start.tool_use is not None:
                yield from self._begun(event.content_block_index, event.start.tool_use)
        elif name == "contentBlockStop":
            yield from self._stopped(event.content_block_index)
        elif name == "messageStop":
            yield Finish(_FINISHES.get(event.stop_reason, "stop"), native=event.stop_reason)
        else:
            if event.usage != _NULL:
                yield reported(event.usage, holds_cached=self._holds_cached)
            yield End()

    def _delta(self, block: int, delta: _Block) -> Iterator[Piece]:
        if delta.text is not None:
            if delta.text:
                yield Delta({"content": delta.text})
        elif delta.tool_use is not None:
            if block in self._calls and delta.tool_use.input:
                self._spoken.add(block)
                function = {"arguments": delta.tool_use.input}
                yield Delta({"tool_calls": [{"index": self._calls[block], "function": function}]})
        elif delta.reasoning_content is not None and self._shows:
            thought, more = self._thoughts.setdefault(block, _Thought()), delta.reasoning_content
            if more.text:
                thought.texts.append(more.text)
                yield Delta({"reasoning_content": more.text})
            thought.signature += more.signature or ""
            thought.redacted += more.redacted_content or ""

    def _begun(self, block: int, call: _ToolUse) -> Iterator[Piece]:
        if call.type is None:  # a tool of the provider's own runs there
            number = self._calls[block] = len(self._calls)
            yield Delta({"tool_calls": [_call(number, call, "")]})

    def _stopped(self, block: int) -> Iterator[Piece]:
        if block in self._calls and block not in self._spoken:
            yield Delta({"tool_calls": [{"index": self._calls[block], "function": {"arguments": "{}"}}]})
        thought = self._thoughts.pop(block, None)
        if thought is not None:
            yield from _thought(block, "".join(thought.texts), thought.signature or None, thought.redacted or None)


class _Thought:
    """A thought that comes in pieces."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.signature = ""
        self.redacted = ""


def _thought(
    block: int, text: str, signature: str | None, redacted: str | None, *, whole: bool = False
) -> Iterator[Piece]:
    """What proves a thought to its maker, in OpenRouter's form, for a client to hand back; a whole one's text, too."""
    told: dict[str, Any] = {"reasoning_content": text} if whole and text else {}
    about = {"format": "anthropic-claude-v1", "index": block}
    details: list[dict[str, Any]] = []
    if signature is not None:
        details.append({"type": "reasoning.text", "text": text, "signature": signature, **about})
    if redacted is not None:
        details.append({"type": "reasoning.encrypted", "data": redacted, **about})
    if details:
        told["reasoning_details"] = details
    if told:
        yield Delta(told)


def _call(number: int, call: _ToolUse, arguments: str) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {"index": number, "id": call.tool_use_id, "type": "function", "function": function}
