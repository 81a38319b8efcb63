"""
What ``generateContent`` answers, as pieces; a stream is a sequence of the same, as server-sent events.

A stream has no end mark: it is whole when every candidate has its ``finishReason`` and the bytes end. Usage is
cumulative in it, and the last report counts. A prompt that is blocked has no candidates: each choice is then empty, and
finished by ``content_filter``, with the block's own word as ``native_finish_reason``.

Source: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import sse
from hpp_middleware.dialects.gemini.refusal import told
from hpp_middleware.dialects.gemini.usage import reported
from hpp_middleware.dialects.translating import Begun, Delta, Failed, Finish, Piece

__all__ = ["Answer", "Stream"]

_FILTERED = frozenset(
    {
        "BLOCKLIST",
        "ESCALATION",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "MODEL_ARMOR",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
"""Reasons why a filter has ended an answer; others that OpenAI has no word for are told as ``stop``, and natively."""

_UNSPECIFIED = frozenset({"BLOCKED_REASON_UNSPECIFIED", "FINISH_REASON_UNSPECIFIED"})


class _Call(Struct, frozen=True):
    name: str = ""
    args: Raw = Raw(b"{}")
    id: str | None = None


class _Blob(Struct, frozen=True, rename="camel"):
    mime_type: str = ""
    data: str = ""


class _Part(Struct, frozen=True, rename="camel"):
    text: str | None = None
    thought: bool = False
    thought_signature: str | None = None
    function_call: _Call | None = None
    inline_data: _Blob | None = None


class _Content(Struct, frozen=True):
    parts: list[_Part] | None = None


class _Candidate(Struct, frozen=True, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    index: int = 0


class _Feedback(Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class _Response(Struct, frozen=True, rename="camel"):
    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: Raw = Raw()
    response_id: str | None = None
    error: Raw = Raw()


_NULL = Raw(b"null")
_response = msgspec.json.Decoder(_Response)
_responses = msgspec.json.Decoder(list[_Response])


class Answer:
    """
    An answer, read piece by piece.

    Args:
        n: How many choices were asked for.
        request_id: Ours; calls of functions that have no id get one made of it.
    """

    def __init__(self, n: int, request_id: str) -> None:
        self._n = n
        self._stem = f"call_{request_id.removeprefix('req_')}"
        self._begun = False
        self._spoken: set[int] = set()
        self._finished: set[int] = set()
        self._calls: dict[int, int] = {}  # how many there were, by choice
        self._drawn = self._answered = False

    def read(self, data: bytes) -> Iterator[Piece]:
        """
        The pieces of one response.

        Raises:
            ValueError: It is none.
        """
        found = _responses.decode(data) if data.lstrip()[:1] == b"[" else [_response.decode(data)]
        for response in found:
            yield from self._read(response)

    def _read(self, response: _Response) -> Iterator[Piece]:
        if response.response_id is not None and not self._begun:
            self._begun = True
            yield Begun(response.response_id)
        for candidate in response.candidates or ():
            yield from self._candidate(candidate)
        blocked = response.prompt_feedback.block_reason if response.prompt_feedback is not None else None
        if blocked is not None and not response.candidates:
            for index in range(self._n):
                if index not in self._finished:
                    yield from self._finish(index, "content_filter", blocked)
        if response.usage_metadata and response.usage_metadata != _NULL:
            whole = len(self._finished) >= self._n
            report = reported(response.usage_metadata, whole=whole, drawn=self._drawn, spoken=self._answered)
            if report is not None:
                yield report
        if response.error and response.error != _NULL:
            yield Failed(told(response.error))

    def _candidate(self, candidate: _Candidate) -> Iterator[Piece]:
        index = candidate.index
        for part in (candidate.content.parts if candidate.content is not None else None) or ():
            fields = self._part(part, index)
            if fields:
                self._spoken.add(index)
                self._answered = self._answered or not part.thought
                yield Delta(fields, index)
        word = candidate.finish_reason
        if word is not None and word not in _UNSPECIFIED and index not in self._finished:
            yield from self._finish(index, self._reason(word, index), word)

    def _finish(self, index: int, reason: str, native: str) -> Iterator[Piece]:
        if index not in self._spoken:
            self._spoken.add(index)
            yield Delta({}, index)
        self._finished.add(index)
        yield Finish(reason, index, native)

    def _reason(self, word: str, index: int) -> str:
        if word == "MAX_TOKENS":
            return "length"
        if word in _FILTERED:
            return "content_filter"
        return "tool_calls" if index in self._calls else "stop"

    def _part(self, part: _Part, index: int) -> dict[str, Any]:
        """A part as OpenAI's ``delta``; empty where there is nothing to say."""
        signed = {"extra_content": {"google": {"thought_signature": part.thought_signature}}}
        fields: dict[str, Any] = {}
        if part.function_call is not None:
            call = self._call(part.function_call, index)
            return {"tool_calls": [call if part.thought_signature is None else {**call, **signed}]}
        if part.inline_data is not None and not part.thought:
            self._drawn = True
            url = f"data:{part.inline_data.mime_type};base64,{part.inline_data.data}"
            fields["images"] = [{"type": "image_url", "image_url": {"url": url}}]
        elif part.text:
            fields["reasoning_content" if part.thought else "content"] = part.text
        return fields if part.thought_signature is None else {**fields, **signed}

    def _call(self, call: _Call, index: int) -> dict[str, Any]:
        number = self._calls.get(index, 0)
        self._calls[index] = number + 1
        arguments = msgspec.json.format(call.args, indent=-1).decode()
        return {
            "index": number,
            "id": call.id or f"{self._stem}_{index}_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": "{}" if arguments == "null" else arguments},
        }


class Stream:
    """
    A streamed answer: see :class:`~hpp_middleware.dialects.translating.Translation`.

    Args:
        answer: What reads each event.
        event_bytes: The largest event.
    """

    def __init__(self, answer: Answer, event_bytes: int) -> None:
        self._answer = answer
        self._framer = sse.Framer(event_bytes)

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """The pieces that are complete with these bytes."""
        too_large: sse.EventTooLarge | None = None
        try:
            events = self._framer.feed(chunk)
        except sse.EventTooLarge as error:
            events, too_large = error.events, error
        for event in events:
            if event.data is not None and event.data.strip():
                yield from self._answer.read(event.data)
        if too_large is not None:
            raise too_large

    def close(self) -> Iterator[Piece]:
        """The pieces of an event that the end of the bytes completes."""
        return self.feed(b"\n\n") if self._framer.pending else iter(())
