"""
How deep a request in Anthropic's words is: seen in what is read of it anyway, and not looked for in each of its bytes.

An agent's request is large, and nearly all of it is text. Where nothing in it is unknown, only the values that the
reading passes over are looked at. A value whose name is given once more after it counts for nothing, here as anywhere:
it may be as deep as can be read at all.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.messages.nouns import NULL, Block, Source, Turn
from hpp_middleware.core.body import check_nesting, check_values
from hpp_middleware.types.provider import Limits

__all__ = ["turns"]

_IN_TURN = 5
"""How deep what a block of a turn has is in the body: that, ``messages``, the turn, its content, the block."""

_IN_SYSTEM = _IN_TOOL = 3
_KNOWN = 6
"""How deep a known request is by itself: so is a block's source, or its cache."""


class _Cache(Struct, forbid_unknown_fields=True):
    type: str
    ttl: str | None = None


class _Source(Source, forbid_unknown_fields=True):
    pass


class _Block(Block, forbid_unknown_fields=True):
    source: _Source | str | None = None
    cache_control: _Cache | None = None  # type: ignore[assignment]  # which nobody who asks for turns reads
    citations: Raw = Raw()
    caller: Raw = Raw()


class _Turn(Turn, forbid_unknown_fields=True):
    content: str | list[_Block]  # type: ignore[assignment]  # whose blocks have what the others have


class _Tool(Struct, forbid_unknown_fields=True):
    name: str
    type: str | None = None
    description: str | None = None
    input_schema: Raw = Raw()
    input_examples: Raw = Raw()
    strict: bool | None = None
    cache_control: _Cache | None = None


_messages = msgspec.json.Decoder(list[_Turn])
_system = msgspec.json.Decoder(str | list[_Block] | None)
_tools = msgspec.json.Decoder(list[_Tool] | None)
_READ = frozenset({"messages", "system", "tools"})


def turns(body: bytes, fields: dict[str, Raw], limits: Limits) -> Sequence[Turn] | None:
    """
    The turns of a request in which all is known, and None of another one.

    Args:
        body: The request, which has no more values than it may.
        fields: Its members.
        limits: Bounds on it.
    Raises:
        RequestError: 400: it is too deep.
    """
    found: list[_Turn] | None = None
    try:
        if limits.depth >= _KNOWN:
            system = _system.decode(fields.get("system", NULL))
            tools = _tools.decode(fields.get("tools", NULL)) or ()
            found = _messages.decode(fields.get("messages", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None:
        check_nesting(body, limits)
    else:
        check_values(_passed_over(found, system, tools, fields), limits)
    return found


def _passed_over(
    found: Sequence[_Turn], system: str | list[_Block] | None, tools: Sequence[_Tool], fields: dict[str, Raw]
) -> Iterator[tuple[int, Raw]]:
    """What was not read, and how deep it is."""
    blocks = [(_IN_SYSTEM, block) for block in system] if isinstance(system, list) else []
    blocks += [(_IN_TURN, block) for turn in found if isinstance(turn.content, list) for block in turn.content]
    for above, block in blocks:
        for value in (block.input, block.content, block.citations, block.caller):
            if value:
                yield above, value
        if isinstance(block.source, Source):
            yield above + 1, block.source.content
    for tool in tools:
        yield _IN_TOOL, tool.input_schema
        yield _IN_TOOL, tool.input_examples
    for name in fields.keys() - _READ:
        yield 1, fields[name]
