"""Which tools of a Response's request nobody has asked for, and what is left without them."""

import json
from typing import Any

import pytest
from msgspec import Raw

from hpp_middleware.core.offers import kept, left_out

F = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"external_web_access": {}}}}
SEARCH = {"type": "web_search", "external_web_access": False}


def fields(*tools: Any, **others: Any) -> dict[str, Raw]:
    return {name: Raw(json.dumps(value).encode()) for name, value in {"tools": list(tools), **others}.items()}


@pytest.mark.parametrize("choice", [{}, {"tool_choice": None}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
def test_a_search_of_a_cache_among_other_tools_is_left_out(choice: Any) -> None:
    found = fields(F, SEARCH, F, SEARCH, **choice)
    assert left_out(found) == {1, 3}
    assert json.loads(bytes(kept(found, left_out(found)))) == [F, F]


def test_names_are_read_as_a_provider_reads_them() -> None:
    escaped = json.dumps(SEARCH).replace("external", "\\u0065xternal").replace("web_search", "web_\\u0073earch")
    tools = Raw(f"[{json.dumps(F)},{escaped}]".encode())
    assert left_out({"tools": tools}) == {1}


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"tools": Raw(b"null")},
        fields(),
        fields(F),
        fields(SEARCH),
        fields(SEARCH, SEARCH),
        fields(F, {"type": "web_search"}),
        fields(F, {**SEARCH, "external_web_access": True}),
        fields(F, {**SEARCH, "external_web_access": None}),
        fields(F, {**SEARCH, "type": "web_search_preview"}),
        fields(F, {**SEARCH, "type": "function"}),
        fields(F, SEARCH, tool_choice="required"),
        fields(F, SEARCH, tool_choice={"type": "web_search"}),
        fields(F, {**SEARCH, "external_web_access": "no"}),
        fields(F, {"type": "namespace", "name": "n", "tools": [SEARCH]}),
    ],
)
def test_what_was_asked_for_is_not(found: dict[str, Raw]) -> None:
    assert left_out(found) == frozenset()
