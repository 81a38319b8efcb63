"""
OpenAI's Responses API, as a provider takes it: a request of a client that speaks it is passed on as it is.

Changed are ``model``, ``store``, which is always false (nothing of a consumer's is to be kept under the operator's
key), and ``max_output_tokens`` where the client gave none. Answers are the provider's but for ``model``, the resolved
id; what is read of them is the usage, which stands in the last event whatever became of a stream, and the text. What
a server leaves out that OpenAI's SDKs rely on (llama.cpp's: numbers of events, fields that echo the request) is added.

Source: https://platform.openai.com/docs/api-reference/responses and ``responses-streaming``.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import offers, relay, responses, sse
from hpp_middleware.core.body import words
from hpp_middleware.core.feeding import Count, fed, size
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.core.settlement import End
from hpp_middleware.dialects import unpriced as refusals
from hpp_middleware.dialects.responses_gaps import Gaps
from hpp_middleware.dialects.responses_shown import Shown, in_our_words, is_null, item_bytes
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall

__all__ = ["COST_FIELDS", "OpenAIResponses", "Stream"]

COST_FIELDS: Mapping[str, str] = {
    **{name: reason for name, reason in refusals.COST_FIELDS.items() if name != "max_output_tokens"},
    **dict.fromkeys(("n_cmpl",), "a response is one"),
    **dict.fromkeys(("n_predict", "num_predict", "max_new_tokens", "max_length"), "use max_output_tokens"),
    "context_management": "compactions are billed beyond the output cap",
}
"""As of chat completions, but in this API's words."""

TOOL_TOKENS = 2_048
"""
What a provider writes into the prompt for one of its own tools that run at the client (``apply_patch``, ``shell``,
``local_shell``), at most: no byte of it is in the request. OpenAI publishes no figure; instructions of this kind that
are published (Codex's for ``apply_patch``) have about 1,000 tokens.
"""

_NO_TOKENS_OF_OUTPUT = "response.reasoning_summary_text.delta"
"""A summary is written by another model, and is not billed: its text says nothing of the output."""

_FAILED = Raw(b'"failed"')
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})

Headers = tuple[tuple[str, str], ...]
Endpoint = Callable[..., tuple[str, Headers]]
"""See :meth:`hpp_middleware.dialects.openai.OpenAI.endpoint`."""


class _Tool(Struct):
    type: str = "function"
    tools: "list[_Tool] | None" = None


class _Giving(Struct):
    tools: list[_Tool] | None = None


class _Event(Struct, gc=False):
    type: str = ""
    sequence_number: int | None = None
    output_index: int | None = None
    item_id: str | None = None
    delta: Any = None
    item: Raw = Raw()
    response: Raw = Raw()


_tools = msgspec.json.Decoder(list[_Tool])
_giving = msgspec.json.Decoder(list[_Giving])
_items = msgspec.json.Decoder(list[Raw])
_event = msgspec.json.Decoder(_Event)
_anything = msgspec.json.Decoder(dict[str, Any])
_encode = msgspec.json.Encoder().encode


class OpenAIResponses:
    """
    The dialect. See :class:`hpp_middleware.ports.Dialect`.

    Args:
        endpoint: Where a provider's ``responses`` are, and the headers of a call.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """The request, nearly as it came."""
        provider, fields = target.provider, dict(request.fields)
        refusals.refuse(fields, COST_FIELDS, provider)
        said = refusals.said(fields, "input", "tools", "cache_control")
        refusals.refuse_dear_caching(said)
        fields["model"] = Raw(_encode(target.model_name))
        fields["store"] = Raw(b"false")
        unsent = offers.left_out(fields)
        if unsent:
            fields["tools"] = offers.kept(fields, unsent)
        if cap is not None:
            fields["max_output_tokens"] = Raw(str(cap).encode())
        unsized = refusals.packed_tokens(request, said.get("input", b""), target)
        unsized += refusals.sound_tokens(request, "input", target)
        url, shared = self._endpoint(provider, "responses", stream=request.stream)
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=_encode(fields),
            connect_s=provider.timeouts.connect,
            shared=shared,
            more_tokens=_hidden_tools(fields) * TOOL_TOKENS + unsized,
            unsized=unsized > 0,
            dropped=(offers.SEARCH,) if unsent else (),
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
    ) -> "Stream":
        """A reader for a streamed Response."""
        return Stream(request, target, event_bytes=event_bytes, cap=cap, charge=charge, request_id=request_id)

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """
        A whole Response.

        Raises:
            ProtocolError: The body is none.
            StreamedError: It has failed; ``args[1]`` is what it showed.
        """
        shown = Shown(request, target, charge, request_id, Count(0))
        try:
            response = relay.members.decode(body)
            shown.take(response)
            if not is_null(response.get("error")) or response.get("status") == _FAILED:
                raise relay.StreamedError(bytes(response.get("error", relay.NULL)), shown.seen)
            for item in _items.decode(response["output"]):
                shown.text.add(item_bytes(item))
        except relay.UNREADABLE:
            raise relay.ProtocolError("the body is no Response") from None
        shown.finished = True
        return _encode(shown.response(response, End.COMPLETED)), shown.seen


class Stream:
    """One streamed Response: bytes in, bytes for the client out. See :class:`hpp_middleware.ports.StreamReader`."""

    def __init__(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> None:
        self.done = False
        self.cut = False
        self._framer = sse.Framer(event_bytes)
        self._text = Count(cap)
        self._shown = Shown(request, target, charge, request_id, self._text)
        self._gaps = Gaps()
        self._last: dict[str, Raw] = {}
        self._items: list[Raw] = []
        self._told: set[Any] = set()  # items whose text has come in pieces

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        return self._shown.seen

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """The last events of a stream that broke."""
        begun = b""
        response = {**self._shown.response(self._last), "output": self._items}
        if not self._last:
            begun = responses.event("response.created", self._gaps.number, {"response": response})
            self._gaps.number += 1
        told = in_our_words(usage) if usage is not None else None
        return begun + responses.error_events(error, response, self._gaps.number, told)

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no events of a Response; ``before`` is what the client gets all the same.
            StreamedError: They report an error; likewise.
        """
        return fed(self._framer, chunk, self._one, done=lambda: self.done)

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off: no event was the last one.
            StreamedError: Its last words were an error.
        """
        last = self.feed(b"\n\n") if self._framer.pending and not self.done else b""
        if self.done:
            return last
        error = relay.ProtocolError("the stream ended without an event that ends a Response")
        error.before = last
        raise error

    def _one(self, event: sse.Event) -> bytes:
        data = event.data
        if data is None or not data.strip():
            return event.encode()
        if data.startswith(b"[DONE]"):
            raise relay.ProtocolError("the stream ended without an event that ends a Response")
        try:
            return self._read(event, data)
        except relay.BROKEN:
            mended = bytes(relay.mended(Raw(data)))
            if mended == data:
                raise relay.ProtocolError("an event is no JSON object") from None
            return self._one(sse.Event(mended, event.other))  # a character was cut in two

    def _read(self, event: sse.Event, data: bytes) -> bytes:
        found = _event.decode(data)
        if found.type == "error":
            raise relay.StreamedError(_error_in(data))
        if found.response:
            return self._whole(found, data, event.other)
        if found.item and found.type == "response.output_item.done":
            self._items.append(found.item)
            if self._told.isdisjoint(_names_of(found)):
                self._text.add(item_bytes(found.item))
        elif found.type.endswith(".delta") and isinstance(found.delta, str) and found.type != _NO_TOKENS_OF_OUTPUT:
            self._told.update(_names_of(found))
            self._text.add(size(found.delta))
        if self._text.past:
            return self._cut()
        return self._passed(found, event, data)

    def _passed(self, found: _Event, event: sse.Event, data: bytes) -> bytes:
        """The event as it came; filled in, where its server leaves out what OpenAI's SDKs rely on."""
        if found.sequence_number is None:
            return sse.Event(_encode(self._gaps.filled(_anything.decode(data))), event.other).encode()
        self._gaps.number = found.sequence_number + 1
        return event.encode()

    def _whole(self, found: _Event, data: bytes, other: bytes) -> bytes:
        """An event with a whole Response."""
        response = self._last = relay.members.decode(found.response)
        self._shown.take(response, early=found.type not in _ENDS)
        if found.type == "response.failed":
            raise relay.StreamedError(bytes(response.get("error", relay.NULL)))
        end = End.COMPLETED if found.type in _ENDS else None
        if end is not None:
            self._shown.finished = self.done = True
            if not self._text.texts:  # a server that tells all of it at once
                self._count(response.get("output", relay.NULL))
        members: dict[str, Any] = relay.members.decode(data)
        members["response"] = self._shown.response(response, end)
        members.setdefault("sequence_number", self._gaps.number)
        self._gaps.number = (found.sequence_number or self._gaps.number) + 1
        return sse.Event(_encode(members), other).encode()

    def _count(self, output: Raw) -> None:
        """Note the text of all items; nothing, where they cannot be understood."""
        with suppress(*relay.BROKEN):
            for item in _items.decode(output):
                self._text.add(item_bytes(item))

    def _cut(self) -> bytes:
        """The end of a stream that ran past its cap."""
        self.cut = self.done = True
        response: dict[str, Any] = dict(self._shown.response(self._last, End.CUT))
        response |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
        response["output"] = self._items
        return responses.event("response.incomplete", self._gaps.number, {"response": response})


def _names_of(found: _Event) -> set[Any]:
    """What tells the item of an event: its place, or its id where the server gives none."""
    if found.output_index is not None:
        return {found.output_index}
    item_id = found.item_id
    if item_id is None and found.item:
        item_id = relay.text(relay.members.decode(found.item).get("id", relay.NULL))
    return {item_id}


def _hidden_tools(fields: Mapping[str, Raw]) -> int:
    """How many tools a provider describes to the model in words of its own, wherever they are given."""
    tools, given = fields.get("tools", relay.NULL), fields["input"]
    found = [] if is_null(tools) else _tools.decode(tools)
    if words(given).find(b'"additional_tools"') >= 0 and bytes(memoryview(given)[:1]) == b"[":
        found += [tool for item in _giving.decode(given) for tool in item.tools or ()]
    return _hidden(found)


def _hidden(tools: Iterable[_Tool]) -> int:
    return sum((tool.type not in {"function", "custom", "namespace"}) + _hidden(tool.tools or ()) for tool in tools)


def _error_in(data: bytes) -> bytes:
    """The error of an ``error`` event, which some have in a member of that name, and some at the top level."""
    members = relay.members.decode(data)
    error = members.get("error", relay.NULL)
    return data if is_null(error) else bytes(error)
