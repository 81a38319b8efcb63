"""A body of the Responses API into a :class:`Request`: strictly, and only as far as the router acts on it."""

from msgspec import Raw, Struct

from hpp_middleware.apis.responses import depth
from hpp_middleware.apis.responses.items import Tool, bad, check, check_tools, given, items, value
from hpp_middleware.core import offers, parse, preferences, responses
from hpp_middleware.core.body import SMALL
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["ACTED_ON", "REFUSED", "read"]

_STATELESS = "nothing is kept here, so send the whole conversation as input"
_IN_THEIR_STEAD = {
    "messages": "use input",
    "max_tokens": "use max_output_tokens",
    "max_completion_tokens": "use max_output_tokens",
    "response_format": "use text.format",
    "reasoning_effort": "use reasoning.effort",
    "verbosity": "use text.verbosity",
    "functions": "use tools",
    "function_call": "use tool_choice",
    "n": "a response is one",
    "modalities": "a response is text",
    "audio": "a response is text",
}
"""Fields of chat completions, which a server that has this API by way of that one might take."""

REFUSED = {
    "previous_response_id": _STATELESS,
    "conversation": _STATELESS,
    "prompt": "templates are kept at the provider; send instructions and input",
    "context_management": "compactions are billed beyond the output cap",
    "moderation": "it is another model's work, without a price here",
    **_IN_THEIR_STEAD,
}
"""Fields that are refused unless they are null, each with the reason."""

_ONLY_FALSE = {
    "background": "a response is not kept, so that it cannot be asked for later",
    "store": "nothing is kept here; leave it out, or set it to false",
}

ACTED_ON = frozenset(
    {
        "model",
        "input",
        "instructions",
        "stream",
        "stream_options",
        "max_output_tokens",
        "tools",
        "reasoning",
        "text",
        "truncation",
        "models",
        "provider",
        *REFUSED,
        *_ONLY_FALSE,
    }
)
"""Keys that the router acts on: no other letter case of them passes, since some servers match keys without case."""

_FALSE = Raw(b"false")


class _Reasoning(Struct):
    effort: str | None = None
    mode: str | None = None


def read(body: bytes, limits: Limits) -> Request:
    """
    A request.

    Raises:
        RequestError: 400; ``param`` and the message name the field.
    """
    nested = len(body) >= SMALL  # else to look at all of it takes the least time
    fields = parse.members(body, limits, nested=nested)
    known = depth.items(body, fields, limits) if nested else None
    _refuse(fields)
    wanted = preferences.taken(fields)
    model = value(fields, "model", str)
    if model is None:
        raise bad("model", "is required")
    if not parse.is_model_id(model):
        raise bad("model", "must be 1 to 200 letters, digits, or any of . _ : / @ -")
    value(fields, "instructions", str)
    images, audio = check(known or items(fields), limits)
    tools = value(fields, "tools", list[Tool])
    if tools is not None:
        if len(tools) > limits.tools:
            raise bad("tools", f"must not have more than {limits.tools} entries")
        check_tools(tools, left_out=offers.left_out(fields))
    reasoning = value(fields, "reasoning", _Reasoning)
    if reasoning is not None and reasoning.mode not in {None, "standard"}:
        raise bad("reasoning.mode", "is not accepted: only standard has a known bound on what it bills")
    cap = value(fields, "max_output_tokens", int)
    if cap is not None and not 1 <= cap <= limits.max_tokens:
        raise bad("max_output_tokens", f"must be an integer from 1 to {limits.max_tokens}")
    return Request(
        fields=fields,
        model=model,
        api="responses",
        stream=value(fields, "stream", bool) or False,
        cap=cap,
        images=images,
        audio_input=audio,
        hidden_reasoning=responses.is_hidden(fields),
        models=wanted.models,
        preferences=wanted.preferences,
    )


def _refuse(fields: dict[str, Raw]) -> None:
    for key, raw in fields.items():
        folded = key.casefold()
        if folded in parse.STEERING:
            raise RequestError(f"{key!r} is not accepted.", param=key)
        if folded in ACTED_ON and key != folded:
            raise RequestError(f"{key!r} must be written {folded!r}.", param=key)
        if not given(fields, key):
            continue
        if key in REFUSED:
            raise bad(key, f"is not accepted: {REFUSED[key]}")
        if key in _ONLY_FALSE and raw != _FALSE:
            raise bad(key, f"is not accepted: {_ONLY_FALSE[key]}")
