"""What the file comes to: providers, models and consumers as the gateway takes them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpp_middleware.config.sections import ConsumerSection, File, ModelSection, ProviderSection
from hpp_middleware.config.values import Context, from_environment, key_path
from hpp_middleware.core import auth
from hpp_middleware.core.price import RATES
from hpp_middleware.dialects import presets
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Store
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Limits, Model, Provider, Timeouts

if TYPE_CHECKING:
    from hpp_middleware.asgi.app import Gateway

__all__ = ["Settings", "settle"]

_SQLITE = "sqlite:///"
_CAPABILITIES = (
    "name",
    "description",
    "context",
    "max_output",
    "default_cap",
    "image_tokens",
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
        database: The SQLite file; None for the memory store.
        providers: The upstreams.
        models: The operator's own models.
        consumers: Who is declared in the file.
        pepper: The pepper that the file or the environment names; None for the store's own.
        limits: Bounds on requests.
    """

    file: File
    database: Path | None
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    consumers: Mapping[str, Declared] = field(repr=False)
    pepper: bytes | None = field(repr=False)
    limits: Limits

    def store(self) -> Store:
        """The store, not yet opened."""
        if self.database is None:
            from hpp_middleware.stores.memory import MemoryStore

            return MemoryStore()
        from hpp_middleware.stores.sqlite import SQLiteStore

        return SQLiteStore(self.database)

    def gateway(self) -> "Gateway":
        """
        The gateway that serves, not yet opened.

        Raises:
            ConfigurationError: A model or an alias names what is not there.
        """
        from hpp_middleware.asgi.app import Gateway
        from hpp_middleware.observers.logging import LoggingObserver

        return Gateway(
            providers=self.providers,
            models=self.models,
            aliases=self.file.aliases,
            store=self.store(),
            consumers=self.consumers,
            pepper=self.pepper,
            error_format=self.file.errors.format,
            missing_usage=self.file.billing.missing_usage,
            orphan=self.file.billing.orphan,
            limits=self.limits,
            public_models=self.file.server.public_models,
            cors_origins=tuple(self.file.server.cors_origins),
            observers=(LoggingObserver(),),
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
        database=_database(file.store.url, directory, problems),
        providers={
            name: provider
            for name, section in file.providers.items()
            if (provider := _provider(name, section, context, problems)) is not None
        },
        models={model_id: _model(model_id, section, problems) for model_id, section in file.models.items()},
        consumers={name: _consumer(section) for name, section in file.consumers.items()},
        pepper=_pepper(file, context, problems),
        limits=Limits(**file.limits.given()),
    )
    problems += _shared_keys(settings.consumers)
    if problems:
        raise ConfigurationError("\n".join(problems))
    return settings


def _database(url: str, directory: Path, problems: list[str]) -> Path | None:
    if url == "memory:":
        return None
    rest = url.removeprefix(_SQLITE)
    if rest == url or rest in {"", "/"} or ":memory:" in rest:
        # Not repeated: the URL of another kind of store may hold a password.
        problems.append(
            'store.url: must be "sqlite:///FILE" (relative to this file), "sqlite:////FILE" (absolute) or "memory:"; '
            "there is no other kind of store"
        )
        return None
    path = directory / rest
    if not path.parent.is_dir():
        problems.append(f"store.url: there is no directory {path.parent}")
    elif path.is_dir():
        problems.append(f"store.url: {path} is a directory")
    return path


def _provider(name: str, section: ProviderSection, context: Context, problems: list[str]) -> Provider | None:
    where = key_path("providers", name)
    preset_name = section.preset or name
    preset = presets.PRESETS.get(preset_name)
    if preset is None and section.preset is not None:
        problems.append(f"{where}.preset: there is no preset {preset_name!r}; there are {', '.join(presets.PRESETS)}")
        return None
    if preset is None and section.base_url is None:
        problems.append(f"{where}.base_url: is missing, and {name!r} is no preset")
        return None
    own = section.given("dialect", "bytes_per_token", "include_usage", "base_url")
    if section.cap_fields is not None:
        own["cap_fields"] = tuple(section.cap_fields)
    settings: dict[str, Any] = {
        **own,
        "models": tuple(section.models),
        "headers": {header: value for header, value in section.headers.items() if value},
        "timeouts": Timeouts(**section.timeouts.given()),
    }
    if preset is None:
        return Provider(api_key=section.api_key or None, **settings)
    settings.setdefault("base_url", preset.base_url)
    api_key = section.api_key or _usual_key(where, preset, settings["base_url"], context, problems)
    return presets.provider(preset_name, api_key=api_key, **settings)


def _usual_key(where: str, preset: presets.Preset, base_url: str, context: Context, problems: list[str]) -> str | None:
    """The key in the preset's own variable, for the preset's own address: no other host is shown it unasked."""
    if preset.key_variable is None or base_url != preset.base_url or not context.secrets:
        return None
    found = context.environment.get(preset.key_variable)
    if not found:
        problems.append(f'{where}.api_key: is missing; write it as "env:NAME", or set {preset.key_variable}')
    return found or None


def _model(model_id: str, section: ModelSection, problems: list[str]) -> Model:
    rates = section.given(*RATES)
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
        **section.given(*_CAPABILITIES),
    )


def _consumer(section: ConsumerSection) -> Declared:
    keys = tuple(key for key in section.keys if key)
    return Declared(quota=section.quota, keys=keys, models=_tuple(section.models))


def _shared_keys(consumers: Mapping[str, Declared]) -> list[str]:
    """A key that two consumers show would charge one for the other."""
    uses = Counter(key for declared in consumers.values() for key in declared.keys)
    return [
        f"{key_path('consumers', name, 'keys', index)}: is declared more than once"
        for name, declared in consumers.items()
        for index, key in enumerate(declared.keys)
        if uses[key] > 1
    ]


def _pepper(file: File, context: Context, problems: list[str]) -> bytes | None:
    chosen = file.keys.given("pepper")
    if not chosen and not context.environment.get("HPP_PEPPER"):
        return None
    try:
        return auth.check_pepper(from_environment(file.keys.pepper, context.environment).encode())
    except ValueError as error:
        problems.append(f"keys.pepper: {error}")
    except ConfigurationError as error:
        problems.append(error.message)
    return None


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
