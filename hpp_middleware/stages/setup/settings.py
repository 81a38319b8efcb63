"""
What a gateway may be given, by name: the parameters of :class:`~hpp_middleware.stages.setup.setup.Setup` once more.

They stand here for type checkers and editors, so that ``Gateway(...)`` is checked as a function of its own would be;
and :func:`check_kinds` is for hosts that run without either.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from inspect import iscoroutinefunction
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Required, TypedDict

from hpp_middleware.audit import Sealing
from hpp_middleware.core.did_you_mean import did_you_mean
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import (
    Capabilities,
    CredentialStore,
    Dialect,
    Ledger,
    LimitStore,
    Observer,
    PriceList,
    QuotaStore,
    RoutingPolicy,
    Store,
    Tokenizer,
    Transport,
)
from hpp_middleware.types.budget import Budget, Group
from hpp_middleware.types.http import CostIn
from hpp_middleware.types.limits import OnOutage, RateLimit
from hpp_middleware.types.load import Load
from hpp_middleware.types.provider import Declared, Limits, MissingUsage, Model, OrphanPolicy, Provider
from hpp_middleware.types.replay import Idempotency
from hpp_middleware.types.streams import KeepAlive

if TYPE_CHECKING:
    from hpp_middleware.transports.httpx import HTTPClient

__all__ = ["GatewaySettings", "check_kinds"]


class GatewaySettings(TypedDict, total=False):
    """See :class:`~hpp_middleware.stages.setup.setup.Setup`, which tells what each of them is."""

    providers: Required[Mapping[str, Provider]]
    models: Mapping[str, Model | Mapping[str, Any]] | None
    aliases: Mapping[str, str] | None
    image_provider: str | None
    store: Store | None
    credentials: CredentialStore | None
    quota: QuotaStore | None
    ledger: Ledger | None
    consumers: Mapping[str, Declared] | None
    accounts: Mapping[str, Group] | None
    budgets: Sequence[Budget]
    dialects: Mapping[str, Dialect] | None
    prices: PriceList | Literal["auto"] | None
    capabilities: Capabilities | Literal["auto"] | None
    tokenizer: Tokenizer | Literal["auto"] | None
    pepper: bytes | None
    previous_pepper: bytes | None
    error_format: Literal["object", "simple"]
    quota_status: Literal[402, 429]
    missing_usage: MissingUsage
    orphan: OrphanPolicy
    cost_in: CostIn
    journal: str | Path | None
    journal_slots: int
    limits: Limits | None
    load: Load | None
    keep_alive: KeepAlive | None
    idempotency: Idempotency | None
    sealing: Sealing | None
    transports: Mapping[str, Transport] | None
    client: "HTTPClient | None"
    observers: Sequence[Observer]
    auto: RoutingPolicy | None
    unhealthy: Callable[[str], bool] | None
    fallbacks: Mapping[str, Sequence[str]] | None
    rate_limits: Sequence[RateLimit]
    limit_store: LimitStore | None
    limit_outage: OnOutage


_ENTRIES: dict[str, tuple[type, ...]] = {
    "providers": (Provider,),
    "models": (Model, Mapping),
    "aliases": (str,),
    "consumers": (Declared,),
    "accounts": (Group,),
    "dialects": (object,),
    "transports": (object,),
    "fallbacks": (Sequence,),
}
"""What each entry of a mapping has to be."""

_KINDS: dict[str, tuple[type | UnionType, str]] = {
    "limits": (Limits, "Limits(...)"),
    "load": (Load, "Load(...)"),
    "keep_alive": (KeepAlive, "KeepAlive(...)"),
    "idempotency": (Idempotency, "Idempotency(...)"),
    "sealing": (Sealing, "Sealing(...)"),
    "image_provider": (str, "a str"),
    "journal": (str | Path, "a str or Path"),
    "journal_slots": (int, "a whole number"),
}
"""What single settings have to be, and the words for it."""

_SEVERAL = frozenset({"budgets", "observers", "rate_limits"})
"""What has to be several, in a list or tuple."""

_ASKED: dict[str, tuple[str, ...]] = {
    "client": ("send",),
    "credentials": ("find",),
    "dialects": ("call", "stream", "answer"),
    "ledger": ("entries",),
    "observers": ("observe",),
    "prices": ("find", "models"),
    "quota": ("apply",),
    "transports": ("send", "aclose"),
    "unhealthy": ("__call__",),
}
"""What is called of an object of the host's own, or of each of several."""


def check_kinds(settings: Mapping[str, Any]) -> None:
    """
    Refuse settings of another kind than theirs: later they would be an error that names nothing.

    Raises:
        TypeError: There is no setting of this name.
        ConfigurationError: One is of another kind.
    """
    for name, given in settings.items():
        if name not in GatewaySettings.__annotations__:
            raise TypeError(f"Gateway has no setting {name!r}{did_you_mean(name, GatewaySettings.__annotations__)}")
        if given is not None:
            _check_kind(name, given)


def _check_kind(name: str, given: Any) -> None:
    kind, words = _KINDS.get(name, (object, ""))
    if not isinstance(given, kind):
        raise ConfigurationError(f"{name} must be {words}", param=name)
    if name in _ENTRIES:
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{name} must be a mapping", param=name)
        kinds = _ENTRIES[name]
        for key, each in given.items():
            if not isinstance(each, kinds) or (name == "fallbacks" and isinstance(each, str)):
                words = " or ".join(kind.__name__ for kind in kinds)
                raise ConfigurationError(f"{name}.{key} must be a {words}", param=f"{name}.{key}")
    if name in _SEVERAL and (isinstance(given, str) or not isinstance(given, Collection)):
        raise ConfigurationError(f"{name} must be several, such as [...]", param=name)
    if name == "client" and hasattr(given, "__enter__") and not hasattr(given, "__aenter__"):
        raise ConfigurationError("client must be an AsyncClient", param="client")
    if name in _ASKED and given != "auto":
        for where, each in _each(name, given):
            _check_methods(name, each, where)


def _each(name: str, given: Any) -> Iterator[tuple[str, Any]]:
    """What a setting consists of, and what to call it."""
    if name in _ENTRIES:
        yield from ((f"{name}.{key}", each) for key, each in given.items())
    else:
        yield from ((name, each) for each in (given if name in _SEVERAL else [given]))


def _check_methods(name: str, given: Any, where: str) -> None:
    for method in _ASKED[name]:
        if isinstance(given, type | str) or not hasattr(given, method):
            said = "must be callable" if method == "__call__" else f"must have a method {method}"
            raise ConfigurationError(f"{where} {said}", param=where)
    if name == "observers" and iscoroutinefunction(given.observe):
        raise ConfigurationError("observers: observe must not be async: nobody awaits it", param=name)
