"""What of a prompt is counted: the JSON that is sent, with its strings as the model reads them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core import parse
from hpp_middleware.core.prompt import COUNTED_BYTES, SCHEMA_TOKENS, schema_marks, text
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider


def target(bytes_per_token: int = 2) -> Target:
    return Target(
        id="p/m",
        provider_name="p",
        model_name="m",
        provider=Provider(base_url="https://p.test", bytes_per_token=bytes_per_token),
        model=Model(),
        price=Price(base=Rates(input=1, output=1)),
    )


def asked(content: Any, **fields: Any) -> tuple[Request, bytes]:
    body = json.dumps({"model": "p/m", "messages": [{"role": "user", "content": content}], **fields}).encode()
    return parse.completion(body, Limits()), body


@given(content=st.text(st.characters(codec="utf-8")), ascii_only=st.booleans())
def test_every_string_stands_in_it_as_the_model_reads_it(*, content: str, ascii_only: bool) -> None:
    body = json.dumps({"messages": [content]}, ensure_ascii=ascii_only).encode()
    found = text(Request(fields={}, model="p/m"), target(), body)
    assert found == f'{{"messages": ["{content}"]}}'


def test_an_escaped_backslash_ends_before_a_u() -> None:
    assert text(Request(fields={}, model="p/m"), target(), rb'"\\u0041 \u0041 \\\u0041"') == r'"\u0041 A \A"'


@pytest.mark.parametrize("body", [rb'"\ud83d"', rb'"\ude00\ud83d"', rb'"x\udfff\u0041"'])
def test_half_a_surrogate_pair_is_nothing_to_count(body: bytes) -> None:
    assert text(Request(fields={}, model="p/m"), target(), body) is None


def test_a_body_past_32_kib_is_bounded_by_its_bytes() -> None:
    request = Request(fields={}, model="p/m")
    assert text(request, target(), b'"' + b"a" * (COUNTED_BYTES - 2) + b'"') is not None
    assert text(request, target(), b'"' + b"a" * (COUNTED_BYTES - 1) + b'"') is None


def test_a_provider_whose_bytes_are_strict_is_not_counted() -> None:
    request, body = asked("hi")
    assert text(request, target(2), body) is not None
    assert text(request, target(1), body) is None


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "image_url", "image_url": {"url": "data:image/png;BASE64,iVBORw0KGgo="}},
        {"type": "file", "file": {"file_data": "JVBERi0xLjcK", "filename": "a.pdf"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    ],
)
@pytest.mark.parametrize("escape", [False, True])
def test_data_that_is_no_text_is_not_counted_as_text(*, part: dict[str, Any], escape: bool) -> None:
    request, body = asked([{"type": "text", "text": "see"}, part])
    if escape:
        body = body.replace(b";base64", rb";b\u0061se64").replace(b"file_data", rb"file_d\u0061ta")
    assert text(request, target(), body) is None


def test_an_image_by_its_address_and_a_text_that_speaks_of_audio_are_counted() -> None:
    linked = [{"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}]
    for content in (linked, 'a part has {"type": "input_audio"}'):
        request, body = asked(content)
        assert text(request, target(), body) is not None


def test_the_marks_of_tools_and_functions_are_counted() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"enum": ["a", "b", "c"]}}}
    request, _ = asked("a,b,c", tools=[tool], functions=[1, 2])
    assert schema_marks(request) == 4 + 1
    assert SCHEMA_TOKENS == 2
    assert schema_marks(asked("a,b,c")[0]) == 0
