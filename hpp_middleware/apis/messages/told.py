"""
An answer in OpenAI's shape as a message of Anthropic's: what it says, why it stopped, and what it used.

Usage is told in Anthropic's terms: ``input_tokens`` are those that were neither read from a cache nor written to one,
and ``output_tokens`` all that was generated, thoughts included.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis import google
from hpp_middleware.apis.messages import proofs
from hpp_middleware.core import relay
from hpp_middleware.core.usage import read_openai
from hpp_middleware.types.completion import Seen
from hpp_middleware.types.price import Usage

__all__ = ["Choice", "Part", "call_id", "message", "signatures", "stop", "text_in", "thought_in", "usage"]

_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_OWN = frozenset(
    {"end_turn", "max_tokens", "stop_sequence", "tool_use", "pause_turn", "refusal", "model_context_window_exceeded"}
)

INVALID = "INVALID_JSON"
"""
Where arguments stand that are no JSON object: as a member of that name, which is Anthropic's own advice
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/fine-grained-tool-streaming).
"""

_members = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


class Part(Struct, gc=False):
    """Mistral's way to tell text from thoughts, whose parts are text again."""

    type: str
    text: str | None = None
    thinking: "str | list[Part] | None" = None


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class Call(Struct, gc=False):
    """A call of a tool, or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: _Function | None = None
    extra_content: Any = None


class Delta(Struct, gc=False):
    """What a choice says, or a piece of it."""

    content: str | list[Part] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    extra_content: Any = None

    @property
    def is_text_alone(self) -> bool:
        """Whether there is nothing but ``content``."""
        thought = self.reasoning_content or self.reasoning or self.reasoning_details or self.extra_content
        return not (thought or self.refusal or self.tool_calls)


class Choice(Struct, gc=False):
    """One choice; ``stop_reason`` is vLLM's, which names the stop sequence that was met."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: str | None = None
    native_finish_reason: str | None = None
    stop_reason: str | int | None = None


class _Completion(Struct):
    choices: list[Choice]
    usage: Raw = Raw()


_completion = msgspec.json.Decoder(_Completion)


def message(body: bytes, seen: Seen, *, model: str, message_id: str) -> bytes:
    """
    A whole answer as a message.

    Args:
        body: The completion.
        seen: What it showed.
        model: The resolved id.
        message_id: The message's.
    Raises:
        ProtocolError: The body is no completion that can be understood.
    """
    try:
        found = _completion.decode(body)
    except relay.BROKEN as problem:
        raise relay.ProtocolError("the body is no completion that can be told as a message") from problem
    choice = found.choices[0] if found.choices else Choice()
    said = choice.message or Delta()
    content = [*_thoughts(said), *_texts(said), *_calls(said, message_id)]
    reason, sequence = stop(choice, called=bool(said.tool_calls), refused=bool(said.refusal))
    return _encode(
        {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage(seen, found.usage),
        }
    )


def _thoughts(said: Delta) -> list[dict[str, Any]]:
    thought, details = thought_in(said), [*(said.reasoning_details or []), *signatures(said)]
    signed = "".join(filter(None, map(proofs.signature, details)))
    blocks: list[dict[str, Any]] = []
    texts = [detail for detail in details if isinstance(detail.get("text"), str)]
    if len(texts) > 1 and all(proofs.signature(detail) for detail in texts):
        blocks.extend(
            {"type": "thinking", "thinking": text["text"], "signature": proofs.signature(text)} for text in texts
        )
    elif thought or signed:
        blocks.append({"type": "thinking", "thinking": thought, "signature": signed})
    hidden = filter(None, map(proofs.redacted, details))
    return [*blocks, *({"type": "redacted_thinking", "data": data} for data in hidden)]


def signatures(said: Delta) -> list[dict[str, Any]]:
    """Google's proofs, of the text and of each call."""
    found = [google.proof(said.extra_content)]
    found += [google.proof(call.extra_content, call.id) for call in said.tool_calls or ()]
    return [detail for detail in found if detail is not None]


def _texts(said: Delta) -> list[dict[str, Any]]:
    text = text_in(said)
    return [{"type": "text", "text": text}] if text else []


def _calls(said: Delta, message_id: str) -> list[dict[str, Any]]:
    calls = []
    for number, call in enumerate(said.tool_calls or []):
        function = call.function or _Function()
        name, arguments = function.name or "", function.arguments
        calls.append(
            {"type": "tool_use", "id": call.id or call_id(message_id, number), "name": name, "input": _input(arguments)}
        )
    return calls


def _input(arguments: str | dict[str, Any] | None) -> Any:
    if not isinstance(arguments, str):
        return arguments or {}
    if not arguments.strip():
        return {}
    try:
        _members.decode(arguments)
    except relay.BROKEN:
        return {INVALID: arguments}
    return Raw(arguments.encode())


def call_id(message_id: str, number: int) -> str:
    """An id for a call that came without one."""
    return f"toolu_{message_id.removeprefix('msg_')}{number:02d}"


def text_in(said: Delta) -> str:
    """What is said to the user, a refusal included."""
    content = said.content
    if content is None or isinstance(content, str):
        return (content or "") + (said.refusal or "")
    return "".join(part.text or "" for part in content if part.type == "text") + (said.refusal or "")


def thought_in(said: Delta) -> str:
    """What is thought: told under one of several names, or in details alone."""
    thought = said.reasoning_content or said.reasoning
    if thought:
        return thought
    if isinstance(said.content, list):
        thought = "".join(map(_thinking, said.content))
    if thought or not said.reasoning_details:
        return thought or ""
    texts = (detail.get("text") or detail.get("summary") for detail in said.reasoning_details)
    return "".join(text for text in texts if isinstance(text, str))


def _thinking(part: Part) -> str:
    if part.thinking is None or isinstance(part.thinking, str):
        return part.thinking or ""
    return "".join(inner.text or "" for inner in part.thinking)


def stop(choice: Choice, *, called: bool, refused: bool = False) -> tuple[str, str | None]:
    """
    Why an answer stopped, and the stop sequence that was met, where it is known.

    Args:
        choice: With its finish reason.
        called: Whether it has called a tool, which some providers do not give as the reason.
        refused: Whether it was a refusal.
    """
    met = choice.stop_reason if isinstance(choice.stop_reason, str) else None
    native = choice.native_finish_reason
    if native in _OWN:
        return native, met
    reason = _STOPS.get(choice.finish_reason or "", "end_turn")
    if reason == "end_turn":
        if called:
            return "tool_use", None
        if refused:
            return "refusal", None
        if met is not None and met not in _OWN:
            return "stop_sequence", met
    return reason, None


def usage(seen: Seen, told: Raw | None) -> dict[str, Any]:
    """
    What was used, in Anthropic's terms.

    Args:
        seen: What the answer showed.
        told: Its ``usage`` as a client of chat completions is told it, with the cost where it says that.
    """
    shown = _told(told)
    found = seen.usage
    if found is None or "estimated" in shown:
        reading = read_openai(told) if told else None
        found = reading.usage if reading is not None else found or Usage()
    written = found.cache_write + found.cache_write_1h
    members: dict[str, Any] = {
        "input_tokens": found.prompt - found.cache_read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": found.cache_read,
        "output_tokens": found.completion,
    }
    if written:
        members["cache_creation"] = {
            "ephemeral_5m_input_tokens": found.cache_write,
            "ephemeral_1h_input_tokens": found.cache_write_1h,
        }
    if found.reasoning:
        members["output_tokens_details"] = {"thinking_tokens": found.reasoning}
    if found.web_searches:
        members["server_tool_use"] = {"web_search_requests": found.web_searches, "web_fetch_requests": 0}
    return members | {name: shown[name] for name in ("cost", "estimated") if name in shown}


def _told(raw: Raw | None) -> dict[str, Raw]:
    if not raw:
        return {}
    try:
        return _members.decode(raw)
    except relay.BROKEN:
        return {}
