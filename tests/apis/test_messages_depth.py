"""A large request in Anthropic's words passes as deep as it may be, and no deeper, wherever in it that is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.messages import depth as depths
from hpp_middleware.core.body import check_nesting, members
from hpp_middleware.errors import RequestError
from hpp_middleware.types.provider import Limits

LONG = "so it is large: [{" * 1200
LIMIT = 9


def deep(levels: int) -> Any:
    """So many arrays and objects, one in the other, in turns."""
    found: Any = "it"
    for level in range(levels):
        found = [found] if level % 2 else {"a": found}
    return found


def block(**members: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi", **members}]}]}


PLACES: dict[str, tuple[int, Any]] = {
    "a call's input": (5, lambda value: block(input=value)),
    "a result": (5, lambda value: block(content=value)),
    "citations": (5, lambda value: block(citations=value)),
    "a caller": (5, lambda value: block(caller=value)),
    "a document": (6, lambda value: block(source={"type": "content", "content": value})),
    "a member that is not known": (5, lambda value: block(strange=value)),
    "a source's that is not known": (6, lambda value: block(source={"type": "text", "strange": value})),
    "a cache's that is not known": (6, lambda value: block(cache_control={"type": "ephemeral", "strange": value})),
    "a turn's that is not known": (
        3,
        lambda value: {"messages": [{"role": "user", "content": "Hi", "strange": value}]},
    ),
    "a block of the system's": (3, lambda value: {"system": [{"type": "text", "text": "Hi", "citations": value}]}),
    "a tool's schema": (3, lambda value: {"tools": [{"name": "t", "input_schema": value}]}),
    "a tool's examples": (3, lambda value: {"tools": [{"name": "t", "input_examples": value}]}),
    "a tool's that is not known": (3, lambda value: {"tools": [{"name": "t", "strange": value}]}),
    "a field": (1, lambda value: {"metadata": value}),
}


def asking(fields: dict[str, Any]) -> bytes:
    known = {"model": "fake/m", "max_tokens": 9, "messages": [{"role": "user", "content": LONG}]}
    known["messages"] += fields.pop("messages", [])
    return json.dumps({**known, **fields}).encode()


@pytest.mark.parametrize("place", PLACES)
def test_it_passes_as_deep_as_it_may_be_and_no_deeper(place: str) -> None:
    above, make = PLACES[place]
    body = asking(make(deep(LIMIT - above)))
    depths.turns(body, members(body, Limits(), nested=True), Limits(depth=LIMIT))
    too_deep = asking(make(deep(LIMIT - above + 1)))
    with pytest.raises(RequestError, match="nested more than 9 levels deep"):
        MESSAGES.request(too_deep, Limits(depth=LIMIT))


@given(
    places=st.lists(st.sampled_from(sorted(PLACES)), max_size=4),
    levels=st.lists(st.integers(0, 12), min_size=4, max_size=4),
    limit=st.integers(1, 14),
)
def test_it_says_what_a_look_at_each_byte_says(places: list[str], levels: list[int], limit: int) -> None:
    asked: dict[str, Any] = {}
    for place, level in zip(places, levels, strict=False):
        made = PLACES[place][1](deep(level))
        asked = {**asked, **made, "messages": asked.get("messages", []) + made.get("messages", [])}
    body, limits = asking(asked), Limits(depth=limit)
    fields = members(body, Limits())
    assert told(lambda: depths.turns(body, fields, limits)) == told(lambda: check_nesting(body, limits))


def told(look: Any) -> str:
    try:
        look()
    except RequestError as error:
        return error.message
    return "it passes"


def test_what_is_known_is_not_read_again() -> None:
    plain = asking(block(input={"a": 1}))
    assert depths.turns(plain, members(plain, Limits()), Limits()) is not None
    strange = asking(block(strange=1))
    assert depths.turns(strange, members(strange, Limits()), Limits()) is None
    assert MESSAGES.request(plain, Limits()).images == MESSAGES.request(strange, Limits()).images
