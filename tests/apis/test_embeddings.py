"""A request for embeddings: what is asked, field by field, and how much its prompt is."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.core.parse import STEERING
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request
from hpp_middleware.types.provider import Limits

MODEL = "openai/text-embedding-3-small"


def asked(limits: Limits | None = None, **fields: Any) -> Request:
    given = {"model": MODEL, "input": "Hello", **fields}
    return EMBEDDINGS.request(json.dumps(given).encode(), limits or Limits())


def refused(limits: Limits | None = None, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        asked(limits, **fields)
    assert (caught.value.status, caught.value.code) == (400, "invalid_request")
    assert caught.value.param is not None
    assert caught.value.param in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("value", "inputs", "tokens"),
    [
        ("Hello", 1, None),
        (["Hello"], 1, None),
        (["a", "b", "c"], 3, None),
        ([1, 2, 3], 1, 3),
        ([[1, 2], [3], [4, 5, 6]], 3, 6),
    ],
)
def test_all_four_forms_of_input_are_counted(value: Any, inputs: int, tokens: int | None) -> None:
    found = asked(input=value)
    assert (found.model, found.api, found.cap, found.stream) == (MODEL, "embeddings", 0, False)
    assert (found.inputs, found.tokens) == (inputs, tokens)
    assert json.loads(bytes(found.fields["input"])) == value


@given(st.lists(st.lists(st.integers(0, 200_000), min_size=1, max_size=20), min_size=1, max_size=20))
def test_tokens_are_counted_exactly(value: list[list[int]]) -> None:
    assert asked(input=value).tokens == sum(map(len, value))


def test_space_in_an_array_is_no_entry() -> None:
    body = b'{"model":"p/m","input": [ \n "a" , "b" ] }'
    assert EMBEDDINGS.request(body, Limits()).inputs == 2


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (None, "input"),
        ("", "input"),
        (7, "input"),
        (True, "input"),
        ({}, "input"),
        ([], "input"),
        ([[]], "input[0]"),
        (["a", ""], "input[1]"),
        ([[1], []], "input[1]"),
        (["a", 1], "input[1]"),
        (["a", ["b"]], "input[1]"),
        ([[1], ["b"]], "input[1]"),
        ([[1], "b"], "input[1]"),
        ([1, "a"], "input"),
        ([1, -1], "input"),
        ([1, 2**31], "input"),
        ([1.5], "input"),
        ([None], "input"),
    ],
)
def test_an_input_that_is_none_is_refused_by_its_place(value: Any, param: str) -> None:
    assert refused(input=value).param == param


def test_what_is_not_there_is_required() -> None:
    for missing in ("model", "input"):
        fields = {name: value for name, value in {"model": MODEL, "input": "a"}.items() if name != missing}
        with pytest.raises(RequestError, match=f"{missing} is required"):
            EMBEDDINGS.request(json.dumps(fields).encode(), Limits())


def test_more_inputs_than_the_limit_are_refused() -> None:
    assert asked(input=["a"] * 2048).inputs == 2048
    assert refused(input=["a"] * 2049).message == "input must not have more than 2048 entries."
    assert refused(Limits(inputs=1), input=[[1], [2]]).param == "input"
    assert asked(Limits(inputs=1), input=[1, 2, 3]).tokens == 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "no good"),
        ("model", 1),
        ("dimensions", 0),
        ("dimensions", "256"),
        ("dimensions", 1_000_001),
        ("encoding_format", "hex"),
        ("encoding_format", 1),
        ("user", 1),
        ("stream", True),
        ("stream", "no"),
        ("Input", "a"),
        ("Encoding_Format", "float"),
        *((name, "x") for name in sorted(STEERING)),
    ],
)
def test_a_field_that_is_wrong_is_named(field: str, value: Any) -> None:
    assert refused(**{field: value}).param == field


def test_what_is_right_or_unknown_passes_as_it_came() -> None:
    fields: dict[str, Any] = {
        "dimensions": 256,
        "encoding_format": "base64",
        "user": "me",
        "stream": False,
        "task": ["x", {"y": 1}],
    }
    found = asked(**fields)
    assert {name: json.loads(bytes(found.fields[name])) for name in fields} == fields


def test_it_cannot_be_said_by_chat() -> None:
    with pytest.raises(RequestError, match="serves no embeddings") as caught:
        EMBEDDINGS.as_chat(asked(), Limits())
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_model", "model")
