"""Bytes of a provider's events in, bytes for the client out: what readers have in common that pass events on."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hpp_middleware.core import relay, sse
from hpp_middleware.types.streams import KeepAliveKind

__all__ = ["Count", "alive", "fed", "size"]

_encode = msgspec.json.Encoder().encode


class Count:
    """
    The text that an answer of one choice has had so far, and when that is more than was held for.

    Args:
        cap: The output cap, in tokens.

    Attributes:
        bytes: UTF-8 bytes of it.
        texts: The pieces that they came in.
    """

    def __init__(self, cap: int) -> None:
        self.bytes = self.texts = 0
        self._most_texts = cap + relay.SLACK_CHUNKS
        self._most_bytes = cap * relay.BYTES_A_TOKEN + relay.SLACK_BYTES

    def add(self, size: int) -> None:
        """Note a piece, by its UTF-8 bytes; an empty one is none."""
        self.bytes += size
        self.texts += size > 0

    @property
    def past(self) -> bool:
        """Whether the stream is to be cut."""
        return self.texts > self._most_texts or self.bytes > self._most_bytes


def size(text: str) -> int:
    """UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode())


def fed(framer: sse.Framer, chunk: bytes, one: Callable[[sse.Event], bytes], *, done: Callable[[], bool]) -> bytes:
    """
    What the client gets for these bytes.

    Args:
        framer: What finds events in bytes.
        chunk: The bytes.
        one: What the client gets for an event.
        done: Whether the last event has come: none after it is asked for.
    Raises:
        ProtocolError: They are not what the API says; ``before`` is what the client gets all the same.
        StreamedError: They report an error; likewise.
    """
    too_large = False
    try:
        events = framer.feed(chunk)
    except sse.EventTooLarge as error:
        events, too_large = error.events, True
    out: list[bytes] = []
    try:
        for event in events:
            if done():
                break
            out.append(one(event))
        if too_large and not done():
            raise relay.ProtocolError("an event is too large")
    except (relay.ProtocolError, relay.StreamedError) as error:
        error.before = b"".join(out)
        raise
    except relay.UNREADABLE as problem:
        fault = relay.ProtocolError("an event is not what its API says")
        fault.before = b"".join(out)
        raise fault from problem
    return out[0] if len(out) == 1 else b"".join(out)


def alive(kind: KeepAliveKind, head: Mapping[str, Any], *, finished: bool) -> bytes:
    """
    What a stream of chunks says while there is nothing to say: an event without content, or a comment.

    Args:
        kind: Which of the two.
        head: The members that the stream's events have alike, as far as they are known yet.
        finished: Whether its choices have all finished: then it has none of them.
    """
    if kind != "chunk":
        return sse.KEEP_ALIVE
    choices = [] if finished else [{"index": 0, "delta": {}, "finish_reason": None}]
    return sse.data_event(
        _encode({"id": "", "object": "chat.completion.chunk", "created": 0, **head, "choices": choices})
    )
