"""
``models`` and ``provider`` of a request: read strictly, taken out of what is sent, and applied to the targets.

As OpenRouter has them (https://openrouter.ai/docs/guides/routing/provider-selection), for models that are called
``provider/model``. What cannot be kept here is refused by name, and never left out in silence.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from hpp_middleware.core import price as pricing
from hpp_middleware.core.fields import NULL, bad, decoded
from hpp_middleware.core.settlement import tokens_of
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.auto import AUTO
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.preferences import Named, Preferences, Sort
from hpp_middleware.types.price import Usage

__all__ = ["MOST_MODELS", "Wanted", "applied", "known", "taken", "too_dear"]

MOST_MODELS = 8
"""So many models a request may name: each is a call that may be made, and paid for."""

MOST_NAMES = 64

MOST_CHARACTERS = 200
"""No model's name is longer, and no error repeats more of what it was sent."""

ANSWER_TOKENS = 400
"""An answer's tokens, where targets are ordered by price and the client gives no cap."""

_SORTS: tuple[Sort, ...] = ("price", "throughput", "latency")
_REFUSED = {
    "zdr": "what a provider keeps is not known here: name a tag by X-HPP-Router-Require",
    "quantizations": "what providers run is not known here",
    "preferred_min_throughput": "use sort",
    "preferred_max_latency": "use sort",
    "enforce_distillable_text": "what a model's terms are is not known here",
}

_names = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)
_truth = msgspec.json.Decoder(bool)
_object = msgspec.json.Decoder(dict[str, Raw])
_price = msgspec.json.Decoder(Decimal)


class _Fallback(msgspec.Struct, forbid_unknown_fields=True):
    """One of Anthropic's ``fallbacks``."""

    model: str


_fallbacks = msgspec.json.Decoder(list[_Fallback | str])


class Wanted(NamedTuple):
    """
    What was taken out of a request.

    Attributes:
        models: To be asked one after the other, behind ``model``.
        preferences: See :class:`~hpp_middleware.types.preferences.Preferences`; None where nothing is said.
    """

    models: tuple[Named, ...] = ()
    preferences: Preferences | None = None


NOTHING = Wanted()


def taken(fields: dict[str, Raw], *, also: str | None = None) -> Wanted:
    """
    Take ``models`` and ``provider`` out of a request's members. Where there is no ``model``, the first of ``models`` is
    it, and stands in the members as such.

    Args:
        fields: The members, which are changed.
        also: Another name of ``models`` in this API.
    Raises:
        RequestError: 400; it names the field.
    """
    if "models" not in fields and "provider" not in fields and (also is None or also not in fields):
        return NOTHING
    models = _models(fields.pop("models", NULL), "models")
    if also is not None and also in fields:
        more = _fallback_models(fields.pop(also), also)
        if models and more:
            raise bad(also, "must not stand beside models: they say the same")
        models = models or more
    raw = fields.pop("provider", NULL)
    if models and fields.get("model", NULL) == NULL:
        fields["model"] = Raw(msgspec.json.encode(models[0].model))
        models = models[1:]
    return Wanted(tuple(models), _preferences(raw) if raw != NULL else None)


def known(preferences: Preferences, providers: Collection[str], models: Callable[[str], object | None]) -> None:
    """
    Whether every name is one of here: a name that is misspelt would let through what it is to keep out.

    Args:
        preferences: The client's.
        providers: The configured ones.
        models: Finds a model by its ``provider/model``, or None.
    Raises:
        RequestError: 400; it names the entry.
    """
    given = (("order", preferences.order), ("only", preferences.only or ()), ("ignore", preferences.ignore))
    for field, names in given:
        for name in names:
            if name not in providers and ("/" not in name or models(name) is None):
                raise bad(f"provider.{field}", f"names {name!r}, which is neither a provider nor a model here")


def applied(
    targets: Sequence[Target],
    preferences: Preferences,
    request: Request,
    *,
    named: Collection[str],
    ranked: Callable[[Sequence[Target]], Sequence[Target]],
) -> tuple[list[Target], dict[str, str]]:
    """
    The targets that the client's preferences leave, in the order that they ask for.

    Args:
        targets: In the order that they have without.
        preferences: The client's.
        request: What is asked, for its size.
        named: The models that the client itself has named.
        ranked: Puts those first that are fastest at what is to be sorted by, as far as that is known.
    Returns:
        Them; and of each that is left out, by its id, why.
    """
    why: dict[str, str] = {}
    left: list[Target] = []
    for target in targets:
        reason = _excluded(target, preferences, request, named)
        if reason is None:
            left.append(target)
        else:
            why[target.id] = reason
    if preferences.sort == "price":
        left.sort(key=lambda target: pricing.cost(_usage(request), target.price))
    elif preferences.sort is not None:
        left = list(ranked(left))
    if preferences.order:
        left.sort(key=lambda target: _place(target, preferences.order))
    return left, why


def _excluded(target: Target, preferences: Preferences, request: Request, named: Collection[str]) -> str | None:
    """Why a target may not be asked; None where it may."""
    if preferences.only is not None and not _is_in(target, preferences.only):
        return "provider.only leaves it out"
    if _is_in(target, preferences.ignore):
        return "provider.ignore names it"
    if not preferences.allow_fallbacks:
        if preferences.order and not _is_in(target, preferences.order):
            return "provider.allow_fallbacks is false, and provider.order does not name it"
        if target.id not in named:
            return "provider.allow_fallbacks is false, and the request does not name it"
    return too_dear(target, preferences, request)


def too_dear(target: Target, preferences: Preferences, request: Request) -> str | None:
    """Why a target costs more than the client is willing to pay; None where it does not."""
    rates = pricing.rates_for(target.price, _usage(request).input)
    if preferences.max_prompt is not None and rates.input > preferences.max_prompt:
        return "its prompts cost more than provider.max_price.prompt"
    if preferences.max_completion is not None and rates.output > preferences.max_completion:
        return "its answers cost more than provider.max_price.completion"
    return None


def _is_in(target: Target, names: Collection[str]) -> bool:
    return target.provider_name in names or target.id in names


def _place(target: Target, order: tuple[str, ...]) -> int:
    """Where a target stands; behind all that are named where it is not."""
    return min(
        (place for place, name in enumerate(order) if name in (target.provider_name, target.id)), default=MOST_NAMES
    )


def _usage(request: Request) -> Usage:
    """About what a request comes to, whoever answers: its bytes, and its cap or a usual answer."""
    size = sum(memoryview(raw).nbytes for raw in request.fields.values()) - request.images.inline_bytes
    return Usage(
        input=tokens_of(max(0, size)) if request.tokens is None else request.tokens,
        output=request.n * min(ANSWER_TOKENS, ANSWER_TOKENS if request.cap is None else request.cap),
    )


def _models(raw: Raw, where: str) -> list[Named]:
    found = [] if raw == NULL else decoded(raw, _names, where, "an array of model names")
    return _checked(found, where)


def _fallback_models(raw: Raw, where: str) -> list[Named]:
    """Anthropic's ``fallbacks``; its word ``default`` leaves them to whom is asked."""
    if raw in (NULL, Raw(b'"default"')):
        return []
    found = decoded(raw, _fallbacks, where, "an array of model names, or of objects with a model and nothing else")
    return _checked([each if isinstance(each, str) else each.model for each in found], where)


def _checked(names: list[str], where: str) -> list[Named]:
    if len(names) > MOST_MODELS:
        raise bad(where, f"must not have more than {MOST_MODELS} entries")
    for number, name in enumerate(names):
        if not 0 < len(name) <= MOST_CHARACTERS:
            raise bad(f"{where}[{number}]", "must be a model's name")
        if name == AUTO and number:
            raise bad(f"{where}[{number}]", f"must name a model: {AUTO} can only come first")
    return [Named(name, f"{where}[{number}]") for number, name in enumerate(names)]


def _preferences(raw: Raw) -> Preferences:
    given = decoded(raw, _object, "provider", "an object")
    found: dict[str, Any] = {}
    for name, value in given.items():
        where = f"provider.{name[:MOST_CHARACTERS]}"
        if value == NULL:
            continue
        if name in _REFUSED:
            if name in {"zdr", "enforce_distillable_text"} and bytes(value) == b"false":
                continue
            raise bad(where, f"is not accepted: {_REFUSED[name]}")
        read = _READ.get(name)
        if read is None:
            raise bad(where, "is not known here")
        found |= read(value, where)
    return Preferences(**found)


def _listed(raw: Raw, where: str) -> list[str]:
    names = decoded(raw, _names, where, "an array of names")
    if len(names) > MOST_NAMES:
        raise bad(where, f"must not have more than {MOST_NAMES} entries")
    if any(len(name) > MOST_CHARACTERS for name in names):
        raise bad(where, f"must not have a name of more than {MOST_CHARACTERS} characters")
    return names


def _sort(raw: Raw, where: str) -> dict[str, Any]:
    if bytes(raw)[:1] == b"{":
        members = decoded(raw, _object, where, "a word or an object")
        unknown = sorted(members.keys() - {"by", "partition"})
        if unknown:
            raise bad(f"{where}.{unknown[0][:MOST_CHARACTERS]}", "is not known here")
        if members.get("partition", NULL) not in (NULL, Raw(b'"none"')):
            raise bad(f"{where}.partition", 'must be "none": all targets are sorted together')
        raw, where = members.get("by", NULL), f"{where}.by"
    word = decoded(raw, _string, where, f"one of {', '.join(_SORTS)}")
    if word not in _SORTS:
        raise bad(where, f"must be one of {', '.join(_SORTS)}")
    return {"sort": word}


def _max_price(raw: Raw, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in decoded(raw, _object, where, "an object").items():
        if value == NULL:
            continue
        if name not in {"prompt", "completion"}:
            raise bad(
                f"{where}.{name[:MOST_CHARACTERS]}",
                "is not accepted: prices here are by the token, for prompt and completion",
            )
        limit = decoded(value, _price, f"{where}.{name}", "dollars a million tokens")
        try:
            found[f"max_{name}"] = pricing.per_token(limit, f"{where}.{name}")
        except ConfigurationError as error:  # the same rule as for prices that are configured
            raise RequestError(f"{error.message}.", param=f"{where}.{name}") from None
    return found


def _collection(raw: Raw, where: str) -> dict[str, Any]:
    if decoded(raw, _string, where, "allow or deny") != "allow":
        raise bad(where, "must be allow: what a provider does with data is a tag here: see X-HPP-Router-Require")
    return {}


def _flag(name: str) -> Callable[[Raw, str], dict[str, Any]]:
    return lambda raw, where: {name: decoded(raw, _truth, where, "true or false")}


_READ: Mapping[str, Callable[[Raw, str], dict[str, Any]]] = {
    "order": lambda raw, where: {"order": tuple(dict.fromkeys(_listed(raw, where)))},
    "only": lambda raw, where: {"only": frozenset(_listed(raw, where))},
    "ignore": lambda raw, where: {"ignore": frozenset(_listed(raw, where))},
    "allow_fallbacks": _flag("allow_fallbacks"),
    "require_parameters": _flag("require_parameters"),
    "sort": _sort,
    "max_price": _max_price,
    "data_collection": _collection,
}
