"""
Functions in a namespace, as a chat completion has them: of all that stand beside each other, under a longer name.

Agents of OpenAI's put the tools of each MCP server, and some of their own, into a namespace. Other providers know no
such thing, so that ``spawn`` of ``agents`` is ``agents__spawn`` there, as these agents had it themselves before.
"""

from collections.abc import Mapping
from hashlib import sha256

from msgspec import Raw

from hpp_middleware.apis.responses.items import Tool, value

__all__ = ["flat", "names"]

LONGEST = 64
"""Letters in a function's name, by OpenAI's rule, which the others have as well."""

_MARK = 9  # of a shortened name: "_", and eight letters that tell it apart


def flat(namespace: str | None, name: str) -> str:
    """A function's name where there are no namespaces."""
    if namespace is None:
        return name
    whole = f"{namespace}__{name}"
    if len(whole) <= LONGEST:
        return whole
    return f"{whole[: LONGEST - _MARK]}_{sha256(whole.encode()).hexdigest()[: _MARK - 1]}"


def names(fields: Mapping[str, Raw]) -> dict[str, tuple[str, str]]:
    """
    By its name in the chat completion, the namespace and the name of each function that has one.

    Args:
        fields: A request's, which has been read.
    """
    tools: list[Tool] = value(dict(fields), "tools", list[Tool]) or []
    return {
        flat(space.name, tool.name): (space.name, tool.name)
        for space in tools
        if space.type == "namespace" and space.name is not None
        for tool in space.tools or ()
        if tool.name is not None
    }
