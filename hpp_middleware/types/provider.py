"""What an operator configures: plain frozen dataclasses; wrong values are refused when built."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.price import Price
from hpp_middleware.types.several import check_several
from hpp_middleware.types.upstreams import Choice, Upstream

__all__ = [
    "MOST_RETRIES",
    "Declared",
    "Limits",
    "MissingUsage",
    "Model",
    "OnDisconnect",
    "OrphanPolicy",
    "Provider",
    "Timeouts",
    "TransportKind",
]

MissingUsage = Literal["estimate", "hold", "free"]
OrphanPolicy = Literal["estimate", "hold", "free"]
OnDisconnect = Literal["cancel", "drain"]
TransportKind = Literal["auto", "native", "aiohttp", "httpx"]
MOST_RETRIES = 10
"""However patient an operator is: each may be a call that a provider bills."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Deadlines of one exchange with an upstream, in seconds.

    Attributes:
        connect: To an open connection.
        first_byte: From the first byte sent to a stream's first event, or to the first byte of another answer.
        idle: How long the provider may be silent after that; each byte is a sign of life, that of a comment too.
        total: The whole exchange.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 120.0
    total: float = 600.0

    def __post_init__(self) -> None:
        for name in ("connect", "first_byte", "idle", "total"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"timeouts.{name} must be above 0 seconds", param=f"timeouts.{name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """
    A configured upstream; its name is the first part of a model id.

    Attributes:
        base_url: Up to what precedes ``/chat/completions``: ``https://api.openai.com/v1``.
        api_key: The operator's key, sent as a Bearer token; None where the upstream needs none.
        dialect: The API it speaks.
        options: What its dialect needs besides: see there, and ``docs/dialects.md``.
        native_apis: Client APIs that it takes as they are, where its dialect knows how: ``responses``, ``messages``,
            ``embeddings``, ``images``; what it does not take is translated, or refused.
        models: Globs over the provider's own model names: which of the priced models are let in. ``[models]`` entries
            always are.
        headers: Extra request headers, sent as they are.
        timeouts: Deadlines.
        cap_fields: The output caps it knows, the one that ours is sent in first.
        include_usage: Whether it knows ``stream_options.include_usage``.
        bytes_per_token: The prompt's upper bound is its bytes over this; 1 is strict, 2 the default.
        cost_fields: Request fields that change the cost here, and are refused.
        allow_fields: Request fields that are let in although they change the cost, or may: no hold covers what they do.
        reasoning: Globs of model names whose reasoning is hidden: their relayed text says little of their cost.
        prices: The provider's id in the price list, where it is not its name.
        on_disconnect: What becomes of a stream whose client has left: ``cancel`` closes it, for a provider that then
            stops, and bills no more; ``drain`` reads it on to the usage, for one that bills the whole of it either way.
        drain_s: How long a stream is drained.
        drain_bytes: How much of a stream is drained.
        transport: The HTTP client: ``native``, ``aiohttp`` or ``httpx``; ``auto`` takes the first of them that is
            installed and can do what is set.
        proxy: The URL of an HTTP proxy; none is ever taken from the environment.
        ca_file: A file of certificates to trust instead of the usual authorities.
        connections: How many connections a worker has to it at most.
        breaker: When it is left alone because it fails; None for never.
        upstreams: Several keys, regions or deployments that serve its models; none where it is one itself.
        choose: Which of them is asked first.
        parts: Each of them as a provider of its own, by its name; made here.
        retries: How often it is asked once more, where it fails in a way that passes, before any other is. A stream's
            head is then sent with its first event, or its first sign of life.
    """

    base_url: str
    api_key: str | None = field(default=None, repr=False)
    dialect: str = "openai"
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    native_apis: frozenset[str] = frozenset({"embeddings", "images"})
    models: tuple[str, ...] = ("*",)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeouts: Timeouts = field(default_factory=Timeouts)
    cap_fields: tuple[str, ...] = ("max_tokens", "max_completion_tokens")
    include_usage: bool = True
    bytes_per_token: int = 2
    cost_fields: frozenset[str] = frozenset()
    allow_fields: frozenset[str] = frozenset()
    reasoning: tuple[str, ...] = ()
    prices: str | None = None
    on_disconnect: OnDisconnect = "cancel"
    drain_s: float = 60.0
    drain_bytes: int = 8 * 1024 * 1024
    transport: TransportKind = "auto"
    proxy: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    connections: int = 1000
    breaker: Breaker | None = field(default_factory=Breaker)
    retries: int = 1
    upstreams: tuple[Upstream, ...] = ()
    choose: Choice = "weighted"
    parts: Mapping[str, "Provider"] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._check_kinds()
        object.__setattr__(self, "headers", dict(self.headers))  # what a call says is made of them once
        object.__setattr__(self, "options", dict(self.options))
        object.__setattr__(self, "native_apis", frozenset(self.native_apis))
        object.__setattr__(self, "allow_fields", frozenset(self.allow_fields))
        self._check_transport()
        if self.on_disconnect not in {"cancel", "drain"}:
            raise ConfigurationError("on_disconnect must be cancel or drain", param="on_disconnect")
        if not self.drain_s > 0:
            raise ConfigurationError("drain_s must be above 0 seconds", param="drain_s")
        if self.drain_bytes < 1:
            raise ConfigurationError("drain_bytes must be at least 1", param="drain_bytes")
        self._check_url()
        if self.bytes_per_token < 1:
            raise ConfigurationError("bytes_per_token must be at least 1", param="bytes_per_token")
        if not self.cap_fields:
            raise ConfigurationError("cap_fields must name at least one field", param="cap_fields")
        if self.api_key is not None and not (self.api_key and self.api_key.isascii() and self.api_key.isprintable()):
            raise ConfigurationError("api_key must be printable ASCII and not empty", param="api_key")
        for name, value in self.headers.items():
            if not name.replace("-", "").isalnum() or not f"{name}{value}".isascii() or not value.isprintable():
                raise ConfigurationError(f"headers.{name!r} is no HTTP header", param="headers")
        object.__setattr__(self, "parts", self._parts())

    def _check_url(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigurationError("base_url must begin with http:// or https://", param="base_url")
        if self.base_url.rstrip("/").endswith("/chat/completions"):
            raise ConfigurationError("base_url must end before /chat/completions, which is added", param="base_url")

    def _check_kinds(self) -> None:
        check_several(self, "models", "cap_fields", "reasoning", "native_apis", "cost_fields", "allow_fields")
        kinds = {"base_url": (str, "a str"), "timeouts": (Timeouts, "Timeouts(...)")}
        if self.breaker is not None:
            kinds["breaker"] = (Breaker, "Breaker(...), or None for none")
        for name, (kind, words) in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise ConfigurationError(f"{name} must be {words}", param=name)

    def _parts(self) -> dict[str, "Provider"]:
        if self.choose not in {"weighted", "least_busy", "latency", "cheapest"}:
            raise ConfigurationError("choose must be weighted, least_busy, latency or cheapest", param="choose")
        found: dict[str, Provider] = {}
        for number, each in enumerate(self.upstreams):
            where = f"upstreams[{number}]"
            if each.name in found:
                raise ConfigurationError(f"{where}.name is another one's, too", param=f"{where}.name")
            try:
                found[each.name] = replace(
                    self,
                    base_url=each.base_url or self.base_url,
                    api_key=self.api_key if each.api_key is None else each.api_key,
                    headers={**self.headers, **each.headers},
                    options={**self.options, **each.options},
                    upstreams=(),
                )
            except ConfigurationError as error:
                raise ConfigurationError(f"{where}.{error.message}", param=f"{where}.{error.param}") from error
        return found

    def places(self, where: str) -> Iterator[tuple[str, "Provider"]]:
        """
        Whom its calls go to: itself, or each of its upstreams.

        Args:
            where: What to call it in an error.
        """
        if not self.upstreams:
            yield where, self
        for number, each in enumerate(self.upstreams):
            yield f"{where}.upstreams[{number}]", self.parts[each.name]

    def _check_transport(self) -> None:
        if self.transport not in {"auto", "native", "aiohttp", "httpx"}:
            raise ConfigurationError("transport must be auto, native, aiohttp or httpx", param="transport")
        if self.proxy is not None and not self.proxy.startswith("http://"):
            raise ConfigurationError("proxy must begin with http://", param="proxy")
        if self.proxy is not None and self.transport == "native":
            raise ConfigurationError("transport cannot be native with a proxy: set aiohttp or httpx", param="transport")
        if not 0 <= self.retries <= MOST_RETRIES:
            raise ConfigurationError(f"retries must be from 0 to {MOST_RETRIES}", param="retries")
        if self.connections < 1:
            raise ConfigurationError("connections must be at least 1", param="connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """
    What is known of one model; None where it is not.

    Attributes:
        price: What it costs; None leaves it to the price list.
        default_cap: The output cap sent where the client gave none, in tokens.
        image_tokens: The most tokens one image can cost.
        image_output_tokens: The most tokens that one image can cost which it draws, whatever its size and quality.
        reasoning: Whether its reasoning is hidden from the stream.
        created: Seconds since the epoch, for the models list.
        tags: Words of the operator's own (``eu``, ``no-training``) that a data policy may require of a model which
            ``hpprouter/auto`` chooses.
    """

    price: Price | None = None
    name: str | None = None
    description: str | None = None
    context: int | None = None
    max_output: int | None = None
    default_cap: int | None = None
    image_tokens: int | None = None
    image_output_tokens: int | None = None
    tool: bool | None = None
    structured: bool | None = None
    reasoning: bool | None = None
    knowledge_cutoff: str | None = None
    input_modalities: tuple[str, ...] | None = None
    output_modalities: tuple[str, ...] | None = None
    created: int = 0
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    Bounds on what one request may ask of us.

    Attributes:
        body_bytes: The largest request body (413).
        body_s: How long it may take to arrive (408).
        depth: The deepest JSON nesting (400).
        values: The most JSON values, keys counted too (400).
        n: The most choices.
        messages: The most messages.
        tools: The most tools.
        inputs: The most texts to be embedded at once.
        max_tokens: The largest output cap a client may name.
        default_cap: The output cap sent where neither client nor model names one, in tokens.
        cap_floor: The least output, in tokens, that a lowered grant of a cap of ours still has.
        clamp: Whether the output cap, the client's own too, is lowered to what the balance affords, where the hold does
            not fit.
        clamp_floor: The least output, in tokens, that it is lowered to; a request is refused sooner than have less.
        response_bytes: The largest JSON response of an upstream.
        media_bytes: The largest one that has images or embeddings.
        event_bytes: The largest SSE event of an upstream.
        send_s: How long a client may take to take a piece of its answer; one that takes longer has left.
        usage_wait_s: After the finish reason, how long to read on to the usage for a client that has left.
        json_wait_s: How long a JSON response is awaited for a client that has left.
        drain_slots: How many streams a worker drains at once, of clients that have left; one more is closed.
        consumer_drain_slots: How many of them may be one consumer's, by the account that pays.
        read_wait_s: How long a read of usage or quota waits for the consumer's settlements in flight.
    """

    body_bytes: int = 10 * 1024 * 1024
    body_s: float = 30.0
    depth: int = 64
    values: int = 200_000
    n: int = 16
    messages: int = 2048
    tools: int = 256
    inputs: int = 2048
    max_tokens: int = 10_000_000
    default_cap: int = 16_384
    cap_floor: int = 256
    clamp: bool = False
    clamp_floor: int = 256
    response_bytes: int = 32 * 1024 * 1024
    media_bytes: int = 128 * 1024 * 1024
    event_bytes: int = 1024 * 1024
    send_s: float = 60.0
    usage_wait_s: float = 5.0
    json_wait_s: float = 60.0
    drain_slots: int = 64
    consumer_drain_slots: int = 4
    read_wait_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """
    A consumer that the configuration declares.

    Attributes:
        quota: Nano-dollars; None leaves the account as it is. A changed figure moves the quota by the change.
        keys: The secrets it may show.
        models: Model ids or globs its keys may use; None allows every model.
        requires: Tags that a model must have which ``hpprouter/auto`` chooses for it.
        parent: The group that it is in, in whose account its holds must fit too.
        clamp_floor: The least output, in tokens, that its requests are clamped to; None leaves it to the bounds, and 0
            clamps none of them.
    """

    quota: int | None = None
    keys: tuple[str, ...] = field(default=(), repr=False)
    models: tuple[str, ...] | None = None
    requires: tuple[str, ...] = ()
    parent: str | None = None
    clamp_floor: int | None = None

    def __post_init__(self) -> None:
        quota: object = self.quota
        if quota is not None and type(quota) is not int:
            raise ConfigurationError("quota must be an int of nano-dollars: 5_000_000_000 is $5", param="quota")
        check_several(self, "keys", "models", "requires")
