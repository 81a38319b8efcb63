"""Single settings of a gateway as it takes them, or an error that names the one that is wrong."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from hpp_middleware.audit import Audited, Sealer, Sealing
from hpp_middleware.catalog import genai, tokens
from hpp_middleware.catalog.known import VendoredModels
from hpp_middleware.core import names, price, route
from hpp_middleware.core.limits import Rules
from hpp_middleware.core.preferences import MOST_MODELS
from hpp_middleware.dialects import known
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import (
    Capabilities,
    CredentialStore,
    Dialect,
    Ledger,
    LimitStore,
    PriceList,
    QuotaStore,
    Store,
    Tokenizer,
)
from hpp_middleware.stages.settle.slotfile import MOST_SLOTS, SUPPORTED
from hpp_middleware.stages.worker.worker import Backends
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.types.budget import Budget
from hpp_middleware.types.limits import OnOutage, RateLimit
from hpp_middleware.types.load import Load
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Model, Provider
from hpp_middleware.types.streams import KeepAlive

__all__ = [
    "backends_of",
    "capabilities_of",
    "checked_budgets",
    "dialects_of",
    "fallbacks_of",
    "image_provider_of",
    "journal_of",
    "journal_slots_of",
    "keep_alive_of",
    "limited",
    "load_of",
    "model_from",
    "needs_prices",
    "one_of",
    "price_list_of",
    "rules_of",
    "sealer_of",
    "tokenizer_of",
]


def model_from(model_id: str, model: Model | Mapping[str, Any]) -> Model:
    """
    A model from a mapping of its fields.

    Raises:
        ConfigurationError: A field is unknown or a price is wrong; the message names it.
    """
    if isinstance(model, Model):
        return model
    where = f'models."{model_id}"'
    fields = dict(model)
    rates = {name: fields.pop(name) for name in price.RATES if name in fields}
    found = Price(base=price.rates_from_usd(rates, where)) if rates else None
    if "reasoning_model" in fields:  # `reasoning` is the price of its tokens
        fields["reasoning"] = fields.pop("reasoning_model")
    try:
        return Model(price=found, **fields)
    except TypeError:
        others = [name for name in Model.__dataclass_fields__ if name not in {"price", "reasoning"}]
        known = ", ".join((*price.RATES, "reasoning_model", *others))
        raise ConfigurationError(f"{where} has an unknown field; there are {known}", param=where) from None


def checked_budgets(budgets: Sequence[Budget], catalog: route.Catalog) -> Sequence[Budget]:
    """
    Budgets, each of some provider's models, of which every model that they downgrade to is there.

    Raises:
        ConfigurationError: One is none, or of no models that can be asked, or downgrades to one without a price.
    """
    for number, budget in enumerate(budgets):
        given: object = budget
        if not isinstance(given, Budget):
            where = f"budgets[{number}]"
            raise ConfigurationError(f"{where} must be a Budget", param=where)
        names.check_bound(budget.model, catalog.providers, f"budgets[{number}].model")
        if budget.downgrade is not None and catalog.find(budget.downgrade) is None:
            where = f"budgets[{number}].downgrade"
            raise ConfigurationError(f"{where} {budget.downgrade!r} is no model that has a price here", param=where)
    return budgets


def dialects_of(providers: Mapping[str, Provider], own: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """
    The dialects that these providers speak.

    Raises:
        ConfigurationError: One is unknown, or a provider lacks what its dialect needs.
    """
    found = dict(own)
    for name, provider in providers.items():
        where = f"providers.{name}"
        if not isinstance(provider, Provider):
            raise ConfigurationError(f"{where} must be a Provider", param=where)
        try:
            if provider.dialect not in found:
                found[provider.dialect] = known.find(provider.dialect)
            check_settings = getattr(found[provider.dialect], "check", None)
            if check_settings is not None:
                for place, part in provider.places(where):
                    where = place  # it is named in the error
                    check_settings(part)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}.{error.message}", param=f"{where}.{error.param}") from error
    return found


def image_provider_of(name: str | None, providers: Mapping[str, Provider]) -> str:
    """
    The default provider of images.

    Raises:
        ConfigurationError: One is named that there is not.
    """
    if name is not None and name not in providers:
        raise ConfigurationError(f"images.provider: there is no provider {name!r}", param="images.provider")
    return name or "openai"


def price_list_of(prices: PriceList | Literal["auto"] | None) -> PriceList | None:
    """The price list that a setting names."""
    if prices == "auto":
        return genai.GenaiPrices() if genai.available() else None
    return prices


def capabilities_of(capabilities: Capabilities | Literal["auto"] | None) -> Capabilities | None:
    """What is known of models besides their price: ``auto`` is the package's own catalogue."""
    if isinstance(capabilities, str):
        one_of("capabilities", capabilities, ("auto",))
        return VendoredModels()
    if capabilities is not None and not hasattr(capabilities, "find"):
        raise ConfigurationError("capabilities must have a find(provider, model)", param="capabilities")
    return capabilities


def tokenizer_of(tokenizer: Tokenizer | Literal["auto"] | None) -> Tokenizer | None:
    """
    The tokenizer that a setting names.

    Raises:
        ConfigurationError: It cannot count.
    """
    if isinstance(tokenizer, str):
        one_of("tokenizer", tokenizer, ("auto",))
        return tokens.OpenAITokenizer() if tokens.available() else None
    if tokenizer is not None and not hasattr(tokenizer, "count"):
        raise ConfigurationError("tokenizer must have a count(text, model)", param="tokenizer")
    return tokenizer


def backends_of(
    store: Store, credentials: CredentialStore | None, quota: QuotaStore | None, ledger: Ledger | None
) -> Backends:
    """
    Who keeps what.

    Raises:
        ConfigurationError: There is no ledger.
    """
    if ledger is None and quota is not None:
        if not isinstance(quota, Ledger):
            raise ConfigurationError("a quota store that is no ledger needs one: ledger=", param="ledger")
        ledger = quota
    return Backends(credentials=credentials or store, quota=quota or store, ledger=ledger or store)


def rules_of(limits: Sequence[RateLimit], providers: Mapping[str, Provider]) -> Rules | None:
    """
    What consumers may ask for; None where that is not limited.

    Raises:
        ConfigurationError: One of them is no limit, or is given twice.
    """
    for number, limit in enumerate(limits):
        given: object = limit
        if not isinstance(given, RateLimit):
            where = f"rate_limits[{number}]"
            raise ConfigurationError(f"{where} must be a RateLimit", param=where)
    return Rules(limits, providers) if limits else None


def limited(backends: Backends, rules: Rules | None, store: LimitStore | None, *, outage: OnOutage) -> Backends:
    """
    The backends, with who counts: the quota store where it can, so that workers who share it count together; else this
    process.

    Raises:
        ConfigurationError: One is given that cannot.
    """
    one_of("limit_outage", outage, ("closed", "open"))
    if store is not None and not isinstance(store, LimitStore):
        raise ConfigurationError("limit_store must have take, correct and extend", param="limit_store")
    if rules is None:
        return backends
    counts = store or (backends.quota if isinstance(backends.quota, LimitStore) else MemoryLimits())
    return replace(backends, limits=counts, needs_limits=outage == "closed")


def sealer_of(ledger: Ledger, sealing: Sealing | None) -> Sealer | None:
    """
    What seals the ledger; None for nothing.

    Raises:
        ConfigurationError: The ledger cannot be sealed.
    """
    if sealing is None:
        return None
    if not isinstance(ledger, Audited):
        raise ConfigurationError("this ledger cannot be sealed: it is no Audit", param="ledger.seal_key")
    return Sealer(ledger, sealing)


def journal_of(journal: str | Path | None, store: QuotaStore) -> Path | None:
    """
    The folder for settlements that the store does not take; None for memory.

    Raises:
        ConfigurationError: It cannot be a folder here.
    """
    if journal == "auto":
        named: Callable[[], Path] | None = getattr(store, "journal_dir", None)
        return named() if named is not None and SUPPORTED else None
    if journal is not None and not SUPPORTED:
        raise ConfigurationError("journal cannot be a folder on this system", param="journal")
    return Path(journal) if journal is not None else None


def journal_slots_of(slots: int) -> int:
    """
    How many settlements the journal takes, a worker.

    Raises:
        ConfigurationError: So many it cannot.
    """
    if not 1 <= slots <= MOST_SLOTS:
        raise ConfigurationError(f"journal.slots must be from 1 to {MOST_SLOTS}", param="journal.slots")
    return slots


def load_of(load: Load | None) -> Load:
    """
    How much a worker does at once.

    Raises:
        ConfigurationError: A bound is below 0, or the line lasts no time at all.
    """
    load = load or Load()
    for name in ("in_flight", "per_consumer", "queue", "grace_s"):
        if not getattr(load, name) >= 0:
            raise ConfigurationError(f"load.{name} must be at least 0", param=f"load.{name}")
    if not load.queue_s > 0:
        raise ConfigurationError("load.queue_s must be more than 0", param="load.queue_s")
    return load


def one_of(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """
    Refuse what is none of these.

    Raises:
        ConfigurationError: It is none.
    """
    if value not in allowed:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(str, allowed))}", param=name)


def fallbacks_of(catalog: route.Catalog, given: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """
    ``[fallbacks]``: by model id or alias, the models to be asked behind it, as ``provider/model``.

    Raises:
        ConfigurationError: A name is unknown, or has no price.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name, models in given.items():
        where = f'fallbacks."{name}"'
        if catalog.find(catalog.aliases.get(name, name)) is None:
            raise ConfigurationError(f"{where}: {catalog.missing(name)}", param=where)
        if isinstance(models, str) or not models:
            raise ConfigurationError(f"{where} must be a list of models", param=where)
        if len(models) > MOST_MODELS:
            raise ConfigurationError(f"{where} must not have more than {MOST_MODELS} models", param=where)
        ids = tuple(catalog.aliases.get(model, model) for model in models)
        for model in ids:
            if catalog.find(model) is None:
                raise ConfigurationError(f"{where}: {catalog.missing(model)}", param=where)
        found[name] = ids
    return found


def keep_alive_of(given: KeepAlive | None) -> KeepAlive | None:
    """What streams say while their provider is silent; None where they are to say nothing."""
    found = given if given is not None else KeepAlive()
    return found if found.kind != "off" else None


def needs_prices(catalog: route.Catalog) -> bool:
    """Whether the price list has anything to say of what is configured."""
    lists = getattr(catalog.prices, "lists", None)
    return lists is None or any(lists(provider.prices or name) for name, provider in catalog.providers.items())
