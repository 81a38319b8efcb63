"""What a request asks of a model: read once, before there is one. What cannot be read asks for nothing."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from hpp_middleware.core.settlement import tokens_of
from hpp_middleware.errors import RequestError
from hpp_middleware.types.auto import Asked, Decision, Hints
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["HINTS", "asked", "conversation", "goes_on", "hints", "of", "unread"]

_NULL = Raw(b"null")
_NOTHING = frozenset({b"null", b"[]"})
_any = msgspec.json.Decoder()
_encode = msgspec.json.Encoder(order="sorted").encode
_PDF = re.compile(r"data:application/pdf|\.pdf$", re.IGNORECASE)
_SESSION = b"x-session-id"
_REQUIRE = b"x-hpp-router-require"
HINTS = frozenset({_SESSION, _REQUIRE})
"""The headers that :func:`hints` reads."""

_HEAD = frozenset({"system", "developer"})


def asked(
    request: Request, *, requires: frozenset[str] = frozenset(), before: Decision | None = None, stream: bool = False
) -> Asked:
    """
    The facts of a chat completion.

    Args:
        request: What the client asks, said as a chat completion.
        requires: The data policy's tags.
        before: What the conversation's last turn was given.
        stream: Whether the client asks for a stream.
    """
    messages = _messages(request)
    kinds: set[str] = set()
    sizes = [_measured(message, kinds) for message in messages]
    fields = request.fields
    text = sum(sizes)
    tools = False
    for name in ("tools", "functions"):
        raw = fields.get(name, _NULL)
        if not _is_nothing(raw):
            tools = True
            text += len(bytes(raw))
    form = fields.get("response_format", _NULL)
    if form != _NULL:
        text += len(bytes(form))
    if request.images.count:
        kinds.add("image")
    if request.audio_input:
        kinds.add("audio")
    return Asked(
        messages=messages,
        last_user=next((_text(each) for each in reversed(messages) if _role(each) == "user"), ""),
        text_tokens=tokens_of(text),
        new_tokens=tokens_of(sizes[-1]) if sizes else 0,
        images=request.images.count,
        cap=request.cap,
        n=request.n,
        stream=stream or request.stream,
        tools=tools,
        tool_choice=fields.get("tool_choice", _NULL) != _NULL,
        structured=_is_schema(form),
        modalities=frozenset(kinds),
        output_modalities=request.output_modalities,
        requires=requires,
        before=before,
    )


def of(
    as_chat: Callable[[Request, Limits], Request], request: Request, limits: Limits, *, requires: frozenset[str]
) -> tuple[Asked, RequestError | None]:
    """
    The facts of a request in whatever API's words.

    Args:
        as_chat: Says it as a chat completion: see :class:`hpp_middleware.ports.API`.
        request: What the client asks.
        limits: Bounds on what saying it may come to.
        requires: The data policy's tags.
    Returns:
        Them, and why it cannot be said as a chat completion, if it cannot: a provider that takes its API need not mind.
    """
    chat: Request = request
    unsaid: RequestError | None = None
    try:
        chat = as_chat(request, limits)
    except RequestError as error:
        unsaid = error
    found = asked(chat, requires=requires, stream=request.stream)
    return (found if unsaid is None else unread(request, found)), unsaid


def unread(request: Request, found: Asked) -> Asked:
    """The facts of a request that cannot be said as a chat completion: its size, and whether it has tools."""
    raw = request.fields
    size = sum(len(bytes(value)) for name, value in raw.items() if name != "model") - request.images.inline_bytes
    return msgspec.structs.replace(
        found,
        text_tokens=tokens_of(max(0, size)),
        tools=not _is_nothing(raw.get("tools", _NULL)),
        tool_choice=raw.get("tool_choice", _NULL) != _NULL,
    )


def hints(headers: Iterable[tuple[bytes, bytes]]) -> Hints:
    """
    What a client says beside its body.

    Args:
        headers: All that came, names in lower case; a list of tags in several lines is one list, as HTTP has it.
    Raises:
        RequestError: 400: one of them is too long, or no text; or there are several sessions.
    """
    given: dict[bytes, list[str]] = {name: [] for name in HINTS}
    for name, value in headers:
        if name not in given:
            continue
        if not (value and len(value) <= 256 and value.isascii()):
            where = name.decode()
            raise RequestError(f"{where} must be 1 to 256 ASCII characters.", param=where)
        given[name].append(value.decode("ascii"))
    sessions = set(given[_SESSION])
    if len(sessions) > 1:
        raise RequestError("x-session-id is given twice, and differs.", param="x-session-id")
    tags = (tag.strip() for line in given[_REQUIRE] for tag in line.split(","))
    return Hints(session=sessions.pop() if sessions else None, requires=frozenset(tag for tag in tags if tag))


def conversation(consumer: str, messages: Sequence[Any], session: str | None) -> bytes:
    """
    What a conversation is known by: its session, or else how it begins.

    Args:
        consumer: Whose it is; two of them never share one.
        messages: All of it so far.
        session: The client's own name for it.
    """
    if session is not None:
        begin: Any = session
    else:
        begin = []
        for message in messages:
            if _role(message) in _HEAD or _role(message) == "user":
                begin.append([_role(message), message.get("content")])
            if _role(message) not in _HEAD:
                break
    return hashlib.blake2b(_encode([consumer, session is not None, begin]), digest_size=16).digest()


def goes_on(messages: Sequence[Any]) -> bool:
    """Whether this is a later turn: something was answered before."""
    return any(_role(message) == "assistant" for message in messages)


def _messages(request: Request) -> list[dict[str, Any]]:
    try:
        found = _any.decode(request.fields.get("messages", _NULL))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _role(message: dict[str, Any]) -> Any:
    return message.get("role")


def _measured(message: dict[str, Any], kinds: set[str]) -> int:
    """The bytes of a message's text, and what else there is in it."""
    content = message.get("content")
    size = 0
    if isinstance(content, str):
        size = _bytes(content)
    elif isinstance(content, list):
        size = sum(_part(part, kinds) for part in content if isinstance(part, dict))
    if message.get("tool_calls"):
        size += len(_encode(message["tool_calls"]))
    return size


def _part(part: dict[str, Any], kinds: set[str]) -> int:
    kind = part.get("type")
    if isinstance(part.get("text"), str):
        return _bytes(part["text"])
    if kind == "image_url":
        return 0  # an image counts by the model's own figure
    if kind in ("file", "input_file", "document"):
        file = part.get("file")
        given = file if isinstance(file, dict) else part
        if any(_PDF.match(str(given.get(name, ""))[:64]) for name in ("file_data", "data")) or _PDF.search(
            str(given.get("filename", ""))
        ):
            kinds.add("pdf")
    return len(_encode(part))


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _is_nothing(raw: Raw) -> bool:
    value = bytes(raw)
    return value in _NOTHING or (value[:1] == b"[" and not value[1:-1].strip())


def _is_schema(form: Raw) -> bool:
    if form == _NULL:
        return False
    try:
        found = _any.decode(form)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("type") == "json_schema"
