"""
Streams in OpenAI's shape, passed on while being read; whole answers are in :mod:`hpp_middleware.core.relay_json`.

``relay.feed(event)`` returns bytes for the client; ``relay.seen`` is right at any moment. The client gets the
upstream's events as they are but for ``model``, which is the resolved id, and for the usage that only the router asked
for. Told what it is charged, it gets one usage event always, the last before the end mark.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import sse
from hpp_middleware.core.relay_cost import Charge, priced, unpriced
from hpp_middleware.core.relay_template import Template, learned
from hpp_middleware.core.settlement import BYTES_A_TOKEN, End
from hpp_middleware.core.usage import Reading, falls, read_openai, told
from hpp_middleware.types.completion import Request, Seen, Target

__all__ = [
    "BROKEN",
    "BYTES_A_TOKEN",
    "NULL",
    "UNREADABLE",
    "ProtocolError",
    "Relay",
    "StreamedError",
    "decode_choices",
    "members",
    "mended",
    "text",
    "text_bytes",
]

NULL = Raw(b"null")
_EMPTY = Raw(b"[]")

SLACK_CHUNKS = 64
SLACK_BYTES = 4096
"""
When a stream has run past its cap: more pieces of text than tokens were allowed (a piece is at least one token), or
more than 16 bytes for each of them, with some slack. No obedient model is cut by an estimate.
"""

MOST_LESSONS = 4
LESSON_EVERY = 64
"""How many events with text are learned from one after another in vain, and then which of those that follow."""


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


class _Delta(Struct, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    message: _Delta | None = None
    finish_reason: Any = None
    usage: Raw = Raw()  # Moonshot's place for it in a stream


BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises; a UnicodeDecodeError is msgspec's only error that is no DecodeError."""

UNREADABLE = (*BROKEN, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What reading an answer may raise that is not as its API says."""

members = msgspec.json.Decoder(dict[str, Raw])
_choices = msgspec.json.Decoder(list[_Choice])
_string = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


class Relay:
    """
    One streamed answer.

    Args:
        request: What the client asked.
        target: The resolved model.
        cap: The output cap in tokens a choice that was held for; past it the stream is cut.
        charge: What the answer is charged, where the client is told so in its usage.

    Attributes:
        model: The resolved id, as JSON.
        done: The end mark has been seen, or made.
        cut: The stream ran past its cap.
    """

    done = cut = _usage_early = _is_told_whole = False
    images = _texts = _bytes = _texts_reported = 0  # the last: how many had come by the last report of usage
    _usage: Reading | None = None
    _usage_raw: Raw | None = None
    _usage_shown: Raw | None = None
    _id: str | None = None
    _held: tuple[dict[str, Raw], bytes] | None = None  # an event of usage alone: it may be the last one
    _lesson: bytes | None = None  # an event by which the next one may be known
    _read = 0  # events with text that had to be read since one was last known by its template

    def __init__(self, request: Request, target: Target, *, cap: int, charge: Charge | None = None) -> None:
        self.model = Raw(_encode(target.shown or target.id))
        self._request = request
        self._charge = charge
        self._most_texts = request.n * cap + SLACK_CHUNKS
        self._most_bytes = request.n * cap * BYTES_A_TOKEN + SLACK_BYTES
        self._finished: set[int] = set()
        self._last: dict[str, Raw] = {}
        self._templates: list[Template] = []

    @property
    def seen(self) -> Seen:
        """What the answer has shown so far."""
        reading = self._usage
        return Seen(
            usage=reading.usage if reading else None,
            usage_raw=self._usage_raw,
            usage_shown=self._usage_shown,
            usage_doubtful=reading.doubtful if reading else False,
            usage_early=self._usage_early,
            relayed_bytes=self._bytes,
            texts=self._texts,
            images=self.images,
            text_after_usage=reading is not None and self._texts > self._texts_reported,
            finished=len(self._finished) >= self._request.n,
            upstream_id=self._id,
        )

    def _take(self, fields: dict[str, Raw]) -> None:
        """
        Note what an event shows.

        Raises:
            StreamedError: It reports an error.
        """
        usage = fields.get("usage")
        if reported := usage is not None and usage != NULL and self._take_usage(usage):
            self._is_told_whole = self._usage is not None
        if self._id is None and "id" in fields:
            self._id = text(fields["id"]) or None  # Azure's first event, of its filters alone, has an empty one
        error = fields.get("error")
        if error is not None and error != NULL:
            raise StreamedError(bytes(error))
        for choice in decode_choices(fields.get("choices", _EMPTY)):
            size = text_bytes(choice)
            self._bytes += size
            self._texts += size > 0
            if choice.finish_reason is not None:
                self._finished.add(choice.index)
            if choice.usage and choice.usage != NULL and not self._is_told_whole and self._request.n == 1:
                self._take_usage(choice.usage)
        if reported:
            self._texts_reported = self._texts  # it speaks of the text that it came with, too

    def _take_usage(self, raw: Raw) -> bool:
        """The last report counts; one that cannot be, or be read, leaves the one before in doubt, and is False."""
        reading = read_openai(raw)
        if self._usage is not None and (reading is None or (self._texts and falls(self._usage, reading))):
            self._usage = Reading(self._usage.usage, doubtful=True)
            return False
        self._usage, self._usage_raw, self._texts_reported = reading, mended(raw), self._texts
        return True

    def report(self, reading: Reading | None, raw: Raw, *, early: bool = False) -> None:
        """
        Usage that was read elsewhere, in another dialect; the last report counts.

        Args:
            reading: What it comes to; None where it cannot be read: then the one before it stands, in doubt, as it does
                where text was told, and this one takes all of it back.
            raw: As it came.
            early: Whether it does not say yet what came out.
        """
        if reading is None or (self._texts and falls(self._usage, reading)):
            self._usage = self._usage and Reading(self._usage.usage, doubtful=True)
            return
        self._usage, self._usage_raw, self._texts_reported = reading, mended(raw), self._texts
        self._usage_early = early
        self._usage_shown = Raw(_encode(told(reading.usage)))

    def tell_usage(self) -> bytes:
        """The usage event that a client asked for, where usage was read elsewhere; none where :meth:`close` bills."""
        if self._charge is not None or self._usage_shown is None or not self._request.include_usage:
            return b""
        return sse.data_event(_encode({**self.stub(), "choices": _EMPTY, "usage": self._usage_shown}))

    def again(self, event: bytes) -> bytes | None:
        """
        What the client gets for an event that is an earlier one with another text; None where it is to be read.

        Args:
            event: Its bytes, without the blank line that ends it.
        """
        if self._lesson is not None:
            self._learn(self._lesson)
        for template in self._templates:
            if (filled := template.filled(event)) is not None:
                passed, size = filled
                texts, size = self._texts + (size > 0), self._bytes + size
                if texts > self._most_texts or size > self._most_bytes:
                    return None
                self._texts, self._bytes, self._read = texts, size, 0
                if template.head is not None:
                    self._last = template.head
                return passed
        return None

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
        if data is None or not data.strip():  # a client would take empty data for broken JSON
            return sse.Event(None, event.other).encode() if event.other else b""
        if data.startswith(b"[DONE]"):
            self.done = True
            return self._bill(End.COMPLETED) + sse.DONE
        try:
            fields = members.decode(data)
            texts = self._texts
            self._take(fields)
        except BROKEN:
            raise ProtocolError("an event is not a JSON object") from None
        if "id" in fields or not self._last:
            self._last = fields
        if self._texts > self._most_texts or self._bytes > self._most_bytes:
            return self._cut()
        if not event.other and self._texts > texts:
            self._lesson = data
        return self._shown(fields, event.other)

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
        return self._bill(End.COMPLETED) + sse.DONE

    def stub(self) -> dict[str, Raw]:
        """``id``, ``object``, ``created`` and ``model`` of this stream, for an event of our own."""
        head: dict[str, Raw] = {key: self._last[key] for key in ("id", "object", "created") if key in self._last}
        return {**head, "model": self.model}

    def _shown(self, fields: dict[str, Raw], other: bytes = b"") -> bytes:
        if "usage" in fields and not self._shows_usage(fields, other):
            return b""
        fields["model"] = self.model
        return sse.Event(_encode(fields), other).encode()

    def _learn(self, data: bytes) -> None:
        """Know the next event by this one, now that it has come; not over and over, where none is like another."""
        self._lesson = None
        self._read += 1
        if self._read > MOST_LESSONS and self._read % LESSON_EVERY:
            return
        template = learned(data, size=_text_alone, shown=self._shown)
        if template is not None:
            self._templates = [template, *self._templates[: 2 * self._request.n + 1]]

    def _shows_usage(self, fields: dict[str, Raw], other: bytes) -> bool:
        """Leave of the usage what the client is to see now; False if nothing of the event is left then."""
        alone = fields["usage"] != NULL and _is_empty(fields.get("choices", _EMPTY))
        if alone and self._charge is not None:
            before = self._held[0] if self._held is not None else {}
            self._held = ({**before, **fields}, other)  # one that another one follows was not the last
            return False
        if not self._request.include_usage:
            del fields["usage"]
            return not alone
        if self._charge is not None:
            fields["usage"] = unpriced(fields["usage"])
        return True

    def _bill(self, end: End) -> bytes:
        """The usage event with the cost: the upstream's, or one of our own where it had none that was only that."""
        if self._charge is None:
            return b""
        held, other = self._held or ({}, b"")
        usage = priced(self.seen, self._charge(end, self.seen))
        fields = {**self.stub(), **held, "choices": _EMPTY, "usage": usage, "model": self.model}
        return sse.Event(_encode(fields), other).encode()

    def _cut(self) -> bytes:
        self.cut = self.done = True
        left = (index for index in range(self._request.n) if index not in self._finished)
        choices = [{"index": index, "delta": {}, "finish_reason": "length"} for index in left]
        return sse.data_event(_encode({**self.stub(), "choices": choices})) + self._bill(End.CUT) + sse.DONE


def _text_alone(fields: dict[str, Raw]) -> int | None:
    """The size of an event's text; None where there is more to the event than one choice's text."""
    choices = decode_choices(fields.get("choices", _EMPTY))
    if len(choices) != 1 or choices[0].finish_reason is not None:
        return None
    if any(raw and raw != NULL for raw in (fields.get("usage"), fields.get("error"), choices[0].usage)):
        return None
    return text_bytes(choices[0])


def decode_choices(raw: Raw) -> list[_Choice]:
    """An answer's choices; none where they cannot be understood."""
    try:
        return _choices.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        whole = mended(raw)  # a character cut in two: passed on as it is, and counted
        # The client may understand what we do not; an estimate then counts less.
        return [] if whole == raw else decode_choices(whole)


def mended(raw: Raw) -> Raw:
    """A copy in valid UTF-8: msgspec checks the bytes of a string only where it makes one, and the ledger is text."""
    copied = bytes(raw)
    return Raw(copied if copied.isascii() else copied.decode("utf-8", "replace").encode())


def _is_empty(choices: Raw) -> bool:
    return choices == NULL or not bytes(choices).strip(b"[] \t\r\n")


def text_bytes(choice: _Choice) -> int:
    """UTF-8 bytes of generated text."""
    return (_size(choice.delta) if choice.delta else 0) + (_size(choice.message) if choice.message else 0)


def _size(delta: _Delta) -> int:
    size = _length(delta.content)
    if delta.reasoning_content or delta.reasoning:  # one text under two names
        size += max(_length(delta.reasoning_content), _length(delta.reasoning))
    if delta.refusal:
        size += _length(delta.refusal)
    if delta.tool_calls:
        size += _arguments(delta.tool_calls)
    if delta.function_call:
        size += _arguments(delta.function_call)
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


def text(raw: Raw) -> str | None:
    """A string of at most 200 characters; None where it is none."""
    try:
        return _string.decode(raw)[:200]
    except BROKEN:
        return None
