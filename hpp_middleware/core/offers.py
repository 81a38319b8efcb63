"""
Tools of a Response's request that a client offers by itself, and that no answer needs: they are left out.

Agents of OpenAI's (Codex) offer its search among their own tools in every request, told not to leave the cache
(``external_web_access: false``): nobody has asked for it. A search costs by the call, and there is no bound on how many
a model makes, so that it cannot be passed on; where a user has asked for searches, it is refused by name.

Source: https://platform.openai.com/docs/guides/tools-web-search, and ``create_web_search_tool`` of Codex.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.body import words

__all__ = ["SEARCH", "kept", "left_out"]

SEARCH = "tools.web_search"
"""How a client is told of it."""

_NOBODY_CHOSE = (Raw(), Raw(b"null"), Raw(b'"auto"'), Raw(b'"none"'))


class _Tool(Struct):
    type: str | None = None
    external_web_access: bool | None = None


_tools = msgspec.json.Decoder(list[_Tool])
_raws = msgspec.json.Decoder(list[Raw])
_encode = msgspec.json.Encoder().encode


def left_out(fields: Mapping[str, Raw]) -> frozenset[int]:
    """
    Which of a request's tools are left out, by their places.

    None, where the request is about nothing else: all its tools are such, or it says which to use.
    """
    tools = fields.get("tools")
    if tools is None or words(tools).find(b'"external_web_access"') < 0:
        return frozenset()
    if fields.get("tool_choice", Raw()) not in _NOBODY_CHOSE:
        return frozenset()
    try:
        found = _tools.decode(tools)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return frozenset()  # which is found to be wrong elsewhere
    places = frozenset(at for at, tool in enumerate(found) if _is_offered(tool))
    return places if len(places) < len(found) else frozenset()


def kept(fields: Mapping[str, Raw], places: frozenset[int]) -> Raw:
    """The tools without those at these places."""
    return Raw(_encode([tool for at, tool in enumerate(_raws.decode(fields["tools"])) if at not in places]))


def _is_offered(tool: _Tool) -> bool:
    return tool.type == "web_search" and tool.external_web_access is False
