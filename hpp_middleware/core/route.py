"""
Which provider and model a request goes to, and at what price.

``provider/model`` is split at the first ``/`` only. An operator's own entry wins over the price list; a model without a
price is refused, never free by accident. What else is known of a model is said by configuration, then by a catalogue of
capabilities, then by the price list.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from operator import attrgetter
from typing import Any, Protocol

import msgspec

from hpp_middleware.core import auth
from hpp_middleware.core.did_you_mean import did_you_mean
from hpp_middleware.core.names import is_like
from hpp_middleware.core.parse import is_model_id
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.auto import AUTO
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Model, Provider

__all__ = ["AUTO", "Catalog", "check", "check_priced", "resolve", "unconfigured"]


class Prices(Protocol):
    """The part of a price list that routing needs."""

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        """A model's price and what else is known of it."""
        ...

    def models(self, provider: str) -> Sequence[str]:
        """The provider's priced models."""
        ...


class Capabilities(Protocol):
    """What is known of models, besides their price."""

    def find(self, provider: str, model: str) -> Model | None:
        """A model, by the provider's name in the price list; None where nothing is known."""
        ...


@dataclass(frozen=True, slots=True)
class Catalog:
    """
    What can be asked for: providers, the operator's models, aliases, a price list for the rest, and what all can do.

    Attributes:
        image_provider: Whose a model is that a request for images names without a provider.

    Raises:
        ConfigurationError: A model or alias names what is not configured.
    """

    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    aliases: Mapping[str, str]
    prices: Prices | None = None
    capabilities: Capabilities | None = None
    image_provider: str = "openai"
    _found: dict[str, tuple[Model, Target]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _spelled: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._spelled.update((model_id.lower(), model_id) for model_id in self.models)
        for name in self.providers:
            if not name or "/" in name or name == "hpprouter":
                raise ConfigurationError(f"providers.{name} is not a usable name", param=f"providers.{name}")
        for model_id in self.models:
            provider, slash, name = model_id.partition("/")
            if not slash or not name or not is_model_id(model_id):
                raise ConfigurationError(f'models."{model_id}" must be "provider/model"', param=f"models.{model_id}")
            if provider not in self.providers:
                raise ConfigurationError(
                    f'models."{model_id}": there is no provider {provider!r}', param=f"models.{model_id}"
                )
        for alias, model_id in self.aliases.items():
            if not is_model_id(model_id) or self.find(model_id) is None:
                raise ConfigurationError(f"aliases.{alias}: {self.missing(model_id)}", param=f"aliases.{alias}")

    def missing(self, model_id: str) -> str:
        """What is the matter with a model that is not found, for who configures it."""
        meant = self.aliases.get(model_id)
        if meant is not None:
            return f"{model_id!r} is an alias: write {meant!r}"
        provider, slash, _ = model_id.partition("/")
        if slash and provider not in self.providers:
            return f"{model_id!r}: there is no provider {provider!r}{did_you_mean(provider, self.providers)}"
        unlisted = " here, and there is no price list: hpp_middleware[prices] brings one" if self.prices is None else ""
        return f"{model_id!r} is unknown or has no price{unlisted}{did_you_mean(model_id, self.models)}"

    def find(self, model_id: str) -> Target | None:
        """A model by its ``provider/model``; None where it is unknown, not let in, or has no price."""
        own = self.models.get(model_id)
        known = self._found.get(model_id)
        if known is not None and known[0] is own:
            found = known[1]
            if found.provider is self.providers.get(found.provider_name):
                return found
        made = self._made(model_id)
        if made is not None and own is not None and own.price is not None:
            self._found[model_id] = own, made  # no price list has a say in it: it is the same every time
        return made

    def _made(self, model_id: str) -> Target | None:
        provider_name, slash, model_name = model_id.partition("/")
        provider = self.providers.get(provider_name)
        if provider is None or not slash or not model_name:
            return None
        own = self.models.get(model_id)
        if own is None and not any(fnmatchcase(model_name, pattern) for pattern in provider.models):
            return None
        if own is None and self._spelled.get(model_id.lower()) in self.models:
            return None  # the operator's own, in other letters: not at another price
        listed, known = None, None
        if self.prices is not None and (own is None or own.price is None):
            listed = self.prices.find(provider.prices or provider_name, model_name)
        price = own.price if own is not None and own.price is not None else listed[0] if listed else None
        if price is None:
            return None
        if self.capabilities is not None:
            known = self.capabilities.find(provider.prices or provider_name, model_name)
        theirs = listed[1] if listed else None
        model = _merged(own, known, theirs)
        if model.reasoning is None and any(is_like(model_name, pattern) for pattern in provider.reasoning):
            model = replace(model, reasoning=True)
        return Target(
            id=model_id,
            provider_name=provider_name,
            model_name=model_name,
            provider=provider,
            model=model,
            price=price,
            vouched=known is None or known.max_output is None or (own is not None and own.max_output is not None),
        )

    def called(self, model_id: str) -> str | None:
        """
        What to call a model where there may be so many names and no more, though a price list's patterns take any.

        Returns:
            What stands in the id, for an operator's model; the list's name for any other; None where it has none.
        """
        name, _, model = model_id.partition("/")
        if model_id in self.models:
            return model
        provider = self.providers.get(name)
        if provider is None or self.prices is None:
            return None
        theirs = provider.prices or name
        called: Callable[[str, str], str | None] | None = getattr(self.prices, "called", None)
        if called is not None:
            return called(theirs, model)
        return model if model in self.prices.models(theirs) else None

    def targets(self) -> list[Target]:
        """Every model that can be listed: the operator's own, then the price list's."""
        ids = dict.fromkeys(self.models)
        for name, provider in self.providers.items():
            if self.prices is not None:
                ids.update(dict.fromkeys(f"{name}/{model}" for model in self.prices.models(provider.prices or name)))
        return [target for target in map(self.find, ids) if target is not None]


def unconfigured() -> RequestError:
    """``hpprouter/auto`` was asked for, and nothing is configured for it."""
    return RequestError(
        f"{AUTO} has no usable rule: this router has no smart routing configured.",
        code="smart_routing_failed",
        param="model",
    )


def resolve(request: Request, consumer: Consumer, catalog: Catalog, *, within: str | None = None) -> Target:
    """
    Where a request goes.

    Args:
        request: What is asked.
        consumer: Whose key may not use every model.
        catalog: What there is.
        within: A provider, whose model is named without it; the answer then is, too.
    Raises:
        RequestError: 400 ``unsupported_model`` or ``smart_routing_failed``; 403 ``model_not_allowed``.
    """
    asked = request.model if within is None else f"{within}/{request.model}"
    if asked == AUTO:
        raise unconfigured()
    whole = catalog.aliases.get(asked, asked)
    if request.api == "images" and "/" not in whole:
        whole = f"{catalog.image_provider}/{whole}"
    target = catalog.find(whole)
    if target is None:
        raise RequestError(
            f"The model {asked!r} is unknown here, or has no registered price."
            + ("" if "/" in asked else " Write it as provider/model."),
            code="unsupported_model",
            param="model",
        )
    check(request, consumer, target, asked)
    return target if within is None else msgspec.structs.replace(target, shown=request.model)


def check(request: Request, consumer: Consumer, target: Target, asked: str | None = None) -> None:
    """
    Whether a consumer may ask this of a model, at prices that are known.

    Args:
        request: What is asked.
        consumer: Whose key may not use every model.
        target: The model.
        asked: What the client calls it, if not by its id.
    Raises:
        RequestError: 403 ``model_not_allowed``; 400 ``unsupported_model``.
    """
    if consumer.models is not None and not auth.allows(consumer, target.id):
        raise RequestError(
            f"This key may not use the model {asked or target.id!r}.",
            status=403,
            code="model_not_allowed",
            param="model",
        )
    check_priced(request, target)


def check_priced(request: Request, target: Target) -> None:
    """
    What has a rate of its own (audio, images that come out) is refused without one, never billed as text; and so is
    what a price is not for: the price list has none for the output of a model that only embeds.

    Raises:
        RequestError: 400 ``unsupported_model``.
    """
    only = target.price.only
    if only is not None and request.api != only:
        raise RequestError(f"{target.id} has a price for {only} only.", code="unsupported_model", param="model")
    if not request.audio_input and not request.output_modalities:
        return
    rates = (target.price.base, *(tier for _, tier in target.price.tiers))
    if request.audio_input and any(tier.input_audio is None for tier in rates):
        raise RequestError(f"{target.id} has no price for audio input.", code="unsupported_model", param="messages")
    if "audio" in request.output_modalities and any(tier.output_audio is None for tier in rates):
        raise RequestError(f"{target.id} has no price for audio output.", code="unsupported_model", param="modalities")
    if "image" in request.output_modalities and any(tier.output_image is None for tier in rates):
        param = "model" if request.drawing is not None else "modalities"
        raise RequestError(f"{target.id} has no price for image output.", code="unsupported_model", param=param)
    other = sorted(request.output_modalities - {"audio", "image"})
    if other:
        raise RequestError(
            f"{target.id} has no price for {other[0]} output.", code="unsupported_model", param="modalities"
        )


_OPEN = tuple(each.name for each in fields(Model) if each.default is None)
"""The fields that can be left open."""

_said = attrgetter(*_OPEN)


def _merged(*sources: Model | None) -> Model:
    """What the first says wins; what it leaves open comes from the next."""
    known = [each for each in sources if each is not None] or [Model()]
    if len(known) == 1:
        return known[0]
    values: list[Any] = list(_said(known[0]))
    for other in known[1:]:
        values = [own if own is not None else its for own, its in zip(values, _said(other), strict=True)]
    created = next((each.created for each in known if each.created), 0)
    return Model(**dict(zip(_OPEN, values, strict=True)), created=created)
