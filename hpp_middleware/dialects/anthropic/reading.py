"""
Anthropic's answers as pieces of OpenAI's.

The events of a stream: https://platform.claude.com/docs/en/build-with-claude/streaming. What they show besides text,
thoughts and calls of the client's own tools (``ping``, citations, what tools of the provider's do) says nothing in
OpenAI's words, and is passed over.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import relay, sse
from hpp_middleware.dialects.anthropic import errors
from hpp_middleware.dialects.anthropic.thinking import FORMAT
from hpp_middleware.dialects.anthropic.usage import Tally
from hpp_middleware.dialects.translating import Begun, Delta, End, Failed, Finish, Piece, Reported

__all__ = ["Reading", "reported", "whole"]

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""``finish_reason`` of each ``stop_reason``; one that is new is ``stop``, and told as it is beside it."""


class Block(Struct, gc=False):
    """A content block, or what of it begins."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = relay.NULL


class _Delta(Struct, gc=False):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Message(Struct, gc=False):
    id: str | None = None
    content: list[Block] = []
    stop_reason: str | None = None
    usage: Raw = relay.NULL


class _Event(Struct, gc=False):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: Block | None = None
    delta: _Delta | None = None
    usage: Raw = relay.NULL
    error: Any = None


class _Whole(_Message, gc=False):
    type: str = ""
    error: Any = None


_event = msgspec.json.Decoder(_Event).decode
_message = msgspec.json.Decoder(_Whole).decode


class Reading:
    """
    One streamed answer; see :class:`hpp_middleware.dialects.translating.Translation`.

    Args:
        event_bytes: The largest event.
        shows_thoughts: Whether the client wants to see them.
    """

    def __init__(self, event_bytes: int, *, shows_thoughts: bool = True) -> None:
        self._framer = sse.Framer(event_bytes)
        self._tally = Tally()
        self._shows_thoughts = shows_thoughts
        self._block = Block()
        self._calls = -1  # the index of the present one
        self._argued = False  # whether its arguments have begun
        self._thought: list[str] = []
        self._signature = ""
        self._spoken = False  # whether anything has come of the answer

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The pieces that are complete with these bytes."""
        too_large = False
        try:
            events = self._framer.feed(chunk)
        except sse.EventTooLarge as error:
            events, too_large = error.events, True
        for event in events:
            if event.data is not None and event.data.strip():
                yield from self._read(_read(event.data))
        if too_large:
            raise ValueError("an event is too large")

    def close(self) -> Iterator[Piece]:
        """The pieces that the end of the bytes completes."""
        return self.feed(b"\n\n") if self._framer.pending else iter(())

    def _read(self, event: _Event) -> Iterable[Piece]:
        kind = event.type
        if kind == "content_block_delta":
            self._spoken = True
            return self._delta(event.delta or _Delta())
        if kind == "content_block_start":
            return self._start(event.content_block or Block())
        if kind == "content_block_stop":
            return self._stop()
        if kind == "message_start" and event.message is not None:
            return self._begin(event.message)
        if kind == "message_delta":
            return self._finish(event)
        if kind == "message_stop":
            return (End(),)
        if kind == "error" or event.error is not None:
            return (Failed(errors.openai_error(event.error)),)
        return ()  # ping, and whatever is new

    def _begin(self, message: _Message) -> Iterator[Piece]:
        if message.id:
            yield Begun(message.id)
        if message.usage != relay.NULL:
            yield from self._report(message.usage, early=True)

    def _start(self, block: Block) -> Iterator[Piece]:
        self._block, self._argued = block, False
        self._thought, self._signature = [], block.signature or ""
        if block.type == "text" and block.text:
            yield Delta({"content": block.text})
        elif block.type == "thinking" and block.thinking:
            yield from self._think(block.thinking)
        elif block.type == "tool_use":
            self._calls += 1
            function = {"name": block.name or "", "arguments": ""}
            call = {"index": self._calls, "id": block.id or "", "type": "function", "function": function}
            yield Delta({"tool_calls": [call]})

    def _delta(self, delta: _Delta) -> Iterator[Piece]:
        if delta.type == "text_delta":
            if delta.text:
                yield Delta({"content": delta.text})
        elif delta.type == "input_json_delta":
            if delta.partial_json and self._block.type == "tool_use":
                self._argued = True
                yield self._arguments(delta.partial_json)
        elif delta.type == "thinking_delta":
            if delta.thinking:
                yield from self._think(delta.thinking)
        elif delta.type == "signature_delta":
            self._signature += delta.signature or ""

    def _think(self, text: str) -> Iterator[Piece]:
        self._thought.append(text)
        if self._shows_thoughts:
            yield Delta({"reasoning_content": text})

    def _stop(self) -> Iterator[Piece]:
        """What a block comes to, now that all of it is there: thoughts as a client can hand them back."""
        block, self._block = self._block, Block()
        if block.type == "tool_use" and not self._argued:
            yield self._arguments(_arguments(block.input))
        elif self._shows_thoughts and (details := _details(block, "".join(self._thought), self._signature)):
            yield Delta(details)

    def _arguments(self, text: str) -> Delta:
        return Delta({"tool_calls": [{"index": self._calls, "function": {"arguments": text}}]})

    def _finish(self, event: _Event) -> Iterator[Piece]:
        if event.usage != relay.NULL:
            yield from self._report(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if reason:
            yield Finish(_REASONS.get(reason, "stop"), native=reason)

    def _report(self, raw: Raw, *, early: bool = False) -> Iterator[Piece]:
        self._tally.take(raw, early=early, spoken=self._spoken)
        if (reading := self._tally.reading) is not None:
            yield Reported(reading.usage, self._tally.raw, reading.doubtful, early=self._tally.early)


def whole(body: bytes, *, shows_thoughts: bool = True) -> Iterator[Piece]:
    """
    A whole answer as pieces.

    Args:
        body: A message, as JSON.
        shows_thoughts: Whether the client wants to see the model's thoughts.
    Raises:
        ValueError: It is no message.
    """
    message = _message(body if body.isascii() else relay.mended(Raw(body)))
    if message.usage != relay.NULL and (report := reported(message.usage)) is not None:
        yield report
    if message.type == "error" or message.error is not None:
        yield Failed(errors.openai_error(message.error))
        return
    if message.type != "message":
        raise ValueError("not a message")
    if message.id:
        yield Begun(message.id)
    yield from _said(message.content, shows_thoughts=shows_thoughts)
    reason = message.stop_reason or "end_turn"
    yield Finish(_REASONS.get(reason, "stop"), native=message.stop_reason)


def reported(raw: Raw) -> Reported | None:
    """The one report of a whole answer; None where it is none."""
    tally = Tally()
    if not tally.take(raw) or tally.reading is None:
        return None
    return Reported(tally.reading.usage, tally.raw, tally.reading.doubtful)


def _read(data: bytes) -> _Event:
    """An event; llama.cpp streams characters that are cut in two."""
    return _event(data if data.isascii() else relay.mended(Raw(data)))


def _said(blocks: list[Block], *, shows_thoughts: bool) -> Iterator[Piece]:
    calls = 0
    for block in blocks:
        if block.type == "text":
            yield Delta({"content": block.text or ""})
        elif block.type == "tool_use":
            function = {"name": block.name or "", "arguments": _arguments(block.input)}
            call = {"index": calls, "id": block.id or "", "type": "function", "function": function}
            yield Delta({"tool_calls": [call]})
            calls += 1
        elif shows_thoughts:
            if block.thinking:
                yield Delta({"reasoning_content": block.thinking})
            if details := _details(block, block.thinking or "", block.signature or ""):
                yield Delta(details)


def _arguments(raw: Raw) -> str:
    """What a block has in ``input``, as OpenAI tells it: JSON in a string."""
    text = bytes(raw).decode()
    return "{}" if text in {"", "null"} else text


def _details(block: Block, thought: str, signature: str) -> dict[str, Any] | None:
    """A block of thoughts in OpenRouter's form; None where there is nothing to hand back."""
    if block.type == "thinking" and (thought or signature):
        proof = {"signature": signature} if signature else {}
        return {"reasoning_details": [{"type": "reasoning.text", "text": thought, **proof, "format": FORMAT}]}
    if block.type == "redacted_thinking" and block.data:
        return {"reasoning_details": [{"type": "reasoning.encrypted", "data": block.data, "format": FORMAT}]}
    return None
