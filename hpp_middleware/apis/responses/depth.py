"""How deep a request in Responses' words is: seen in what is read of it, and not looked for in each of its bytes."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.responses.items import NULL, Item, Part
from hpp_middleware.core.body import check_nesting, check_values
from hpp_middleware.types.provider import Limits

__all__ = ["items"]

_IN_PART = 5
"""How deep what a part has is in the body: that, ``input``, the item, its content, the part."""

_IN_TOOL = 3
_KNOWN = 6
"""How deep a known request is by itself: so is a part's audio."""


class _Audio(Struct, forbid_unknown_fields=True):
    data: str
    format: str


class _Part(Part, kw_only=True, forbid_unknown_fields=True):
    input_audio: _Audio | None = None  # type: ignore[assignment]  # of which nobody asks more than whether it is there
    annotations: Raw = Raw()
    logprobs: Raw = Raw()


class _Item(Item, kw_only=True, forbid_unknown_fields=True):
    content: str | list[_Part] | None = None  # type: ignore[assignment]  # which have what the others have
    output: str | list[_Part] | None = None  # type: ignore[assignment]
    summary: list[_Part] | None = None  # type: ignore[assignment]
    environment: None = None
    tools: None = None
    status: str | None = None
    phase: str | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = Raw()
    format: Raw = Raw()
    strict: bool | None = None


_input = msgspec.json.Decoder(list[_Item])
_tools = msgspec.json.Decoder(list[_Tool] | None)
_READ = frozenset({"input", "tools"})


def items(body: bytes, fields: dict[str, Raw], limits: Limits) -> Sequence[Item] | None:
    """
    The items of a request in which all is known, and None of another one.

    Args:
        body: The request, which has no more values than it may.
        fields: Its members.
        limits: Bounds on it.
    Raises:
        RequestError: 400: it is too deep.
    """
    found: list[_Item] | None = None
    try:
        if limits.depth >= _KNOWN:
            tools = _tools.decode(fields.get("tools", NULL)) or ()
            found = _input.decode(fields.get("input", NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = None
    if found is None:
        check_nesting(body, limits)
    else:
        check_values(_passed_over(found, tools, fields), limits)
    return found


def _passed_over(found: Sequence[_Item], tools: Sequence[_Tool], fields: dict[str, Raw]) -> Iterator[tuple[int, Raw]]:
    """What was not read, and how deep it is."""
    for item in found:
        for parts in (item.content, item.output, item.summary):
            for part in parts if isinstance(parts, list) else ():
                yield _IN_PART, part.annotations
                yield _IN_PART, part.logprobs
    for tool in tools:
        yield _IN_TOOL, tool.parameters
        yield _IN_TOOL, tool.format
    for name in fields.keys() - _READ:
        yield 1, fields[name]
