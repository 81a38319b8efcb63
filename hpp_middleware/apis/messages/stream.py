"""
A stream of chat completion chunks, told as the events of a message.

``message_start``, the blocks one by one, ``message_delta`` with the reason and the usage, ``message_stop``; keep-alive
comments become ``ping`` (https://platform.claude.com/docs/en/build-with-claude/streaming). What was used, whether the
stream is whole and whether it ran past its cap is what the provider's own reader says.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.messages import proofs, told
from hpp_middleware.apis.messages.blocks import Blocks, event
from hpp_middleware.apis.messages.told import Choice, Delta
from hpp_middleware.core import relay, sse
from hpp_middleware.core.messages import error_event
from hpp_middleware.errors import GatewayError
from hpp_middleware.ports import StreamReader
from hpp_middleware.types.completion import Seen, Target

__all__ = ["Reader", "message_id"]

_NULL = Raw(b"null")
_PING = event("ping", {})
_STOP = event("message_stop", {})


class _Chunk(Struct, gc=False):
    id: str | None = None
    choices: list[Choice] | None = None
    usage: Raw = Raw()


_chunk = msgspec.json.Decoder(_Chunk)


class Reader:
    """
    A :class:`~hpp_middleware.ports.StreamReader` over the provider's own.

    Args:
        inner: What reads the provider's bytes, and tells them as chunks.
        target: The resolved model.
        request_id: Ours.
    """

    def __init__(self, inner: StreamReader, target: Target, request_id: str) -> None:
        self._inner = inner
        self._model = target.id
        self._request_id = request_id
        self._blocks: Blocks | None = None
        self._last = Choice()
        self._refused = False
        self._thought = False
        self._usage: Raw | None = None

    @property
    def done(self) -> bool:
        """See :class:`hpp_middleware.ports.StreamReader`."""
        return self._inner.done

    @property
    def cut(self) -> bool:
        """See :class:`hpp_middleware.ports.StreamReader`."""
        return self._inner.cut

    @property
    def seen(self) -> Seen:
        """See :class:`hpp_middleware.ports.StreamReader`."""
        return self._inner.seen

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no stream of completion events, or of none that can be told.
            StreamedError: They report an error.
        """
        try:
            chunks = self._inner.feed(chunk)
        except (relay.ProtocolError, relay.StreamedError) as error:
            error.before = self._said(error.before)
            raise
        return self._said(chunks) if chunks else b""

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off.
            StreamedError: Its last words were an error.
        """
        try:
            chunks = self._inner.close()
        except (relay.ProtocolError, relay.StreamedError) as error:
            error.before = self._said(error.before)
            raise
        return self._said(chunks) if chunks else b""

    def alive(self, _kind: str) -> bytes:
        """What to say while there is nothing to say."""
        return _PING

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """``event: error``, in Anthropic's envelope."""
        return error_event(error, self._request_id, None if usage is None else told.usage(self.seen, usage))

    def _said(self, chunks: bytes) -> bytes:
        out: list[bytes] = []
        try:
            for data in _events(chunks):
                if data is None:
                    out.append(_PING)
                elif data.startswith(b"[DONE]"):
                    out.append(self._end())
                else:
                    out.append(self._one(_chunk.decode(data)))
        except relay.BROKEN as problem:
            raised = relay.ProtocolError("a chunk cannot be told as an event of a message")
            raised.before = b"".join(out)
            raise raised from problem
        return out[0] if len(out) == 1 else b"".join(out)

    def _one(self, chunk: _Chunk) -> bytes:
        if chunk.usage and chunk.usage != _NULL:
            self._usage = chunk.usage
        blocks, started = self._blocks, b""
        if blocks is None:
            started, blocks = self._start(chunk.id)
        said = started
        for choice in chunk.choices or ():
            if choice.delta is not None:
                said += self._told(choice.delta, blocks)
            if choice.finish_reason is not None:
                self._last = choice
        return said

    def _start(self, upstream_id: str | None) -> tuple[bytes, Blocks]:
        found = message_id(upstream_id, self._request_id)
        blocks = self._blocks = Blocks(found)
        message: dict[str, Any] = {
            "id": found,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {**told.usage(self.seen, None), "output_tokens": 0},  # the prompt's, where it is told this early
        }
        return event("message_start", {"message": message}), blocks

    def _told(self, delta: Delta, blocks: Blocks) -> bytes:
        content = delta.content
        if isinstance(content, str) and content and delta.is_text_alone:
            return blocks.say("text", content)  # as nearly always
        said = b""
        named = bool(delta.reasoning_content or delta.reasoning)
        self._thought = self._thought or named
        # Details that come alone after a text are its proof, and have it once more.
        repeated = self._thought and not named and bool(delta.reasoning_details)
        thought = "" if repeated else told.thought_in(delta)
        if thought:
            said += blocks.say("thinking", thought)
        for detail in (*(delta.reasoning_details or ()), *told.signatures(delta)):
            signature, hidden = proofs.signature(detail), proofs.redacted(detail)
            if signature:
                said += blocks.prove(signature)
            if hidden:
                said += blocks.hide(hidden)
        self._refused = self._refused or bool(delta.refusal)
        text = told.text_in(delta)
        if text:
            said += blocks.say("text", text)
        for call in delta.tool_calls or ():
            said += blocks.call(call)
        return said

    def _end(self) -> bytes:
        started, blocks = (b"", self._blocks) if self._blocks is not None else self._start(None)
        last = blocks.close()
        reason, sequence = told.stop(self._last, called=blocks.called, refused=self._refused)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        usage = told.usage(self.seen, self._usage)
        return started + last + event("message_delta", {"delta": delta, "usage": usage}) + _STOP


def message_id(upstream_id: str | None, request_id: str) -> str:
    """A message's id: the provider's where it is one, or else ours."""
    if upstream_id is not None and upstream_id.startswith("msg_"):
        return upstream_id
    return f"msg_{request_id.removeprefix('req_')}"


def _events(chunks: bytes) -> Iterator[bytes | None]:
    """The data of each event; None for a comment."""
    for whole in chunks.split(b"\n\n"):
        if not whole:
            continue
        if whole.startswith(b"data: ") and b"\n" not in whole:
            yield whole[6:]
            continue
        for found in sse.Framer(len(whole) + 2).feed(whole + b"\n\n"):
            if found.data is not None and found.data.strip():
                yield found.data
            elif found.other.startswith(b":"):
                yield None
