"""
Messages requests that are in the provider's words already.

They are sent as they are but for ``model``, and for ``max_tokens`` where the client gave none. What would change the
cost in a way that is not priced is refused, tools that run at the provider among it; so is whatever names content in
the operator's account, which is everybody's here. Of a client's ``anthropic-beta`` what costs nothing is passed on (see
:mod:`hpp_middleware.dialects.anthropic.betas`): the operator may set that header for all. Thoughts that are not
Anthropic's own are left out where they are sent to it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.messages import FIELDS
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import unpriced
from hpp_middleware.dialects.anthropic import betas, errors, head, passing
from hpp_middleware.dialects.anthropic.proven import proven
from hpp_middleware.dialects.anthropic.request import CONTEXT, FORMAT_TOKENS, TOOL_TOKENS
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider

__all__ = ["Messages"]

_BETA = "anthropic-beta"

_SAID = FIELDS | {"context_management", "diagnostics"}

_VALUES: dict[str, frozenset[bytes]] = {
    "service_tier": frozenset({b'"auto"', b'"standard_only"', b'"standard"'}),
    "speed": frozenset({b'"standard"'}),
    "inference_geo": frozenset({b'"global"'}),
}
"""Members of which some values have another price."""

_COST_FIELDS = {name: reason for name, reason in unpriced.COST_FIELDS.items() if name not in _VALUES}

_REASONS = {
    "container": "what runs there is billed by the hour",
    "mcp_servers": "tools that run at the provider are not priced",
    "compaction": "it is billed besides",
    "user_profile_id": "it is the operator's to choose who is billed",
    "workspace_id": "it is the operator's to choose who is billed",
    "max_tokens_to_sample": "use max_tokens",
    "n": "it multiplies the output",
    "n_predict": "use max_tokens",
    "best_of": "it multiplies the output",
}

_CLIENT_TOOLS = ("bash_", "text_editor_", "memory_")
"""Tools that Anthropic defines and the client runs; its instructions for them take 700 tokens at most."""

_SPOKEN = ("messages", "tools", "system", "cache_control")
"""Members in which something may be said that has another price."""

_KNOWN = frozenset({"text", "image", "document", "tool_result", "thinking", "redacted_thinking", "search_result"})
"""Blocks in which nothing else is hidden than is looked for."""

_DEFINED = "tool_definition"
"""A tool that a message brings along (``tool_addition``), and that may be one that runs at the provider."""

_LOOKED_FOR = tuple(f'"{kind}"'.encode() for kind in ("document", "file", "container_upload", _DEFINED))

_UNREADABLE = (msgspec.DecodeError, RecursionError)
"""What a value raises that is no such thing, or too deep: where a name is given twice, only the last was looked at."""

_NULL = Raw(b"null")
_encode = msgspec.json.Encoder().encode
_items = msgspec.json.Decoder(list[Raw])


class _Thinking(Struct):
    budget_tokens: int | None = None


class _Tool(Struct):
    type: Any = None


class _Format(Struct):
    format: Raw = _NULL


class _Message(Struct):
    content: Raw = _NULL


class _Source(Struct):
    type: Any = None


class _Block(Struct):
    type: Any = None
    source: Raw = _NULL
    content: Raw = _NULL


_thinking = msgspec.json.Decoder(_Thinking)
_tool = msgspec.json.Decoder(_Tool)
_output = msgspec.json.Decoder(_Format)
_messages = msgspec.json.Decoder(list[_Message])
_source = msgspec.json.Decoder(_Source)
_block = msgspec.json.Decoder(_Block)


class Messages:
    """
    See :class:`hpp_middleware.ports.Dialect`.

    It serves providers of the dialect ``anthropic``, and those of the dialect ``openai`` that take Messages requests
    beside chat completions (``native_apis``), as llama.cpp, vLLM and Ollama do: at ``{base_url}/messages``, with a
    Bearer key.
    """

    def __init__(self) -> None:
        self._heads = head.Heads()

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        fields = dict(request.fields)
        at_anthropic = target.provider.dialect == "anthropic"
        asks, dropped = betas.asked(fields, at_anthropic=at_anthropic)
        said = unpriced.said(fields, *_SPOKEN)
        more = _more_tokens(fields, said, target)
        if at_anthropic:
            dropped = (*dropped, *_leave_out_thoughts(fields))
            _check_budget(fields, request.cap)
        fields["model"] = Raw(_encode(target.model_name))
        if request.cap is None and cap is not None:
            fields["max_tokens"] = Raw(str(cap).encode())
        url, shared = self._heads.of(target.provider, stream=request.stream)
        return HTTPCall(
            url=url,
            headers=[*shared, *([(_BETA, ",".join(asks))] if asks else []), ("X-Request-Id", request_id)],
            body=_encode(fields),
            connect_s=target.provider.timeouts.connect,
            shared=shared,
            more_tokens=more,
            long_cache=any(text.find(b'"1h"') >= 0 for text in said.values()),
            dropped=dropped,
        )

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> passing.Stream:
        """See :class:`hpp_middleware.ports.Dialect`."""
        del request  # one choice, and nothing of it that changes the reading
        return passing.Stream(target, event_bytes=event_bytes, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self,
        body: bytes,
        request: Request,  # noqa: ARG002  # as above
        target: Target,
        *,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # an answer has its own
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return passing.answer(body, target, charge=charge)

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> bytes:  # noqa: ARG002  # its type says it
        """See :class:`hpp_middleware.ports.Dialect`."""
        return errors.refusal(body)

    def usage_in(self, body: bytes) -> Seen:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return passing.usage_in(body)


def _leave_out_thoughts(fields: dict[str, Raw]) -> tuple[str, ...]:
    """Take thoughts that are not Anthropic's out of the messages, and say so."""
    given = fields.get("messages", _NULL)
    try:
        fields["messages"] = proven(given)
    except _UNREADABLE as error:
        raise RequestError(f"messages is not valid: {error}.", param="messages") from None
    return () if fields["messages"] is given else ("messages.thinking",)


def _check_budget(fields: dict[str, Raw], cap: int | None) -> None:
    """
    A budget of thought stays below the output cap, as the API itself has it, but where thinking is interleaved: then a
    budget may be for several answers, and what one of them can come to is in no field.
    """
    given = fields.get("thinking", _NULL)
    try:
        budget = _thinking.decode(given).budget_tokens if given != _NULL else None
    except msgspec.DecodeError as error:
        raise RequestError(f"thinking is not valid: {error}.", param="thinking") from None
    if budget is not None and cap is not None and budget >= cap:
        raise RequestError("thinking.budget_tokens must be less than max_tokens.", param="thinking.budget_tokens")


def _more_tokens(fields: dict[str, Raw], said: Mapping[str, bytes], target: Target) -> int:
    """
    What the API adds to the prompt by itself, in tokens, at most.

    Args:
        fields: The request's.
        said: The words of those that may have much to say.
        target: Where it goes.
    Raises:
        RequestError: 400: something of the request cannot be held for.
    """
    _refuse_unpriced(fields, target.provider)
    unpriced.refuse(fields, _COST_FIELDS, target.provider)
    more, name = 0, "tools"
    try:
        if _has(fields, "tools"):
            more += _tools(fields["tools"])
        name = "output_config"
        if _has(fields, "output_config") and _output.decode(fields["output_config"]).format != _NULL:
            more += FORMAT_TOKENS
        if _has(fields, "output_format"):
            more += FORMAT_TOKENS
        name = "messages"
        raw, text = fields.get("messages", _NULL), said.get("messages", b"")
        if any(text.find(word) >= 0 for word in _LOOKED_FOR):
            kinds = [kind for message in _messages.decode(raw) for kind in _kinds(message.content, "messages")]
            if _DEFINED in kinds:
                raise RequestError("messages must not define tools: give them in tools.", param="messages")
            more += (target.model.context or CONTEXT) if "document" in kinds else 0
    except _UNREADABLE as error:
        raise RequestError(f"{name} is not valid: {error}.", param=name) from None
    return more


def _refuse_unpriced(fields: dict[str, Raw], provider: Provider) -> None:
    strictly = provider.dialect == "anthropic"
    for name, raw in fields.items():
        plain = name.casefold()  # some servers match keys without case
        if name in _SAID or name in provider.allow_fields or raw == _NULL:
            continue
        reason = _REASONS.get(plain)
        values = _VALUES.get(plain)
        if values is not None:
            if name == plain and bytes(raw) in values:
                continue
            reason = "its price is another one"
        if plain in _SAID:
            reason = f"it must be written {plain}"
        if reason is None and strictly:
            reason = "it is not known here, and neither is its cost"
        if reason is not None:
            raise RequestError(f"{name} is not accepted: {reason}.", param=name)


def _tools(raw: Raw) -> int:
    more = TOOL_TOKENS
    tools = _items.decode(raw)
    for number, tool in enumerate(tools):
        kind = _tool.decode(tool).type
        if kind is None or kind == "custom":
            continue
        if not (isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS)):
            where = f"tools[{number}].type"
            raise RequestError(
                f"{where} is not accepted: only tools that run at the client are priced; others are billed by the "
                "provider.",
                param=where,
            )
        more += TOOL_TOKENS
    return more if tools else 0


def _kinds(content: Raw, where: str) -> Iterator[str]:
    """
    The kinds of a message's blocks, those inside results of tools too.

    Raises:
        RequestError: 400: one names a file in the operator's account.
    """
    if bytes(memoryview(content)[:1]) != b"[":
        return
    for raw in _items.decode(content):
        block = _block.decode(raw)
        if block.type == "container_upload" or (block.source != _NULL and _is_file(block.source)):
            raise RequestError(
                f"{where} must carry their data inline: files in the provider's keeping are everybody's here.",
                param=where,
            )
        if isinstance(block.type, str):
            yield block.type
            if block.type not in _KNOWN and not block.type.endswith("_use"):
                yield from _types(msgspec.json.decode(raw))
        if block.type in {"tool_result", "document"}:
            yield from _kinds(block.content if block.type == "tool_result" else _inner(block.source), where)


def _types(found: Any) -> Iterator[str]:
    """What is in a block of a kind that is not known here: every ``type`` in it, however deep."""
    if isinstance(found, dict):
        if isinstance(found.get("type"), str):
            yield found["type"]
        for inner in found.values():
            yield from _types(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from _types(inner)


def _inner(source: Raw) -> Raw:
    """The blocks that a document is made of, where it is."""
    return _block.decode(source).content if bytes(memoryview(source)[:1]) == b"{" else _NULL


def _is_file(source: Raw) -> bool:
    return bytes(memoryview(source)[:1]) == b"{" and _source.decode(source).type == "file"


def _has(fields: dict[str, Raw], name: str) -> bool:
    return fields.get(name, _NULL) != _NULL
