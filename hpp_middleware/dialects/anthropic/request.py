"""
A chat completion in the words of Anthropic's Messages API.

Messages keep their order. Those of the system at the head become ``system``; one that comes later stays where it is, as
text of the user's turn in ``<system>`` tags, since most models refuse another role there, and in front of the others it
would say something else. Neighbours of one role become one message, and results of tools stand first in theirs, as the
API demands. What is empty, which the API refuses, is left out.
"""

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from hpp_middleware.dialects import chat
from hpp_middleware.dialects.anthropic import thinking
from hpp_middleware.types.completion import Request, Target

__all__ = ["CONTEXT", "FORMAT_TOKENS", "TOOL_TOKENS", "Said", "is_long", "say"]

CONTEXT = 200_000
"""Tokens: what fits into a model whose context is not known."""

TOOL_TOKENS = 1024
"""
The most tokens that the API's own instructions for tools take: 804 in its table, for Opus 4.7 and a forced choice
(https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview#pricing).
"""

FORMAT_TOKENS = 1024
"""The same for the instructions that come with a format, of which the documentation gives no figure."""

SAID = frozenset(
    {
        "cache_control",
        "parallel_tool_calls",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_k",
        "top_p",
    }
)
"""Fields of a chat completion that can be said here."""

_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_NO_ID = re.compile(r"[^a-zA-Z0-9_-]")
_Block = dict[str, Any]


class Said(Struct, frozen=True):
    """
    A request in Anthropic's words.

    Attributes:
        body: Its members.
        more_tokens: What the API adds to the prompt by itself, or what stands in it in another form, at most.
        long_cache: Whether something of it may be written to a cache that lasts an hour.
        dropped: What was left out, for the client to be told.
    """

    body: dict[str, Any]
    more_tokens: int
    long_cache: bool
    dropped: tuple[str, ...]


def say(request: Request, target: Target, cap: int | None) -> Said:
    """
    The request's body.

    Args:
        request: A chat completion.
        target: Which model is asked.
        cap: The output cap to send where the client gave none.
    Raises:
        RequestError: 400: something of it cannot be said here; it is named.
    """
    dropped = chat.unsaid(request, SAID)
    asks = chat.read(request)
    most = _most(chat.cap_of(request, cap), target)
    turns = _Turns()
    for number, message in enumerate(asks.messages):
        turns.add(message, f"messages[{number}]")
    if not turns.messages:
        raise chat.bad("messages", "must say something besides the system's part")
    reasoning, left_out = thinking.asked(asks, target, most, ours=request.cap is None)
    output = {**reasoning.pop("output_config", {}), **_format(asks)}
    tools = [_tool(tool) for tool in asks.tools]
    body = {
        "model": target.model_name,
        "max_tokens": most,
        "system": turns.system,
        "messages": turns.finished,
        "tools": tools,
        "tool_choice": _tool_choice(asks),
        "stop_sequences": asks.stop,
        "temperature": _temperature(asks),
        "top_p": None if asks.top_p == 1 else asks.top_p,
        "top_k": asks.top_k,
        "cache_control": asks.cache_control,
        "output_config": output,
        **reasoning,
    }
    more = TOOL_TOKENS if tools else 0
    more += FORMAT_TOKENS if "format" in output else 0
    more += (target.model.context or CONTEXT) if turns.has_documents else 0
    cached = [asks.cache_control, *(tool.cache_control for tool in asks.tools)]
    return Said(
        body={name: value for name, value in body.items() if value is not None and value not in ([], {})},
        more_tokens=more,
        long_cache=turns.long_cache or any(is_long(each) for each in cached),
        dropped=(*dropped, *left_out, *turns.dropped),
    )


def is_long(cache_control: Any) -> bool:
    """Whether it may write to a cache that lasts longer than five minutes."""
    return isinstance(cache_control, dict) and cache_control.get("ttl") not in (None, "5m")


class _Turns:
    """The messages, one by one, as the API takes them."""

    def __init__(self) -> None:
        self.system: list[_Block] = []
        self.messages: list[dict[str, Any]] = []
        self.has_documents = self.long_cache = False
        self.dropped: tuple[str, ...] = ()

    @property
    def finished(self) -> list[dict[str, Any]]:
        """All of them; the API refuses white space at the end of an answer that is to be continued."""
        last = self.messages[-1]
        if last["role"] == "assistant" and last["content"][-1]["type"] == "text":
            text = last["content"][-1]["text"].rstrip()
            last["content"][-1:] = [{**last["content"][-1], "text": text}] if text else []
            if not last["content"]:
                del self.messages[-1]
        return self.messages

    def add(self, message: chat.Message, where: str) -> None:
        if message.name is not None:
            self._drop("messages.name")
        if message.role in {"system", "developer"}:
            self._add_system(message, where)
        elif message.role == "tool":
            self._put("user", [self._result(message, where)])
        elif message.role == "assistant":
            self._put("assistant", self._cached(message, [*self._thoughts(message), *self._answer(message, where)]))
        else:
            self._put("user", self._cached(message, list(self._parts(message, where))))

    def _add_system(self, message: chat.Message, where: str) -> None:
        found: list[_Block] = []
        for number, part in enumerate(chat.parts_of(message)):
            if part.type != "text" or part.text is None:
                raise chat.bad(f"{where}.content[{number}].type", "must be text here")
            if part.text:
                found.append(self._marked(part, {"type": "text", "text": part.text}))
        if not self.messages:
            self.system += self._cached(message, found)
            return
        self._drop("messages.role")
        tagged = [{**block, "text": f"<system>\n{block['text']}\n</system>"} for block in found]
        self._put("user", self._cached(message, tagged))

    def _put(self, role: str, blocks: list[_Block]) -> None:
        if not blocks:
            return
        if not self.messages or self.messages[-1]["role"] != role:
            self.messages.append({"role": role, "content": []})
        content = self.messages[-1]["content"]
        if blocks[0]["type"] == "tool_result":  # behind other results, and in front of all else
            behind = sum(block["type"] == "tool_result" for block in content)
            content[behind:behind] = blocks
        else:
            content += blocks

    def _result(self, message: chat.Message, where: str) -> _Block:
        if not message.tool_call_id:
            raise chat.bad(f"{where}.tool_call_id", "is required")
        block: _Block = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id)}
        if isinstance(message.content, str):
            if message.content:
                block["content"] = message.content
        elif content := list(self._parts(message, where)):
            block["content"] = content
        return self._cached(message, [block])[0]

    def _thoughts(self, message: chat.Message) -> list[_Block]:
        told = thinking.blocks(message)
        for part in chat.parts_of(message):
            if part.type == "thinking" and part.signature:
                told.append({"type": "thinking", "thinking": part.thinking or "", "signature": part.signature})
            elif part.type == "redacted_thinking" and part.data:
                told.append({"type": "redacted_thinking", "data": part.data})
        return told

    def _answer(self, message: chat.Message, where: str) -> Iterator[_Block]:
        for number, part in enumerate(chat.parts_of(message)):
            text = part.refusal if part.type == "refusal" else part.text
            if part.type in {"thinking", "redacted_thinking"}:
                continue
            if part.type not in {"text", "refusal"} or text is None:
                raise chat.bad(f"{where}.content[{number}].type", "must be text here")
            if text:
                yield self._marked(part, {"type": "text", "text": text})
        if message.refusal and not message.content:
            yield {"type": "text", "text": message.refusal}
        for number, call in enumerate(message.tool_calls or []):
            given = _arguments(call.function.arguments, f"{where}.tool_calls[{number}].function.arguments")
            yield {"type": "tool_use", "id": _id(call.id), "name": call.function.name, "input": given}

    def _parts(self, message: chat.Message, where: str) -> Iterator[_Block]:
        """What a user, or a tool, has to say."""
        for number, part in enumerate(chat.parts_of(message)):
            place = f"{where}.content[{number}]"
            if part.type == "text" and part.text is not None:
                if part.text:
                    yield self._marked(part, {"type": "text", "text": part.text})
            elif part.type == "image_url":
                yield self._marked(part, {"type": "image", "source": _image(part, place)})
            elif part.type == "file":
                yield self._marked(part, self._document(part, place))
            else:
                raise chat.bad(f"{place}.type", "must be text, image_url or file: nothing else can be said here")

    def _document(self, part: chat.Part, where: str) -> _Block:
        file = part.file or {}
        url = file.get("file_data")
        found = chat.data_url(url) if isinstance(url, str) else None
        if found is None:
            raise chat.bad(f"{where}.file.file_data", "must be a data: URL")
        kind, data = found
        if kind == "application/pdf":
            self.has_documents = True  # its pages are read as text and as images, in tokens that no byte of it bounds
            source = {"type": "base64", "media_type": kind, "data": data}
        elif kind == "text/plain":
            source = {"type": "text", "media_type": kind, "data": _text(data, f"{where}.file.file_data")}
        else:
            raise chat.bad(f"{where}.file.file_data", "must be application/pdf or text/plain")
        name = file.get("filename")
        title = {"title": name} if isinstance(name, str) and name else {}
        return {"type": "document", "source": source, **title}

    def _marked(self, part: chat.Part, block: _Block) -> _Block:
        if part.cache_control is None:
            return block
        self.long_cache |= is_long(part.cache_control)
        return {**block, "cache_control": part.cache_control}

    def _cached(self, message: chat.Message, blocks: list[_Block]) -> list[_Block]:
        """The blocks, the last of them with the message's own mark for the cache."""
        if message.cache_control is None or not blocks or blocks[-1]["type"] in {"thinking", "redacted_thinking"}:
            return blocks
        self.long_cache |= is_long(message.cache_control)
        return [*blocks[:-1], {**blocks[-1], "cache_control": message.cache_control}]

    def _drop(self, name: str) -> None:
        if name not in self.dropped:
            self.dropped = (*self.dropped, name)


def _most(cap: int | None, target: Target) -> int | None:
    """The output cap to send: a larger one than the model's own would be refused, and say the same."""
    most = target.model.max_output
    return cap if cap is None or most is None else min(cap, most)


def _id(given: str) -> str:
    """A call's id in the letters that the API takes; another provider's may have others."""
    return _NO_ID.sub(lambda found: f"_{ord(found[0]):x}_", given)


def _arguments(given: str, where: str) -> dict[str, Any]:
    if not given.strip():
        return {}
    try:
        found = msgspec.json.decode(given)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise chat.bad(where, "must be JSON") from None
    if not isinstance(found, dict):
        raise chat.bad(where, "must be a JSON object")
    return found


def _image(part: chat.Part, where: str) -> dict[str, Any]:
    given = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    if not isinstance(given, str):
        raise chat.bad(f"{where}.image_url.url", "must be a string")
    if given[:8].lower() == "https://":
        return {"type": "url", "url": given}
    found = chat.data_url(given)
    if found is None:
        raise chat.bad(f"{where}.image_url.url", "must be an https: URL, or a data: URL in base64")
    kind = "image/jpeg" if found[0] == "image/jpg" else found[0]
    if kind not in _IMAGES:
        raise chat.bad(f"{where}.image_url.url", f"must be one of {', '.join(sorted(_IMAGES))}")
    return {"type": "base64", "media_type": kind, "data": found[1]}


def _text(data: str, where: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise chat.bad(where, "must be UTF-8 text in base64") from None


def _tool(tool: chat.Tool) -> _Block:
    function = tool.function
    found: _Block = {"name": function.name, "input_schema": {"type": "object", **(function.parameters or {})}}
    if function.description:
        found["description"] = function.description
    if function.strict:
        found["strict"] = True
    if tool.cache_control is not None:
        found["cache_control"] = tool.cache_control
    return found


def _tool_choice(asks: chat.Chat) -> _Block | None:
    wanted = asks.tool_choice
    if not asks.tools:
        if wanted not in (None, "auto", "none"):  # a function is not hashable
            raise chat.bad("tool_choice", "needs tools")
        return None
    if wanted == "none":
        return {"type": "none"}
    alone = {"disable_parallel_tool_use": True} if asks.parallel_tool_calls is False else {}
    if isinstance(wanted, chat.Function):
        return {"type": "tool", "name": wanted.name, **alone}
    if wanted == "required":
        return {"type": "any", **alone}
    return {"type": "auto", **alone} if wanted == "auto" or alone else None


def _temperature(asks: chat.Chat) -> float | None:
    if asks.temperature is not None and not 0 <= asks.temperature <= 1:
        raise chat.bad("temperature", "must be from 0 to 1 for this model")
    return None if asks.temperature == 1 else asks.temperature


def _format(asks: chat.Chat) -> dict[str, Any]:
    """Structured output, by a schema. JSON without one has no word here, and words of ours would promise nothing."""
    form = asks.response_format
    if form is None:
        return {}
    if form.schema is None:
        raise chat.bad("response_format", "json_object cannot be said to this model: give a json_schema")
    return {"format": {"type": "json_schema", "schema": form.schema}}
