"""The four forms of what is to be embedded; tests/apis/test_embeddings.py has what is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hpp_middleware.core.embedding import inputs
from hpp_middleware.errors import RequestError

TEXT = st.text(min_size=1)
TOKENS = st.lists(st.integers(0, 2**31 - 1), min_size=1)


def raw(value: object) -> Raw:
    return Raw(json.dumps(value, indent=1).encode())


@given(TEXT)
def test_a_text_is_one_input(text: str) -> None:
    assert inputs(raw(text)) == [text]


@given(TOKENS)
def test_tokens_are_one_input(tokens: list[int]) -> None:
    assert inputs(raw(tokens)) == [tokens]


@given(st.lists(TEXT, min_size=1) | st.lists(TOKENS, min_size=1))
def test_an_array_of_either_is_as_many(entries: list[str] | list[list[int]]) -> None:
    assert inputs(raw(entries)) == entries


@pytest.mark.parametrize(
    "value", [b"", b"null", b"1", b"[", b"[ ]", b'""', b'["a", ""]', b"[[]]", b"[[1], 2]", b"[[[1]]]"]
)
def test_what_is_none_of_them_is_refused(value: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        inputs(Raw(value))
    assert (caught.value.status, str(caught.value.param)[:5]) == (400, "input")
