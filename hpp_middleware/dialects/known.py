"""
The dialects by name: ours, and those that other packages bring under the entry point ``hpp_middleware.dialects``.

Each is imported when a provider first names it, so that nobody pays for a dialect that he does not use.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hpp_middleware.errors import ConfigurationError

__all__ = ["GROUP", "OURS", "find", "names"]

GROUP = "hpp_middleware.dialects"
"""The entry point: its name is the dialect's, its value what makes the dialect when called without arguments."""

OURS: Mapping[str, tuple[str, str]] = {
    "openai": ("hpp_middleware.dialects.openai", "OpenAI"),
    "gemini": ("hpp_middleware.dialects.gemini", "Gemini"),
    "vertex": ("hpp_middleware.dialects.gemini", "Vertex"),
    "anthropic": ("hpp_middleware.dialects.anthropic", "Anthropic"),
    "bedrock": ("hpp_middleware.dialects.bedrock", "Bedrock"),
    "azure": ("hpp_middleware.dialects.azure", "Azure"),
    "ollama": ("hpp_middleware.dialects.ollama", "Ollama"),
}
"""Module and class."""


def find(name: str) -> Any:
    """
    A new dialect of this name.

    Raises:
        ConfigurationError: There is none, or it cannot be made.
    """
    if name in OURS:
        module, attribute = OURS[name]
        return getattr(import_module(module), attribute)()
    for point in _points():
        if point.name == name:
            try:
                return point.load()()
            except Exception as error:
                raise ConfigurationError(
                    f"dialect {name!r} of {point.value} cannot be made: {type(error).__name__}", param="dialect"
                ) from error
    raise ConfigurationError(f"dialect {name!r} is unknown; there are {', '.join(names())}", param="dialect")


def names() -> tuple[str, ...]:
    """All that there are."""
    return (*OURS, *sorted({point.name for point in _points()} - OURS.keys()))


def _points() -> list[EntryPoint]:
    return list(entry_points(group=GROUP))
