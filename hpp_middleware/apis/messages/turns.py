"""
The messages of a request, said as messages of a chat completion.

A turn's tool results come first, one ``tool`` message each, and what else the turn says after them, as OpenAI wants it.
OpenAI's tool messages are text alone, and so images and documents of a result follow in the user's message, and the
result says so. That a tool failed stands in its text, since there is no field for it.
"""

import re
from collections.abc import Iterator
from typing import Any

from hpp_middleware.apis.messages import proofs
from hpp_middleware.apis.messages.asked import bad, blocks_of
from hpp_middleware.apis.messages.nouns import Block, Source, Turn
from hpp_middleware.errors import RequestError

__all__ = ["messages", "system"]

_BILLING = "x-anthropic-billing-header:"
"""What a block of Claude Code's begins with that speaks to Anthropic's API and not to the model, anew each time."""

_THOUGHTS = {"thinking": "thinking", "redacted_thinking": "data"}
_NAME = re.compile(r"[\w .()-]{1,100}", re.ASCII)

Message = dict[str, Any]


def system(content: str | list[Block] | None) -> list[Message]:
    """The system prompt as a message; none where there is no text."""
    if isinstance(content, list):
        parts = [_text(block, "system") for block in content if not (block.text or "").startswith(_BILLING)]
        return [{"role": "system", "content": parts}] if parts else []
    return [{"role": "system", "content": content}] if content else []


def messages(turns: list[Turn]) -> Iterator[Message]:
    """
    All turns.

    Raises:
        RequestError: 400: a block cannot be said; it is named.
    """
    for number, turn in enumerate(turns):
        where = f"messages[{number}].content"
        if isinstance(turn.content, str):
            yield {"role": turn.role, "content": turn.content}
        elif turn.role == "assistant":
            yield _assistant(turn.content, where)
        elif turn.role == "system":
            yield {"role": "system", "content": list(_texts(turn.content, where))}
        else:
            yield from _user(turn.content, where)


def _assistant(blocks: list[Block], where: str) -> Message:
    texts: list[Message] = []
    calls: list[Message] = []
    thoughts: list[str] = []
    details: list[Message] = []
    for number, block in enumerate(blocks):
        at = f"{where}[{number}]"
        if block.type == "text":
            texts.append(_text(block, at))
        elif block.type == "tool_use":
            calls.append(_call(block, at))
        elif block.type == "thinking" and block.thinking is not None:
            thoughts += [block.thinking] if block.thinking else []
            details.append(proofs.of_thinking(block.thinking, block.signature or ""))
        elif block.type == "redacted_thinking" and block.data is not None:
            details.append(proofs.of_redacted(block.data))
        elif block.type in _THOUGHTS:
            raise bad(f"{at}.{_THOUGHTS[block.type]}", "is required")
        else:
            raise _unsayable(block, at)
    said: Message = {"role": "assistant", "content": texts or (None if calls else "")}
    if calls:
        said["tool_calls"] = calls
    if thoughts:
        said["reasoning_content"] = "\n\n".join(thoughts)
    if details:
        said["reasoning_details"] = [{**detail, "index": index} for index, detail in enumerate(details)]
    return said


def _call(block: Block, where: str) -> Message:
    if not block.id or not block.name:
        raise bad(f"{where}.{'name' if block.id else 'id'}", "is required")
    arguments = bytes(block.input).decode()
    if not arguments.startswith("{"):
        raise bad(f"{where}.input", "must be an object")
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": arguments}}


def _user(blocks: list[Block], where: str) -> Iterator[Message]:
    rest: list[Message] = []
    own: list[tuple[int, Block]] = []
    for number, block in enumerate(blocks):
        if block.type != "tool_result":
            own.append((number, block))
            continue
        at = f"{where}[{number}]"
        if not block.tool_use_id:
            raise bad(f"{at}.tool_use_id", "is required")
        message, shown = _result(block, at)
        yield message
        rest += shown
    for number, block in own:
        rest += _part(block, f"{where}[{number}]")
    if rest or not blocks:
        yield {"role": "user", "content": rest}


def _result(block: Block, where: str) -> tuple[Message, list[Message]]:
    """A tool's result as its message, and what of it has to follow in the user's."""
    texts: list[Message] = []
    shown: list[Message] = []
    for part in _parts(blocks_of(block.content, f"{where}.content"), f"{where}.content"):
        (texts if part["type"] == "text" else shown).append(part)
    if shown:
        follows = f"[{len(shown)} image(s) or document(s) of this result follow in the next message.]"
        texts.append({"type": "text", "text": follows})
        shown.insert(0, {"type": "text", "text": f"[Of the result of tool call {block.tool_use_id}:]"})
    if block.is_error:
        texts.insert(0, {"type": "text", "text": "Error:"})
    if texts and block.cache_control is not None:
        texts[-1]["cache_control"] = block.cache_control
    plain = "".join(text["text"] for text in texts) if len(texts) < 2 and block.cache_control is None else texts
    return {"role": "tool", "tool_call_id": block.tool_use_id, "content": plain}, shown


def _parts(blocks: list[Block], where: str) -> Iterator[Message]:
    for number, block in enumerate(blocks):
        yield from _part(block, f"{where}[{number}]")


def _part(block: Block, where: str) -> Iterator[Message]:
    """What a user, or a tool, shows."""
    if block.type == "text":
        yield _text(block, where)
    elif block.type == "image" and isinstance(block.source, Source):
        source = block.source
        url = source.url if source.type == "url" else f"data:{source.media_type};base64,{source.data}"
        yield _marked({"type": "image_url", "image_url": {"url": url}}, block)
    elif block.type == "document" and isinstance(block.source, Source):
        yield from _document(block, block.source, where)
    elif block.type == "search_result":
        heading = f"Search result: {block.title or ''}\n{block.source or ''}"
        found = [part.text or "" for part in blocks_of(block.content, f"{where}.content")]
        yield _marked({"type": "text", "text": "\n".join([heading, *found])}, block)
    else:
        raise _unsayable(block, where)


def _document(block: Block, source: Source, where: str) -> Iterator[Message]:
    heading = "\n".join(text for text in (block.title, block.context) if text)
    if source.type == "base64":
        if source.media_type != "application/pdf":
            raise bad(f"{where}.source.media_type", "must be application/pdf")
        if block.context:
            yield {"type": "text", "text": block.context}
        name = block.title if block.title and _NAME.fullmatch(block.title) else "document.pdf"
        file = {"filename": name, "file_data": f"data:application/pdf;base64,{source.data}"}
        yield _marked({"type": "file", "file": file}, block)
        return
    parts = [{"type": "text", "text": source.data or ""}]
    if source.type == "content":
        parts = list(_parts(blocks_of(source.content, f"{where}.source.content"), f"{where}.source.content"))
    if heading:
        parts.insert(0, {"type": "text", "text": heading})
    if parts:
        parts[-1] = _marked(parts[-1], block)
    yield from parts


def _texts(blocks: list[Block], where: str) -> Iterator[Message]:
    for number, block in enumerate(blocks):
        if block.type != "text":
            raise _unsayable(block, f"{where}[{number}]")
        yield _text(block, f"{where}[{number}]")


def _text(block: Block, where: str) -> Message:
    if block.text is None:
        raise bad(f"{where}.text", "is required")
    return _marked({"type": "text", "text": block.text}, block)


def _marked(part: Message, block: Block) -> Message:
    return part if block.cache_control is None else {**part, "cache_control": block.cache_control}


def _unsayable(block: Block, where: str) -> RequestError:
    return bad(f"{where}.type", f"cannot be {block.type!r} here: this model's provider has no word for it")
