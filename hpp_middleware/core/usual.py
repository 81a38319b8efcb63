"""
The usual request, read in one step: what the router acts on, where all of it is as in nearly every request.

Of any other one nothing is said here: it is looked at field by field, and what is wrong with it is named.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from hpp_middleware.core.body import STAND_IN
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
        "response_format",
        "seed",
        "stop",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "tool_choice",
        "top_logprobs",
        "top_p",
        "user",
    }
)
"""Fields that have no price of their own, and of which the router acts on no other than those it always does."""

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


class _Part(Struct, gc=False):
    type: Literal["text", "image_url", "input_audio"]
    image_url: _Image | None = None


class _PlainPart(Struct, gc=False, forbid_unknown_fields=True):
    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: _PlainImage | None = None


class _Message(Struct, gc=False):
    role: _Role
    content: str | list[_Part]
    audio: None = None


class _PlainMessage(Struct, gc=False, forbid_unknown_fields=True):
    role: _Role
    content: str | list[_PlainPart]
    name: str | None = None


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


_usual = msgspec.json.Decoder(_Body[_Message])
_plain = msgspec.json.Decoder(_Body[_PlainMessage])


def request(body: bytes, fields: dict[str, Raw], limits: Limits, *, plain: bool, brief: bool = False) -> Request | None:
    """
    The request, where all that the router acts on in each is as usual; None where every field is to be looked at.

    Args:
        body: It, which is JSON.
        fields: Its members.
        limits: Bounds on it.
        plain: Whether they are all :data:`PLAIN`; then nothing else is to be read in them.
        brief: Whether the data of its images is stood in for: see :func:`~hpp_middleware.core.body.brief`.
    """
    try:
        found = _plain.decode(body) if plain else _usual.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return request(body, fields, limits, plain=False, brief=brief) if plain else None
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
    if seen is None:
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


def _seen(messages: Sequence[_Message | _PlainMessage], *, brief: bool) -> tuple[Images, bool] | None:
    """What messages have besides text: images, and whether a part is audio; None where each is to be looked at."""
    count = inline = 0
    audio = False
    for message in messages:
        for part in message.content if not isinstance(message.content, str) else ():
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
