"""A provider's ``options``: one that its dialect does not know would do nothing, and nobody would hear of it."""

from collections.abc import Collection

from hpp_middleware.core.did_you_mean import did_you_mean
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.provider import Provider

__all__ = ["check_names"]


def check_names(provider: Provider, known: Collection[str]) -> None:
    """
    Refuse options that a dialect does not know.

    Args:
        provider: Its settings.
        known: The names that the dialect knows.
    Raises:
        ConfigurationError: There is another; the message has the nearest that is known.
    """
    for name in sorted(provider.options.keys() - set(known)):
        raise ConfigurationError(
            f"options.{name} is unknown to dialect {provider.dialect}, which knows {', '.join(sorted(known))}"
            f"{did_you_mean(name.casefold(), known)}",
            param=f"options.{name}",
        )
