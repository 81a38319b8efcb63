"""
OpenAI's chat completions, which most providers and local servers speak.

The body is the client's, rebuilt from its raw members: changed are ``model``, ``stream_options.include_usage``, and the
output cap where the client gave none or gave it under a name that this provider does not know.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import relay, relay_json, reply, sse
from hpp_middleware.core.drawing import IMAGE_IN_CHAT
from hpp_middleware.core.feeding import alive, fed
from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.dialects import known, media, unpriced
from hpp_middleware.dialects.openai_responses import OpenAIResponses
from hpp_middleware.dialects.options import check_names
from hpp_middleware.dialects.unpriced import COST_FIELDS
from hpp_middleware.errors import ConfigurationError, GatewayError, RequestError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Provider
from hpp_middleware.types.streams import KeepAliveKind

__all__ = ["COST_FIELDS", "OpenAI", "Stream"]

_NULL = Raw(b"null")
_CAPS = ("max_tokens", "max_completion_tokens")

_COST_NOTHING = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
        "user",
    }
)
"""The usual fields: none of them is unpriced, nor another spelling of one that is."""

MOST_PROVIDERS = 256
"""A host that makes its providers anew for each request is not to fill the memory."""

_ONLY_USAGE = Raw(b'{"include_usage":true}')
_TOOL_TYPES = (Raw(b'"function"'), Raw(b'"custom"'))
_FUNCTION = frozenset({"cache_control", "description", "function", "input_schema", "name", "parameters", "strict"})
"""What a function consists of that says no type; another member may name a tool of the provider's."""


class _Tool(Struct):
    type: Raw = Raw()


_encode = msgspec.json.Encoder().encode
_members = msgspec.json.Decoder(dict[str, Raw])
_raws = msgspec.json.Decoder(list[Raw])
_tool = msgspec.json.Decoder(_Tool)


_Headers = tuple[tuple[str, str], ...]

TAKES = frozenset({"cache_control", "reasoning", "reasoning_content", "reasoning_details"})
"""The words of the option ``takes``: see :mod:`hpp_middleware.apis.messages.fitting`."""


class _Fixed(Struct, frozen=True):
    """What is the same in every call to one of a provider's endpoints, be it for a JSON answer or for a stream."""

    provider: Provider
    endpoint: tuple[str, _Headers]


class OpenAI:
    """
    The dialect. It remembers what it has made of each provider, and nothing else.

    Attributes:
        verbatim: A chat completion is sent as it is: what a provider does not know in it, it may refuse.
        options: The names that a provider's ``options`` may have: ``takes``, which hints of :data:`TAKES` it is sent.
    """

    verbatim = True
    options = frozenset({"takes"})

    def __init__(self) -> None:
        self._fixed: dict[tuple[int, str, bool], _Fixed] = {}
        self._native: dict[str, Any] = {}

    def check(self, provider: Provider) -> None:
        """See :class:`hpp_middleware.ports.Dialect`."""
        check_names(provider, self.options)
        for word in sorted(set(provider.options.get("takes", "").split()) - TAKES):
            raise ConfigurationError(
                f"options.takes: {word!r} is unknown; there are {', '.join(sorted(TAKES))}", param="options.takes"
            )

    def native(self, api: str, provider: Provider) -> Any:
        """See :class:`hpp_middleware.ports.Dialect`: what such servers take besides chat completions."""
        if api not in provider.native_apis:
            return None
        if api not in self._native:
            self._native[api] = self._made(api, provider)
        return self._native[api]

    def _made(self, api: str, provider: Provider) -> Any:
        if api == "messages":
            return known.find("anthropic").native(api, provider)
        if api == "responses":
            return OpenAIResponses(self.endpoint)
        found = {"embeddings": media.Embeddings, "images": media.Images}.get(api)
        return found(self._json_endpoint) if found is not None else None

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """See :class:`hpp_middleware.ports.Dialect`."""
        provider = target.provider
        more_tokens = 0
        if request.plain is not request.fields or provider.cost_fields:
            more_tokens = _looked_at(request, target)
        fields = dict(request.fields)
        fields["model"] = Raw(_encode(target.model_name))
        if cap is not None or "max_tokens" in fields or "max_completion_tokens" in fields:
            _place_cap(fields, target, cap)
        if not provider.include_usage:
            fields.pop("stream_options", None)  # it refuses the field, and reports usage all the same
        elif request.stream:
            fields["stream_options"] = _with_usage(fields.get("stream_options"))
        url, shared = self.endpoint(provider, "chat/completions", stream=request.stream)
        return HTTPCall(
            url=url,
            headers=[*shared, ("X-Request-Id", request_id)],
            body=_encode(fields),
            connect_s=provider.timeouts.connect,
            shared=shared,
            more_tokens=more_tokens,
            unsized=more_tokens > 0,
            least_cap=0 if target.price.base.output_image is None else _least_cap(request, target),
        )

    def endpoint(self, provider: Provider, path: str, *, stream: bool) -> tuple[str, _Headers]:
        """
        Where one of the provider's APIs is, and all that a call to it says in its head but what is its own.

        Args:
            provider: Whose.
            path: What follows the base URL: ``chat/completions``, ``responses`` ...
            stream: Whether a stream is asked for.
        """
        known = id(provider), path, stream
        found = self._fixed.get(known)
        if found is None:  # it keeps the provider, so that no other one can come to have its id
            headers = _headers(provider, "text/event-stream" if stream else "application/json")
            found = _Fixed(provider, (f"{provider.base_url.rstrip('/')}/{path}", headers))
            if len(self._fixed) >= MOST_PROVIDERS:
                self._fixed.clear()
            self._fixed[known] = found
        return found.endpoint

    def _json_endpoint(self, target: Target, path: str) -> tuple[str, _Headers]:
        return self.endpoint(target.provider, path, stream=False)

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # an answer has its own
    ) -> "Stream":
        """See :class:`hpp_middleware.ports.Dialect`."""
        return Stream(request, target, event_bytes=event_bytes, cap=cap, charge=charge)

    def answer(
        self,
        body: bytes,
        request: Request,
        target: Target,
        *,
        charge: Charge | None = None,
        request_id: str = "",  # noqa: ARG002  # as above
    ) -> tuple[bytes, Seen]:
        """See :class:`hpp_middleware.ports.Dialect`."""
        return relay_json.answer(body, request, target, charge=charge)


class Stream:
    """
    One streamed response: bytes in, bytes for the client out.

    Attributes:
        relay: What reads the events.
        done: Whether the end mark has been passed on.
    """

    done = False

    def __init__(
        self, request: Request, target: Target, *, event_bytes: int, cap: int, charge: Charge | None = None
    ) -> None:
        self._framer = sse.Framer(event_bytes)
        self.relay = relay.Relay(request, target, cap=cap, charge=charge)

    @property
    def cut(self) -> bool:
        """Whether the stream ran past its cap."""
        return self.relay.cut

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        return self.relay.seen

    def alive(self, kind: KeepAliveKind) -> bytes:
        """What to say while there is nothing to say."""
        return alive(kind, self.relay.stub(), finished=self.seen.finished)

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """The last event of a stream that broke."""
        return reply.error_event(error, self.relay.stub(), usage)

    def feed(self, chunk: bytes) -> bytes:
        """
        What the client gets for these bytes.

        Raises:
            ProtocolError: They are no stream of completion events; ``before`` is what the client gets all the same.
            StreamedError: They report an error; likewise.
        """
        framer, relay_, size = self._framer, self.relay, len(chunk)
        if size > framer.most or self.done or not framer.between_events:
            return self._read(chunk)
        if chunk.find(b"\n\n") == size - 2:  # one event, as nearly always
            passed = relay_.again(chunk[:-2])
            return self._read(chunk, new=True) if passed is None else passed
        out: list[bytes] = []
        *events, rest = chunk.split(b"\n\n")
        try:
            for event in events:
                passed = relay_.again(event)
                if passed is None:
                    passed = self._read(event + b"\n\n", new=True)
                    if relay_.done:  # nothing behind it is looked at
                        out.append(passed)
                        return b"".join(out)
                out.append(passed)
            if rest:
                out.append(self._read(rest))
        except (relay.ProtocolError, relay.StreamedError) as error:
            error.before = b"".join([*out, error.before])
            raise
        return out[0] if len(out) == 1 else b"".join(out)

    def _read(self, chunk: bytes, *, new: bool = False) -> bytes:
        """What the client gets for bytes of any form; new ones are known not to be an earlier event's."""
        return fed(self._framer, chunk, self._new if new else self._one, done=lambda: self.done)

    def _one(self, event: sse.Event) -> bytes:
        known = None if event.other else self.relay.again(b"data: " + (event.data or b""))
        return self._new(event) if known is None else known

    def _new(self, event: sse.Event) -> bytes:
        passed = self.relay.feed(event)
        self.done = self.relay.done
        return passed

    def close(self) -> bytes:
        """
        What the client gets when the upstream has ended.

        Raises:
            ProtocolError: It broke off.
            StreamedError: Its last words were an error.
        """
        last = self.feed(b"\n\n") if self._framer.pending and not self.done else b""
        try:
            last += self.relay.close()
        except relay.ProtocolError as error:
            error.before = last
            raise
        self.done = self.relay.done
        return last


def _headers(provider: Provider, accept: str) -> _Headers:
    """All that a call says in its head but what is its own."""
    key = provider.api_key
    return (
        ("Content-Type", "application/json"),
        ("Accept", accept),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        *provider.headers.items(),
        *(() if key is None else (("Authorization", f"Bearer {key}"),)),
    )


def _looked_at(request: Request, target: Target) -> int:
    """
    What a request says besides text and images: what has no price here is refused.

    Returns:
        The tokens that documents and sound cost above their bytes, at most.
    Raises:
        RequestError: 400; it names the field.
    """
    if request.audio_input and target.price.base.cache_read_audio is not None:
        raise RequestError(
            f"{target.id} has no price for audio input here: this API does not tell how much of it was cached.",
            code="unsupported_model",
            param="messages",
        )
    if target.provider.cost_fields or not request.fields.keys() <= _COST_NOTHING:
        unpriced.refuse(request.fields, COST_FIELDS, target.provider)
    if "tools" in request.fields and request.fields["tools"] != _NULL:
        _refuse_server_tools(_raws.decode(request.fields["tools"]))
    said = unpriced.said(request.fields, "messages", "tools", "cache_control")
    unpriced.refuse_dear_caching(said)
    return unpriced.packed_tokens(request, said["messages"], target) + unpriced.sound_tokens(
        request, "messages", target
    )


def _least_cap(request: Request, target: Target) -> int:
    """
    The output tokens that no lower cap can do with, where an image may come out: it is drawn whole.

    Raises:
        RequestError: 400: the client's own cap is lower.
    """
    least = target.model.image_output_tokens or IMAGE_IN_CHAT
    if request.cap is not None and request.cap < least:
        raise RequestError(f"max_tokens must be at least {least} where an image may come out.", param="max_tokens")
    return least


def _refuse_server_tools(tools: list[Raw]) -> None:
    for index, tool in enumerate(tools):
        if not bytes(tool).startswith(b"{"):
            continue  # no tool at all: the upstream's to judge
        kind = _tool.decode(tool).type
        if kind not in _TOOL_TYPES and (kind or not _is_function(tool)):
            raise RequestError(
                f"tools[{index}].type is not accepted: only function and custom tools run at the client; others are "
                "billed by the provider.",
                param=f"tools[{index}].type",
            )


def _is_function(tool: Raw) -> bool:
    """Whether a tool that says no type is one that the client runs."""
    names = _members.decode(tool).keys()
    return bool(names) and names <= _FUNCTION


def _place_cap(fields: dict[str, Raw], target: Target, cap: int | None) -> None:
    """Our cap under the provider's first name for it; the client's under a name that the provider knows."""
    known = target.provider.cap_fields
    for name in _CAPS:
        if name in fields and (name not in known or fields[name] == _NULL):
            value = fields.pop(name)
            if value != _NULL:
                fields.setdefault(known[0], value)
    if cap is not None:
        fields[known[0]] = Raw(str(cap).encode())


def _with_usage(options: Raw | None) -> Raw:
    if options is None or options == _NULL:
        return _ONLY_USAGE
    given = _members.decode(options)
    return Raw(_encode({**given, "include_usage": True}))
