"""URLs from names that stand in requests and settings."""

import re
from collections.abc import Mapping

from hpp_middleware.errors import ConfigurationError

__all__ = ["filled", "segment"]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_PLACE = re.compile(r"\{([a-z_]+)\}")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?")


def segment(name: str) -> str:
    """A name as one segment of a path, whatever is in it: slashes and colons too are percent-encoded."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in name.encode())


def filled(template: str, options: Mapping[str, str]) -> str:
    """
    A URL whose host names options in braces: ``https://bedrock-runtime.{region}.amazonaws.com``.

    Raises:
        ConfigurationError: An option is missing, or no part of a host's name.
    """
    for name in _PLACE.findall(template):
        if not _LABEL.fullmatch(options.get(name, "")):
            raise ConfigurationError(f"options.{name} is missing, or no part of a host's name", param=f"options.{name}")
    return _PLACE.sub(lambda found: options[found[1]], template)
