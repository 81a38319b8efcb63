"""What the file comes to: providers, models and consumers as the gateway takes them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpp_middleware.audit import Sealing
from hpp_middleware.catalog.known import VendoredModels
from hpp_middleware.config.auto import auto_policy
from hpp_middleware.config.ceilings import budgets_of, groups_of, problems_of
from hpp_middleware.config.journal import journal
from hpp_middleware.config.limits import rate_limits
from hpp_middleware.config.metrics import metrics, metrics_problems
from hpp_middleware.config.sealing import sealing
from hpp_middleware.config.sections import (
    ConsumerSection,
    File,
    KeysSection,
    ModelSection,
    ProviderSection,
    UpstreamSection,
)
from hpp_middleware.config.stores import Places, Stores
from hpp_middleware.config.stores import places as places_of
from hpp_middleware.config.values import Context, from_environment, key_path, origin
from hpp_middleware.core import auth
from hpp_middleware.core.auto import AutoPolicy
from hpp_middleware.core.price import RATES
from hpp_middleware.dialects import presets
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.limits import RateLimit
from hpp_middleware.types.load import Load
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Limits, Model, Provider, Timeouts
from hpp_middleware.types.replay import Idempotency
from hpp_middleware.types.streams import KeepAlive
from hpp_middleware.types.upstreams import Upstream

if TYPE_CHECKING:
    from hpp_middleware.asgi.app import Gateway

__all__ = ["Settings", "settle"]

_PROVIDER = (
    "dialect",
    "base_url",
    "bytes_per_token",
    "include_usage",
    "on_disconnect",
    "drain_s",
    "drain_bytes",
    "transport",
    "proxy",
    "connections",
    "choose",
    "retries",
)
_CAPABILITIES = (
    "name",
    "description",
    "context",
    "max_output",
    "default_cap",
    "image_tokens",
    "image_output_tokens",
    "tool",
    "structured",
    "knowledge_cutoff",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    A configuration that was found good.

    Attributes:
        file: The sections as they were written.
        places: Where accounts, keys and the ledger are kept.
        providers: The upstreams.
        models: The operator's own models.
        consumers: Who is declared in the file.
        pepper: The pepper that the file or the environment names; None for the store's own.
        previous_pepper: The one before it; None outside a rotation.
        limits: Bounds on requests.
        capabilities: What is known of models besides; None where that is switched off.
        sealing: How the ledger is sealed; None where there is no key.
        journal: The folder for settlements that the store did not take; ``auto`` for the one that the store names.
        rate_limits: What consumers may ask for, per window and at once.
        auto: What ``hpprouter/auto`` comes to; None where ``[auto]`` names no model.
        groups: The accounts above consumers.
        budgets: What may be spent in a period.
    """

    file: File
    places: Places = field(repr=False)
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    consumers: Mapping[str, Declared] = field(repr=False)
    pepper: bytes | None = field(repr=False)
    previous_pepper: bytes | None = field(repr=False)
    limits: Limits
    capabilities: VendoredModels | None = None
    sealing: Sealing | None = field(default=None, repr=False)
    journal: Path | str = "auto"
    auto: AutoPolicy | None = None
    groups: Mapping[str, Group] = field(default_factory=dict)
    budgets: tuple[Budget, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()

    def stores(self) -> Stores:
        """
        The stores, not yet opened.

        Raises:
            ConfigurationError: A library is missing for one of them.
        """
        return self.places.stores()

    def gateway(self) -> "Gateway":
        """
        The gateway that serves, not yet opened.

        Raises:
            ConfigurationError: A model or an alias names what is not there, or a library is missing for a store.
        """
        from hpp_middleware.asgi.app import Gateway
        from hpp_middleware.observers.logging import LoggingObserver

        stores = self.stores()
        return Gateway(
            providers=self.providers,
            models=self.models,
            aliases=self.file.aliases,
            fallbacks=self.file.fallbacks,
            image_provider=self.file.images.given().get("provider"),
            store=stores.store,
            credentials=stores.credentials,
            ledger=stores.ledger,
            consumers=self.consumers,
            accounts=self.groups,
            budgets=self.budgets,
            pepper=self.pepper,
            previous_pepper=self.previous_pepper,
            error_format=self.file.errors.format,
            quota_status=self.file.errors.quota_status,
            missing_usage=self.file.billing.missing_usage,
            orphan=self.file.billing.orphan,
            tokenizer="auto" if self.file.billing.tokenizer == "auto" else None,
            capabilities=self.capabilities,
            cost_in=self.file.responses.cost,
            limits=self.limits,
            load=Load(**self.file.load.given()),
            sealing=self.sealing,
            journal=self.journal,
            journal_slots=self.file.journal.slots,
            keep_alive=KeepAlive(**self.file.streams.keep_alive.given()),
            idempotency=Idempotency(**self.file.idempotency.given()),
            public_models=self.file.server.public_models,
            cors_origins=tuple(self.file.server.cors_origins),
            metrics=metrics(self.file.metrics),
            observers=(LoggingObserver(),),
            auto=self.auto,
            rate_limits=self.rate_limits,
            limit_store=stores.limits,
            limit_outage=self.file.limit_store.outage,
        )


def settle(file: File, *, directory: Path, context: Context) -> Settings:
    """
    Make sense of a file whose single values are good.

    Args:
        file: The sections.
        directory: Where the file is: relative paths begin there.
        context: The environment.
    Raises:
        ConfigurationError: A line a problem, each beginning with the key's path.
    """
    problems: list[str] = []
    settings = Settings(
        file=file,
        places=places_of(file, directory=directory, problems=problems),
        providers={
            name: provider
            for name, section in file.providers.items()
            if (provider := _provider(name, section, directory, context, problems)) is not None
        },
        models={model_id: _model(model_id, section, problems) for model_id, section in file.models.items()},
        consumers={name: _consumer(section) for name, section in file.consumers.items()},
        pepper=_pepper("pepper", file.keys, context, problems),
        previous_pepper=_pepper("previous_pepper", file.keys, context, problems),
        limits=Limits(**file.bounds.given()),
        capabilities=_capabilities(file, directory, problems),
        sealing=sealing(file.ledger, directory=directory, context=context, problems=problems),
        journal=journal(file, directory, context, problems),
        rate_limits=rate_limits(file.limits, file.providers, problems),
        auto=auto_policy(file.auto, directory=directory, problems=problems),
        groups=groups_of(file.accounts),
        budgets=budgets_of(file.budgets, problems),
    )
    problems += problems_of(settings.groups, settings.budgets, settings.consumers)
    problems += metrics_problems(file.metrics, secrets=context.secrets)
    problems += _shared_keys(settings.consumers)
    problems += _same_peppers(settings)
    problems += _no_pepper(settings, problems)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _provider(
    name: str, section: ProviderSection, directory: Path, context: Context, problems: list[str]
) -> Provider | None:
    where = key_path("providers", name)
    preset_name = section.preset or name
    preset = presets.PRESETS.get(preset_name)
    if preset is None and section.preset is not None:
        problems.append(f"{where}.preset: there is no preset {preset_name!r}; there are {', '.join(presets.PRESETS)}")
        return None
    first_url = section.upstreams[0].base_url if section.upstreams else None
    if preset is None and section.base_url is None and first_url is None:
        problems.append(f"{where}.base_url: is missing, and {name!r} is no preset")
        return None
    own = section.given(*_PROVIDER)
    if preset is None and first_url is not None:
        own.setdefault("base_url", first_url)
    if section.cap_fields is not None:
        own["cap_fields"] = tuple(section.cap_fields)
    if section.native_apis is not None:
        own["native_apis"] = frozenset(section.native_apis)
    if section.ca_file is not None:
        own["ca_file"] = str(directory / section.ca_file)
    settings: dict[str, Any] = {
        **own,
        "models": tuple(section.models),
        "allow_fields": frozenset(section.allow_fields),
        "headers": {header: value for header, value in section.headers.items() if value},
        "options": section.options,
        "timeouts": Timeouts(**section.timeouts.given()),
    }
    api_key = section.api_key or None
    if preset is not None:
        settings.setdefault("base_url", preset.base_url)
        keyed = bool(section.upstreams) and all(each.api_key is not None for each in section.upstreams)
        api_key = api_key if api_key or keyed else _usual_key(where, preset, settings["base_url"], context, problems)
    try:
        settings["upstreams"] = tuple(_upstream(*each) for each in enumerate(section.upstreams))
        settings["breaker"] = Breaker(**section.breaker.given()) if section.breaker is not None else None
        if preset is None:
            return Provider(api_key=api_key, **settings)
        return presets.provider(preset_name, api_key=api_key, **settings)
    except ConfigurationError as error:
        problems.append(f"{where}.{error.param}: {error.message.removeprefix(f'{error.param} ')}")
        return None


def _upstream(number: int, section: UpstreamSection) -> Upstream:
    try:
        return Upstream(
            name=section.name,
            base_url=section.base_url,
            api_key=section.api_key or None,
            headers={header: value for header, value in section.headers.items() if value},
            options=section.options,
            weight=section.weight,
            price_factor=section.price_factor,
        )
    except ConfigurationError as error:
        where = f"upstreams[{number}]"
        raise ConfigurationError(f"{where}.{error.message}", param=f"{where}.{error.param}") from error


def _usual_key(where: str, preset: presets.Preset, base_url: str, context: Context, problems: list[str]) -> str | None:
    """The key in the preset's own variable, for the preset's own address: no other host is shown it unasked."""
    if preset.key_variable is None or base_url != preset.base_url or not context.secrets:
        return None
    found = context.environment.get(preset.key_variable)
    if not found and not preset.key_optional:
        problems.append(f'{where}.api_key: is missing; write it as "env:NAME", or set {preset.key_variable}')
    return found or None


def _model(model_id: str, section: ModelSection, problems: list[str]) -> Model:
    rates = section.given(*RATES)
    if rates.get("web_search") is not None:
        rates["web_search"] *= 1000  # which is priced by the thousand, not by the million
    price = None
    if rates:
        missing = [name for name in ("input", "output") if name not in rates]
        problems += [f'{key_path("models", model_id, name)}: is missing; free is written "0"' for name in missing]
        price = None if missing else Price(base=Rates(**rates))
    return Model(
        price=price,
        reasoning=section.reasoning_model,
        input_modalities=_tuple(section.input_modalities),
        output_modalities=_tuple(section.output_modalities),
        tags=_tuple(section.tags),
        **section.given(*_CAPABILITIES),
    )


def _capabilities(file: File, directory: Path, problems: list[str]) -> VendoredModels | None:
    """The package's own catalogue, or a file in its place, which is read here to see that it is one."""
    if file.capabilities.use == "off":
        return None
    if file.capabilities.file is None:
        return VendoredModels()
    try:
        return VendoredModels(directory / file.capabilities.file)
    except ConfigurationError as error:
        problems.append(error.message)
        return None


def _consumer(section: ConsumerSection) -> Declared:
    keys = tuple(key for key in section.keys if key)
    return Declared(
        quota=section.quota,
        keys=keys,
        models=_tuple(section.models),
        requires=tuple(section.requires),
        parent=section.parent,
        clamp_floor=section.clamp_floor,
    )


def _shared_keys(consumers: Mapping[str, Declared]) -> list[str]:
    """A key that two consumers show would charge one for the other."""
    uses = Counter(key for declared in consumers.values() for key in declared.keys)
    return [
        f"{key_path('consumers', name, 'keys', index)}: is declared more than once"
        for name, declared in consumers.items()
        for index, key in enumerate(declared.keys)
        if uses[key] > 1
    ]


def _pepper(name: str, keys: KeysSection, context: Context, problems: list[str]) -> bytes | None:
    """A pepper that the file names, or that is in its usual variable; one that is set but empty was meant to be one."""
    where = key_path("keys", name)
    variable = f"HPP_{name.upper()}"
    value = getattr(keys, name)
    if not keys.given(name):
        if variable not in context.environment:
            return None
        if not context.environment[variable]:
            problems.append(f"{where}: the environment variable {variable} is empty")
            return None
    try:
        return auth.check_pepper(from_environment(value, context.environment).encode(), where)
    except ValueError as error:
        problems.append(f"{where}: {error}")
    except ConfigurationError as error:
        problems.append(f"{error.message}{origin(value)}")
    return None


def _same_peppers(settings: Settings) -> list[str]:
    if settings.pepper is None:
        return []
    try:
        auth.check_peppers(settings.pepper, settings.previous_pepper)
    except ConfigurationError as error:
        return [error.message]
    return []


def _no_pepper(settings: Settings, problems: list[str]) -> list[str]:
    """Every router of a shared store must have the same pepper, which does not belong beside the digests."""
    known = settings.pepper is not None or any(problem.startswith("keys.pepper") for problem in problems)
    if known or not settings.places.shared_keys:
        return []
    return [
        'keys.pepper: is missing; set HPP_PEPPER, or write "env:NAME": a store that is shared keeps none of its own'
    ]


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
