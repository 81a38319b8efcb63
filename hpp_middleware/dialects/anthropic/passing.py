"""
Messages answers on their way to a client that speaks the API: as they came but for ``model``, which is the resolved id,
and for ``usage.cost`` where the client is told the cost.

The stream is accounted for like OpenAI's (see :mod:`hpp_middleware.core.relay`): its text is counted, its usage read,
and past what was held for it is cut, by the same figures.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import price as pricing
from hpp_middleware.core import relay, sse
from hpp_middleware.core.feeding import Count, fed, size
from hpp_middleware.core.messages import error_event
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.anthropic import errors
from hpp_middleware.dialects.anthropic.usage import Tally
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.completion import Seen, Target

__all__ = ["Stream", "answer", "usage_in"]

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_NAMES = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}

_encode = msgspec.json.Encoder().encode


class _Part(Struct, gc=False):
    """A block, or a delta: what of it is generated text."""

    type: Any = None
    text: Any = None
    thinking: Any = None
    partial_json: Any = None
    name: Any = None
    input: Raw = relay.NULL
    stop_reason: Any = None

    @property
    def size(self) -> int:
        """UTF-8 bytes."""
        known = (self.text, self.thinking, self.partial_json, self.name)
        given = bytes(self.input) if self.type == "tool_use" else b""
        extra = 0 if given in {b"null", b"", b"{}"} else len(given)
        return sum(size(text) for text in known if isinstance(text, str)) + extra


class _Message(Struct, gc=False):
    id: Any = None
    type: Any = None
    content: list[_Part] = []
    stop_reason: Any = None
    usage: Raw = relay.NULL
    error: Raw = relay.NULL


class _Event(Struct, gc=False):
    type: Any = None
    index: Any = 0
    delta: _Part | None = None
    content_block: _Part | None = None
    error: Raw = relay.NULL


_event = msgspec.json.Decoder(_Event).decode
_message = msgspec.json.Decoder(_Message).decode
_members = msgspec.json.Decoder(dict[str, Raw]).decode


class Stream:
    """
    One streamed answer; see :class:`hpp_middleware.ports.StreamReader`.

    Args:
        target: The resolved model.
        event_bytes: The largest event.
        cap: The output cap in tokens that was held for.
        charge: What the answer is charged, where the client is told so.
        request_id: Ours, for errors.

    Attributes:
        done: The last event has been passed on, or made.
        cut: The stream ran past its cap.
    """

    def __init__(
        self, target: Target, *, event_bytes: int, cap: int, charge: Charge | None = None, request_id: str = ""
    ) -> None:
        self.done = self.cut = False
        self._framer = sse.Framer(event_bytes)
        self._model = Raw(_encode(target.shown or target.id))
        self._charge = charge
        self._request_id = request_id
        self._tally = Tally()
        self._text = Count(cap)
        self._texts_reported = 0
        self._finished = False
        self._id: str | None = None
        self._open: int | None = None  # the block that has begun, and not ended
        self._held: tuple[dict[str, Raw], bytes] | None = None  # the event that is to say the cost

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        reading = self._tally.reading
        return Seen(
            usage=reading.usage if reading is not None else None,
            usage_raw=self._tally.raw if reading is not None else None,
            usage_doubtful=reading is not None and reading.doubtful,
            usage_early=reading is not None and self._tally.early,
            relayed_bytes=self._text.bytes,
            texts=self._text.texts,
            text_after_usage=reading is not None and self._text.texts > self._texts_reported,
            finished=self._finished,
            upstream_id=self._id,
        )

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no stream of a message; ``before`` is what the client gets all the same.
            StreamedError: They report an error; likewise.
        """
        return fed(self._framer, chunk, self._one, done=lambda: self.done)

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off.
            StreamedError: Its last words were an error.
        """
        last = self.feed(b"\n\n") if self._framer.pending and not self.done else b""
        if self.done:
            return last
        if not self._finished:
            fault = relay.ProtocolError("the stream ended without a stop reason")
            fault.before = last
            raise fault
        self.done = True
        return last + self._release(End.COMPLETED) + _STOP

    def alive(self, _kind: str) -> bytes:
        """What to say while there is nothing to say: the API's own word for it."""
        return _PING

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """The last event of a stream that broke."""
        return error_event(error, self._request_id, None if usage is None else _in_its_words(usage))

    def _one(self, event: sse.Event) -> bytes:
        data = event.data
        if data is None or not data.strip():
            return event.encode()
        found = _read(data)
        kind = found.type
        if kind == "error" or found.error != relay.NULL:
            raise relay.StreamedError(_encode(errors.openai_error(msgspec.json.decode(found.error))))
        part = found.delta if kind == "content_block_delta" else found.content_block
        if part is not None:
            self._text.add(part.size)
            if self._text.past:
                return self._cut()
        before = self._let_go(kind) if self._held is not None else b""
        if kind == "content_block_start":
            self._open = found.index if isinstance(found.index, int) else 0
        elif kind == "content_block_stop":
            self._open = None
        elif kind == "message_start":
            return self._begin(_members(data), event.other)
        elif kind == "message_delta":
            return before + self._end(found, _members(data), event)
        elif kind == "message_stop":
            self.done = True
        return before + event.encode()

    def _begin(self, fields: dict[str, Raw], other: bytes) -> bytes:
        message = _members(fields.get("message", Raw(b"{}")))
        self._id = relay.text(message["id"]) if "id" in message else None
        self._take(message, early=True)
        message["model"] = self._model
        fields["message"] = Raw(_encode(message))
        return sse.Event(_encode(fields), other).encode()

    def _end(self, found: _Event, fields: dict[str, Raw], event: sse.Event) -> bytes:
        self._take(fields)
        self._finished = self._finished or (found.delta is not None and isinstance(found.delta.stop_reason, str))
        if self._charge is None:
            return event.encode()
        self._held = (fields, event.other)  # whether it is the last one, the next one tells
        return b""

    def _take(self, fields: dict[str, Raw], *, early: bool = False) -> None:
        usage = fields.get("usage", relay.NULL)
        if usage == relay.NULL:
            return
        if self._tally.take(usage, early=early, spoken=self._text.texts > 0):
            self._texts_reported = self._text.texts

    def _let_go(self, kind: str) -> bytes:
        """The event that was held back, now that one of this kind has come: a ping may come anywhere."""
        return b"" if kind == "ping" else self._release(End.COMPLETED, priced=kind == "message_stop")

    def _release(self, end: End, *, priced: bool = True) -> bytes:
        """The event that was held back, with the cost if it is the last of its kind."""
        if self._held is None:
            return b""
        (fields, other), self._held = self._held, None
        if priced and self._charge is not None:
            seen = self.seen
            fields["usage"] = _priced(fields.get("usage", relay.NULL), self._charge(end, seen))
        return sse.Event(_encode(fields), other).encode()

    def _cut(self) -> bytes:
        """The end that a client can read, of a stream that ran past what was held for."""
        self.cut = self.done = True
        out = self._release(End.CUT, priced=False)
        if self._open is not None:
            stop = {"type": "content_block_stop", "index": self._open}
            out += b"event: content_block_stop\n" + sse.data_event(_encode(stop))
        usage: Raw = self._tally.raw if self._tally.reading is not None else Raw(b'{"output_tokens":0}')
        if self._charge is not None:
            usage = _priced(usage, self._charge(End.CUT, self.seen))
        last = {"type": "message_delta", "delta": {"stop_reason": "max_tokens", "stop_sequence": None}, "usage": usage}
        return out + b"event: message_delta\n" + sse.data_event(_encode(last)) + _STOP


def _read(data: bytes) -> _Event:
    """What an event is about; one with a character that is cut in two is passed on as it is."""
    return _event(data if data.isascii() else relay.mended(Raw(data)))


def answer(body: bytes, target: Target, *, charge: Charge | None = None) -> tuple[bytes, Seen]:
    """
    What the client gets of a whole answer, and what it showed.

    Args:
        body: The upstream's.
        target: The resolved model.
        charge: What the answer is charged, where the client is told so.
    Raises:
        ProtocolError: The body is no message.
        StreamedError: It is an error in spite of its status; ``args[1]`` is what it showed.
    """
    try:
        fields = _members(body)
        message = _message(body if body.isascii() else relay.mended(Raw(body)))
    except relay.UNREADABLE as problem:
        raise relay.ProtocolError("the body is no message") from problem
    seen = _seen(message, fields)
    if message.error != relay.NULL or message.type == "error":
        error = errors.openai_error(msgspec.json.decode(message.error))
        raise relay.StreamedError(_encode(error), seen)
    if message.type != "message":
        raise relay.ProtocolError("the body is no message")
    fields["model"] = Raw(_encode(target.shown or target.id))
    if charge is not None:
        fields["usage"] = _priced(fields.get("usage", relay.NULL), charge(End.COMPLETED, seen))
    return _encode(fields), seen


def _seen(message: _Message, fields: dict[str, Raw]) -> Seen:
    tally = Tally()
    if message.usage != relay.NULL:
        tally.take(message.usage)
    reading = tally.reading
    sizes = [block.size for block in message.content]
    return Seen(
        usage=reading.usage if reading is not None else None,
        usage_raw=tally.raw if reading is not None else None,
        usage_doubtful=reading is not None and reading.doubtful,
        relayed_bytes=sum(sizes),
        texts=sum(size > 0 for size in sizes),
        finished=True,
        upstream_id=relay.text(fields["id"]) if "id" in fields else None,
    )


def usage_in(body: bytes) -> Seen:
    """What a body that is no message says of usage."""
    try:
        usage = _members(body).get("usage", relay.NULL)
    except relay.BROKEN:
        return Seen()
    return _seen(_Message(usage=usage), {})


def _in_its_words(usage: Raw) -> Raw:
    """What an answer cost, in Anthropic's words: an estimate comes in OpenAI's."""
    members = {_NAMES.get(name, name): raw for name, raw in _members(usage).items() if name != "total_tokens"}
    return Raw(_encode(members))


def _priced(usage: Raw, charged: Settlement) -> Raw:
    """Anthropic's ``usage`` with the cost, in dollars; an estimate is called one, and its tokens stand in for none."""
    tokens: dict[str, Any] = {"input_tokens": charged.usage.prompt, "output_tokens": charged.usage.completion}
    try:
        members: dict[str, Any] = _members(relay.mended(usage)) if usage != relay.NULL else tokens
    except relay.BROKEN:
        members = tokens  # it was no report
    members["cost"] = Raw(pricing.dollars(charged.amount).encode())
    members.pop("estimated", None)
    if charged.estimated:
        members["estimated"] = True
    return Raw(_encode(members))
