"""
The file's shape: a model a section, a field a key. Unknown keys are refused, and no value is bent into another type.

What a section comes to stands in :mod:`hpp_middleware.config.settings`.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from hpp_middleware.config.ceilings import AccountSection, BudgetSection
from hpp_middleware.config.limits import LimitSections, LimitStoreSection
from hpp_middleware.config.metrics import MetricsSection
from hpp_middleware.config.section import Section
from hpp_middleware.config.streams import StreamsSection
from hpp_middleware.config.values import (
    URL,
    Count,
    Dialect,
    Factor,
    HeaderName,
    Key,
    Location,
    Name,
    Option,
    Origin,
    Quota,
    Rate,
    Seconds,
    Secret,
    Word,
    or_off,
)
from hpp_middleware.types.http import CostIn
from hpp_middleware.types.provider import MOST_RETRIES, MissingUsage, OnDisconnect, OrphanPolicy, TransportKind
from hpp_middleware.types.upstreams import Choice

__all__ = ["File", "ModelSection", "ProviderSection", "Section"]


class StoreSection(Section):
    """``[store]``: where accounts, keys and the ledger are kept."""

    url: Location = Field(default="sqlite:///hpp.db", repr=False)


class CredentialsSection(Section):
    """``[credentials]``: where keys are kept, if not in the store."""

    url: Location | None = Field(default=None, repr=False)


class LedgerSection(Section):
    """``[ledger]``: where a Redis store's lines are moved, and how they are sealed, so that altered ones are found."""

    url: Location | None = Field(default=None, repr=False)
    seal_key: str | None = Field(default=None, repr=False)
    previous_seal_keys: list[str] = Field(default=[], repr=False)
    heads: Word = "heads.jsonl"
    seal_every_s: Seconds = 60.0


class JournalSection(Section):
    """``[journal]``: where settlements are kept that the store did not take."""

    dir: Word | None = None
    slots: int = Field(default=1024, ge=1, le=1024 * 1024)


class TimeoutsSection(Section):
    """``timeouts`` of a provider, in seconds."""

    connect: Seconds | None = None
    first_byte: Seconds | None = None
    idle: Seconds | None = None
    total: Seconds | None = None


class BreakerSection(Section):
    """``breaker`` of a provider: see :class:`hpp_middleware.types.health.Breaker`."""

    failures: Count | None = None
    window: Seconds | None = None
    cooldown: Seconds | None = None
    rate: float | None = None
    minimum: Count | None = None
    longest: Seconds | None = None
    probes: Count | None = None
    rest: Seconds | None = None


class UpstreamSection(Section):
    """``[[providers.NAME.upstreams]]``: see :class:`hpp_middleware.types.upstreams.Upstream`."""

    name: Word
    base_url: URL | None = None
    api_key: Secret | None = Field(default=None, repr=False)
    headers: dict[HeaderName, Secret] = Field(default={}, repr=False)
    options: dict[Word, Option] = Field(default={}, repr=False)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    price_factor: Factor = Decimal(1)


class ProviderSection(Section):
    """``[providers.NAME]``: an upstream."""

    dialect: Dialect = "openai"
    preset: Word | None = None
    base_url: URL | None = None
    api_key: Secret | None = Field(default=None, repr=False)
    models: list[Word] = Field(default=["*"])
    headers: dict[HeaderName, Secret] = Field(default={}, repr=False)
    options: dict[Word, Option] = Field(default={}, repr=False)
    native_apis: list[Word] | None = None
    timeouts: TimeoutsSection = TimeoutsSection()
    breaker: Annotated[BreakerSection | None, BeforeValidator(or_off)] = BreakerSection()
    choose: Choice = "weighted"
    upstreams: list[UpstreamSection] = Field(default=[])
    bytes_per_token: Count | None = None
    cap_fields: list[Literal["max_tokens", "max_completion_tokens"]] | None = Field(default=None, min_length=1)
    include_usage: bool | None = None
    allow_fields: list[Word] = Field(default=[])
    on_disconnect: OnDisconnect | None = None
    drain_s: Seconds | None = None
    drain_bytes: Count | None = None
    transport: TransportKind | None = None
    proxy: Secret | None = Field(default=None, repr=False)
    ca_file: Word | None = None
    connections: Count | None = None
    retries: int | None = Field(default=None, ge=0, le=MOST_RETRIES)


class ModelSection(Section):
    """``[models."provider/model"]``: a price, or none for the price list's, and what is known of the model."""

    input: Rate | None = None
    output: Rate | None = None
    cache_read: Rate | None = None
    cache_read_audio: Rate | None = None
    cache_write: Rate | None = None
    reasoning: Rate | None = None
    input_audio: Rate | None = None
    output_audio: Rate | None = None
    cache_write_1h: Rate | None = None
    input_image: Rate | None = None
    tool_prompt: Rate | None = None
    output_image: Rate | None = None
    web_search: Rate | None = None

    name: Word | None = None
    description: str | None = None
    context: Count | None = None
    max_output: Count | None = None
    default_cap: Count | None = None
    image_tokens: Count | None = None
    image_output_tokens: Count | None = None
    tool: bool | None = None
    structured: bool | None = None
    reasoning_model: bool | None = None
    knowledge_cutoff: Word | None = None
    input_modalities: list[Word] | None = None
    output_modalities: list[Word] | None = None
    tags: list[Word] | None = None


class CapabilitiesSection(Section):
    """``[capabilities]``: what is known of models that ``[models]`` leaves open."""

    use: Literal["auto", "off"] = "auto"
    file: Word | None = None


class ImagesSection(Section):
    """``[images]``: whose a model is that a request for images names without a provider."""

    provider: Word = "openai"


class ErrorsSection(Section):
    """``[errors]``: the form of the router's own errors."""

    format: Literal["object", "simple"] = "object"
    quota_status: Literal[402, 429] = 429


class KeysSection(Section):
    """``[keys]``: how keys are kept."""

    pepper: str = Field(default="env:HPP_PEPPER", repr=False)
    previous_pepper: str = Field(default="env:HPP_PREVIOUS_PEPPER", repr=False)


class ConsumerSection(Section):
    """``[consumers.NAME]``: who pays, and the keys that name them."""

    quota: Quota | None = None
    keys: list[Key] = Field(default=[], repr=False)
    models: list[Word] | None = None
    requires: list[Word] = Field(default=[])
    parent: Name | None = None
    clamp_floor: int | None = Field(default=None, ge=0)


class BoundsSection(Section):
    """``[bounds]``: see :class:`hpp_middleware.types.provider.Limits`."""

    body_bytes: Count | None = None
    body_s: Seconds | None = None
    depth: Count | None = None
    values: Count | None = None
    n: Count | None = None
    messages: Count | None = None
    tools: Count | None = None
    inputs: Count | None = None
    max_tokens: Count | None = None
    default_cap: Count | None = None
    cap_floor: Count | None = None
    clamp: bool | None = None
    clamp_floor: Count | None = None
    response_bytes: Count | None = None
    media_bytes: Count | None = None
    event_bytes: Count | None = None
    send_s: Seconds | None = None
    usage_wait_s: Seconds | None = None
    json_wait_s: Seconds | None = None
    drain_slots: Count | None = None
    consumer_drain_slots: Count | None = None
    read_wait_s: Seconds | None = None


class LoadSection(Section):
    """``[load]``: see :class:`hpp_middleware.types.load.Load`."""

    in_flight: int | None = Field(default=None, ge=0)
    per_consumer: int | None = Field(default=None, ge=0)
    queue: int | None = Field(default=None, ge=0)
    queue_s: Seconds | None = None
    grace_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class ServerSection(Section):
    """``[server]``: where ``hpp-router serve`` listens, and what it shows without a key."""

    host: Word = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    cors_origins: list[Origin] = Field(default=[])
    public_models: bool = True


class IdempotencySection(Section):
    """``[idempotency]``: see :class:`hpp_middleware.types.replay.Idempotency`."""

    keep: bool | None = None
    ttl_s: Seconds | None = None
    body_bytes: Count | None = None
    account_bytes: Count | None = None


class ResponsesSection(Section):
    """``[responses]``: what answers say besides the upstream's words."""

    cost: CostIn = "header"


class BillingSection(Section):
    """``[billing]``: how much is held, and what is charged where usage is not known."""

    missing_usage: MissingUsage = "estimate"
    orphan: OrphanPolicy = "estimate"
    tokenizer: Literal["auto", "off"] = "auto"


class TierSection(Section):
    """A tier of ``[auto.tiers]``."""

    max_tokens: Count | None = None
    models: list[Word] = Field(min_length=1)


class TiersSection(Section):
    """``[auto.tiers]``: the complex basket, by estimated input tokens."""

    T1: TierSection | None = None
    T2: TierSection | None = None
    T3: TierSection | None = None


class LearnedSection(Section):
    """``[auto.learned]``: the two models of the learned policy, and how much quality is worth."""

    strong: Word | None = None
    weak: Word | None = None
    quality: float | None = Field(default=None, ge=0, le=1)
    share: float | None = Field(default=None, ge=0, le=1)
    budget: Quota | None = None
    answer_tokens: Count | None = None
    file: Word | None = None


class AutoSection(Section):
    """``[auto]``: see :class:`hpp_middleware.core.auto.AutoPolicy`."""

    policy: Literal["rules", "learned"] = "rules"
    rules_version: Word | None = None
    streaming: Literal["classify", "fallback"] = "classify"
    streaming_fallback: Word | None = None
    tool: list[Word] = Field(default=[])
    simple: list[Word] = Field(default=[])
    simple_keywords: list[Word] = Field(default=[])
    simple_max_tokens: int | None = Field(default=None, ge=0)
    margin: float | None = Field(default=None, gt=0, lt=1000)
    sticky: Literal["conversation", "upwards", "off"] = "conversation"
    shadow: Literal["rules", "learned"] | None = None
    cascade: bool = False
    cascade_samples: int = Field(default=1, ge=1, le=2)
    rules: dict[Word, Word] = Field(default={})
    tiers: TiersSection = TiersSection()
    learned: LearnedSection = LearnedSection()


class File(Section):
    """The whole file."""

    store: StoreSection = StoreSection()
    credentials: CredentialsSection = CredentialsSection()
    ledger: LedgerSection = LedgerSection()
    journal: JournalSection = JournalSection()
    providers: dict[Word, ProviderSection] = Field(default={})
    models: dict[Word, ModelSection] = Field(default={})
    aliases: dict[Word, Word] = Field(default={})
    fallbacks: dict[Word, Annotated[list[Word], Field(min_length=1)]] = Field(default={})
    capabilities: CapabilitiesSection = CapabilitiesSection()
    images: ImagesSection = ImagesSection()
    errors: ErrorsSection = ErrorsSection()
    keys: KeysSection = KeysSection()
    consumers: dict[Name, ConsumerSection] = Field(default={})
    accounts: dict[Name, AccountSection] = Field(default={})
    budgets: list[BudgetSection] = Field(default=[])
    bounds: BoundsSection = BoundsSection()
    load: LoadSection = LoadSection()
    limits: LimitSections = Field(default=[])
    limit_store: LimitStoreSection = LimitStoreSection()
    server: ServerSection = ServerSection()
    metrics: MetricsSection = MetricsSection()
    responses: ResponsesSection = ResponsesSection()
    streams: StreamsSection = StreamsSection()
    idempotency: IdempotencySection = IdempotencySection()
    billing: BillingSection = BillingSection()
    auto: AutoSection = AutoSection()
