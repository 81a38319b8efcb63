"""
A request body into a :class:`Request`: strictly, and only as far as the router acts on it.

The top level becomes members whose values stay raw bytes, each key once, so that router and upstream can never read two
different bodies. Bad input is a 400 that names the field.
"""

import re
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

__all__ = ["completion", "is_model_id", "members", "unescaped"]

STEERING = frozenset(
    {
        "api_base",
        "base_url",
        "api_key",
        "api_version",
        "api_type",
        "extra_headers",
        "extra_body",
        "headers",
        "custom_llm_provider",
        "callbacks",
        "mock_response",
    }
)
"""Keys that steer gateways and SDKs, never a model: refused, so that no upstream behind us is steered either."""

ACTED_ON = frozenset(
    {
        "model",
        "messages",
        "stream",
        "stream_options",
        "n",
        "max_tokens",
        "max_completion_tokens",
        "tools",
        "modalities",
        "audio",
        "reasoning",
        "reasoning_effort",
    }
)
"""Keys that the router acts on: no other letter case of them passes, since some servers match keys without case."""

_MODEL = re.compile(r"[A-Za-z0-9._:/@-]{1,200}")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
# A string that never ends counts as one to the end of the body, so that no byte is looked at twice.
_TOKENS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)

_REFERRING = frozenset({"file", "file_url", "document_url", "video_url", "audio_url"})
"""Parts that may name content which is not sent: its size, and so its cost, has no bound."""

_NULL = Raw(b"null")

_T = TypeVar("_T")


# A member that is absent is an empty Raw; in a union msgspec would not take it for raw.
class _Message(Struct):
    role: Raw = Raw()
    content: Raw = Raw()
    tool_calls: Raw = Raw()


class _Part(Struct):
    type: Raw = Raw()
    image_url: Raw = Raw()


class _ImageURL(Struct):
    url: str


class _StreamOptions(Struct):
    include_usage: bool | None = None


_members = msgspec.json.Decoder(dict[str, Raw])


def members(body: bytes, limits: Limits) -> dict[str, Raw]:
    """
    The top level of a JSON object, each key once (the last), each value raw.

    Raises:
        RequestError: 400: it is no UTF-8, no JSON, no object, or too deep.
    """
    try:
        body.decode("utf-8")
        _bounded(body, limits)
        return _members.decode(body)
    except UnicodeDecodeError:
        raise RequestError("The body is not valid UTF-8.") from None
    except msgspec.ValidationError:
        raise RequestError("The body must be a JSON object.") from None
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("The body is not valid JSON.") from None


def completion(body: bytes, limits: Limits) -> Request:
    """
    A chat completion request.

    Raises:
        RequestError: 400; ``param`` and the message name the field.
    """
    fields = members(body, limits)
    _refuse_twins(fields)
    model = _model(fields)
    images, audio = _messages(fields, limits)
    cap = _cap(fields, limits)
    tools = _read(fields, "tools", list[Raw], "an array")
    if tools is not None and len(tools) > limits.tools:
        raise _bad("tools", f"must not have more than {limits.tools} entries")
    modalities = _read(fields, "modalities", list[str], "an array of strings") or []
    return Request(
        fields=fields,
        model=model,
        stream=_read(fields, "stream", bool, "true or false") or False,
        include_usage=_include_usage(fields),
        n=_integer(fields, "n", 1, limits.n) or 1,
        cap=cap,
        images=images,
        audio_input=audio,
        output_modalities=frozenset(modalities) - {"text"},
        hidden_reasoning=_asks_for_reasoning(fields),
    )


def is_model_id(name: str) -> bool:
    """Whether a name can be a model's: it stands in response headers, so that nothing else passes."""
    return _MODEL.fullmatch(name) is not None


def unescaped(raw: Raw) -> bytes:
    """
    The JSON with no escape that could hide a word from a search of its bytes.

    Raises:
        RequestError: 400: a number in it is none that can be read.
    """
    value = bytes(raw)
    if b"\\u00" not in value and b"\\/" not in value:
        return value
    try:
        return msgspec.json.encode(msgspec.json.decode(value))
    except (msgspec.DecodeError, RecursionError):
        raise RequestError("The body is not valid JSON.") from None


def _refuse_twins(fields: dict[str, Raw]) -> None:
    for key in fields:
        if key in ACTED_ON:
            continue
        folded = key.casefold()
        if folded in STEERING:
            raise RequestError(f"{key!r} is not accepted.", param=key)
        if folded in ACTED_ON:
            raise RequestError(f"{key!r} must be written {folded!r}.", param=key)


def _model(fields: dict[str, Raw]) -> str:
    if "model" not in fields:
        raise _bad("model", "is required")
    model = _read(fields, "model", str, "a string")
    if model is None or not is_model_id(model):
        raise _bad("model", "must be 1 to 200 letters, digits, or any of . _ : / @ -")
    return model


def _messages(fields: dict[str, Raw], limits: Limits) -> tuple[Images, bool]:
    if "messages" not in fields:
        raise _bad("messages", "is required")
    messages = _read(fields, "messages", list[Raw], "an array")
    if not messages:
        raise _bad("messages", "must be an array that is not empty")
    if len(messages) > limits.messages:
        raise _bad("messages", f"must not have more than {limits.messages} entries")
    count = inline = 0
    audio = False
    for index, raw in enumerate(messages):
        for kind, size in _parts(raw, f"messages[{index}]"):
            count += kind == "image"
            inline += size
            audio |= kind == "audio"
    return Images(count, inline), audio


def _parts(raw: Raw, where: str) -> list[tuple[str, int]]:
    """What a message's content has besides text: ``image`` or ``audio``, and the bytes of inline images."""
    message = _decode(raw, _Message, where, "an object")
    roles = f"one of {', '.join(sorted(_ROLES))}"
    role = _decode(message.role or _NULL, str, f"{where}.role", roles)
    if role not in _ROLES:
        raise _bad(f"{where}.role", f"must be {roles}")
    content = message.content
    if not content or content == _NULL:
        calls = message.tool_calls or _NULL
        if role == "assistant" and calls != _NULL and _decode(calls, list[Raw], f"{where}.tool_calls", "an array"):
            return []
        raise _bad(f"{where}.content", "must be a string or an array of parts")
    first = bytes(content)[:1]
    if first == b'"':
        return []
    if first != b"[":
        raise _bad(f"{where}.content", "must be a string or an array of parts")
    found = []
    for number, part in enumerate(_decode(content, list[Raw], f"{where}.content", "an array")):
        kind = _part(part, f"{where}.content[{number}]")
        if kind is not None:
            found.append(kind)
    return found


def _part(raw: Raw, where: str) -> tuple[str, int] | None:
    part = _decode(raw, _Part, where, "an object")
    kind = _decode(part.type or _NULL, str, f"{where}.type", "a string")
    if kind in _REFERRING and any(word in unescaped(raw) for word in (b"://", b"file_id")):
        raise _bad(where, "must carry its data inline: what is only referred to cannot be held for")
    if kind in {"input_audio", "audio_url"}:
        return "audio", 0
    if kind != "image_url":
        return None
    if not part.image_url or part.image_url == _NULL:
        raise _bad(f"{where}.image_url", "is required")
    if bytes(part.image_url)[:1] == b'"':  # Mistral's short form
        url = _decode(part.image_url, str, f"{where}.image_url", "a string")
    else:
        url = _decode(part.image_url, _ImageURL, f"{where}.image_url", "an object with a url").url
    if url[:11].lower() == "data:image/":
        return "image", len(url)
    if url[:5].lower() == "data:":
        return "image", 0  # something else in an image's place (a PDF): its bytes count as well
    if url[:8].lower() != "https://":
        raise _bad(f"{where}.image_url.url", "must be an https: or data: URL")
    return "image", 0


def _cap(fields: dict[str, Raw], limits: Limits) -> int | None:
    """The client's output cap; where it names two, the larger: an upstream may go by either."""
    caps = [_integer(fields, name, 1, limits.max_tokens) for name in ("max_tokens", "max_completion_tokens")]
    return max((cap for cap in caps if cap is not None), default=None)


def _include_usage(fields: dict[str, Raw]) -> bool:
    options = _read(fields, "stream_options", _StreamOptions, "an object")
    return options is not None and bool(options.include_usage)


def _asks_for_reasoning(fields: dict[str, Raw]) -> bool:
    effort = fields.get("reasoning_effort")
    if effort is not None and bytes(effort) not in {b"null", b'"none"', b'"minimal"'}:
        return True
    reasoning = fields.get("reasoning")
    return reasoning is not None and bytes(reasoning)[:1] == b"{"


def _integer(fields: dict[str, Raw], name: str, least: int, most: int) -> int | None:
    expected = f"an integer from {least} to {most}"
    value = _read(fields, name, int, expected)
    if value is not None and not least <= value <= most:
        raise _bad(name, f"must be {expected}")
    return value


def _read(fields: dict[str, Raw], name: str, kind: type[_T], expected: str) -> _T | None:
    """A member as a value of this type; None where it is absent or null."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == b"null":
        return None
    return _decode(raw, kind, name, expected)


def _decode(raw: Raw, kind: type[_T], where: str, expected: str) -> _T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, RecursionError):  # ValidationError is one
        raise _bad(where, f"must be {expected}") from None


def _bad(field: str, problem: str) -> RequestError:
    return RequestError(f"{field} {problem}.", param=field)


def _bounded(body: bytes, limits: Limits) -> None:
    """
    Nesting, and the number of values, so that no body costs far more than its size.

    Neither can be too large where there are not even so many of the marks that make them, in text or not; only where
    there are, the ones that are not text are counted, up to the bound.
    """
    nested = body.count(b"[") + body.count(b"{")
    if nested <= limits.depth and nested + body.count(b",") + body.count(b":") <= limits.values:
        return
    depth = values = 0
    for token in _TOKENS.finditer(body):
        mark = body[token.start()]
        values += mark in b"[{,:"
        if values > limits.values:
            raise RequestError(f"The body has more than {limits.values} values.")
        if mark in b"[{":
            depth += 1
            if depth > limits.depth:
                raise RequestError(f"The body is nested more than {limits.depth} levels deep.")
        elif mark in b"]}":
            depth -= 1
