"""The messages of a request in Anthropic's words."""

from typing import Any, Literal

from msgspec import Raw, Struct

__all__ = ["NULL", "Block", "Source", "Turn"]

NULL = Raw(b"null")


class Source(Struct, kw_only=True):
    """Where an image or a document is: ``base64``, ``text``, ``content``, ``url`` or ``file``."""

    type: str
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    content: Raw = Raw()


class Block(Struct, kw_only=True):
    """A piece of a message; ``type`` says which of the others are there."""

    type: str
    text: str | None = None
    source: Source | str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw()
    tool_use_id: str | None = None
    content: Raw = Raw()
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    title: str | None = None
    context: str | None = None
    cache_control: dict[str, Any] | None = None


class Turn(Struct):
    """One message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]
