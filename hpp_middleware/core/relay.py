"""
Answers in OpenAI's shape, passed on while being read.

``relay.feed(event)`` returns bytes for the client; ``relay.seen`` is right at any moment. The client gets the
upstream's events as they are but for ``model``, which is the resolved id, and for the usage that only the router asked
for.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import sse
from hpp_middleware.core.usage import Reading, read_openai
from hpp_middleware.types.completion import Request, Seen, Target

__all__ = ["ProtocolError", "Relay", "StreamedError", "answer", "usage_in"]

_NULL = Raw(b"null")
_EMPTY = Raw(b"[]")

SLACK_CHUNKS = 64
SLACK_BYTES = 4096
BYTES_A_TOKEN = 16
"""
When a stream has run past its cap: more pieces of text than tokens were allowed (a piece is at least one token), or
more than 16 bytes for each of them, with some slack. An obedient model stays below both, so that none is cut by an
estimate.
"""


class ProtocolError(ValueError):
    """
    The upstream's answer is no answer: broken JSON, no completion, or a stream without an end.

    Attributes:
        before: What the client gets of the same bytes, since it came before the fault.
    """

    before: bytes = b""


class StreamedError(Exception):
    """
    The upstream reported an error where an answer should have been. ``args[0]`` is its raw ``error`` value.

    Attributes:
        before: What the client gets of the same bytes, since it came before the error.
    """

    before: bytes = b""


class _Delta(Struct):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    usage: Raw = Raw()  # Moonshot's place for it in a stream


_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; a UnicodeDecodeError is msgspec's only error that is no DecodeError."""

_members = msgspec.json.Decoder(dict[str, Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_encode = msgspec.json.Encoder().encode


class _Reader:
    """What stream and JSON answers have in common: taking note of usage, text and ends."""

    def __init__(self, request: Request, target: Target) -> None:
        self._request = request
        self._model = Raw(_encode(target.id))
        self._usage: Reading | None = None
        self._usage_raw: Raw | None = None
        self._finished: set[int] = set()
        self._texts = 0
        self._bytes = 0
        self._id: str | None = None

    @property
    def seen(self) -> Seen:
        """What the answer has shown so far."""
        reading = self._usage
        return Seen(
            usage=reading.usage if reading else None,
            usage_raw=self._usage_raw,
            usage_doubtful=reading.doubtful if reading else False,
            relayed_bytes=self._bytes,
            finished=len(self._finished) >= self._request.n,
            upstream_id=self._id,
        )

    def _take(self, fields: dict[str, Raw]) -> None:
        usage = fields.get("usage")
        if usage is not None and usage != _NULL:
            self._take_usage(usage)
        if self._id is None and "id" in fields:
            self._id = _text(fields["id"])
        error = fields.get("error")
        if error is not None and error != _NULL:
            raise StreamedError(bytes(error))
        for choice in _decode_choices(fields.get("choices", _EMPTY)):
            size = _size(choice.delta) + _size(choice.message)
            self._bytes += size
            self._texts += size > 0
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
            if choice.usage and choice.usage != _NULL and self._usage is None and self._request.n == 1:
                self._take_usage(choice.usage)

    def _take_usage(self, raw: Raw) -> None:
        """The last report counts; one that cannot be read leaves the one before it, in doubt."""
        reading = read_openai(raw)
        if reading is None and self._usage is not None:
            self._usage = self._usage._replace(doubtful=True)
            return
        self._usage, self._usage_raw = reading, _mended(raw)


class Relay(_Reader):
    """
    One streamed answer.

    Args:
        request: What the client asked.
        target: The resolved model.
        cap: The output cap in tokens a choice that was held for; past it the stream is cut.

    Attributes:
        done: The end mark has been seen, or made.
        cut: The stream ran past its cap.
    """

    def __init__(self, request: Request, target: Target, *, cap: int) -> None:
        super().__init__(request, target)
        self.done = False
        self.cut = False
        self._most_texts = request.n * cap + SLACK_CHUNKS
        self._most_bytes = request.n * cap * BYTES_A_TOKEN + SLACK_BYTES
        self._last: dict[str, Raw] = {}

    def feed(self, event: sse.Event) -> bytes:
        """
        What the client gets for this event.

        Raises:
            ProtocolError: Its data is no JSON object.
            StreamedError: It reports an error.
        """
        if self.done:
            return b""
        data = event.data
        if data is None or not data.strip():
            return event.encode()
        if data.startswith(b"[DONE]"):
            self.done = True
            return sse.DONE
        try:
            fields = _members.decode(data)
            self._take(fields)
        except _BROKEN:
            raise ProtocolError("an event is not a JSON object") from None
        self._last = fields
        if self._past_cap():
            return self._cut()
        if not self._request.include_usage and "usage" in fields:
            if fields["usage"] != _NULL and _is_empty(fields.get("choices", _EMPTY)):
                return b""
            del fields["usage"]
        fields["model"] = self._model
        return sse.Event(_encode(fields), event.other).encode()

    def close(self) -> bytes:
        """
        The end mark, for an upstream that ended properly but without one.

        Raises:
            ProtocolError: It broke off.
        """
        if self.done:
            return b""
        if not self.seen.finished:
            raise ProtocolError("the stream ended without a finish reason")
        self.done = True
        return sse.DONE

    def stub(self) -> dict[str, Raw]:
        """``id``, ``object``, ``created`` and ``model`` of this stream, for an event of our own."""
        head: dict[str, Raw] = {key: self._last[key] for key in ("id", "object", "created") if key in self._last}
        return {**head, "model": self._model}

    def _past_cap(self) -> bool:
        return self._texts > self._most_texts or self._bytes > self._most_bytes

    def _cut(self) -> bytes:
        self.cut = self.done = True
        choices = [
            {"index": index, "delta": {}, "finish_reason": "length"}
            for index in range(self._request.n)
            if index not in self._finished
        ]
        return sse.data_event(_encode({**self.stub(), "choices": choices})) + sse.DONE


def answer(body: bytes, request: Request, target: Target) -> tuple[bytes, Seen]:
    """
    A whole JSON answer: what the client gets, and what it showed.

    Raises:
        ProtocolError: The body is no completion.
        StreamedError: It is an error in spite of its status; ``args[1]`` is what it showed.
    """
    reader = _Reader(request, target)
    try:
        fields = _members.decode(body)
        reader._take(fields)  # noqa: SLF001  # the same class, one module
    except _BROKEN:
        raise ProtocolError("the body is not a JSON object") from None
    except StreamedError as error:
        raise StreamedError(error.args[0], reader.seen) from None
    if bytes(fields.get("choices", _NULL))[:1] != b"[":
        raise ProtocolError("the body has no choices")
    fields["model"] = reader._model  # noqa: SLF001  # the same class, one module
    return _encode(fields), reader.seen


def usage_in(body: bytes) -> Seen:
    """What a body that is no answer says of usage, if it says anything."""
    try:
        usage = _members.decode(body).get("usage", _NULL)
    except _BROKEN:
        return Seen()
    reading = read_openai(usage) if usage != _NULL else None
    if reading is None:
        return Seen()
    return Seen(usage=reading.usage, usage_raw=_mended(usage), usage_doubtful=reading.doubtful)


def _decode_choices(raw: Raw) -> list[_Choice]:
    try:
        return _choices.decode(raw)
    except UnicodeDecodeError:
        return _decode_choices(_mended(raw))  # a character cut in two: passed on as it is, and counted
    except msgspec.DecodeError:
        return []  # the client may understand what we do not; an estimate then counts less


def _mended(raw: Raw) -> Raw:
    """A copy in valid UTF-8: msgspec checks the bytes of a string only where it makes one, and the ledger is text."""
    return Raw(bytes(raw).decode("utf-8", "replace").encode())


def _is_empty(choices: Raw) -> bool:
    return choices == _NULL or not bytes(choices).strip(b"[] \t\r\n")


def _size(delta: _Delta | None) -> int:
    """UTF-8 bytes of generated text."""
    if delta is None:
        return 0
    thought = max(_length(delta.reasoning_content), _length(delta.reasoning))  # one text under two names
    size = _length(delta.content) + thought + _length(delta.refusal)
    for call in (delta.tool_calls, delta.function_call):
        if call:
            size += _arguments(call)
    return size


def _length(text: Any) -> int:
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode())
    return len(_encode(text)) if text else 0


def _arguments(calls: Any) -> int:
    """Names and arguments of one tool call, or of a list of them."""
    size = 0
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call.get("custom", call)) if isinstance(call, dict) else None
        if isinstance(function, dict):
            size += sum(_length(function.get(name)) for name in ("name", "arguments", "input"))
    return size


def _text(raw: Raw) -> str | None:
    try:
        text = msgspec.json.decode(raw, type=str)
    except _BROKEN:
        return None
    return text[:200]
