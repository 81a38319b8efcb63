"""A large request of an API passes as deep as it may be, and no deeper, wherever in it that is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.messages import depth as of_messages
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.apis.responses import depth as of_responses
from hpp_middleware.core.body import check_nesting, members
from hpp_middleware.errors import RequestError
from hpp_middleware.types.provider import Limits

LONG = "so it is large: [{" * 1200
LIMIT = 9

Place = tuple[str, int, Callable[[Any], dict[str, Any]]]


def block(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **members}]}]}


def part(**members: Any) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi", **members}]}]}


MESSAGE: list[Place] = [
    ("a call's input", 5, lambda value: block(input=value)),
    ("a result", 5, lambda value: block(content=value)),
    ("citations", 5, lambda value: block(citations=value)),
    ("a caller", 5, lambda value: block(caller=value)),
    ("a document", 6, lambda value: block(source={"type": "content", "content": value})),
    ("an unknown member", 5, lambda value: block(strange=value)),
    ("an unknown one of a source", 6, lambda value: block(source={"type": "text", "strange": value})),
    ("an unknown one of a cache", 6, lambda value: block(cache_control={"type": "ephemeral", "strange": value})),
    ("an unknown one of a turn", 3, lambda value: {"messages": [{"role": "user", "content": "", "strange": value}]}),
    ("the system's citations", 3, lambda value: {"system": [{"type": "text", "text": "Hi", "citations": value}]}),
    ("a tool's schema", 3, lambda value: {"tools": [{"name": "t", "input_schema": value}]}),
    ("a tool's examples", 3, lambda value: {"tools": [{"name": "t", "input_examples": value}]}),
    ("an unknown one of a tool", 3, lambda value: {"tools": [{"name": "t", "strange": value}]}),
    ("a field", 1, lambda value: {"metadata": value}),
]
RESPONSE: list[Place] = [
    ("annotations", 5, lambda value: part(annotations=value)),
    ("logprobs", 5, lambda value: part(logprobs=value)),
    ("an unknown member", 5, lambda value: part(strange=value)),
    ("an unknown one of audio", 6, lambda value: part(input_audio={"data": "", "format": "wav", "strange": value})),
    ("an unknown one of an item", 3, lambda value: {"input": [{"role": "user", "content": "", "strange": value}]}),
    ("an item's tools", 3, lambda value: {"input": [{"type": "additional_tools", "tools": [], "more": value}]}),
    ("a tool's parameters", 3, lambda value: {"tools": [{"type": "function", "name": "t", "parameters": value}]}),
    ("a tool's format", 3, lambda value: {"tools": [{"type": "custom", "name": "t", "format": value}]}),
    ("an unknown one of a tool", 3, lambda value: {"tools": [{"type": "function", "name": "t", "strange": value}]}),
    ("a field", 1, lambda value: {"metadata": value}),
]


class Kind:
    """An API, where its turns are, and what has been read of them in one step."""

    def __init__(self, api: Any, turns: str, known: Callable[..., Any], places: list[Place], **fields: Any) -> None:
        self.api, self.turns, self.known, self.fields = api, turns, known, fields
        self.places = {name: (above, make) for name, above, make in places}

    def asking(self, *parts: dict[str, Any]) -> bytes:
        found = {"model": "fake/m", **self.fields, self.turns: [{"role": "user", "content": LONG}]}
        for given_part in parts:
            found |= {**given_part, self.turns: found[self.turns] + given_part.get(self.turns, [])}
        return json.dumps(found).encode()


KINDS = {
    "messages": Kind(MESSAGES, "messages", of_messages.turns, MESSAGE, max_tokens=9),
    "responses": Kind(RESPONSES, "input", of_responses.items, RESPONSE),
}
EACH = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def deep(levels: int) -> Any:
    """So many arrays and objects, one in the other, in turns."""
    found: Any = "it"
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


def told(look: Callable[[], object]) -> str:
    try:
        look()
    except RequestError as error:
        return error.message
    return "it passes"


@pytest.mark.parametrize(("kind", "place"), [(kind, place) for kind in KINDS for place in KINDS[kind].places])
def test_it_passes_as_deep_as_it_may_be_and_no_deeper(kind: str, place: str) -> None:
    found = KINDS[kind]
    above, make = found.places[place]
    body = found.asking(make(deep(LIMIT - above)))
    found.known(body, members(body, Limits(), nested=True), Limits(depth=LIMIT))
    with pytest.raises(RequestError, match="nested more than 9 levels deep"):
        found.api.request(found.asking(make(deep(LIMIT - above + 1))), Limits(depth=LIMIT))


@EACH
@given(
    data=st.data(),
    levels=st.lists(st.integers(0, 12), max_size=4),
    limit=st.integers(1, 14),
)
def test_it_says_what_a_look_at_each_byte_says(kind: Kind, data: st.DataObject, levels: list[int], limit: int) -> None:
    places = [data.draw(st.sampled_from(sorted(kind.places))) for _ in levels]
    made = [kind.places[place][1](deep(level)) for place, level in zip(places, levels, strict=True)]
    body, limits = kind.asking(*made), Limits(depth=limit)
    fields = members(body, Limits())
    assert told(lambda: kind.known(body, fields, limits)) == told(lambda: check_nesting(body, limits))


@EACH
def test_what_is_known_is_not_read_again(kind: Kind) -> None:
    first, *_ = [name for name in kind.places if "unknown" not in name]
    for place, is_known in ((first, True), ("an unknown member", False)):
        body = kind.asking(kind.places[place][1]({"a": 1}))
        assert (kind.known(body, members(body, Limits()), Limits()) is not None) is is_known
        assert kind.api.request(body, Limits()).model == "fake/m"
