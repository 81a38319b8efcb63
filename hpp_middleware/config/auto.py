"""What ``[auto]`` comes to: a policy, or none where it names no model."""

from importlib import import_module
from pathlib import Path
from typing import Any

from hpp_middleware.config.sections import AutoSection, LearnedSection, TiersSection
from hpp_middleware.core.auto import AutoPolicy, Learned, Tier
from hpp_middleware.core.auto.ranked import Scores
from hpp_middleware.errors import ConfigurationError

__all__ = ["auto_policy"]

_ALIKE = (
    "policy",
    "streaming",
    "streaming_fallback",
    "simple_max_tokens",
    "margin",
    "sticky",
    "shadow",
    "cascade",
    "cascade_samples",
    "rules",
)


def auto_policy(section: AutoSection, *, directory: Path, problems: list[str]) -> AutoPolicy | None:
    """
    The policy, its values checked; that its models exist is checked by the gateway.

    Args:
        section: What the file says.
        directory: Where relative paths begin.
        problems: What is wrong with it is added here.
    """
    if not section.model_fields_set:
        return None
    try:
        settings = section.given(*_ALIKE)
        if section.rules_version is not None:
            settings["rules_version"] = section.rules_version
        found = AutoPolicy(
            tool=tuple(section.tool),
            simple=tuple(section.simple),
            simple_keywords=tuple(section.simple_keywords),
            tiers=_tiers(section.tiers),
            learned=_learned(section.learned, directory),
            **settings,
        )
    except ConfigurationError as error:
        problems.append(f"{error.param}: {error.message.removeprefix(f'{error.param} ')}")
        return None
    if not found.models:
        problems.append("auto: names no model; set tool, simple, tiers or learned")
        return None
    return found


def _tiers(section: TiersSection) -> dict[str, Tier]:
    given = section.given()
    return {
        name: Tier(models=tuple(tier.models), max_tokens=tier.max_tokens)
        for name, tier in given.items()
        if tier is not None
    }


def _learned(section: LearnedSection, directory: Path) -> Learned | None:
    if not section.model_fields_set:
        return None
    for name in ("strong", "weak"):
        if getattr(section, name) is None:
            raise ConfigurationError(f"auto.learned.{name} is missing", param=f"auto.learned.{name}")
    given: dict[str, Any] = section.given("strong", "weak", "quality", "share", "budget", "answer_tokens")
    return Learned(**given, scorer=_scorer(directory / section.file) if section.file is not None else None)


def _scorer(path: Path) -> Scores:
    """What ``hpp-router auto fit`` has written, in the place of what comes with the package."""
    where = "auto.learned.file"
    learned: Any = import_module("hpp_middleware.core.auto.learned")
    try:
        scorer: Scores = learned.Scorer(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{where} {path} cannot be read ({error.strerror})", param=where) from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{where} {path}: {error.message}", param=where) from error
    return scorer
