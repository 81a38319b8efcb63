"""
A chat completion as a Converse request.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html, and botocore's model of it.
Bytes (images, documents) are base64 in its JSON.
"""

import re
from typing import Any

import msgspec

from hpp_middleware.dialects.bedrock.models import of_the_maker
from hpp_middleware.dialects.chat import Call, Chat, Message, Part, bad, data_url, parts_of, text_of

__all__ = ["Said", "say"]

_IMAGES = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}
_PACKED = {
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_PLAIN = {"text/csv": "csv", "text/html": "html", "text/plain": "txt", "text/markdown": "md"}
_FORMATS = (None, "anthropic-claude-v1")  # a tuple, since a client may say what cannot be hashed
"""Of ``reasoning_details`` those that no other provider has to prove."""

_CACHE_POINT = {"type": "default"}
_NO_OUTPUT = "(no output)"
"""A tool's empty result: Converse takes no empty text."""

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_.:-]")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9 ()\[\]-]+")

_json = msgspec.json.Encoder().encode
_arguments = msgspec.json.Decoder(dict[str, Any])


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """
    A request that was translated.

    Attributes:
        body: Converse's.
        fields: The client's fields that it expresses.
        has_packed: Whether there is a document whose bytes say little of its length.
        caches_long: Whether a cache point asks for an hour.
    """

    body: dict[str, Any]
    fields: set[str]
    has_packed: bool
    caches_long: bool


def say(chat: Chat, model: str, cap: int | None) -> Said:
    """
    The request in Converse's words.

    Args:
        chat: What is asked.
        model: Bedrock's model id, or an ARN that ends in one.
        cap: The output cap in tokens.
    Raises:
        RequestError: 400: something in it cannot be said; it is named.
    """
    speaker = _Speaker()
    speaker.take(chat)
    special, fields = of_the_maker(chat, model, cap)
    body: dict[str, Any] = {"messages": speaker.messages}
    if speaker.system:
        body["system"] = speaker.system
    inference = _inference(chat, cap)
    if inference:
        body["inferenceConfig"] = inference
    tools = speaker.tools(chat)
    if tools is not None:
        body["toolConfig"] = tools
    form = chat.response_format
    output = special.pop("outputConfig", {})
    if form is not None:
        if form.schema is None:
            raise bad("response_format.type", "must be json_schema with this model's provider, or text")
        described = {} if form.description is None else {"description": form.description}
        schema = {"name": form.name, **described, "schema": _json(form.schema).decode()}
        output = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}, **output}
    if output:
        body["outputConfig"] = output
    body.update(special)
    if tools is not None and "tool_choice" in special.get("additionalModelRequestFields", {}):
        tools.pop("toolChoice", None)  # the maker's own word has more in it
    known = {"tools", "tool_choice", "response_format", "stop", "temperature", "top_p", "cache_control"}
    return Said(body=body, fields=known | fields, has_packed=speaker.has_packed, caches_long=speaker.caches_long)


def _inference(chat: Chat, cap: int | None) -> dict[str, Any]:
    for name, value in (("temperature", chat.temperature), ("top_p", chat.top_p)):
        if value is not None and not 0 <= value <= 1:
            raise bad(name, "must be from 0 to 1 with this model's provider")
    found = {
        "maxTokens": cap,
        "temperature": chat.temperature,
        "topP": chat.top_p,
        "stopSequences": chat.stop or None,
    }
    return {name: value for name, value in found.items() if value is not None}


class _Speaker:
    """Puts messages into Converse's, in which user and assistant take turns, and a tool's result is a user's block."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.system: list[dict[str, Any]] = []
        self.has_packed = self.caches_long = self._has_calls = False
        self._ids: dict[str, str] = {}

    def take(self, chat: Chat) -> None:
        for number, message in enumerate(chat.messages):
            where = f"messages[{number}]"
            if message.role in {"system", "developer"}:
                self.system += self._texts(message, where)
            elif message.role == "user":
                self._add("user", self._user(message, where))
            elif message.role == "tool":
                self._add("user", self._result(message, where))
            else:
                self._add("assistant", self._assistant(message, where))
        if chat.cache_control is not None and self.messages:
            self.messages[-1]["content"] += self._cached(chat.cache_control)

    def _add(self, role: str, blocks: list[dict[str, Any]]) -> None:
        if not blocks:
            return  # an assistant that has said nothing
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _texts(self, message: Message, where: str) -> list[dict[str, Any]]:
        text_of(message, where)  # refuses all else
        blocks: list[dict[str, Any]] = []
        for part in parts_of(message):
            blocks += [{"text": part.text}] if part.text else []
            blocks += self._cached(part.cache_control)
        return blocks + self._cached(message.cache_control)

    def _user(self, message: Message, where: str) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = []
        for number, part in enumerate(parts_of(message)):
            blocks += self._part(part, f"{where}.content[{number}]")
            blocks += self._cached(part.cache_control)
        if not any("text" in block or "image" in block for block in blocks):
            missing = "needs a text beside a file" if any("document" in block for block in blocks) else "is empty"
            raise bad(f"{where}.content", f"{missing}, which this model's provider does not take")
        return blocks + self._cached(message.cache_control)

    def _part(self, part: Part, where: str) -> list[dict[str, Any]]:
        if part.type == "text" and part.text is not None:
            return [{"text": part.text}] if part.text.strip() else []
        if part.type == "image_url":
            return [{"image": _image(part, where)}]
        if part.type == "file":
            document = _document(part, where)
            self.has_packed = self.has_packed or document["format"] in _PACKED.values()
            return [{"document": document}]
        raise bad(f"{where}.type", "must be text, image_url or file with this model's provider")

    def _result(self, message: Message, where: str) -> list[dict[str, Any]]:
        if not message.tool_call_id:
            raise bad(f"{where}.tool_call_id", "is required")
        self._has_calls = True
        text = text_of(message, where)
        content = [{"text": text if text.strip() else _NO_OUTPUT}]
        blocks: list[dict[str, Any]] = [
            {"toolResult": {"toolUseId": self._id(message.tool_call_id), "content": content}}
        ]
        for part in parts_of(message):
            blocks += self._cached(part.cache_control)
        return blocks + self._cached(message.cache_control)

    def _assistant(self, message: Message, where: str) -> list[dict[str, Any]]:
        blocks: list[dict[str, Any]] = [
            {"reasoningContent": thought}
            for detail in message.reasoning_details or []
            if detail.get("format") in _FORMATS
            and (thought := _thought(detail.get("text"), detail.get("signature"), detail.get("data"))) is not None
        ]
        for number, part in enumerate(parts_of(message)):
            place = f"{where}.content[{number}]"
            if part.type in {"thinking", "redacted_thinking"}:
                thought = _thought(part.thinking, part.signature, part.data)
                blocks += [{"reasoningContent": thought}] if thought is not None else []
            elif part.type == "refusal" and part.refusal is not None:
                blocks += [{"text": part.refusal}] if part.refusal.strip() else []
            elif part.type == "text" and part.text is not None:
                blocks += [{"text": part.text}] if part.text.strip() else []
            else:
                raise bad(f"{place}.type", "must be text here")
            blocks += self._cached(part.cache_control)
        if message.refusal and message.refusal.strip():
            blocks.append({"text": message.refusal})
        for number, call in enumerate(message.tool_calls or []):
            self._has_calls = True
            blocks.append({"toolUse": self._call(call, f"{where}.tool_calls[{number}]")})
        return blocks + (self._cached(message.cache_control) if blocks else [])

    def _call(self, call: Call, where: str) -> dict[str, Any]:
        try:
            arguments = _arguments.decode(call.function.arguments.strip() or "{}")
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            raise bad(f"{where}.function.arguments", "must be a JSON object") from None
        return {"toolUseId": self._id(call.id), "name": call.function.name, "input": arguments}

    def _id(self, theirs: str) -> str:
        """A call's id, or one like it of the characters that Converse knows; the same for call and result."""
        if _ID.fullmatch(theirs):
            return theirs
        return self._ids.setdefault(theirs, f"{_NOT_IN_ID.sub('_', theirs)[:56]}_{len(self._ids)}")

    def tools(self, chat: Chat) -> dict[str, Any] | None:
        """
        ``toolConfig``; None where there is none to give.

        Raises:
            RequestError: 400: calls have been made, and no tools are given now.
        """
        if not chat.tools or chat.tool_choice == "none":
            if self._has_calls:
                field = "tools" if not chat.tools else "tool_choice"
                raise bad(field, "must let this model's provider have the tools whose calls are in messages")
            return None
        tools: list[dict[str, Any]] = []
        for tool in chat.tools:
            function = tool.function
            spec: dict[str, Any] = {"name": function.name}
            if function.description:
                spec["description"] = function.description
            spec["inputSchema"] = {"json": function.parameters or {"type": "object", "properties": {}}}
            if function.strict is not None:
                spec["strict"] = function.strict
            tools += [{"toolSpec": spec}, *self._cached(tool.cache_control)]
        if isinstance(chat.tool_choice, str):
            choice: dict[str, Any] = {"any" if chat.tool_choice == "required" else "auto": {}}
        elif chat.tool_choice is not None:
            choice = {"tool": {"name": chat.tool_choice.name}}
        else:
            return {"tools": tools}
        return {"tools": tools, "toolChoice": choice}

    def _cached(self, control: dict[str, Any] | None) -> list[dict[str, Any]]:
        if control is None:
            return []
        ttl = control.get("ttl")
        if control.get("type", "ephemeral") != "ephemeral" or ttl not in (None, "5m", "1h"):
            raise bad("cache_control", 'must be of type ephemeral, its ttl "5m" or "1h"')
        self.caches_long = self.caches_long or ttl == "1h"
        return [{"cachePoint": _CACHE_POINT if ttl is None else {**_CACHE_POINT, "ttl": ttl}}]


def _thought(text: Any, signature: Any, data: Any) -> dict[str, Any] | None:
    """A thought that its maker can prove; None for any other, which no model takes back."""
    if isinstance(data, str) and data:
        return {"redactedContent": data}
    if isinstance(text, str) and text and isinstance(signature, str) and signature:
        return {"reasoningText": {"text": text, "signature": signature}}
    return None


def _image(part: Part, where: str) -> dict[str, Any]:
    given = part.image_url
    url = given if isinstance(given, str) else (given or {}).get("url")
    found = data_url(url) if isinstance(url, str) else None
    if found is None or not found[1]:
        raise bad(f"{where}.image_url.url", "must be a data URL of base64 with this model's provider")
    form = _IMAGES.get(found[0])
    if form is None:
        raise bad(f"{where}.image_url.url", "must be a PNG, JPEG, GIF or WebP image")
    return {"format": form, "source": {"bytes": _plain_base64(found[1])}}


def _document(part: Part, where: str) -> dict[str, Any]:
    file = part.file or {}
    given = file.get("file_data")
    found = data_url(given) if isinstance(given, str) else None
    if found is None or not found[1]:
        raise bad(f"{where}.file.file_data", "must be a data URL of base64 with this model's provider")
    form = _PACKED.get(found[0]) or _PLAIN.get(found[0])
    if form is None:
        raise bad(f"{where}.file.file_data", "must be a PDF, Word, Excel, CSV, HTML, Markdown or text file")
    named = file.get("filename")
    stem = named.rpartition(".")[0] or named if isinstance(named, str) else ""
    name = " ".join(_NOT_IN_NAME.sub(" ", stem).split())[:200]
    return {"format": form, "name": name or "document", "source": {"bytes": _plain_base64(found[1])}}


def _plain_base64(data: str) -> str:
    """In the alphabet that AWS decodes."""
    return data.replace("-", "+").replace("_", "/")
