"""
A Response's request as a chat completion.

Instructions and items become messages: what an assistant said, thought and called in one turn is one message. Fields
that both APIs have, or that neither knows, keep their values; what cannot be said is refused by name. Left unsaid is
what asks for nothing (``store: false``), and thoughts that nobody here can read.
"""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from hpp_middleware.apis.responses.items import NULL, Item, Part, bad, items, value
from hpp_middleware.apis.responses.namespaces import flat
from hpp_middleware.apis.responses.thoughts import joined, unpacked
from hpp_middleware.core import offers, parse
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

__all__ = ["LOGPROBS", "as_chat"]

LOGPROBS = "message.output_text.logprobs"

_UNSAID = frozenset(
    {
        "background",
        "client_metadata",  # what OpenAI's own agents say of themselves
        "conversation",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",  # it counts the provider's own tools, of which there are none
        "previous_response_id",
        "prompt",
        "reasoning",
        "store",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "truncation",
    }
)
"""Fields that are said in other words below, or that ask for nothing."""

_OUTPUTS = frozenset({"function_call_output", "custom_tool_call_output"})

_encode = msgspec.json.Encoder().encode


class _Reasoning(Struct):
    effort: str | None = None
    context: str | None = None


class _Format(Struct):
    type: str
    name: str | None = None
    schema: Raw = Raw()
    description: str | None = None
    strict: bool | None = None


class _Text(Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Grammar(Struct):
    type: str
    syntax: str | None = None
    definition: str | None = None


class _Tool(Struct):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: Raw = Raw()
    strict: bool | None = None
    format: _Grammar | None = None
    tools: "list[_Tool] | None" = None


class _Choice(Struct):
    type: str
    name: str | None = None
    mode: str | None = None
    tools: "list[_Choice] | None" = None


def as_chat(request: Request, limits: Limits) -> Request:
    """
    The request as a chat completion, with the facts that the path acts on.

    Raises:
        RequestError: 400: a field cannot be said there; it is named.
    """
    fields = request.fields
    found: dict[str, Any] = {name: raw for name, raw in fields.items() if name not in _UNSAID and raw != NULL}
    instructions = value(fields, "instructions", str)
    found["messages"] = _messages(items(fields))
    if instructions:
        found["messages"].insert(0, {"role": "system", "content": instructions})
    if request.cap is not None:
        found["max_completion_tokens"] = request.cap
    if request.stream:
        found["stream_options"] = {"include_usage": True}
    _say_reasoning(fields, found)
    _say_text(fields, found)
    _say_tools(fields, found)
    _say_logprobs(fields, found)
    if value(fields, "truncation", str) not in {None, "disabled"}:
        raise bad("truncation", "must be disabled: this model's provider cannot be told to cut the input")
    return parse.completion(_encode(found), limits)


def _say_reasoning(fields: dict[str, Raw], found: dict[str, Any]) -> None:
    reasoning = value(fields, "reasoning", _Reasoning)
    if reasoning is None:
        return
    if reasoning.context not in {None, "auto"}:
        raise bad("reasoning.context", "must be auto: this model's provider cannot be told otherwise")
    if reasoning.effort is not None:
        found["reasoning_effort"] = reasoning.effort


def _say_text(fields: dict[str, Raw], found: dict[str, Any]) -> None:
    text = value(fields, "text", _Text)
    if text is None:
        return
    if text.verbosity is not None:
        found["verbosity"] = text.verbosity
    form = text.format
    if form is None or form.type == "text":
        return
    if form.type == "json_object":
        found["response_format"] = {"type": "json_object"}
    elif form.type != "json_schema":
        raise bad("text.format.type", "must be text, json_object or json_schema")
    elif form.name is None or not form.schema:
        raise bad(f"text.format.{'name' if form.name is None else 'schema'}", "is required")
    else:
        schema = {"name": form.name, "schema": form.schema, "description": form.description, "strict": form.strict}
        found["response_format"] = {"type": "json_schema", "json_schema": _without_none(schema)}


def _say_tools(fields: dict[str, Raw], found: dict[str, Any]) -> None:
    given = value(fields, "tools", list[_Tool]) or ()
    unsaid = offers.left_out(fields)
    kept = [(tool, f"tools[{index}]") for index, tool in enumerate(given) if index not in unsaid]
    tools = [said for tool, where in kept for said in _tools(tool, where)]
    if tools:
        found["tools"] = tools
    choice: str | _Choice | None = value(fields, "tool_choice", str | _Choice)
    if isinstance(choice, _Choice):
        found["tool_choice"] = _choice(choice, "tool_choice")
    elif choice is not None and (tools or choice == "required"):
        found["tool_choice"] = choice


def _tools(tool: _Tool, where: str) -> list[dict[str, Any]]:
    """A tool; of a namespace, what is in it."""
    if tool.type != "namespace":
        return [_tool(tool, where)]
    if tool.name is None:
        raise bad(f"{where}.name", "is required")
    return [_tool(inner, f"{where}.tools[{at}]", tool.name) for at, inner in enumerate(tool.tools or ())]


def _tool(tool: _Tool, where: str, namespace: str | None = None) -> dict[str, Any]:
    if tool.type not in {"function", "custom"}:
        raise bad(f"{where}.type", f"cannot be {tool.type} for this model's provider, which knows functions only")
    if tool.name is None:
        raise bad(f"{where}.name", "is required")
    said: dict[str, Any] = {"name": flat(namespace, tool.name), "description": tool.description}
    if tool.type == "function":
        parameters = tool.parameters if tool.parameters and tool.parameters != Raw(b"null") else None
        said |= {"parameters": parameters, "strict": tool.strict}
    elif tool.format is not None and tool.format.type == "grammar":
        grammar = {"syntax": tool.format.syntax, "definition": tool.format.definition}
        said["format"] = {"type": "grammar", "grammar": grammar}
    return {"type": tool.type, tool.type: _without_none(said)}


def _choice(choice: _Choice, where: str) -> dict[str, Any]:
    if choice.type == "allowed_tools":
        tools = [_choice(tool, f"{where}.tools[{index}]") for index, tool in enumerate(choice.tools or [])]
        return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode or "auto", "tools": tools}}
    if choice.type not in {"function", "custom"}:
        raise bad(f"{where}.type", f"cannot be {choice.type} for this model's provider")
    if choice.name is None:
        raise bad(f"{where}.name", "is required")
    return {"type": choice.type, choice.type: {"name": choice.name}}


def _say_logprobs(fields: dict[str, Raw], found: dict[str, Any]) -> None:
    most = value(fields, "top_logprobs", int)
    if most:
        found["top_logprobs"] = most
    if most or LOGPROBS in (value(fields, "include", list[str]) or ()):
        found["logprobs"] = True


def _messages(found: list[Item]) -> list[dict[str, Any]]:
    """The items as messages."""
    messages: list[dict[str, Any]] = []
    thoughts: dict[str, Any] = {}  # of the assistant's message that comes
    shown: list[dict[str, Any]] = []  # by the results of tools that stand last
    for index, item in enumerate(found):
        where, kind = f"input[{index}]", item.kind
        if shown and kind not in _OUTPUTS:
            messages.append({"role": "user", "content": shown})
            shown = []
        if kind == "reasoning":
            known = unpacked(item.encrypted_content)
            thoughts = joined(thoughts, known.fields()) if known is not None else thoughts
        elif kind == "message" and item.role == "assistant":
            _say(_turn(messages, thoughts, speaks=True), item, where)
        elif kind in {"function_call", "custom_tool_call"}:
            _turn(messages, thoughts).setdefault("tool_calls", []).append(_call(item))
        elif kind in _OUTPUTS:
            _end_turn(messages, thoughts)
            messages.append(_result(item, where, shown))
        elif kind == "message":
            _end_turn(messages, thoughts)
            messages.append({"role": item.role, "content": _content(item.content or "", f"{where}.content")})
        else:
            raise bad(f"{where}.type", f"cannot be {kind} for this model's provider")
    return [*messages, {"role": "user", "content": shown}] if shown else messages


def _end_turn(messages: list[dict[str, Any]], thoughts: dict[str, Any]) -> None:
    """Thoughts that come last in an assistant's turn are of this turn: what proves a text comes behind it."""
    if messages and messages[-1]["role"] == "assistant":
        messages[-1] = joined(messages[-1], thoughts)
        thoughts.clear()


def _turn(messages: list[dict[str, Any]], thoughts: dict[str, Any], *, speaks: bool = False) -> dict[str, Any]:
    """The assistant's message that an item belongs to, with what it thought before."""
    last = messages[-1] if messages else {"role": None}
    has_spoken = speaks and last.get("content") is not None and "tool_calls" not in last
    if last["role"] != "assistant" or has_spoken:
        messages.append({"role": "assistant", "content": None})
    messages[-1] = joined(messages[-1], thoughts)
    thoughts.clear()
    return messages[-1]


def _say(turn: dict[str, Any], item: Item, where: str) -> None:
    """Add what an assistant has said to its turn; what it was not willing to say is a field of its own."""
    parts = [Part(type="output_text", text=item.content)] if isinstance(item.content, str) else item.content or []
    for number, part in enumerate(parts):
        said = part.refusal if part.type == "refusal" else part.text
        if said is None:
            raise bad(f"{where}.content[{number}].type", "must be output_text or refusal, of an assistant's")
        name = "refusal" if part.type == "refusal" else "content"
        turn[name] = (turn.get(name) or "") + said
    if turn["content"] is None and "tool_calls" not in turn:
        turn["content"] = ""


def _result(item: Item, where: str, shown: list[dict[str, Any]]) -> dict[str, Any]:
    """
    What a tool has said. OpenAI's tool messages are text alone: an image or a file follows in the user's message.

    Args:
        item: The tool's output.
        where: Its place in the input.
        shown: What the user's message will have; added to.
    """
    content = _content(item.output or "", f"{where}.output")
    parts = content if isinstance(content, list) else []
    texts = [part for part in parts if part["type"] == "text"]
    seen = [part for part in parts if part["type"] != "text"]
    if seen:
        shown += [{"type": "text", "text": f"[Of the result of tool call {item.call_id}:]"}, *seen]
        follows = f"[{len(seen)} image(s) or file(s) of this result follow in the next user message.]"
        content = [*texts, {"type": "text", "text": follows}] if texts else follows
    return {"role": "tool", "tool_call_id": item.call_id, "content": content}


def _call(item: Item) -> dict[str, Any]:
    name = flat(item.namespace, item.name or "")
    if item.kind == "custom_tool_call":
        return {"id": item.call_id, "type": "custom", "custom": {"name": name, "input": item.input}}
    return {"id": item.call_id, "type": "function", "function": {"name": name, "arguments": item.arguments}}


def _content(content: str | list[Part], where: str) -> str | list[dict[str, Any]]:
    """Content as a message has it; a single text is a string, which every server takes."""
    if isinstance(content, str):
        return content
    if len(content) == 1 and content[0].text is not None:
        return content[0].text
    return [_part(part, f"{where}[{number}]") for number, part in enumerate(content)]


def _part(part: Part, where: str) -> dict[str, Any]:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    if part.type == "input_image":
        return {"type": "image_url", "image_url": _without_none({"url": part.image_url, "detail": part.detail})}
    if part.type == "input_file":
        return {"type": "file", "file": _without_none({"filename": part.filename, "file_data": part.file_data})}
    if part.type == "input_audio":
        return {"type": "input_audio", "input_audio": part.input_audio}
    raise bad(f"{where}.type", f"cannot be {part.type} here")


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: found for name, found in fields.items() if found is not None}
