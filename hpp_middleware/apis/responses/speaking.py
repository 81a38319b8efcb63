"""A dialect whose chat completions are told as Responses: all accounting stays the inner one's."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.apis.responses.asking import LOGPROBS
from hpp_middleware.apis.responses.items import value
from hpp_middleware.apis.responses.namespaces import names as names_in
from hpp_middleware.apis.responses.telling import Chunk, Telling
from hpp_middleware.core import names, offers, relay, responses, sse
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import Dialect, StreamReader
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall

__all__ = ["Reader", "Speaking"]

HEADROOM = 64 * 1024
"""How much longer an event is than the provider's at most: the resolved model's name, and the usage's cost."""

_chunk = msgspec.json.Decoder(Chunk)
_encode = msgspec.json.Encoder().encode


class Speaking:
    """
    See :meth:`hpp_middleware.ports.API.spoken_by`.

    Args:
        inner: What the provider speaks.
        asked: What the client asked, in the Responses API's words.
    """

    def __init__(self, inner: Dialect, asked: Request) -> None:
        self._inner = inner
        self._asked = asked

    @property
    def refusal(self) -> Any:
        """The inner dialect's own, where it has one."""
        return getattr(self._inner, "refusal", None)

    @property
    def usage_in(self) -> Any:
        """Likewise."""
        return getattr(self._inner, "usage_in", None)

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """The chat completion's; a search that nobody asked for is not in it, and told of."""
        call = self._inner.call(request, target, cap=cap, request_id=request_id)
        if offers.left_out(self._asked.fields):
            return msgspec.structs.replace(call, dropped=(*call.dropped, offers.SEARCH))
        return call

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> "Reader":
        """A reader that tells the inner one's chunks as events."""
        inner = self._inner.stream(
            request, target, event_bytes=event_bytes, cap=cap, charge=charge, request_id=request_id
        )
        return Reader(inner, self._telling(target, request_id), event_bytes=event_bytes + HEADROOM)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """
        A whole Response.

        Raises:
            ProtocolError: The body is no completion.
            StreamedError: It is an error.
        """
        told, seen = self._inner.answer(body, request, target, charge=charge, request_id=request_id)
        telling = self._telling(target, request_id)
        found = decoded(told)
        for choice in found.choices:
            choice.delta = choice.message
        try:
            telling.chunk(found)
            return _encode(telling.whole(seen.usage)), seen
        except relay.UNREADABLE as problem:
            raise relay.ProtocolError("the completion is not what its API says") from problem

    def _telling(self, target: Target, request_id: str) -> Telling:
        fields = self._asked.fields
        suffix = request_id.removeprefix("req_")
        created = names.created(request_id)
        include = value(fields, "include", list[str]) or ()
        return Telling(
            responses.asked(fields, response_id=f"resp_{suffix}", created=created, model=target.id),
            suffix,
            logprobs=LOGPROBS in include or bool(value(fields, "top_logprobs", int)),
            thoughts="reasoning.encrypted_content" in include,
            spaces=names_in(fields),
        )


class Reader:
    """
    See :class:`hpp_middleware.ports.StreamReader`.

    Args:
        inner: Reads the provider's bytes; its words are chunks of a chat completion.
        telling: Makes events of them.
        event_bytes: The largest of the inner one's events.
    """

    def __init__(self, inner: StreamReader, telling: Telling, *, event_bytes: int) -> None:
        self._inner = inner
        self._telling = telling
        self._framer = sse.Framer(event_bytes)

    @property
    def done(self) -> bool:
        """Whether the last event has been told."""
        return self._inner.done

    @property
    def cut(self) -> bool:
        """Whether the stream ran past its cap."""
        return self._inner.cut

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        return self._inner.seen

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no answer; ``before`` is what the client gets all the same.
            StreamedError: They report an error; likewise.
        """
        return self._told(self._heard(self._inner.feed, chunk))

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off.
            StreamedError: Its last words were an error.
        """
        return self._told(self._heard(self._inner.close))

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """The last events of a stream that broke."""
        return self._telling.failed(error, responses.usage_of(usage))

    def _heard(self, hear: Callable[..., bytes], *chunk: bytes) -> bytes:
        """What the inner one says; what it has said before a fault is told, too."""
        try:
            return hear(*chunk)
        except (relay.ProtocolError, relay.StreamedError) as error:
            error.before = self._told(error.before)
            raise

    def _told(self, data: bytes) -> bytes:
        try:
            events = self._framer.feed(data)
        except sse.EventTooLarge as error:
            fault = relay.ProtocolError("an event is too large")
            fault.before = b"".join(map(self._one, error.events))
            raise fault from error
        try:
            return b"".join(map(self._one, events))
        except relay.UNREADABLE as problem:  # what was paid for is known all the same
            raise relay.ProtocolError("an event is not what its API says") from problem

    def _one(self, event: sse.Event) -> bytes:
        if event.data is None or not event.data.strip():
            return event.encode()  # a comment, which keeps a connection open
        if event.data.startswith(b"[DONE]"):
            return self._telling.end(self.seen.usage)
        return self._telling.chunk(decoded(event.data))


def decoded(data: bytes) -> Chunk:
    """A chunk, or a whole completion; an empty one where nothing of it can be understood."""
    try:
        return _chunk.decode(data)
    except relay.BROKEN:
        mended = bytes(relay.mended(Raw(data)))
        return decoded(mended) if mended != data else Chunk()  # a character was cut in two
