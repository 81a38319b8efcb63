"""
A chat completion request as values, for dialects that say it in other words.

OpenAI's own dialect passes raw bytes on and needs none of this. Here every field that a translation has to understand
is decoded into its type, and what cannot be is a 400 that names it. Content parts stay open: a dialect takes the kinds
that it knows, and refuses the others by name.
"""

import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.core.fields import decoder
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request

__all__ = [
    "HARMLESS",
    "Call",
    "Chat",
    "Function",
    "JSONFormat",
    "Message",
    "Part",
    "Tool",
    "bad",
    "cap_of",
    "data_url",
    "effort_for",
    "effort_of",
    "excludes_reasoning",
    "format_of",
    "parts_of",
    "read",
    "stops_of",
    "text_of",
    "unsaid",
]

HARMLESS = frozenset(
    {
        "logit_bias",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "seed",
        "service_tier",
        "session_id",
        "store",
        "stream_options",
        "user",
        "verbosity",
    }
)
"""
Fields that a provider may be left untold: they ask for nothing that an answer without them would get wrong. They are
labels for logs and caches, hints that OpenAI itself calls best effort, and what the router has acted on itself.
"""

LOW_TOKENS = 4_096
MEDIUM_TOKENS = 16_384
"""Up to where a budget of thought is a low effort, and a medium one; any larger one is high."""

_SAYS_NOTHING: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "tools": ([],),
    "functions": ([],),
    "parallel_tool_calls": (True,),
    "response_format": ({"type": "text"},),
    "reasoning_effort": ("none",),
    "temperature": (1,),
    "top_p": (1,),
    "stream": (True, False),
}
"""Values that are each field's default: to leave them out says the same."""

_NULL = Raw(b"null")
_DATA_URL = re.compile(
    r"data:(?P<type>[\w.+-]{1,100}/[\w.+-]{1,100})(?:;[\w=.-]{1,100}){0,8};base64,(?P<data>[A-Za-z0-9+/_=-]*)",
    re.IGNORECASE,
)


class Function(Struct):
    """A function: of a tool, or one that was called."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    arguments: str = ""


class Tool(Struct):
    """A tool of the client's."""

    function: Function
    type: Literal["function"] = "function"
    cache_control: dict[str, Any] | None = None


class Call(Struct):
    """
    A call of a tool, as an assistant made it.

    Attributes:
        extra_content: What Google's OpenAI port says besides: ``{"google": {"thought_signature": ...}}``.
    """

    id: str
    function: Function
    type: Literal["function"] = "function"
    extra_content: dict[str, Any] | None = None


class Part(Struct, kw_only=True):
    """
    A piece of a message. ``type`` says which of the others are there; what no dialect knows is in none.

    Attributes:
        image_url: ``{"url": ..., "detail": ...}``, or the URL alone.
        file: ``{"file_data": "data:application/pdf;base64,...", "filename": ...}``.
        thinking: Anthropic's, which a client hands back as it came.
    """

    type: str
    text: str | None = None
    image_url: dict[str, Any] | str | None = None
    input_audio: dict[str, Any] | None = None
    file: dict[str, Any] | None = None
    refusal: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    cache_control: dict[str, Any] | None = None


class Message(Struct, kw_only=True):
    """
    One message.

    Attributes:
        reasoning_content: An assistant's thoughts, where they were told.
        reasoning_details: The same in OpenRouter's form, with what proves them to their provider.
        extra_content: As of a :class:`Call`.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning_details: list[dict[str, Any]] | None = None
    extra_content: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None


class JSONFormat(Struct):
    """What ``response_format`` asks for besides text; ``schema`` is None for any JSON object."""

    name: str = "response"
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _Schema(Struct):
    name: str = "response"
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _Format(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Choice(Struct):
    type: str
    function: Function | None = None


class _Reasoning(Struct):
    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class Chat(Struct, kw_only=True):
    """
    The request.

    Attributes:
        tool_choice: ``auto``, ``none``, ``required``, or the name of a function in a :class:`Function`.
        reasoning: See :func:`effort_of`.
    """

    messages: list[Message]
    tools: list[Tool] = []
    tool_choice: str | Function | None = None
    parallel_tool_calls: bool | None = None
    response_format: JSONFormat | None = None
    stop: list[str] = []
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    reasoning_effort: str | None = None
    reasoning_tokens: int | None = None
    exclude_reasoning: bool = False
    cache_control: dict[str, Any] | None = None


def read(request: Request) -> Chat:
    """
    The request's fields as values.

    Raises:
        RequestError: 400: one is not of its type; it is named.
    """
    fields = request.fields
    form = _value(fields, "response_format", _Format)
    effort = _value(fields, "reasoning_effort", str)
    reasoning = _value(fields, "reasoning", _Reasoning) or _Reasoning()
    return Chat(
        messages=_value(fields, "messages", list[Message]) or [],
        tools=_value(fields, "tools", list[Tool]) or [],
        tool_choice=_tool_choice(fields),
        parallel_tool_calls=_value(fields, "parallel_tool_calls", bool),
        response_format=format_of(form.type, form.json_schema) if form is not None else None,
        stop=stops_of(_value(fields, "stop", str | list[str])),
        temperature=_value(fields, "temperature", float),
        top_p=_value(fields, "top_p", float),
        top_k=_value(fields, "top_k", int),
        min_p=_value(fields, "min_p", float),
        seed=_value(fields, "seed", int),
        frequency_penalty=_value(fields, "frequency_penalty", float),
        presence_penalty=_value(fields, "presence_penalty", float),
        reasoning_effort=effort or reasoning.effort or ("medium" if reasoning.enabled else None),
        reasoning_tokens=reasoning.max_tokens,
        exclude_reasoning=bool(reasoning.exclude),
        cache_control=_value(fields, "cache_control", dict[str, Any]),
    )


def unsaid(request: Request, said: Iterable[str], *, harmless: frozenset[str] = HARMLESS) -> tuple[str, ...]:
    """
    The fields that a translation leaves out, for :attr:`~hpp_middleware.types.http.HTTPCall.dropped`.

    Args:
        request: What is asked.
        said: The fields that the translation expresses.
        harmless: Those that may be left out.
    Raises:
        RequestError: 400: a field cannot be expressed, and asks for something; it is named.
    """
    known = {*said, "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens"}
    dropped = []
    for name, raw in request.fields.items():
        if name in known or raw == _NULL or _says_nothing(name, raw):
            continue
        if name not in harmless:
            raise RequestError(f"{name} cannot be expressed to this model's provider.", param=name)
        dropped.append(name)
    return tuple(dropped)


def cap_of(request: Request, cap: int | None) -> int | None:
    """The output cap to send: the client's, or else ours."""
    return request.cap if request.cap is not None else cap


def effort_of(chat: Chat) -> str | None:
    """``low``, ``medium``, ``high`` or another word of the client's; None where no reasoning is asked for."""
    return None if chat.reasoning_effort in {None, "none"} else chat.reasoning_effort


def effort_for(budget: int) -> str:
    """
    The effort that a budget of thought in tokens comes to, for a model that knows efforts alone.

    OpenRouter does so too: https://openrouter.ai/docs/guides/best-practices/reasoning-tokens.
    """
    return "low" if budget <= LOW_TOKENS else "medium" if budget <= MEDIUM_TOKENS else "high"


def excludes_reasoning(request: Request) -> bool:
    """Whether the client does not want to see what a model thinks."""
    reasoning: _Reasoning | None = _value(request.fields, "reasoning", _Reasoning)
    return reasoning is not None and bool(reasoning.exclude)


def parts_of(message: Message) -> list[Part]:
    """A message's content as parts; a string is one of text, and an empty one none."""
    if isinstance(message.content, str):
        return [Part(type="text", text=message.content)] if message.content else []
    return message.content or []


def text_of(message: Message, where: str) -> str:
    """
    A message's content, where it can be text only.

    Raises:
        RequestError: 400: there is something else in it.
    """
    parts = parts_of(message)
    for number, part in enumerate(parts):
        if part.type != "text" or part.text is None:
            raise bad(f"{where}.content[{number}].type", "must be text here")
    return "".join(part.text or "" for part in parts)


def data_url(url: str) -> tuple[str, str] | None:
    """The media type, in lower case, and the base64 data of a ``data:`` URL; None for any other URL."""
    found = _DATA_URL.fullmatch(url)
    return (found["type"].lower(), found["data"]) if found is not None else None


def stops_of(stop: str | list[str] | None) -> list[str]:
    """``stop`` as a list."""
    return [stop] if isinstance(stop, str) else stop or []


def format_of(kind: str, schema: Any) -> JSONFormat | None:
    """
    What a ``response_format`` asks for; None for text.

    Raises:
        RequestError: 400: a schema is asked for, and not there.
    """
    if kind == "text":
        return None
    if kind == "json_object":
        return JSONFormat()
    if schema is None or schema.schema is None:
        raise bad("response_format.json_schema.schema", "is required")
    return JSONFormat(schema.name, schema.schema, schema.strict, schema.description)


def bad(field: str, problem: str) -> RequestError:
    """A 400 that names a field."""
    return RequestError(f"{field} {problem}.", param=field)


def _tool_choice(fields: dict[str, Raw]) -> str | Function | None:
    found: str | _Choice | None = _value(fields, "tool_choice", str | _Choice)
    if isinstance(found, _Choice):
        if found.type != "function" or found.function is None:
            raise bad("tool_choice.type", "must be function, with the function's name")
        return found.function
    if found is not None and found not in {"auto", "none", "required"}:
        raise bad("tool_choice", "must be auto, none, required, or a function")
    return found


def _value(fields: dict[str, Raw], name: str, kind: Any) -> Any:
    """A field as a value of this type; None where it is absent or null."""
    raw = fields.get(name)
    if raw is None or raw == _NULL:
        return None
    try:
        return decoder(kind).decode(raw)
    except (msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        problem, _, path = str(error).partition(" - at `$")
        raise RequestError(
            f"{name}{path.rstrip('`')} is not valid: {problem}.", param=f"{name}{path.rstrip('`')}"
        ) from None


def _says_nothing(name: str, raw: Raw) -> bool:
    defaults = _SAYS_NOTHING.get(name)
    if defaults is None:
        return False
    value = _value({name: raw}, name, Any)
    return any(value == default and type(value) in {type(default), int, float} for default in defaults)
