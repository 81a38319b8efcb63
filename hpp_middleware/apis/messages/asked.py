"""
A request in Anthropic's words: read strictly, as far as the router acts on it, and no further.

The top level becomes members whose values stay raw, each key once. Content that is only referred to is refused, since
its size, and so its cost, has no bound; images by an https address are not, since an image's cost has one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.messages import depth
from hpp_middleware.apis.messages.nouns import NULL, Block, Source, Turn
from hpp_middleware.core import parse, preferences
from hpp_middleware.core.body import SMALL
from hpp_middleware.core.fields import decoder
from hpp_middleware.core.messages import UNTHREADED
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

__all__ = ["asked", "bad", "blocks_of", "decoded", "value"]

_ACTED_ON = frozenset(
    {
        "model",
        "messages",
        "system",
        "stream",
        "max_tokens",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "speed",
        "service_tier",
        "inference_geo",
        "container",
        "mcp_servers",
        "fallbacks",
        "models",
        "provider",
        "thread",
    }
)
"""Keys that somebody acts on: no other letter case of them passes, since some servers match keys without case."""

_IMAGE = re.compile(r"image/[a-z0-9.+-]{1,40}")
_PLAIN = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
"""Blocks that can refer to nothing."""


_CONTENT = str | list[Block]


class _Tool(Struct):
    name: str | None = None
    type: str | None = None


class _Thinking(Struct):
    type: str


class _Facts:
    """What a prompt has besides text."""

    def __init__(self) -> None:
        self.images = 0
        self.inline = 0


def asked(body: bytes, limits: Limits, *, counting: bool = False) -> Request:
    """
    A request for a message.

    Args:
        body: The JSON body.
        limits: Bounds on it.
        counting: Whether its tokens are only to be counted: then it needs no ``max_tokens``.
    Raises:
        RequestError: 400; ``param`` and the message name the field.
    """
    nested = len(body) >= SMALL  # else to look at all of it takes the least time
    fields = parse.members(body, limits, nested=nested)
    turns = depth.turns(body, fields, limits) if nested else None
    for key in fields:
        folded = key.casefold()
        if folded in parse.STEERING:
            raise RequestError(f"{key!r} is not accepted.", param=key)
        if folded in _ACTED_ON and key != folded:
            raise RequestError(f"{key!r} must be written {folded!r}.", param=key)
    if fields.get("thread", NULL) != NULL:
        # The SDK then sends the whole conversation without it, as it does where Anthropic itself cannot thread one.
        raise RequestError(
            "thread is not accepted: the prompt would be longer than what is sent.", code=UNTHREADED, param="thread"
        )
    wanted = preferences.taken(fields, also="fallbacks")
    model = value(fields, "model", str)
    if model is None:
        raise bad("model", "is required")
    if not parse.is_model_id(model):
        raise bad("model", "must be 1 to 200 letters, digits, or any of . _ : / @ -")
    cap = value(fields, "max_tokens", int)
    if cap is None and not counting:
        raise bad("max_tokens", "is required")
    if cap is not None and not 1 <= cap <= limits.max_tokens:
        raise bad("max_tokens", f"must be an integer from 1 to {limits.max_tokens}")
    tools = value(fields, "tools", list[_Tool])
    if tools is not None and len(tools) > limits.tools:
        raise bad("tools", f"must not have more than {limits.tools} entries")
    thinking = value(fields, "thinking", _Thinking)
    return Request(
        fields=fields,
        model=model,
        api="messages",
        stream=bool(value(fields, "stream", bool)),
        include_usage=True,
        cap=cap,
        images=_images(fields, turns, limits),
        hidden_reasoning=thinking is not None and thinking.type != "disabled",  # what is shown is a summary
        models=wanted.models,
        preferences=wanted.preferences,
    )


def _images(fields: dict[str, Raw], turns: Sequence[Turn] | None, limits: Limits) -> Images:
    if turns is None:
        turns = value(fields, "messages", list[Turn])
    if not turns:
        raise bad("messages", "is required" if turns is None else "must be an array that is not empty")
    if len(turns) > limits.messages:
        raise bad("messages", f"must not have more than {limits.messages} entries")
    system: str | list[Block] | None = value(fields, "system", _CONTENT)
    for number, block in enumerate(system if isinstance(system, list) else ()):
        if block.type != "text" or block.text is None:
            raise bad(f"system[{number}].type", "must be text, with its text")
    facts = _Facts()
    for number, turn in enumerate(turns):
        if isinstance(turn.content, list):
            _look(turn.content, f"messages[{number}].content", facts)
    return Images(facts.images, facts.inline)


def _look(blocks: Sequence[Block], where: str, facts: _Facts) -> None:
    for number, block in enumerate(blocks):
        has_source = isinstance(block.source, Source)
        if block.type in _PLAIN and not has_source:
            continue
        at = f"{where}[{number}]"
        if block.type == "image":
            facts.images += 1
            facts.inline += _inline_bytes(block.source, f"{at}.source")
        elif block.type == "document":
            _look_at_document(block.source, f"{at}.source", facts)
        elif block.type == "tool_result":
            _look(blocks_of(block.content, f"{at}.content"), f"{at}.content", facts)
        elif has_source:  # a video, say, of other servers
            raise bad(f"{at}.type", "must be image or document where it has a source: of no other the size is known")
        else:
            within = decoded(block.content or NULL, Any, f"{at}.content")
            if block.type == "container_upload" or any(_referring(within)):
                raise _by_reference(at)
            facts.images += sum(_pictures(within))  # whose bytes count as well


def _pictures(found: Any) -> Iterator[bool]:
    """Whether something inside is an image, for each thing."""
    if isinstance(found, dict):
        yield found.get("type") == "image"
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _pictures(inner)


def _inline_bytes(source: Source | str | None, where: str) -> int:
    if not isinstance(source, Source):
        raise bad(where, "is required")
    if source.type == "url":
        if source.url is None or source.url[:8].lower() != "https://":
            raise bad(f"{where}.url", "must be an https: URL")
        return 0
    if source.type != "base64":
        raise _by_reference(where)
    if source.media_type is None or _IMAGE.fullmatch(source.media_type) is None:
        raise bad(f"{where}.media_type", "must be an image's, such as image/png")
    if source.data is None:
        raise bad(f"{where}.data", "is required")
    return len(source.data)


def _look_at_document(source: Source | str | None, where: str, facts: _Facts) -> None:
    if not isinstance(source, Source):
        raise bad(where, "is required")
    if source.type == "content":
        _look(blocks_of(source.content, f"{where}.content"), f"{where}.content", facts)
    elif source.type not in {"base64", "text"}:
        raise _by_reference(where)
    elif source.data is None:
        raise bad(f"{where}.data", "is required")


def _referring(found: Any) -> Iterator[bool]:
    """Whether something inside names content that is not sent, for each thing."""
    if isinstance(found, dict):
        source = found.get("source")
        yield "file_id" in found or (isinstance(source, dict) and source.get("type") in ("url", "file"))
    for inner in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
        yield from _referring(inner)


def _by_reference(where: str) -> RequestError:
    return bad(where, "must carry its data inline: what is only referred to cannot be held for")


def blocks_of(content: Raw, where: str) -> list[Block]:
    """
    The content of a block, as blocks; a string is one of text, and none is none.

    Raises:
        RequestError: 400: it is neither; it is named.
    """
    if not content or content == NULL:
        return []
    found = decoded(content, _CONTENT, where)
    return [Block(type="text", text=found)] if isinstance(found, str) else found


def value(fields: dict[str, Raw], name: str, kind: Any) -> Any:
    """
    A member as a value of this type; None where it is absent or null.

    Raises:
        RequestError: 400: it is of another type; it is named.
    """
    raw = fields.get(name)
    return None if raw is None or raw == NULL else decoded(raw, kind, name)


def decoded(raw: Raw, kind: Any, where: str) -> Any:
    """
    JSON as a value of this type.

    Raises:
        RequestError: 400: it is of another type; the place is named.
    """
    try:
        return decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem, _, path = str(error).partition(" - at `$")
        at = f"{where}{path.rstrip('`')}"
        raise RequestError(f"{at} is not valid: {problem}.", param=at) from None


def bad(field: str, problem: str) -> RequestError:
    """A 400 that names a field."""
    return RequestError(f"{field} {problem}.", param=field)
