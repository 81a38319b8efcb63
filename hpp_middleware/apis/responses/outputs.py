"""The items of a Response's output, as they come to be: each tells the events of its own beginning, pieces and end."""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from hpp_middleware.apis.responses.thoughts import Thoughts, merged, packed

__all__ = ["Call", "Message", "Output", "Reasoning"]

Events = list[tuple[str, dict[str, Any]]]
"""Types of events, and what each says besides its number."""

_encode = msgspec.json.Encoder().encode


class Output(Protocol):
    """
    An item.

    Attributes:
        closed: Whether it is whole.
    """

    closed: bool

    def begun(self) -> Events:
        """That it begins."""
        ...

    def close(self, status: str) -> Events:
        """That it ends: ``completed`` or ``incomplete``; nothing where it has ended before."""
        ...

    def item(self) -> dict[str, Any]:
        """The item."""
        ...


class Message:
    """
    What an assistant says: texts, and refusals.

    Args:
        index: Its place in the output.
        item_id: What its id begins with.
    """

    def __init__(self, index: int, item_id: str) -> None:
        self.closed = False
        self._index, self._id, self._status = index, f"{item_id}_{index}", "in_progress"
        self._parts: list[tuple[str, list[str], list[Any]]] = []  # kind, text in pieces, log probabilities
        self._lead = b""

    def begun(self) -> Events:
        """See :class:`Output`."""
        return [("response.output_item.added", {"output_index": self._index, "item": self.item()})]

    def begin_part(self, kind: str) -> Events:
        """That a part of this kind begins, where the last one was of another."""
        if self._parts and self._parts[-1][0] == kind:
            return []
        ended = self._end_part()
        self._parts.append((kind, [], []))
        place = self._place()
        event = "response.output_text.delta" if kind == "output_text" else "response.refusal.delta"
        lead = b"event: %s\ndata: " % event.encode() + _encode({"type": event, **place})
        self._lead = lead[:-1] + b',"delta":'
        return [*ended, ("response.content_part.added", {**place, "part": _part(self._parts[-1])})]

    def add(self, text: str, logprobs: list[Any] | None, number: int) -> bytes:
        """The event of a piece, most of which is made already, since most events are of this kind."""
        kind, pieces, known = self._parts[-1]
        pieces.append(text)
        data = self._lead + _encode(text)
        if kind == "output_text":
            found = [_logprob(each) for each in logprobs or ()]
            known += found
            data += b',"logprobs":' + _encode(found)
        return data + b',"sequence_number":%d}\n\n' % number

    def close(self, status: str) -> Events:
        """See :class:`Output`."""
        self.closed, self._status = True, status
        ended = self._end_part()
        return [*ended, ("response.output_item.done", {"output_index": self._index, "item": self.item()})]

    def item(self) -> dict[str, Any]:
        """See :class:`Output`."""
        content = [_part(part) for part in self._parts]
        return {"id": self._id, "type": "message", "status": self._status, "role": "assistant", "content": content}

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "content_index": len(self._parts) - 1}

    def _end_part(self) -> Events:
        if not self._parts:
            return []
        kind, pieces, known = self._parts[-1]
        text, place = "".join(pieces), self._place()
        done = ("response.content_part.done", {**place, "part": _part(self._parts[-1])})
        if kind == "refusal":
            return [("response.refusal.done", {**place, "refusal": text}), done]
        return [("response.output_text.done", {**place, "text": text, "logprobs": known}), done]


class Reasoning:
    """
    What an assistant thinks, as the summary of a reasoning item.

    Args:
        index: Its place in the output.
        item_id: What its id begins with.
        keeps: Whether the client is given it to hand back, too.
    """

    def __init__(self, index: int, item_id: str, *, keeps: bool) -> None:
        self.closed = False
        self._index, self._id, self._status = index, f"{item_id}_{index}", "in_progress"
        self._pieces: list[str] = []
        self._keeps = keeps
        self._contents: list[str] = []
        self._reasonings: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._named = False

    def begun(self) -> Events:
        """See :class:`Output`."""
        return [("response.output_item.added", {"output_index": self._index, "item": self.item()})]

    def add(self, content: Any, reasoning: Any, details: Any) -> Events:
        """
        More of it, under whichever of three names; they are one text.

        Details that come alone after a text are its proof, and have it once more.
        """
        named = [piece for piece in details if isinstance(piece, dict)] if isinstance(details, list) else []
        texts = [piece.get("text") or piece.get("summary") for piece in named]
        spoken = "".join(text for text in texts if isinstance(text, str))
        for text, kept in ((content, self._contents), (reasoning, self._reasonings)):
            if isinstance(text, str) and self._keeps:
                kept.append(text)
        if self._keeps:
            self._details += named
        named_text = next((text for text in (content, reasoning) if isinstance(text, str) and text), "")
        self._named = self._named or bool(named_text)
        text = named_text if self._named else spoken
        if not text:
            return []
        events: Events = []
        if not self._pieces:
            events = [("response.reasoning_summary_part.added", {**self._place(), "part": _summary("")})]
        self._pieces.append(text)
        return [*events, ("response.reasoning_summary_text.delta", {**self._place(), "delta": text})]

    def close(self, status: str) -> Events:
        """See :class:`Output`."""
        self.closed, self._status = True, status
        text, place = "".join(self._pieces), self._place()
        ended: Events = [
            ("response.reasoning_summary_text.done", {**place, "text": text}),
            ("response.reasoning_summary_part.done", {**place, "part": _summary(text)}),
        ]
        done = ("response.output_item.done", {"output_index": self._index, "item": self.item()})
        return [*(ended if self._pieces else []), done]

    def item(self) -> dict[str, Any]:
        """See :class:`Output`."""
        summary = [_summary("".join(self._pieces))] if self._pieces and self.closed else []
        item = {"id": self._id, "type": "reasoning", "status": self._status, "summary": summary}
        if self._keeps and self.closed:
            thoughts = Thoughts(
                reasoning_content="".join(self._contents) or None,
                reasoning="".join(self._reasonings) or None,
                reasoning_details=merged(self._details) or None,
            )
            item["encrypted_content"] = packed(thoughts)
        return item

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index, "summary_index": 0}


class Call:
    """
    A call of a tool: of a function, or of a custom one.

    Args:
        index: Its place in the output.
        suffix: What its id ends in.
        piece: The first of it.
        spaces: See :func:`hpp_middleware.apis.responses.namespaces.names`.
    """

    def __init__(
        self, index: int, suffix: str, piece: dict[str, Any], spaces: Mapping[str, tuple[str, str]] | None = None
    ) -> None:
        self.closed = False
        self._custom = piece.get("type") == "custom" or ("custom" in piece and "function" not in piece)
        self._index, self._status = index, "in_progress"
        self._id = f"{'ctc' if self._custom else 'fc'}_{suffix}_{index}"
        self._call_id = _text(piece.get("id")) or f"call_{suffix}_{index}"
        self._spaces = spaces or {}
        self._name = _text(self._said(piece).get("name"))
        self._pieces: list[str] = []

    def is_another(self, piece: dict[str, Any]) -> bool:
        """Whether a piece begins another call."""
        return bool(_text(piece.get("id")) not in {"", self._call_id} and self._said(piece).get("name"))

    def begun(self) -> Events:
        """See :class:`Output`."""
        return [("response.output_item.added", {"output_index": self._index, "item": self.item()})]

    def add(self, piece: dict[str, Any]) -> Events:
        """More of its arguments."""
        said = self._said(piece)
        self._name = self._name or _text(said.get("name"))
        more = said.get("input" if self._custom else "arguments")
        if isinstance(more, dict):  # some servers give the arguments as the object that they are
            more = _encode(more).decode()
        if not isinstance(more, str) or not more:
            return []
        self._pieces.append(more)
        return [(f"{self._event}.delta", {**self._place(), "delta": more})]

    def close(self, status: str) -> Events:
        """See :class:`Output`."""
        if self.closed:
            return []
        self.closed, self._status = True, status
        text = "".join(self._pieces)
        told = {"input": text} if self._custom else {"arguments": text, "name": self._named()["name"]}
        return [
            (f"{self._event}.done", {**self._place(), **told}),
            ("response.output_item.done", {"output_index": self._index, "item": self.item()}),
        ]

    def item(self) -> dict[str, Any]:
        """See :class:`Output`."""
        kind, content = ("custom_tool_call", "input") if self._custom else ("function_call", "arguments")
        text = "".join(self._pieces) if self.closed else ""
        return {
            "id": self._id,
            "type": kind,
            "status": self._status,
            "call_id": self._call_id,
            **self._named(),
            content: text,
        }

    def _named(self) -> dict[str, str]:
        """Its name, as the client has given it."""
        found = self._spaces.get(self._name)
        return {"name": self._name} if found is None else {"name": found[1], "namespace": found[0]}

    @property
    def _event(self) -> str:
        return "response.custom_tool_call_input" if self._custom else "response.function_call_arguments"

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._id, "output_index": self._index}

    def _said(self, piece: dict[str, Any]) -> dict[str, Any]:
        said = piece.get("custom" if self._custom else "function")
        return said if isinstance(said, dict) else {}


def _part(part: tuple[str, list[str], list[Any]]) -> dict[str, Any]:
    kind, pieces, known = part
    text = "".join(pieces)
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": known}


def _summary(text: str) -> dict[str, Any]:
    return {"type": "summary_text", "text": text}


def _logprob(found: Any) -> Any:
    """A token's, with the bytes that OpenAI's schema requires here, and leaves open in a chat completion."""
    if not isinstance(found, dict) or not isinstance(found.get("token"), str):
        return found
    top = found.get("top_logprobs")
    mended = {**found, "bytes": found.get("bytes") or list(found["token"].encode())}
    mended["top_logprobs"] = [_logprob(each) for each in top] if isinstance(top, list) else []
    return mended


def _text(found: Any) -> str:
    return found if isinstance(found, str) else ""
