"""What is wrong with the settings of an :class:`~hpp_middleware.core.auto.rules.AutoPolicy`, each by its name."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpp_middleware.core.auto.ranked import Learned
from hpp_middleware.errors import ConfigurationError

if TYPE_CHECKING:
    from hpp_middleware.core.auto.rules import AutoPolicy, Tier

__all__ = ["RULES", "TIERS", "check"]

TIERS = ("T1", "T2", "T3")
RULES = (
    *("streaming-fallback", "tool", "simple-keyword", "simple-tokens", "complex-T1", "complex-T2", "complex-T3"),
    *("learned-weak", "learned-strong"),
)
"""The rules that can have an id of the operator's own."""

_HEADER = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "rules_version": ((str,), "a str"),
    "margin": ((int, float), "a number"),
    "cascade": ((bool,), "True or False"),
    "tiers": ((Mapping,), "a mapping"),
    "rules": ((Mapping,), "a mapping"),
}
"""What each setting is to be that is more than a word or a list: the file's are of their kinds already."""


def check(policy: "AutoPolicy") -> None:
    """
    Refuse settings that make no sense.

    Raises:
        ConfigurationError: A value is wrong; the message names it.
    """
    _check_kinds(policy)
    _check_words(policy)
    if policy.learned is None and "learned" in {policy.policy, policy.shadow}:
        raise _wrong("learned", "is missing: policy or shadow is learned")
    if policy.streaming == "fallback" and not policy.streaming_fallback:
        raise _wrong("streaming_fallback", "is missing: streaming is fallback")
    if not 0 < policy.margin < 1000:
        raise _wrong("margin", "must be above 0, and below 1000")
    if policy.simple_max_tokens is not None and policy.simple_max_tokens < 0:
        raise _wrong("simple_max_tokens", "must not be below 0")
    if policy.cascade_samples not in {1, 2}:
        raise _wrong("cascade_samples", "must be 1 or 2")
    if policy.cascade_samples > 1 and not policy.cascade:
        raise _wrong("cascade_samples", "is set, but cascade is not")
    words: Sequence[object] = policy.simple_keywords
    if isinstance(words, str) or not all(isinstance(each, str) and each.strip() for each in words):
        raise _wrong("simple_keywords", "must be words that are not empty")
    _check_names(policy)
    _check_tiers(policy.tiers)
    _check_used(policy)


def _check_used(policy: "AutoPolicy") -> None:
    """What can never come to anything was meant otherwise."""
    if policy.simple and policy.simple_max_tokens is None and not policy.simple_keywords:
        raise _wrong("simple", "can never be chosen: set simple_keywords or simple_max_tokens")
    if policy.cascade and policy.learned is None and not policy.tiers:
        raise _wrong("cascade", "has nobody to ask next: set tiers or learned")


def _check_kinds(policy: "AutoPolicy") -> None:
    for name, (kinds, said) in _KINDS.items():
        value = getattr(policy, name)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _wrong(name, f"must be {said}")
    learned: object = policy.learned
    if learned is not None and not isinstance(learned, Learned):
        raise _wrong("learned", "must be a Learned")
    for name, tier in policy.tiers.items():
        if not hasattr(tier, "models") or not _is_count(getattr(tier, "max_tokens", None)):
            raise _wrong(f"tiers.{name}", "must be a Tier, its max_tokens an int or None")
    if not _is_count(policy.simple_max_tokens):
        raise _wrong("simple_max_tokens", "must be an int or None")


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _check_words(policy: "AutoPolicy") -> None:
    _one_of("policy", policy.policy, ("rules", "learned"))
    _one_of("streaming", policy.streaming, ("classify", "fallback"))
    _one_of("sticky", policy.sticky, ("conversation", "upwards", "off"))
    if policy.shadow is not None:
        _one_of("shadow", policy.shadow, ("rules", "learned"))


def _check_names(policy: "AutoPolicy") -> None:
    for where, models in policy.named:
        if isinstance(models, str) or not all(isinstance(model, str) for model in models):
            raise _wrong(where, "must be a list of models")
    if not _HEADER.fullmatch(policy.rules_version):
        raise _wrong("rules_version", "must be 1 to 100 printable ASCII characters")
    rules: Mapping[str, object] = policy.rules
    for rule, told in rules.items():
        if rule not in RULES:
            raise _wrong(f"rules.{rule}", f"is no rule; there are {', '.join(RULES)}")
        if not isinstance(told, str) or not _HEADER.fullmatch(told):
            raise _wrong(f"rules.{rule}", "must be 1 to 100 printable ASCII characters")


def _check_tiers(tiers: Mapping[str, "Tier"]) -> None:
    lower: int | None = 0
    for name in tiers:
        if name not in TIERS:
            raise _wrong(f"tiers.{name}", f"is no tier; there are {', '.join(TIERS)}")
    for name in TIERS:
        tier = tiers.get(name)
        if tier is None:
            continue
        if not tier.models:
            raise _wrong(f"tiers.{name}.models", "must name at least one model")
        if lower is None:
            raise _wrong(f"tiers.{name}", "can never be reached: a lower tier has no max_tokens")
        if tier.max_tokens is not None and tier.max_tokens <= lower:
            raise _wrong(f"tiers.{name}.max_tokens", f"must be above {lower}")
        lower = tier.max_tokens


def _one_of(name: str, value: str, words: tuple[str, ...]) -> None:
    if value not in words:
        raise _wrong(name, f"must be one of {', '.join(words)}")


def _wrong(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"auto.{name} {problem}", param=f"auto.{name}")
