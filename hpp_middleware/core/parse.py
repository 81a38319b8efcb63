"""
A request body into a :class:`Request`: strictly, and only as far as the router acts on it.

The top level becomes members whose values stay raw bytes, each key once, so that router and upstream can never read two
different bodies. Bad input is a 400 that names the field.
"""

import re

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core import parse_usual, preferences
from hpp_middleware.core.body import SMALL, brief, members, unescaped
from hpp_middleware.core.fields import NULL as _NULL
from hpp_middleware.core.fields import bad as _bad
from hpp_middleware.core.fields import decoded as _decode
from hpp_middleware.core.fields import integer as _integer
from hpp_middleware.core.fields import read as _read
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

__all__ = ["completion", "inline_bytes", "is_model_id", "members", "model_of", "unescaped"]

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
        "models",
        "provider",
        "reasoning",
        "reasoning_effort",
    }
)
"""Keys that the router acts on: no other letter case of them passes, since some servers match keys without case."""

_NEED_NO_LOOK = ACTED_ON | parse_usual.PLAIN
"""The usual keys: in lower case, and no other spelling of one that matters."""

_ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})
_REFERRING = frozenset({"file", "file_url", "document_url", "video_url", "audio_url"})
"""Parts that may name content which is not sent: its size, and so its cost, has no bound."""

_TEXTS = frozenset(
    {
        "text",
        "input_text",
        "output_text",
        "refusal",
        "thinking",
        "redacted_thinking",
        "reasoning",
        "reasoning_text",
        "summary_text",
        "tool_use",
        "tool_call",
        "tool_result",
        "tool_reference",
        "reference",
        "search_result",
    }
)
"""Parts that cost their bytes and no more."""

_INLINE_TEXT = re.compile(rb'"file_data"\s*:\s*"data:text/', re.IGNORECASE)

_TEXT_ALONE: frozenset[str] = frozenset()


# A member that is absent is an empty Raw; in a union msgspec would not take it for raw.
class _Message(Struct):
    role: Raw = Raw()
    content: Raw = Raw()
    tool_calls: Raw = Raw()
    audio: Raw = Raw()


class _Part(Struct):
    type: Raw = Raw()
    image_url: Raw = Raw()


class _ImageURL(Struct):
    url: str


_message_fields = msgspec.json.Decoder(_Message)
_part_fields = msgspec.json.Decoder(_Part)
_image_url = msgspec.json.Decoder(_ImageURL)
_stream_options = msgspec.json.Decoder(parse_usual.StreamOptions)
_raws = msgspec.json.Decoder(list[Raw])
_strings = msgspec.json.Decoder(list[str])
_string = msgspec.json.Decoder(str)
_truth = msgspec.json.Decoder(bool)


def completion(body: bytes, limits: Limits) -> Request:
    """
    A chat completion request.

    Raises:
        RequestError: 400; ``param`` and the message name the field.
    """
    short = brief(body)
    nested = len(short) >= SMALL  # else to look at all of it takes the least time
    fields = members(body, limits, short, nested=nested)
    found = parse_usual.request(short, fields, limits, brief=short is not body, nested=nested)
    if found is not None and found.plain is not None:
        reasons = "reasoning_effort" in fields and _asks_for_reasoning(fields)
        return msgspec.structs.replace(found, hidden_reasoning=True) if reasons else found
    _refuse_twins(fields)
    wanted = preferences.taken(fields)
    if found is None:
        found = _one_by_one(fields, limits)
    if "tools" in fields:
        _check_tools(fields, limits)
    return msgspec.structs.replace(
        found,
        include_usage="stream_options" in fields and _include_usage(fields),
        output_modalities=_modalities(fields) if "modalities" in fields else _TEXT_ALONE,
        hidden_reasoning=_asks_for_reasoning(fields),
        models=wanted.models,
        preferences=wanted.preferences,
    )


def _one_by_one(fields: dict[str, Raw], limits: Limits) -> Request:
    """What the router acts on in every request, field by field."""
    model = model_of(fields)
    images, audio, unbounded = _messages(fields, limits)
    cap = _cap(fields, limits)
    return Request(
        fields=fields,
        model=model,
        stream=_read(fields, "stream", _truth, "true or false") or False,
        n=_integer(fields, "n", 1, limits.n) or 1,
        cap=cap,
        images=images,
        audio_input=audio,
        unbounded=unbounded,
    )


def is_model_id(name: str) -> bool:
    """Whether a name can be a model's: it stands in response headers, so that nothing else passes."""
    return parse_usual.MODEL.match(name) is not None


def _refuse_twins(fields: dict[str, Raw]) -> None:
    if fields.keys() <= _NEED_NO_LOOK:
        return
    for key in fields:
        if key in _NEED_NO_LOOK:
            continue
        folded = key.casefold()
        if folded in STEERING:
            raise RequestError(f"{key!r} is not accepted.", param=key)
        if folded in ACTED_ON:
            raise RequestError(f"{key!r} must be written {folded!r}.", param=key)


def model_of(fields: dict[str, Raw]) -> str:
    """
    The ``model`` of a request, as given.

    Raises:
        RequestError: 400: it is missing, or can be no model's name.
    """
    if "model" not in fields:
        raise _bad("model", "is required")
    model = _read(fields, "model", _string, "a string")
    if model is None or not is_model_id(model):
        raise _bad("model", "must be 1 to 200 letters, digits, or any of . _ : / @ -")
    return model


def _messages(fields: dict[str, Raw], limits: Limits) -> tuple[Images, bool, bool]:
    """What they have besides text: images, whether a part is audio, and whether one is of a size that nobody knows."""
    if "messages" not in fields:
        raise _bad("messages", "is required")
    messages = _read(fields, "messages", _raws, "an array")
    if not messages:
        raise _bad("messages", "must be an array that is not empty")
    if len(messages) > limits.messages:
        raise _bad("messages", f"must not have more than {limits.messages} entries")
    count = inline = 0
    audio = unbounded = False
    for index, raw in enumerate(messages):
        for kind, size in _parts(raw, f"messages[{index}]"):
            count += kind == "image"
            inline += size
            audio |= kind == "audio"
            unbounded |= kind == "unbounded"
    return Images(count, inline), audio, unbounded


def _parts(raw: Raw, where: str) -> list[tuple[str, int]]:
    """What a message's content has besides text, as :func:`_part` says it."""
    message = _decode(raw, _message_fields, where, "an object")
    roles = f"one of {', '.join(sorted(_ROLES))}"
    role = _decode(message.role or _NULL, _string, f"{where}.role", roles)
    if role not in _ROLES:
        raise _bad(f"{where}.role", f"must be {roles}")
    if message.audio and message.audio != _NULL:
        raise _bad(f"{where}.audio", "must be left out: an earlier answer's sound is in no byte of the request")
    content = message.content
    if not content or content == _NULL:
        calls = message.tool_calls or _NULL
        if role == "assistant" and calls != _NULL and _decode(calls, _raws, f"{where}.tool_calls", "an array"):
            return []
        raise _bad(f"{where}.content", "must be a string or an array of parts")
    first = bytes(content)[:1]
    if first == b'"':
        return []
    if first != b"[":
        raise _bad(f"{where}.content", "must be a string or an array of parts")
    found = []
    parts: list[Raw] = _decode(content, _raws, f"{where}.content", "an array")
    for number, part in enumerate(parts):
        kind = _part(part, f"{where}.content[{number}]")
        if kind is not None:
            found.append(kind)
    return found


def _part(raw: Raw, where: str) -> tuple[str, int] | None:
    """What a part is if not text (``image``, ``audio``, or ``unbounded``), and the bytes of image data in it."""
    part = _decode(raw, _part_fields, where, "an object")
    kind = _decode(part.type or _NULL, _string, f"{where}.type", "a string")
    has_image = bool(part.image_url) and part.image_url != _NULL
    if kind in _TEXTS:  # of a name that is given twice, whoever is asked may read the first
        return ("image", 0) if has_image else None
    if kind in _REFERRING and any(word in unescaped(raw) for word in (b"://", b"file_id")):
        raise _bad(where, "must carry its data inline: what is only referred to cannot be held for")
    if kind in {"input_audio", "audio_url"}:
        return "audio", 0
    if kind in {"image_url", "input_image"}:
        if not has_image:
            raise _bad(f"{where}.image_url", "is required")
        return "image", _image_bytes(part.image_url, f"{where}.image_url")
    if kind.startswith("image"):  # other servers' forms are counted, and their bytes as well
        return "image", 0
    return None if kind == "file" and _INLINE_TEXT.search(unescaped(raw)) is not None else ("unbounded", 0)


def _image_bytes(given: Raw, where: str) -> int:
    if bytes(given)[:1] == b'"':  # Mistral's short form
        url = _decode(given, _string, where, "a string")
    else:
        url = _decode(given, _image_url, where, "an object with a url").url
    size = inline_bytes(url)
    if size is None:
        raise _bad(f"{where}.url", "must be an https: or data: URL")
    return size


def inline_bytes(url: str) -> int | None:
    """How many bytes of image data a URL has; None for one that is not accepted."""
    if url[:11].lower() == "data:image/":
        return len(url) - max(0, url.find(",") - parse_usual.HEADER)
    # Something else in an image's place (a PDF) has none: its bytes count as well.
    return 0 if url[:5].lower() == "data:" or url[:8].lower() == "https://" else None


def _cap(fields: dict[str, Raw], limits: Limits) -> int | None:
    """The client's output cap; where it names two, the larger: an upstream may go by either."""
    one = _integer(fields, "max_tokens", 1, limits.max_tokens)
    other = _integer(fields, "max_completion_tokens", 1, limits.max_tokens)
    return one if other is None else max(one or 0, other)


def _check_tools(fields: dict[str, Raw], limits: Limits) -> None:
    tools = _read(fields, "tools", _raws, "an array")
    if tools is not None and len(tools) > limits.tools:
        raise _bad("tools", f"must not have more than {limits.tools} entries")


def _modalities(fields: dict[str, Raw]) -> frozenset[str]:
    modalities = _read(fields, "modalities", _strings, "an array of strings")
    return frozenset(modalities) - {"text"} if modalities else _TEXT_ALONE


def _include_usage(fields: dict[str, Raw]) -> bool:
    options = _read(fields, "stream_options", _stream_options, "an object")
    return options is not None and bool(options.include_usage)


def _asks_for_reasoning(fields: dict[str, Raw]) -> bool:
    effort = fields.get("reasoning_effort")
    if effort is not None and bytes(effort) not in {b"null", b'"none"', b'"minimal"'}:
        return True
    reasoning = fields.get("reasoning")
    return reasoning is not None and bytes(reasoning)[:1] == b"{"
