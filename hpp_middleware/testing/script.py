"""
What a fake upstream is told to do, and the bytes that come of it.

Nothing here awaits or knows a socket: :func:`answer` turns a script and a request into a head and pieces of a body.
"""

import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import Any, Literal, NamedTuple

__all__ = ["USAGE", "Answer", "Piece", "Script", "answer"]

Tokens = Mapping[str, Any]

USAGE: Tokens = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
"""What an unscripted completion reports."""

ZERO: Tokens = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}

WINDOW_BITS = {"gzip": 31, "deflate": 15}
"""The content encodings that are carried out, as zlib numbers them."""

BODILESS = frozenset({204, 304})
"""Statuses that HTTP gives no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """
    One answer of a :class:`FakeUpstream`, with its faults.

    Attributes:
        texts: The text of each choice, in the pieces in which a stream brings it.
        usage: The usage object to report, as it is; ``"zero"`` for one of zeros; None for none.
        usage_in: Where a stream reports it. ``"own chunk"`` is OpenAI's way: after the finish reason, with no choices,
            and only if the request's ``stream_options.include_usage`` asks for it. ``"last chunk"`` (with the finish
            reason) and ``"every chunk"`` (growing, the whole of it last) come unasked, as from other providers.
        finish_reason: None leaves the choices unfinished.
        model: The model named in the answer; None for the request's.
        status: The response's status; from 300 on the body is ``error``.
        error: The JSON body of an error; None for one in OpenAI's shape.
        error_event: The data of an event that a stream ends in, in the place of its finish reason, usage and
            ``[DONE]``.
        omit_done: A stream ends without ``[DONE]``.
        endless: The texts are repeated for as long as somebody listens.
        newline: What ends a line of a stream.
        headers: Response headers besides our own; they replace those of the same name.
        inserted: Bytes put before the k-th event of a stream, counted from 0; one past the last follows it.
        raw_body: A body to send as it is, for any path and status.
        raw_events: The same, in pieces that count as a stream's events.
        content_type: Its media type, or another one for a shaped body; None for the one that fits.
        content_encoding: ``"gzip"`` and ``"deflate"`` compress the body; any other word is only claimed.
        chunk_size: Cut the body into pieces of so many bytes, written one by one; None for one an event.
        delay_head_s: The wait before the head.
        delay_between_s: The wait between two pieces of the body.
        stall_after_events: After so many pieces of the body nothing more comes, and the connection stays open.
        truncate_after_events: After so many pieces of the body the connection is closed.
        truncate_at_byte: After so many bytes of the body the connection is closed.
        truncate_within: Where these bytes first stand in one piece of the body, it is closed after the first of them.
        close_before_head: The request is read, and the connection closed.
        truncate_head_at: After so many bytes of the head the connection is closed.
        answer_after: All this happens when so many bytes of the request's body have been read, and no more of it is.
        interim: So many responses ``103`` come before the head; -1 for as long as somebody listens.
        raw_head: A head to send as it is; the body follows without any framing, and then the connection is closed.
        trailing: Sent after the end of the response, although nobody has asked for more.
        reset: Where the script closes the connection, it is by RST in the place of FIN.
        stall: Where the script closes the connection, it stays open instead, and nothing more comes.
    """

    texts: Sequence[str] = ("Hello", " world")
    usage: Tokens | Literal["zero"] | None = field(default_factory=lambda: USAGE)
    usage_in: Literal["own chunk", "last chunk", "every chunk"] = "own chunk"
    finish_reason: str | None = "stop"
    model: str | None = None
    status: int = 200
    error: Mapping[str, Any] | None = None
    error_event: Mapping[str, Any] | None = None
    omit_done: bool = False
    endless: bool = False
    newline: str = "\n"
    headers: Sequence[tuple[str, str]] = ()
    inserted: Mapping[int, bytes] = field(default_factory=dict)
    raw_body: bytes | None = None
    raw_events: Sequence[bytes] | None = None
    content_type: str | None = None
    content_encoding: str | None = None
    chunk_size: int | None = None
    delay_head_s: float = 0.0
    delay_between_s: float = 0.0
    stall_after_events: int | None = None
    truncate_after_events: int | None = None
    truncate_at_byte: int | None = None
    truncate_within: bytes = b""
    close_before_head: bool = False
    truncate_head_at: int | None = None
    answer_after: int | None = None
    interim: int = 0
    raw_head: bytes | None = None
    trailing: bytes = b""
    reset: bool = False
    stall: bool = False

    @property
    def is_raw(self) -> bool:
        """Whether it has a body of its own, whatever is asked."""
        return self.raw_body is not None or self.raw_events is not None

    def __post_init__(self) -> None:
        if self.endless and not any(self.texts):
            raise ValueError("an endless script needs a text to repeat")
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError("chunk_size must be at least 1")


class Piece(NamedTuple):
    """
    Bytes of a body that are written at once.

    Attributes:
        usage: What has been reported when they are out.
        then: What follows: more pieces, the end of the response, an untimely end of the connection, or nothing at all.
    """

    data: bytes
    usage: Tokens | None = None
    then: Literal["more", "end", "close", "stall"] = "more"


class Answer(NamedTuple):
    """A response to send; its header names are lower-case."""

    status: int
    headers: list[tuple[str, str]]
    pieces: Iterator[Piece]


def answer(script: Script, request: Mapping[str, Any], *, number: int) -> Answer:
    """
    What a script comes to for one request.

    Args:
        script: What to do.
        request: The JSON body of the request.
        number: Makes the completion's id.
    """
    if script.raw_events is not None:
        return _streamed(script, map(Piece, script.raw_events), "text/event-stream")
    if script.raw_body is not None:
        return _whole(script, Piece(script.raw_body), "application/octet-stream")
    if script.status >= 300:
        return _whole(script, Piece(_json(script.error or error_body(script.status))), "application/json")
    shape = _Shape(script, request, number)
    if request.get("stream") is True:
        return _streamed(script, shape.events(), "text/event-stream")
    if script.endless:
        return _streamed(script, shape.endless_completion(), "application/json")
    return _whole(script, Piece(_json(shape.completion()), shape.usage), "application/json")


def error_body(status: int, message: str = "The fake upstream was told to fail.") -> dict[str, Any]:
    """An error in OpenAI's shape."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": f"fake_{status}"}}


class _Shape:
    """The OpenAI shapes of one completion."""

    def __init__(self, script: Script, request: Mapping[str, Any], number: int) -> None:
        self.script = script
        self.usage = ZERO if script.usage == "zero" else script.usage
        n = request.get("n")
        self.choices = range(n if isinstance(n, int) and n > 1 else 1)
        self.model = script.model or str(request.get("model", ""))
        self.id = f"chatcmpl-fake-{number}"
        self.created = int(time.time())
        options = request.get("stream_options")
        self.asked = isinstance(options, Mapping) and options.get("include_usage") is True

    def completion(self) -> dict[str, Any]:
        """The whole answer, as JSON."""
        message = {"role": "assistant", "content": "".join(self.script.texts), "refusal": None}
        choices = [
            {"index": index, "message": message, "logprobs": None, "finish_reason": self.script.finish_reason}
            for index in self.choices
        ]
        usage = {} if self.usage is None else {"usage": self.usage}
        return {**self._head("chat.completion"), "choices": choices, **usage}

    def endless_completion(self) -> Iterator[Piece]:
        """The same with a content that has no end."""
        head = _json({**self._head("chat.completion"), "choices": []})
        yield Piece(head.removesuffix(b"]}") + b'{"index":0,"message":{"role":"assistant","content":"')
        for text in cycle(self.script.texts):
            yield Piece(_json(text)[1:-1])

    def events(self) -> Iterator[Piece]:
        """A role, the texts, the finish reason, the usage, and ``[DONE]``; each choice in turn."""
        script = self.script
        texts = cycle(script.texts) if script.endless else script.texts
        first: dict[str, Any] = {"role": "assistant", "content": ""}
        for step, delta in enumerate(chain([first], ({"content": text} for text in texts))):
            for index in self.choices:
                yield self._chunk(index, delta, None, self._growing(step))
        if script.error_event is not None:
            yield self._event(_json(script.error_event))
            return
        for index in self.choices:
            last = index == self.choices[-1] and script.usage_in != "own chunk"
            yield self._chunk(index, {}, script.finish_reason, self.usage if last else None)
        if self.usage is not None and self.asked and script.usage_in == "own chunk":
            chunk = {**self._head("chat.completion.chunk"), "choices": [], "usage": self.usage}
            yield self._event(_json(chunk), self.usage)
        if not script.omit_done:
            yield self._event(b"[DONE]")

    def _growing(self, step: int) -> Tokens | None:
        """The usage so far, where every chunk reports it."""
        if self.usage is None or self.script.usage_in != "every chunk":
            return None
        prompt, completion = self.usage.get("prompt_tokens"), self.usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            return self.usage
        so_far = min(step, completion)
        return {**self.usage, "completion_tokens": so_far, "total_tokens": prompt + so_far}

    def _chunk(self, index: int, delta: Mapping[str, Any], finish_reason: str | None, usage: Tokens | None) -> Piece:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk: dict[str, Any] = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if usage is not None or self.asked:
            chunk["usage"] = usage  # OpenAI says null in all but the usage's own chunk
        return self._event(_json(chunk), usage)

    def _event(self, data: bytes, usage: Tokens | None = None) -> Piece:
        newline = self.script.newline.encode()
        return Piece(b"data: " + data + newline + newline, usage)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _whole(script: Script, piece: Piece, media_type: str) -> Answer:
    data = b"" if script.status in BODILESS else piece.data
    if script.content_encoding in WINDOW_BITS:
        data = b"".join(part.data for part in _compressed([piece], script.content_encoding))
    headers = _headers(script, media_type, ("content-length", str(len(data))))
    return Answer(script.status, headers, _staged(_cut([piece._replace(data=data)], script.chunk_size), script))


def _streamed(script: Script, pieces: Iterable[Piece], media_type: str) -> Answer:
    if script.status in BODILESS:
        return _whole(script, Piece(b""), media_type)
    if script.inserted:
        pieces = _with(pieces, script.inserted)
    if script.content_encoding in WINDOW_BITS:
        pieces = _compressed(pieces, script.content_encoding)
    headers = _headers(script, media_type, ("transfer-encoding", "chunked"))
    return Answer(script.status, headers, _staged(_cut(pieces, script.chunk_size), script))


def _headers(script: Script, media_type: str, framing: tuple[str, str]) -> list[tuple[str, str]]:
    own = [("content-type", script.content_type or media_type), framing]
    if script.content_encoding is not None:
        own.append(("content-encoding", script.content_encoding))
    scripted = [(name.lower(), value) for name, value in script.headers]
    replaced = {name for name, _ in scripted}
    return [header for header in own if header[0] not in replaced] + scripted


def _with(pieces: Iterable[Piece], inserted: Mapping[int, bytes]) -> Iterator[Piece]:
    """The pieces, with others between them, which count as pieces of their own."""
    number = -1
    for number, piece in enumerate(pieces):
        if number in inserted:
            yield Piece(inserted[number])
        yield piece
    if number + 1 in inserted:
        yield Piece(inserted[number + 1])


def _compressed(pieces: Iterable[Piece], encoding: str) -> Iterator[Piece]:
    """Each piece compressed and flushed, so that it can be read when it comes."""
    compressor = zlib.compressobj(wbits=WINDOW_BITS[encoding])
    for piece in pieces:
        yield piece._replace(data=compressor.compress(piece.data) + compressor.flush(zlib.Z_SYNC_FLUSH))
    yield Piece(compressor.flush())


def _cut(pieces: Iterable[Piece], size: int | None) -> Iterator[Piece]:
    """The same bytes in pieces of ``size``; a usage counts as reported with the last byte of its own piece."""
    if size is None:
        yield from pieces
        return
    rest = b""
    waiting: Tokens | None = None
    for piece in pieces:
        data = rest + piece.data
        whole = len(data) - len(data) % size
        for end in range(size, whole + 1, size):
            yield Piece(data[end - size : end], piece.usage if end == len(data) else waiting)
            waiting = None
        rest = data[whole:]
        waiting = piece.usage if rest and piece.usage is not None else waiting
    if rest:
        yield Piece(rest, waiting)


def _staged(pieces: Iterator[Piece], script: Script) -> Iterator[Piece]:
    """The pieces, each with what follows it; an empty one first, since a body may be cut before its first byte."""
    piece: Piece | None = Piece(b"")
    sent = number = 0
    while piece is not None:
        cut = _cut_at(piece.data, script, sent)
        if cut is not None:
            yield Piece(piece.data[:cut], piece.usage if cut == len(piece.data) else None, "close")
            return
        if number == script.truncate_after_events:
            yield piece._replace(then="close")
            return
        following = next(pieces, None)
        end: Literal["more", "end"] = "end" if following is None else "more"
        yield piece._replace(then="stall" if number == script.stall_after_events else end)
        sent, number, piece = sent + len(piece.data), number + 1, following


def _cut_at(data: bytes, script: Script, sent: int) -> int | None:
    """How much of a piece goes out before the connection is closed within it; None where it is not."""
    if script.truncate_at_byte is not None and sent + len(data) >= script.truncate_at_byte:
        return script.truncate_at_byte - sent
    if script.truncate_within and script.truncate_within in data:
        return data.index(script.truncate_within) + 1
    return None


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
