"""What an exchange between a client and a provider goes through, and who is told of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Raw

from hpp_middleware.core.relay_cost import Charge
from hpp_middleware.errors import GatewayError
from hpp_middleware.types.auto import Asked, Candidate, Decision
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.events import Event
from hpp_middleware.types.http import Headers, HTTPCall
from hpp_middleware.types.load import Standing
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Limits, Model

__all__ = [
    "API",
    "Capabilities",
    "Client",
    "Dialect",
    "Observer",
    "PriceList",
    "RoutingPolicy",
    "StreamReader",
    "Tokenizer",
    "Transport",
    "UpstreamResponse",
    "Watchable",
]


class Dialect(Protocol):
    """
    What a provider speaks, as pure values in, values out: a chat completion into its request, and its answer into
    OpenAI's; a call whose stream is none of server-sent events says of what media type it is. See ``docs/dialects.md``,
    and :mod:`hpp_middleware.dialects.translating`, which does the most of it.

    One may have, besides:

    - ``check(provider)``: raises :class:`~hpp_middleware.errors.ConfigurationError` where a provider's settings lack
      what it needs; asked once, when the gateway is built.
    - ``native(api, provider)``: the dialect for requests of another client API that this provider takes as they are
      (``messages``, ``responses``, ``embeddings``, ``images``); None where it has no such API.
    - ``refusal(status, headers, body)``: an error of the provider's, as bytes, in OpenAI's shape.
    - ``usage_in(body)``: what a body that is no answer says of usage, as a ``Seen``; without it, OpenAI's words are
      looked for.
    """

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        """
        The request to send.

        Args:
            request: What the client asked.
            target: Where it goes.
            cap: The output cap to add where the client gave none, in tokens; None leaves the client's.
            request_id: Ours, for the upstream's logs.
        Raises:
            RequestError: A field cannot be expressed, or changes the cost in a way that cannot be priced.
        """
        ...

    def stream(
        self,
        request: Request,
        target: Target,
        *,
        event_bytes: int,
        cap: int,
        charge: Charge | None = None,
        request_id: str = "",
    ) -> "StreamReader":
        """
        A reader for one streamed response.

        Args:
            request: What the client asked.
            target: Where it went.
            event_bytes: The largest event.
            cap: How many tokens a choice its output may not run past.
            charge: What the answer is charged, for the last usage event to say; None where it does not.
            request_id: Ours, for an answer that has no id of its own.
        """
        ...

    def answer(
        self, body: bytes, request: Request, target: Target, *, charge: Charge | None = None, request_id: str = ""
    ) -> tuple[bytes, Seen]:
        """
        A whole JSON response, as the client gets it, and what it showed.

        Args:
            body: The upstream's.
            request: What the client asked.
            target: Where it went.
            charge: What the answer is charged, for its ``usage`` to say; None where it does not.
            request_id: Ours, for an answer that has no id of its own.
        Raises:
            ProtocolError: The body is no completion.
        """
        ...


class API(Protocol):
    """
    What clients speak, as pure values in, values out: chat completions, or something that can be said by them.

    One may have, besides, ``heard(headers)``: the API as one request speaks it, by the raw headers that it came with.

    Attributes:
        name: ``chat``, ``messages``, ``responses``, ``embeddings`` or ``images``.
    """

    name: str

    def request(self, body: bytes, limits: Limits) -> Request:
        """
        A request, with the facts that the path acts on, and its fields in this API's own words.

        Raises:
            RequestError: 400; ``param`` and the message name the field.
        """
        ...

    def as_chat(self, request: Request, limits: Limits) -> Request:
        """
        The same request as a chat completion, for a provider that does not take it as it is.

        Raises:
            RequestError: 400: a field of it cannot be said there; it is named.
        """
        ...

    def spoken_by(self, dialect: Dialect, request: Request) -> Dialect:
        """
        A dialect whose answers are in this API's words.

        Args:
            dialect: The provider's, which is asked for the chat completion that :meth:`as_chat` has made.
            request: What the client asked, in this API's own words.
        """
        ...

    def error(self, error: GatewayError, request_id: str) -> bytes:
        """An error in this API's envelope."""
        ...


class StreamReader(Protocol):
    """
    A stream that is fed: bytes in, bytes for the client out, in whole events.

    One may have, besides, ``alive(kind)``: what to say, a ``comment`` or a ``chunk``, while there is nothing to say;
    where it has not, that is a comment of SSE's.
    """

    @property
    def done(self) -> bool:
        """Whether the end mark has been passed on, or made."""
        ...

    @property
    def cut(self) -> bool:
        """Whether the stream ran past its cap."""
        ...

    def feed(self, chunk: bytes) -> bytes:
        """What the client gets for these bytes."""
        ...

    def close(self) -> bytes:
        """What the client gets when the upstream has ended without an end mark."""
        ...

    def failed(self, error: GatewayError, usage: Raw | None = None) -> bytes:
        """
        The last event of a stream that broke; no end mark follows it.

        Args:
            error: What went wrong.
            usage: What it cost all the same, in OpenAI's shape, where the client is told so.
        """
        ...

    @property
    def seen(self) -> Seen:
        """What the stream has shown so far."""
        ...


class UpstreamResponse(Protocol):
    """
    The head of a response, and its body piece by piece.

    One that has an attribute ``ended`` says there, true or false, whether all of the body has been read: it need then
    not be read once more.
    """

    status: int
    headers: Mapping[str, str]

    async def read(self) -> bytes:
        """
        The next piece as it arrives; empty at the end.

        Raises:
            UpstreamError: The connection broke.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection unless the response was read to its end."""
        ...


class Transport(Protocol):
    """An HTTP client."""

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        """
        Send one request and wait for the head of its response. Redirects are not followed, cookies not kept.

        Args:
            call: What to send.
            provider: Named in errors.
            sent: Called before the first byte of the request goes out: from there on it may cost money. What it raises
                passes through, and then nothing is sent.
        Raises:
            UpstreamError: It could not be reached, or broke off.
        """
        ...

    async def aclose(self) -> None:
        """Close the pool."""
        ...


class Observer(Protocol):
    """
    Told what happened, after it happened; what it raises is logged and dropped.

    One may have, besides, ``watch(gateway)``: called when a gateway is built, with the :class:`Watchable` whose events
    it will be told. A gateway that has ended is not to be kept alive by that.
    """

    def observe(self, event: Event) -> None:
        """Take note; do not block."""
        ...


class Watchable(Protocol):
    """A gateway, as an observer may look at it: at any time, from any thread."""

    def standing(self) -> Standing:
        """What it is doing now, in all event loops of this process."""
        ...

    def called(self, model_id: str) -> str | None:
        """What to call a ``provider/model``: one of so many names, whatever clients send; None where it has none."""
        ...


class PriceList(Protocol):
    """
    Prices that are not the operator's own.

    One may have, besides, ``called(provider, model)``: what it calls a model itself, where it takes several names for
    one; None for none of its own.
    """

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        """The price of a model now, and what else the list knows of it; None where it has no price."""
        ...

    def models(self, provider: str) -> Sequence[str]:
        """The names of the provider's priced models."""
        ...


class Capabilities(Protocol):
    """What models can do, where the configuration leaves it open."""

    def find(self, provider: str, model: str) -> Model | None:
        """
        What is known of a model, its price left out; None where nothing is.

        It is asked in the event loop, for any name that clients send: be quick, and bounded. One with a
        ``load(providers)`` is told in a thread, when the gateway starts, which providers there are.

        Args:
            provider: The provider's name in the price list.
            model: The model's name at its provider.
        """
        ...


class RoutingPolicy(Protocol):
    """
    What ``hpprouter/auto`` comes to: ``Gateway(auto=...)``. See ``examples/own_policy.py``.

    Filters come first: a model that cannot answer (its context, what it takes, the key's allow-list, its price) says so
    in its candidate's ``why_not``, and must not be chosen. ``asked.before`` is what the conversation's last turn was
    given; a policy that keeps to it lets the provider's prompt cache pay. A policy that has a ``load()`` is asked to,
    when the gateway is built.
    """

    @property
    def models(self) -> Sequence[str]:
        """Every model that it may choose, as ``provider/model``; each must have a price."""
        ...

    def decide(self, asked: Asked, candidates: Sequence[Candidate]) -> Decision | None:
        """
        One of the candidates that are eligible; None where there is none for this request (400).

        It runs in the event loop before each request for ``hpprouter/auto``: be quick. What it raises is a 500.

        Args:
            asked: What is asked.
            candidates: The models, in their order, each measured against it.
        """
        ...


class Tokenizer(Protocol):
    """Counts tokens, for a tighter bound on prompts than their bytes are."""

    def count(self, text: str, model: str) -> int | None:
        """
        The tokens of a text, or more, but not fewer; None for a model that it does not know.

        It runs in the event loop before each request, on 32 KiB at most: be quick. One with a ``load(models)`` is told
        in a thread, when the gateway starts, which models it lists; one with a ``knows(model)`` is asked that before.

        Args:
            text: The JSON that is sent, with its strings' escapes undone.
            model: The model's name at its provider.
        """
        ...


class Client(Protocol):
    """
    The HTTP peer: where a response goes, and whence a departure is heard.

    Attributes:
        started: Whether the head of a response has been sent.
        patient: Whether a JSON answer is awaited, and a stream drained where that is its provider's policy, although
            the client has left, since the model is paid for.
    """

    started: bool
    patient: bool

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the response."""
        ...

    async def send(self, data: bytes, *, more: bool) -> None:
        """Send a piece of the body, the last one with ``more=False``."""
        ...

    def hear(self, left: Callable[[], None]) -> Callable[[], None] | None:
        """
        Have a departure told by a call, where that is possible under asyncio without a task that waits for it.

        Args:
            left: What to call.
        Returns:
            What ends it; None where :meth:`gone` is to be awaited instead.
        """
        ...

    async def gone(self) -> None:
        """Return when the client has left; never, if that cannot be known."""
        ...
