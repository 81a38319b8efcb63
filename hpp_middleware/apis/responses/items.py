"""
The input of a Response: items, of which only those are taken that say themselves all that they are.

A reference to something that is kept elsewhere (an item, a file, a container) has no size here, and so no bound on its
cost: it is refused, and so are the tools that a provider runs itself and bills for.

Source: ``ResponseInputItemParam`` and ``ToolParam`` of OpenAI's Python SDK, 3.3.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.fields import decoder
from hpp_middleware.core.parse import inline_bytes
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images
from hpp_middleware.types.provider import Limits

__all__ = ["NULL", "Item", "Part", "Tool", "bad", "check", "check_tools", "given", "items", "value"]

NULL = Raw(b"null")

AT_THE_CLIENT = frozenset({"function", "custom", "namespace", "local_shell", "shell", "apply_patch"})
"""Tools that a client runs, so that they cost their tokens and no more."""

_ROLES = frozenset({"system", "developer", "user", "assistant"})
_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})

_NEEDED: dict[str, tuple[str, ...]] = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
    "custom_tool_call": ("call_id", "name", "input"),
    "custom_tool_call_output": ("call_id", "output"),
    "reasoning": (),
    "compaction": ("encrypted_content",),
    "local_shell_call": ("call_id",),
    "local_shell_call_output": ("output",),
    "shell_call": ("call_id",),
    "shell_call_output": ("call_id", "output"),
    "apply_patch_call": ("call_id",),
    "apply_patch_call_output": ("call_id",),
    "additional_tools": ("tools",),
}
"""The items that are taken, and what each has to have."""


class Environment(Struct):
    """Where a ``shell`` runs."""

    type: str = "local"


class Tool(Struct):
    """A tool, as far as it matters where it runs."""

    type: str
    name: str | None = None
    environment: Environment | None = None
    tools: "list[Tool] | None" = None


class Part(Struct, kw_only=True):
    """A piece of content: ``type`` says which of the others are there."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_data: str | None = None
    filename: str | None = None
    file_id: str | None = None
    file_url: str | None = None
    input_audio: dict[str, Any] | None = None


class Item(Struct, kw_only=True):
    """An item of the input: ``type`` says which of the others are there."""

    type: str | None = None
    role: str | None = None
    content: str | list[Part] | None = None
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    output: str | list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None
    environment: Environment | None = None
    tools: list[Tool] | None = None

    @property
    def kind(self) -> str | None:
        """Its type; an item with a role is a message without saying so."""
        return self.type or ("message" if self.role is not None else None)


def bad(field: str, problem: str) -> RequestError:
    """A 400 that names a field."""
    return RequestError(f"{field} {problem}.", param=field)


def given(fields: dict[str, Raw], name: str) -> bool:
    """Whether a field says anything."""
    return name in fields and fields[name] != NULL


def value(fields: dict[str, Raw], name: str, kind: Any) -> Any:
    """
    A field as a value of this type; None where it is absent or null.

    Raises:
        RequestError: 400: it is none; it is named, to the member that is wrong.
    """
    if not given(fields, name):
        return None
    try:
        return decoder(kind).decode(fields[name])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        problem, _, path = str(error).partition(" - at `$")
        raise bad(f"{name}{path.rstrip('`')}", f"is not valid: {problem}") from None


def items(fields: dict[str, Raw]) -> list[Item]:
    """
    The input; a string is one message of the user's.

    Raises:
        RequestError: 400: it is missing, or not valid.
    """
    found: str | list[Item] | None = value(fields, "input", str | list[Item])
    if found is None:
        raise bad("input", "is required, as a string or an array of items")
    if isinstance(found, str):
        return [Item(type="message", role="user", content=found)]
    if not found:
        raise bad("input", "must not be empty")
    return found


def check(found: Sequence[Item], limits: Limits) -> tuple[Images, bool]:
    """
    What the items have besides text: images, and whether any is audio.

    Raises:
        RequestError: 400: one is of a kind that is not taken, or refers to what is not sent.
    """
    if len(found) > limits.messages:
        raise bad("input", f"must not have more than {limits.messages} items")
    count = inline = 0
    audio = False
    for index, item in enumerate(found):
        where = f"input[{index}]"
        _check_item(item, where)
        for place, part in _parts(item, where):
            size = _check_part(part, place)
            count += part.type == "input_image"
            inline += size
            audio |= part.type == "input_audio"
        if item.tools is not None:
            check_tools(item.tools, f"{where}.tools")
    return Images(count, inline), audio


def check_tools(tools: list[Tool], where: str = "tools", left_out: Collection[int] = ()) -> None:
    """
    Refuse the tools that a provider runs.

    Args:
        tools: All of them.
        where: The field that they are in.
        left_out: The places of those that no provider is told of.
    Raises:
        RequestError: 400; it names the tool.
    """
    for index, tool in enumerate(tools):
        place = f"{where}[{index}]"
        if index in left_out:
            continue
        if tool.type not in AT_THE_CLIENT:
            raise bad(
                f"{place}.type",
                f"is not accepted: {tool.type} is run and billed by the provider; only tools that run at the client "
                "can be used (function, custom, namespace, local_shell, shell, apply_patch)",
            )
        if tool.environment is not None and tool.environment.type != "local":
            raise bad(f"{place}.environment.type", "must be local: a container is run and billed by the provider")
        if tool.tools is not None:
            check_tools(tool.tools, f"{place}.tools")


def _check_item(item: Item, where: str) -> None:
    kind = item.kind
    if kind == "item_reference" or (kind is None and item.id is not None):
        raise bad(
            where,
            "refers to an item that is not sent: nothing is kept here, so send the item itself (with store: false, "
            "clients do)",
        )
    if kind not in _NEEDED:
        raise bad(f"{where}.type", "must be one of " + ", ".join(_NEEDED))
    for name in _NEEDED[kind]:
        if getattr(item, name) is None:
            raise bad(f"{where}.{name}", "is required")
    if kind == "message" and item.role not in _ROLES:
        raise bad(f"{where}.role", f"must be one of {', '.join(sorted(_ROLES))}")
    if item.environment is not None and item.environment.type != "local":
        raise bad(f"{where}.environment.type", "must be local")


def _parts(item: Item, where: str) -> Iterator[tuple[str, Part]]:
    for name in ("content", "output", "summary"):
        found = getattr(item, name)
        if isinstance(found, list) and item.kind != "shell_call_output":
            yield from ((f"{where}.{name}[{number}]", part) for number, part in enumerate(found))


def _check_part(part: Part, where: str) -> int:
    """The bytes of image data in a part."""
    for name in ("file_id", "file_url"):
        if getattr(part, name) is not None:
            raise bad(f"{where}.{name}", "is not accepted: what is only referred to cannot be held for; send its data")
    if part.type in _TEXTS:
        if part.text is None:
            raise bad(f"{where}.text", "is required")
        return 0
    if part.type == "input_image":
        size = inline_bytes(part.image_url or "")
        if size is None:
            raise bad(f"{where}.image_url", "must be an https: or data: URL")
        return size
    needed = {"refusal": "refusal", "input_file": "file_data", "input_audio": "input_audio"}.get(part.type)
    if needed is None:
        raise bad(
            f"{where}.type", "must be one of input_text, input_image, input_file, input_audio, output_text, refusal"
        )
    if getattr(part, needed) is None:
        raise bad(f"{where}.{needed}", "is required")
    return 0
