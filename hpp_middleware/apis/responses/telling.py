"""
Chunks of a chat completion as the events of a Response, and what they come to as its output.

Thoughts become a reasoning item with a summary, since that is where clients of this API look for them (OpenAI tells no
others); text and refusals a message; calls items of their own. An item is open until one of another kind begins, calls
until the end, since their pieces may come in turns.

Source: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw, Struct

from hpp_middleware.apis import google
from hpp_middleware.apis.responses.outputs import Call, Message, Output, Reasoning
from hpp_middleware.core import responses
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.price import Usage

__all__ = ["Choice", "Chunk", "Delta", "Telling"]


class Delta(Struct, gc=False):
    """A piece of a message, or a whole one; what a server gives in another form than OpenAI's may be anything."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: Any = None
    tool_calls: Any = None
    extra_content: Any = None


class Choice(Struct, gc=False):
    """A choice; there is one."""

    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    logprobs: Any = None


class Chunk(Struct, gc=False):
    """A chunk of a chat completion, or a whole one."""

    choices: list[Choice] = []
    usage: Raw = Raw()


_NULL = Raw(b"null")

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of an answer that is not whole, and this API's words for them."""


class Telling:
    """
    One answer.

    Args:
        response: The Response that was asked for; see :func:`hpp_middleware.core.responses.asked`.
        suffix: What the ids of its items end in.
        logprobs: Whether the client asked for them.
        thoughts: Whether it asked for thoughts that it can hand back.
        spaces: See :func:`hpp_middleware.apis.responses.namespaces.names`.
    """

    def __init__(
        self,
        response: dict[str, Raw],
        suffix: str,
        *,
        logprobs: bool,
        thoughts: bool,
        spaces: Mapping[str, tuple[str, str]],
    ) -> None:
        self._response: dict[str, Any] = dict(response)
        self._suffix = suffix
        self._logprobs = logprobs
        self._thoughts = thoughts
        self._spaces = spaces
        self._number = 0
        self._outputs: list[Output] = []
        self._open: Message | Reasoning | None = None
        self._calls: dict[int, Call] = {}
        self._finish: Any = None
        self._usage: Raw | None = None

    def chunk(self, chunk: Chunk) -> bytes:
        """The events of a chunk."""
        out = [] if self._number else [self._begun()]
        if chunk.usage and chunk.usage != _NULL:
            self._usage = chunk.usage
        for choice in chunk.choices:
            if choice.delta is not None:
                self._delta(choice.delta, choice.logprobs, out)
            if choice.finish_reason is not None:
                self._finish = choice.finish_reason
        return b"".join(out)

    def end(self, seen: Usage | None) -> bytes:
        """
        The last events.

        Args:
            seen: The usage, as it was read of the provider's answer.
        """
        out = [] if self._number else [self._begun()]
        response = self._whole(seen, out)
        out.append(self._event(f"response.{response['status']}", {"response": response}))
        return b"".join(out)

    def whole(self, seen: Usage | None) -> dict[str, Any]:
        """The Response, for an answer that is no stream."""
        return self._whole(seen, [])

    def failed(self, error: GatewayError, usage: Raw | None) -> bytes:
        """The last events of a stream that broke, with what had been told whole before."""
        begun = b"" if self._number else self._begun()
        response = {**self._response, "output": [output.item() for output in self._outputs if output.closed]}
        return begun + responses.error_events(error, response, self._number, usage)

    def _whole(self, seen: Usage | None, out: list[bytes]) -> dict[str, Any]:
        reason = _INCOMPLETE.get(self._finish) if isinstance(self._finish, str) else None
        status = "completed" if reason is None else "incomplete"
        self._close(out, status)
        for call in self._calls.values():
            self._tell(out, call.close(status))
        return {
            **self._response,
            "status": status,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": [output.item() for output in self._outputs],
            "usage": responses.usage_of(self._usage, seen),
        }

    def _begun(self) -> bytes:
        told = {"response": self._response}
        return self._event("response.created", told) + self._event("response.in_progress", told)

    def _event(self, kind: str, fields: dict[str, Any]) -> bytes:
        number = self._number
        self._number += 1
        return responses.event(kind, number, fields)

    def _tell(self, out: list[bytes], events: list[tuple[str, dict[str, Any]]]) -> None:
        out += [self._event(kind, fields) for kind, fields in events]

    def _delta(self, delta: Delta, logprobs: Any, out: list[bytes]) -> None:
        if delta.reasoning_content or delta.reasoning or delta.reasoning_details:
            self._think(delta, out)
        if delta.content:
            thought, said = _in_parts(delta.content)
            if thought:
                self._think(Delta(reasoning=thought), out)
            if said:
                self._say("output_text", said, logprobs, out)
        if isinstance(delta.refusal, str) and delta.refusal:
            self._say("refusal", delta.refusal, None, out)
        if delta.extra_content:
            self._prove(google.proof(delta.extra_content), out)
        if isinstance(delta.tool_calls, list):
            for place, piece in enumerate(delta.tool_calls):
                if isinstance(piece, dict):
                    self._prove(google.proof(piece.get("extra_content"), piece.get("id")), out)
                    self._call(piece, place, out)

    def _think(self, delta: Delta, out: list[bytes]) -> None:
        if not isinstance(self._open, Reasoning):
            self._close(out)
            self._open = Reasoning(len(self._outputs), f"rs_{self._suffix}", keeps=self._thoughts)
            self._begin(self._open, out)
        kept = (delta.reasoning_content, delta.reasoning, delta.reasoning_details)
        self._tell(out, self._open.add(*kept))

    def _prove(self, proof: dict[str, Any] | None, out: list[bytes]) -> None:
        """What proves the thoughts behind a call or a text, for a client that hands thoughts back."""
        if proof is not None and self._thoughts:
            self._think(Delta(reasoning_details=[proof]), out)

    def _say(self, kind: str, text: str, logprobs: Any, out: list[bytes]) -> None:
        if not isinstance(self._open, Message):
            self._close(out)
            self._open = Message(len(self._outputs), f"msg_{self._suffix}")
            self._begin(self._open, out)
        given = logprobs.get("content") if self._logprobs and isinstance(logprobs, dict) else None
        self._tell(out, self._open.begin_part(kind))
        number = self._number
        self._number += 1
        out.append(self._open.add(text, given if isinstance(given, list) else None, number))

    def _call(self, piece: dict[str, Any], place: int, out: list[bytes]) -> None:
        index = piece.get("index")
        index = index if type(index) is int else place
        call = self._calls.get(index)
        if call is None or call.is_another(piece):
            self._close(out)
            if call is not None:  # a server that has one index for all of its calls
                self._tell(out, call.close("completed"))
                self._calls[-len(self._outputs) - 1] = call
            call = self._calls[index] = Call(len(self._outputs), self._suffix, piece, self._spaces)
            self._begin(call, out)
        self._tell(out, call.add(piece))

    def _begin(self, output: Output, out: list[bytes]) -> None:
        self._outputs.append(output)
        self._tell(out, output.begun())

    def _close(self, out: list[bytes], status: str = "completed") -> None:
        if self._open is not None:
            self._tell(out, self._open.close(status))
            self._open = None


def _in_parts(content: Any) -> tuple[str, str]:
    """Thoughts and text of a content: a string, or Mistral's parts (``text``, and ``thinking`` with parts in it)."""
    if isinstance(content, str):
        return "", content
    thought = said = ""
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "thinking":
            thought += _in_parts(part.get("thinking"))[1]
        elif kind == "text" and isinstance(part.get("text"), str):
            said += part["text"]
    return thought, said
