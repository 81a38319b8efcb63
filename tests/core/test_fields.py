"""Members of a request as values of a type; each error names the field."""

import msgspec
import pytest
from msgspec import Raw

from hpp_middleware.core import fields
from hpp_middleware.errors import RequestError

STRINGS = msgspec.json.Decoder(list[str])


def members(**values: str) -> dict[str, Raw]:
    return {name: Raw(value.encode()) for name, value in values.items()}


def refused(error: RequestError) -> tuple[int, str, str | None]:
    return error.status, error.message, error.param


@pytest.mark.parametrize("given", [{}, {"n": "null"}])
def test_what_is_absent_or_null_is_none(given: dict[str, str]) -> None:
    assert fields.integer(members(**given), "n", 1, 4) is None
    assert fields.choice(members(**given), "n", ("a", "b")) is None
    assert fields.read(members(**given), "n", STRINGS, "an array") is None


@pytest.mark.parametrize("value", ["0", "5", "1.5", '"1"', "true", "[]", "1e400"])
def test_a_number_out_of_its_bounds_is_refused(value: str) -> None:
    with pytest.raises(RequestError) as caught:
        fields.integer(members(n=value), "n", 1, 4)
    assert refused(caught.value) == (400, "n must be an integer from 1 to 4.", "n")


def test_a_number_within_its_bounds_is_one() -> None:
    assert [fields.integer(members(n=value), "n", 1, 4) for value in ("1", "4")] == [1, 4]


@pytest.mark.parametrize("value", ['"c"', '"A"', "1", "[]", '""'])
def test_a_word_that_is_none_of_them_is_refused(value: str) -> None:
    with pytest.raises(RequestError) as caught:
        fields.choice(members(word=value), "word", ("a", "b"))
    assert refused(caught.value) == (400, "word must be one of a, b.", "word")
    assert fields.choice(members(word='"b"'), "word", ("a", "b")) == "b"


def test_a_value_of_another_type_is_refused_by_where_it_stands() -> None:
    with pytest.raises(RequestError) as caught:
        fields.decoded(Raw(b'["a", 1]'), STRINGS, "input[3]", "an array of strings")
    assert refused(caught.value) == (400, "input[3] must be an array of strings.", "input[3]")
    assert fields.decoded(Raw(b'["a"]'), STRINGS, "input[3]", "an array of strings") == ["a"]
