"""An answer is judged by what it says of itself."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto.verify import fault
from hpp_middleware.core.parse import completion
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits


def asked(**fields: Any) -> Request:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields}
    return completion(msgspec.json.encode(body), Limits())


def answer(content: Any, finish: str = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return msgspec.json.encode({"choices": [choice]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (answer("Paris."), None),
        (answer(""), "empty"),
        (answer(" \n"), "empty"),
        (answer(None), "empty"),
        (b"{}", "empty"),
        (b'{"choices": []}', "empty"),
        (b"none", "empty"),
        (answer(None, tool_calls=[{"id": "1"}]), None),
        (answer([{"type": "text", "text": "Paris."}]), None),
        (answer("", refusal="no"), "refused"),
        (answer("I", "content_filter"), "refused"),
        (answer("I'm sorry, but I can't help with that."), "refused"),
        (answer("I am unable to do that."), "refused"),
        (answer("I\u2019m sorry, I can\u2019t assist."), "refused"),
        (answer("As an AI language model, I cannot say."), "refused"),
        (answer("Sorry for the delay: here it is."), None),
        (answer("He said: I'm sorry, but I can't help."), None),
        (answer("It is", "length"), "cut off"),
        (answer("I'm not sure, but it may be Paris."), "unsure"),
        (answer("Well, I don't know."), "unsure"),
        (answer("I do not have enough information to say."), "unsure"),
        (answer("x" * 500 + " I don't know"), None),
    ],
)
def test_what_is_wrong_is_named(body: bytes, expected: str | None) -> None:
    assert fault(body, asked()) == expected


def test_what_the_clients_own_cap_has_cut_off_no_other_model_makes_whole() -> None:
    assert fault(answer("It is", "length"), asked(max_tokens=2)) is None


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "kind": {"enum": ["a", "b"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}},
        "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string"}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "x"}', None),
        ('{"name": "x", "age": 5, "kind": "a", "tags": ["t"], "either": true}', None),
        ('{"name": "x", "age": null}', None),
        ('{"name": "x", "age": 5.0}', None),
        ('{"name": "x"', "no JSON"),
        ("Here it is: {}", "no JSON"),
        ("{}", "not of the schema"),
        ("[]", "not of the schema"),
        ('{"name": 5}', "not of the schema"),
        ('{"name": "x", "age": true}', "not of the schema"),
        ('{"name": "x", "age": 5.5}', "not of the schema"),
        ('{"name": "x", "kind": "c"}', "not of the schema"),
        ('{"name": "x", "tags": [5]}', "not of the schema"),
        ('{"name": "x", "either": 5}', "not of the schema"),
        ('{"name": "x", "more": 5}', "not of the schema"),
    ],
)
def test_json_must_be_what_was_asked_for(text: str, expected: str | None) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    assert fault(answer(text), asked(response_format=form)) == expected


def test_any_object_will_do_where_only_json_was_asked_for() -> None:
    form = {"type": "json_object"}
    assert fault(answer('{"a": 1}'), asked(response_format=form)) is None
    assert fault(answer("[1]"), asked(response_format=form)) == "not of the schema"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = st.sampled_from(["type", "properties", "items", "required", "enum", "anyOf", "allOf", "$ref"])
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(["object", "string", "#", "#/x", "integer", None, True, [], {}]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4) | st.lists(inner, max_size=3),
)


@given(JSON, SCHEMAS)
def test_no_schema_and_no_answer_brings_it_down(value: Any, schema: Any) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    found = fault(answer(msgspec.json.encode(value).decode()), asked(response_format=form))
    assert found in {None, "not of the schema", "refused", "empty"}
    fault(msgspec.json.encode({"choices": value}), asked())
    fault(msgspec.json.encode(value), asked())


def test_a_schema_that_refers_to_itself_in_many_ways_is_looked_at_for_so_long_only() -> None:
    self_made = {"anyOf": [{"$ref": "#"}] * 20, "type": "string"}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": self_made}}
    assert fault(answer("17"), asked(response_format=form)) in {None, "not of the schema"}


@pytest.mark.parametrize(
    ("long", "right", "wrong"),
    [
        ({"enum": [*range(1000)]}, "1", "5000"),
        ({"type": ["string"] * 1000}, '"a"', "1"),
        ({"type": "object", "required": ["a"] * 1000}, '{"a": 1}', "{}"),
        ({"$ref": "#/$defs/text" + "/" * 50_000}, '"a"', "1"),
    ],
)
def test_what_is_long_in_a_schema_is_held_against_so_many_values_only(
    long: dict[str, Any], right: str, wrong: str
) -> None:
    schema = {"type": "array", "items": long, "$defs": {"text": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert fault(answer(f"[{wrong}]"), asked(response_format=form)) == "not of the schema"
    many = ", ".join([right] * 1000 + [wrong])  # which would keep the event loop, for seconds where all of it is larger
    assert fault(answer(f"[{many}]"), asked(response_format=form)) is None
