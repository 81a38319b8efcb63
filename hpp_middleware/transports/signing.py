"""
What a dialect's calls need in their heads that only the shell can know: a token that is fetched, a dated signature.

Each signer is imported when a provider first needs it, so that nobody pays for a vendor whom he does not use.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec

from hpp_middleware.errors import ConfigurationError
from hpp_middleware.ports import Transport
from hpp_middleware.types.provider import Provider

__all__ = ["SIGNERS", "check", "signed"]

SIGNERS: Mapping[str, tuple[str, str, str]] = {
    "bedrock": ("hpp_middleware.transports.aws", "botocore", "bedrock"),
    "vertex": ("hpp_middleware.transports.google", "google.auth", "vertex"),
}
"""By dialect: a module with a ``signed(provider, transport)``, what it needs installed, and the extra that has it."""


def check(name: str, provider: Provider) -> None:
    """
    Whether a provider's calls can be signed.

    Args:
        name: The provider's.
        provider: Its settings.
    Raises:
        ConfigurationError: They cannot: something is not installed.
    """
    found = _signer(provider)
    if found is None:
        return
    _, needed, extra = found
    try:
        missing = find_spec(needed) is None
    except ModuleNotFoundError:  # of what it is a part of
        missing = True
    if missing:
        raise ConfigurationError(
            f"providers.{name}.dialect needs `pip install hpp_middleware[{extra}]`, or an api_key",
            param=f"providers.{name}.dialect",
        )


def signed(provider: Provider, transport: Transport) -> Transport:
    """
    A transport whose calls carry what their provider asks for.

    Args:
        provider: Whom they go to. One with an ``api_key`` has said in its dialect's headers who is calling.
        transport: What sends them; the one in front of it closes it.
    """
    found = _signer(provider)
    if found is None:
        return transport
    made: Transport = import_module(found[0]).signed(provider, transport)
    return made


def _signer(provider: Provider) -> tuple[str, str, str] | None:
    return SIGNERS.get(provider.dialect) if provider.api_key is None else None
