"""
What every translating dialect needs: pieces of an answer into OpenAI's events, accounted for like OpenAI's own.

A dialect says what a provider's bytes mean as :data:`Piece` values, and no more; ids, chunks, usage events, the cap,
the price and the end mark are made here, by the very :class:`~hpp_middleware.core.relay.Relay` that reads OpenAI's
streams. So a stream is billed in one way, whatever its provider speaks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import names, relay, reply, sse
from hpp_middleware.core.feeding import alive
from hpp_middleware.core.relay_cost import Charge, priced
from hpp_middleware.core.settlement import End as Ended
from hpp_middleware.core.usage import Reading, reading, told
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Usage
from hpp_middleware.types.streams import KeepAliveKind

__all__ = [
    "Begun",
    "Delta",
    "End",
    "Failed",
    "Finish",
    "Piece",
    "Reader",
    "Reported",
    "Translation",
    "alone",
    "answer",
    "usage_in",
]

_encode = msgspec.json.Encoder().encode


class Begun(Struct, frozen=True, gc=False):
    """The answer's id at the provider; where none is told, it has ours."""

    id: str


class Delta(Struct, frozen=True):
    """
    More of a choice: what OpenAI calls its ``delta``.

    ``{"content": ...}``, ``{"reasoning_content": ...}``, or ``{"tool_calls": [{"index": 0, "id": ..., "type":
    "function", "function": {"name": ..., "arguments": ...}}]}``, whose arguments may come in pieces.
    """

    fields: dict[str, Any]
    index: int = 0


class Finish(Struct, frozen=True, gc=False):
    """
    A choice is whole.

    Attributes:
        reason: OpenAI's: ``stop``, ``length``, ``tool_calls`` or ``content_filter``.
        index: Of which choice.
        native: The provider's own word, for ``native_finish_reason``.
    """

    reason: str
    index: int = 0
    native: str | None = None


class Reported(Struct, frozen=True):
    """
    The usage so far; the last report counts.

    Attributes:
        usage: In disjoint buckets; None where it cannot be read, which spoils no answer: it is no report then.
        raw: As it came, for the ledger.
        doubtful: Whether it contradicts itself.
        early: Whether it says what went in, and not yet what came out; another report is to follow.
    """

    usage: Usage | None
    raw: Raw
    doubtful: bool = False
    early: bool = False

    @property
    def reading(self) -> Reading | None:
        """What the ledger makes of it; None where it cannot be true, either."""
        return reading(self.usage, doubtful=self.doubtful) if self.usage is not None else None


class Failed(Struct, frozen=True):
    """The provider reports an error in place of the rest: OpenAI's error object, ``message`` and ``code`` in it."""

    error: dict[str, Any]


class End(Struct, frozen=True, gc=False):
    """The provider's own end mark: the stream is whole. Without one, it is once every choice has finished."""


Piece = Begun | Delta | Finish | Reported | Failed | End


class Translation(Protocol):
    """
    One streamed answer: bytes in, pieces out.

    What it raises on bytes that are not what its API says (``ValueError``, ``KeyError``, msgspec's errors ...) is told
    as a provider that broke off; what it had found before is to be yielded before.
    """

    def feed(self, chunk: bytes) -> Iterable[Piece]:
        """The pieces that are complete with these bytes; they come cut anywhere."""
        ...

    def close(self) -> Iterable[Piece]:
        """The pieces that the end of the bytes completes."""
        ...


class Reader:
    """
    A :class:`~hpp_middleware.ports.StreamReader` over a translation.

    Args:
        translation: What the bytes mean.
        request: What the client asked.
        target: The resolved model.
        cap: The output cap in tokens a choice that was held for.
        charge: What the answer is charged, where the client is told so.
        request_id: Ours.
    """

    def __init__(
        self,
        translation: Translation,
        request: Request,
        target: Target,
        *,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> None:
        self._translation = translation
        self._relay = relay.Relay(request, target, cap=cap, charge=charge)
        self._id, self._created, self._model = _own_id(request_id), names.created(request_id), target.shown or target.id
        self._spoken: set[int] = set()  # choices whose role has been told

    @property
    def done(self) -> bool:
        """Whether the end mark has been made."""
        return self._relay.done

    @property
    def cut(self) -> bool:
        """Whether the stream ran past its cap."""
        return self._relay.cut

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        return self._relay.seen

    def alive(self, kind: KeepAliveKind) -> bytes:
        """What to say while there is nothing to say."""
        return alive(kind, self._head(), finished=self.seen.finished)

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """The last event of a stream that broke."""
        return reply.error_event(error, self._relay.stub() if self._spoken else self._head(), usage)

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no answer; ``before`` is what the client gets all the same.
            StreamedError: They report an error; likewise.
        """
        return self._said(self._translation.feed(chunk))

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off.
            StreamedError: Its last words were an error.
        """
        last = b"" if self.done else self._said(self._translation.close())
        try:
            return last + self._end()
        except relay.ProtocolError as error:
            error.before = last
            raise

    def _said(self, pieces: Iterable[Piece]) -> bytes:
        out: list[bytes] = []
        try:
            for piece in pieces:
                out.append(self._one(piece))
                if self.done:
                    break  # what stands behind the end mark is not even read: its client has had the end
        except (relay.ProtocolError, relay.StreamedError) as error:
            error.before = b"".join([*out, error.before])
            raise
        except relay.UNREADABLE as problem:
            fault = relay.ProtocolError("an event is not what its API says")
            fault.before = b"".join(out)
            raise fault from problem
        return out[0] if len(out) == 1 else b"".join(out)

    def _one(self, piece: Piece) -> bytes:
        if isinstance(piece, Delta):
            fields = piece.fields
            self._relay.images += len(fields.get("images", ()))
            if piece.index not in self._spoken:
                self._spoken.add(piece.index)
                fields = {"role": "assistant", "content": "", **fields}
            return self._chunk({"index": piece.index, "delta": fields, "finish_reason": None})
        if isinstance(piece, Finish):
            native = {} if piece.native is None else {"native_finish_reason": piece.native}
            return self._chunk({"index": piece.index, "delta": {}, "finish_reason": piece.reason, **native})
        if isinstance(piece, Reported):
            self._relay.report(piece.reading, piece.raw, early=piece.early)
        elif isinstance(piece, Begun):
            self._id = piece.id
        elif isinstance(piece, Failed):
            raise relay.StreamedError(_encode(piece.error))
        else:
            return self._end()
        return b""

    def _chunk(self, choice: dict[str, Any]) -> bytes:
        data = _encode({**self._head(), "choices": [choice]})
        known = self._relay.again(b"data: " + data)
        return self._relay.feed(sse.Event(data)) if known is None else known

    def _end(self) -> bytes:
        """
        The usage, for a client that asked for it, and the end mark.

        Raises:
            ProtocolError: Not every choice has finished.
        """
        whole = self._relay.seen.finished and not self._relay.done
        return (self._relay.tell_usage() if whole else b"") + self._relay.close()

    def _head(self) -> dict[str, Any]:
        return {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}


def answer(
    pieces: Iterable[Piece], target: Target, *, charge: Charge | None = None, request_id: str = ""
) -> tuple[bytes, Seen]:
    """
    A whole answer in OpenAI's shape, from the pieces of it.

    Args:
        pieces: As of a stream; deltas of a choice are put together.
        target: The resolved model.
        charge: What the answer is charged, where the client is told so.
        request_id: Ours, for an answer without an id.
    Returns:
        The body for the client, and what it showed.
    Raises:
        ProtocolError: It is no answer: unreadable, or without a choice.
        StreamedError: It is an error; ``args[1]`` is what it showed.
    """
    whole = _Whole()
    try:
        for piece in pieces:
            whole.take(piece)
    except relay.UNREADABLE as problem:  # a StreamedError is none of them
        raise relay.ProtocolError("the body is not what its API says") from problem
    if not whole.choices:
        raise relay.ProtocolError("the body has no choices")
    seen = whole.seen
    fields: dict[str, Any] = {
        "id": whole.id or _own_id(request_id),
        "object": "chat.completion",
        "created": names.created(request_id),
        "model": target.shown or target.id,
        "choices": [whole.choices[index] for index in sorted(whole.choices)],
    }
    if charge is not None:
        fields["usage"] = priced(seen, charge(Ended.COMPLETED, seen))
    elif seen.usage_shown is not None:
        fields["usage"] = seen.usage_shown
    return _encode(fields), seen


def usage_in(body: bytes, name: str, read: Callable[[Raw], Reported | None]) -> Seen:
    """
    What a body that is no answer says of usage.

    Args:
        body: The provider's.
        name: The member that says it.
        read: What reads that.
    """
    try:
        raw = relay.members.decode(body).get(name, relay.NULL)
    except relay.BROKEN:
        return Seen()
    return alone(read(raw) if raw != relay.NULL else None)


def alone(report: Reported | None) -> Seen:
    """What a report shows that comes without an answer."""
    found = report.reading if report is not None else None
    if report is None or found is None:
        return Seen()
    return Seen(
        usage=found.usage,
        usage_raw=relay.mended(report.raw),
        usage_shown=Raw(_encode(told(found.usage))),
        usage_doubtful=found.doubtful,
        usage_early=report.early,
    )


class _Whole:
    """An answer that is put together."""

    def __init__(self) -> None:
        self.id: str | None = None
        self.choices: dict[int, dict[str, Any]] = {}
        self._report: Reported | None = None

    def take(self, piece: Piece) -> None:
        if isinstance(piece, Delta):
            _add(self._choice(piece.index)["message"], piece.fields)
        elif isinstance(piece, Finish):
            choice = self._choice(piece.index)
            choice["finish_reason"] = piece.reason
            if piece.native is not None:
                choice["native_finish_reason"] = piece.native
        elif isinstance(piece, Reported):
            self._report = piece
        elif isinstance(piece, Begun):
            self.id = piece.id
        elif isinstance(piece, Failed):
            raise relay.StreamedError(_encode(piece.error), self.seen)

    def _choice(self, index: int) -> dict[str, Any]:
        empty: dict[str, Any] = {"role": "assistant", "content": None}
        return self.choices.setdefault(index, {"index": index, "message": empty, "finish_reason": "stop"})

    @property
    def seen(self) -> Seen:
        report, choices = self._report, Raw(_encode(list(self.choices.values())))
        sizes = [relay.text_bytes(choice) for choice in relay.decode_choices(choices)]
        found = report.reading if report is not None else None
        return Seen(
            usage=found.usage if found is not None else None,
            usage_raw=relay.mended(report.raw) if report is not None else None,
            usage_shown=Raw(_encode(told(found.usage))) if found is not None else None,
            usage_doubtful=found is not None and found.doubtful,
            usage_early=report is not None and report.early,
            relayed_bytes=sum(sizes),
            texts=sum(size > 0 for size in sizes),
            images=sum(len(choice["message"].get("images", ())) for choice in self.choices.values()),
            finished=True,
            upstream_id=self.id,
        )


def _own_id(request_id: str) -> str:
    return f"chatcmpl-{request_id.removeprefix('req_')}"


def _add(message: dict[str, Any], delta: dict[str, Any]) -> None:
    for name, value in delta.items():
        had = message.get(name)
        joins = isinstance(value, str | list) and type(value) is type(had) and name != "role"
        if name == "tool_calls":
            _add_calls(message.setdefault("tool_calls", []), value)
        else:
            message[name] = had + value if joins else value


def _add_calls(calls: list[dict[str, Any]], more: Sequence[dict[str, Any]]) -> None:
    for part in more:
        rest = {name: value for name, value in part.items() if name != "index"}
        if part.get("index", len(calls)) >= len(calls):
            calls.append(rest)
        else:
            function = calls[part["index"]].setdefault("function", {})
            function["arguments"] = function.get("arguments", "") + rest.get("function", {}).get("arguments", "")
