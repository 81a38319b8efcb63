"""
The content blocks of a stream, one after the other, each begun, continued and ended in Anthropic's events.

OpenAI tells the pieces of several tool calls, of text and of thoughts in any order; a message has one block open at a
time. What comes while a call is still incomplete waits, and is told as soon as that is whole.
"""

from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.apis.messages.told import Call, call_id
from hpp_middleware.core.relay import BROKEN

__all__ = ["Blocks", "event"]

_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])

_DELTAS = {
    "text": b'{"type":"text_delta","text":',
    "thinking": b'{"type":"thinking_delta","thinking":',
    "tool_use": b'{"type":"input_json_delta","partial_json":',
}


class _Block:
    """
    One block.

    Attributes:
        id: A call's, or what is encrypted.
        kind: ``text``, ``thinking``, ``redacted_thinking`` or ``tool_use``.
        pieces: Of a call: all that has come of its arguments. Of any other: what waits to be told.
        signature: What proves thoughts; nothing follows it in the same block.
    """

    __slots__ = ("id", "kind", "name", "pieces", "signature")

    def __init__(self, kind: str, *, call_id: str = "") -> None:
        self.kind = kind
        self.id = call_id
        self.name = ""
        self.pieces: list[str] = []
        self.signature = ""

    @property
    def whole(self) -> bool:
        """Whether another block may follow."""
        if self.kind != "tool_use":
            return True
        try:
            _members.decode("".join(self.pieces))
        except BROKEN:
            return False
        return True

    def start(self) -> dict[str, Any]:
        """The block as it begins."""
        if self.kind == "tool_use":
            return {"type": "tool_use", "id": self.id, "name": self.name, "input": {}}
        if self.kind == "thinking":
            return {"type": "thinking", "thinking": "", "signature": ""}
        if self.kind == "redacted_thinking":
            return {"type": "redacted_thinking", "data": self.id}
        return {"type": "text", "text": ""}


class Blocks:
    """
    All blocks of one message.

    Args:
        message_id: The message's.

    Attributes:
        called: Whether a tool was called.
    """

    def __init__(self, message_id: str) -> None:
        self.called = False
        self._id = message_id
        self._index = -1
        self._open: _Block | None = None
        self._waiting: list[_Block] = []
        self._calls: dict[int, _Block] = {}  # the last one under each index

    def say(self, kind: str, text: str) -> bytes:
        """More text, or more thoughts."""
        block = self._open
        if block is not None and block.kind == kind and not block.signature and not self._waiting:
            return self._delta(kind, text)
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.kind != kind or last.signature:
            last = _Block(kind)
            self._waiting.append(last)
        last.pieces.append(text)
        return self._advance()

    def prove(self, signature: str) -> bytes:
        """What proves the thoughts so far, and ends their block."""
        block = self._open
        if block is not None and block.kind == "thinking" and not block.signature and not self._waiting:
            block.signature = signature
            return self._signed(signature)
        last = self._waiting[-1] if self._waiting else None
        if last is None or last.kind != "thinking" or last.signature:
            last = _Block("thinking")
            self._waiting.append(last)
        last.signature = signature
        return self._advance()

    def hide(self, data: str) -> bytes:
        """Thoughts that are encrypted."""
        self._waiting.append(_Block("redacted_thinking", call_id=data))
        return self._advance()

    def call(self, piece: Call) -> bytes:
        """A call, or more of one."""
        self.called = True
        name = (piece.function.name if piece.function is not None else None) or ""
        arguments = piece.function.arguments if piece.function is not None else None
        if isinstance(arguments, dict):
            arguments = _encode(arguments).decode()
        block = self._which(piece)
        block.name = block.name or name
        if not arguments:
            return self._advance()
        block.pieces.append(arguments)
        if block is not self._open:
            return self._advance()
        told = self._delta("tool_use", arguments)
        return told + self._advance() if self._waiting and arguments.rstrip().endswith("}") else told

    def close(self) -> bytes:
        """What is left, and the end of the last block."""
        return self._advance(last=True) + self._end()

    def _which(self, piece: Call) -> _Block:
        """The call that a piece belongs to: some providers number every call 0, others none."""
        number = piece.index if piece.index is not None else max(self._calls, default=-1) + (piece.id is not None)
        known = self._calls.get(number)
        if known is not None and (not piece.id or piece.id == known.id):
            return known
        block = _Block("tool_use", call_id=piece.id or call_id(self._id, max(number, 0)))
        self._calls[number] = block
        self._waiting.append(block)
        return block

    def _advance(self, *, last: bool = False) -> bytes:
        """Tell what waits, up to the first block that is not whole."""
        out: list[bytes] = []
        while self._waiting and (last or self._open is None or self._open.whole):
            block = self._waiting[0]
            if block.kind == "tool_use" and not block.name and not last:
                break
            del self._waiting[0]
            out.append(self._end())
            self._index += 1
            self._open = block
            out.append(event("content_block_start", {"index": self._index, "content_block": block.start()}))
            told = "".join(block.pieces)
            if told:
                out.append(self._delta(block.kind, told))
            if block.signature:
                out.append(self._signed(block.signature))
        return b"".join(out)

    def _end(self) -> bytes:
        if self._open is None:
            return b""
        self._open = None
        return event("content_block_stop", {"index": self._index})

    def _delta(self, kind: str, text: str) -> bytes:
        return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%b%b}}\n\n' % (
            self._index,
            _DELTAS[kind],
            _encode(text),
        )

    def _signed(self, signature: str) -> bytes:
        delta = {"type": "signature_delta", "signature": signature}
        return event("content_block_delta", {"index": self._index, "delta": delta})


def event(name: str, members: dict[str, Any]) -> bytes:
    """One event of a message's stream."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **members}))
