"""
The usual request, read in one step: what the router acts on, where all of it is as in nearly every request.

Of any other one nothing is said here: it is looked at field by field, and what is wrong with it is named.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from hpp_middleware.core.body import STAND_IN, check_nesting, check_values
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

__all__ = ["HEADER", "MODEL", "PLAIN", "StreamOptions", "request"]

MODEL = re.compile(r"\A[A-Za-z0-9._:/@-]{1,200}\Z")

HEADER = 32
"""How much of a data URL may stand before its data: what is longer is no image, and may not even be sent on with it."""

PLAIN = frozenset(
    {
        "frequency_penalty",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "model",
        "n",
        "parallel_tool_calls",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
"""Fields that have no price of their own, and in none of which one could be hidden."""

_READ = frozenset({"max_completion_tokens", "max_tokens", "messages", "model", "n", "stream", "tools"})
"""Fields of which the plain decoder reads every value, but for the parameters of tools."""

DEPTH = 6
"""How deep plain messages nest: the body, ``messages``, one of them, its parts, a part, its image."""

PARAMETERS_ABOVE = 4
"""How deep the parameters of a plain tool are in the body."""

_NO_IMAGES = Images()
_TEXT = _NO_IMAGES, False

_Role = Literal["system", "developer", "user", "assistant", "tool"]
_Count = Annotated[int, Meta(ge=1)]


class _Image(Struct, gc=False):
    url: str


# Of a key that is given twice the last one counts, but each must be plain: who knows which one the provider reads.
class _PlainImage(Struct, gc=False, forbid_unknown_fields=True):
    url: Annotated[str, Meta(pattern=r"\A(?i:data:image/|https://)")]
    detail: str | None = None


class _ShortCache(Struct, gc=False, forbid_unknown_fields=True):
    """One that costs what the price says; that of an hour does not."""

    type: Literal["ephemeral"]
    ttl: Literal["5m"] | None = None


class _Part(Struct, gc=False):
    type: Literal["text", "image_url", "input_audio"]
    image_url: _Image | None = None


class _PlainPart(Struct, gc=False, forbid_unknown_fields=True):
    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: _PlainImage | None = None
    cache_control: _ShortCache | None = None


class _Something(Struct, gc=False):
    """An object in whose place nothing is read."""


class _Message(Struct, gc=False):
    role: _Role
    content: str | list[_Part] | None = None
    tool_calls: list[_Something] | None = None
    audio: None = None


class _Called(Struct, gc=False, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Call(Struct, gc=False, forbid_unknown_fields=True):
    function: _Called
    id: str | None = None
    type: Literal["function"] | None = None
    index: int | None = None


class _PlainMessage(Struct, gc=False, forbid_unknown_fields=True):
    role: _Role
    content: str | list[_PlainPart] | None = None
    name: str | None = None
    tool_calls: list[_Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    cache_control: _ShortCache | None = None
    audio: None = None
    function_call: None = None


class _Function(Struct, gc=False, forbid_unknown_fields=True):
    name: str
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None


class _Tool(Struct, gc=False, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Function
    cache_control: _ShortCache | None = None


class StreamOptions(Struct, gc=False):
    """What a client says of its stream."""

    include_usage: bool | None = None


_M = TypeVar("_M")


class _Body(Struct, Generic[_M], gc=False):
    model: Annotated[str, Meta(pattern=MODEL.pattern)]
    messages: Annotated[list[_M], Meta(min_length=1)]
    stream: bool | None = None
    n: _Count | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    stream_options: StreamOptions | None = None


class _PlainBody(_Body[_PlainMessage], gc=False):
    tools: list[_Tool] | None = None


_usual = msgspec.json.Decoder(_Body[_Message])
_plain = msgspec.json.Decoder(_PlainBody)


def request(
    body: bytes, fields: dict[str, Raw], limits: Limits, *, brief: bool = False, nested: bool = False
) -> Request | None:
    """
    The request, where all that the router acts on in each is as usual; None where every field is to be looked at.

    It is plain, and nothing else is to be read in it, where its fields are all :data:`PLAIN`, and so are its messages.

    Args:
        body: It, which is JSON.
        fields: Its members.
        limits: Bounds on it.
        brief: Whether the data of its images is stood in for: see :func:`~hpp_middleware.core.body.brief`.
        nested: Whether it may be too deep.
    Raises:
        RequestError: 400: it is.
    """
    plain, tools = fields.keys() <= PLAIN, None
    found: _Body[_PlainMessage] | _Body[_Message]
    try:
        found = strict = _plain.decode(body)
        tools = strict.tools
        if nested:
            _check_nesting(strict, body, fields, limits)
    except (msgspec.DecodeError, RecursionError):
        if nested:
            check_nesting(body, limits)
        try:
            found = _usual.decode(body)
        except (msgspec.DecodeError, RecursionError):
            return None
        plain = False
    messages, n, cap, other = found.messages, found.n or 1, found.max_tokens, found.max_completion_tokens
    if other is not None and (cap is None or other > cap):
        cap = other
    if n > limits.n or len(messages) > limits.messages or (cap is not None and cap > limits.max_tokens):
        return None
    seen: tuple[Images, bool] | None = _TEXT
    for message in messages:
        if not isinstance(message.content, str):
            seen = _seen(messages, brief=brief)
            break
    if seen is None or (tools is not None and len(tools) > limits.tools):
        return None
    options = found.stream_options
    return Request(
        fields=fields,
        plain=fields if plain else None,
        model=found.model,
        stream=found.stream or False,
        include_usage=options is not None and bool(options.include_usage),
        n=n,
        cap=cap,
        images=seen[0],
        audio_input=seen[1],
    )


def _check_nesting(found: _PlainBody, body: bytes, fields: dict[str, Raw], limits: Limits) -> None:
    """As :func:`~hpp_middleware.core.body.check_nesting`, only of what the plain decoder passes over."""
    if limits.depth < DEPTH:
        check_nesting(body, limits)
        return
    values = [(PARAMETERS_ABOVE, tool.function.parameters) for tool in found.tools or ()]
    check_values([*values, *[(1, fields[name]) for name in fields.keys() - _READ]], limits)


def _seen(messages: Sequence[_Message | _PlainMessage], *, brief: bool) -> tuple[Images, bool] | None:
    """What messages have besides text: images, and whether a part is audio; None where each is to be looked at."""
    count = inline = 0
    audio = False
    for message in messages:
        content = message.content
        if isinstance(content, str):
            continue
        if content is None and not (message.role == "assistant" and message.tool_calls):
            return None
        for part in content or ():
            if part.type == "image_url":
                size = _image_bytes(part.image_url.url, brief=brief) if part.image_url is not None else None
                if size is None:
                    return None
                count += 1
                inline += size
            elif part.image_url is not None:
                return None
            audio |= part.type == "input_audio"
    return Images(count, inline) if count else _NO_IMAGES, audio


def _image_bytes(url: str, *, brief: bool) -> int | None:
    """The bytes of image data that a URL has; None for one that is to be looked at."""
    if url[:8].lower() == "https://":
        return 0
    if url[:11].lower() != "data:image/" or url.find(",", 0, HEADER + 1) < 0:
        return None
    said, _, left_out = url.partition(STAND_IN) if brief else (url, "", "")
    return len(said) + int(left_out or 0)
