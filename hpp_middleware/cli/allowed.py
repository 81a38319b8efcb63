"""Whether what a key is to be held to is there: a mistyped model makes a key that nothing lets in."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from hpp_middleware.config import Settings
from hpp_middleware.core.did_you_mean import did_you_mean
from hpp_middleware.core.route import Catalog
from hpp_middleware.errors import ConfigurationError

__all__ = ["unmatched"]


def unmatched(models: Sequence[str], settings: Settings) -> list[str]:
    """
    What to say of models and globs that let nothing in as the configuration is.

    Args:
        models: What a key is to be held to.
        settings: The configuration.
    """
    with suppress(ConfigurationError):  # which it has for a reason that is none of these models'
        return list(_said(models, settings.gateway().catalog))
    return []


def _said(models: Sequence[str], catalog: Catalog) -> Iterator[str]:
    ids = [target.id for target in catalog.targets()]
    for each in models:
        if any(fnmatchcase(model_id, each) for model_id in ids) or catalog.find(each) is not None:
            continue
        provider, slash, _ = each.partition("/")
        if each in catalog.aliases:
            yield f"{each} is an alias, and a key is held to what it stands for: {catalog.aliases[each]}"
        elif not slash:
            yield f"{each} is no provider/model, and lets nothing in"
        elif not any(fnmatchcase(name, provider) for name in catalog.providers):
            yield f"no provider {provider} is configured{did_you_mean(provider, catalog.providers)}"
        else:
            yield f"no model {each} with a price is there{did_you_mean(each, ids)}"
