"""What each cell is about: a feature, a client's way to ask for it, and what must come of it."""

import base64
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel

__all__ = [
    "ARGUMENTS",
    "CELL",
    "CITY",
    "COUNTS",
    "FEATURES",
    "PNG",
    "SCHEMA",
    "Ask",
    "City",
    "Counts",
    "Said",
    "Told",
    "kinds_in",
    "said_to",
    "tool_result",
]

FEATURES = {
    "json": "JSON",
    "stream": "stream",
    "tools": "tools",
    "vision": "vision",
    "reasoning": "reasoning",
    "structured": "structured",
    "usage": "usage",
}
"""Names, and how the table calls them."""

PNG = base64.b64encode(b"\x89PNG-not-really").decode()
ARGUMENTS = {"city": "Bonn"}
CELL = re.compile(r"cell-(\d+)-end")
"""Stands in every prompt, so that a provider's journal says whose request it was."""

_EFFORT = re.compile(r'"(?:reasoning_effort|reasoning|thinking|thinkingConfig|think)":')
_RESULT = "rain-from-the-tool"


class City(BaseModel):
    """What is asked for where a schema is."""

    name: str
    people: int


CITY = City(name="Bonn", people=330_000)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["name", "people"],
    "additionalProperties": False,
}


class Counts(NamedTuple):
    """Tokens as OpenAI counts: cached ones are a part of ``prompt``, thoughts of ``completion``."""

    prompt: int
    cached: int
    completion: int
    reasoning: int


COUNTS = Counts(20, 8, 10, 4)
"""What every provider reports, in its own words."""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    What a client is to do.

    Attributes:
        url: Of the gateway, without a path.
        key: The cell's own consumer's.
        model: ``provider/model``.
        feature: One of ``FEATURES``.
        stream: Whether the answer is to come in pieces.
        prompt: What the user says.
        settings: Fields of the client's own for each request besides.
    """

    url: str
    key: str
    model: str
    feature: str
    stream: bool
    prompt: str
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Told:
    """
    What the client made of the answers.

    Attributes:
        text: Of the last answer.
        pieces: How many pieces the text came in.
        thoughts: What was told of them.
        called: The tools that were called, with their arguments.
        value: A structured answer, as a plain dictionary.
        counts: The usage of the last answer; None for a part that the client has no place for.
    """

    text: str = ""
    pieces: int = 0
    thoughts: str = ""
    called: list[tuple[str, Any]] = field(default_factory=list)
    value: Any = None
    counts: tuple[int | None, ...] | None = None


class Said(NamedTuple):
    """What a model says, whichever its provider."""

    text: str = ""
    thought: str = ""
    tool: str = ""
    arguments: str = ""


def tool_result() -> str:
    """What the tool says when it is run."""
    return _RESULT


def kinds_in(body: str) -> frozenset[str]:
    """What a request has, whatever its dialect: the words are those of the cells alone."""
    marks = {
        "result": _RESULT,
        "tools": '"weather"',
        "schema": "people",
        "image": PNG,
        "think": "Think!",
    }
    found = {kind for kind, mark in marks.items() if mark in body}
    return frozenset(found | {"effort"} if _EFFORT.search(body) else found)


def said_to(kinds: frozenset[str], *, offers_tools: bool) -> Said:
    """What the model answers to a request that has these."""
    thought = "Hm." if "think" in kinds else ""
    if "result" in kinds:
        return Said("It rains.", thought)
    if "tools" in kinds:
        return Said("", thought, "weather", '{"city":"Bonn"}')
    if "schema" in kinds:
        value = CITY.model_dump_json()
        if offers_tools:  # the schema is a tool's: its arguments are the answer
            return Said("", thought, "City", value)
        return Said(value, thought)
    if "image" in kinds:
        return Said("A picture.", thought)
    return Said("Yes." if thought else "Hello world", thought)
