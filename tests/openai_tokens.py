"""
The tokens that OpenAI bills for a request and its answer, by the rules that its cookbook publishes.

"How to count tokens with tiktoken": three tokens a message and three for the answer's head, the texts, and the tools as
OpenAI writes them for the model. What it does not publish (tool calls in the history, response formats) is counted as
the JSON that is sent, which is more rather than less.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["answer_tokens", "prompt_tokens"]

Count = Callable[[str], int]


def prompt_tokens(request: dict[str, Any], count: Count) -> int:
    """The prompt's tokens."""
    messages = sum(3 + sum(_member(name, value, count) for name, value in each.items()) for each in request["messages"])
    tools = sum(_tool(each["function"], count) for each in request.get("tools", ()))
    schema = count(_json(request["response_format"])) if "response_format" in request else 0
    return 3 + messages + (tools + 12 if tools else 0) + schema


def answer_tokens(answer: str | None, calls: list[dict[str, Any]], count: Count) -> int:
    """The answer's tokens: text and tool calls, and the mark at its end."""
    return 1 + (count(answer) if answer else 0) + sum(_call(each, count) for each in calls)


def _member(name: str, value: Any, count: Count) -> int:
    if name == "tool_calls":
        return sum(_call(each, count) for each in value)
    if name == "tool_call_id" or value is None:
        return 0
    texts = [value] if isinstance(value, str) else [part["text"] for part in value if part["type"] == "text"]
    return sum(map(count, texts)) + (name == "name")


def _call(call: dict[str, Any], count: Count) -> int:
    return 8 + count(call["function"]["name"]) + count(call["function"]["arguments"])


def _tool(function: dict[str, Any], count: Count) -> int:
    described = f"{function['name']}:{function.get('description', '').rstrip('.')}"
    properties = function.get("parameters", {}).get("properties", {})
    return 7 + count(described) + (3 + sum(_properties(properties, count)) if properties else 0)


def _properties(properties: dict[str, Any], count: Count) -> Iterator[int]:
    for name, schema in properties.items():
        described = f"{name}:{schema.get('type', '')}:{schema.get('description', '').rstrip('.')}"
        enum = [str(value) for value in schema.get("enum", ())]
        yield 3 + count(described) + (sum(3 + count(value) for value in enum) - 3 if enum else 0)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
