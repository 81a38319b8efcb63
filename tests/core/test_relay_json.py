"""Whole JSON answers in OpenAI's shape: what the client gets, and what they show."""

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import relay_json
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Model, Provider

TARGET = Target(
    id="p/real/model",
    provider_name="p",
    model_name="real/model",
    provider=Provider(base_url="https://p.test"),
    model=Model(),
    price=Price(base=Rates(input=1, output=1)),
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}


def answered(body: bytes) -> tuple[bytes, Seen]:
    return relay_json.answer(body, Request(fields={}, model="alias"), TARGET)


def test_a_json_answer_is_the_upstreams_but_for_its_model() -> None:
    body = (
        b'{"id":"c-9","big":123456789012345678901234567890, "model":"x","choices":[{"index":0,"message":{'
        b'"content":"h\\u00e9"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}, '
        b'"x_groq":{"a": 1.0}}'
    )
    data, seen = answered(body)
    assert data == body.replace(b'"x",', b'"p/real/model",').replace(b", ", b",")
    assert seen.usage == Usage(input=7, output=2)
    assert (seen.relayed_bytes, seen.finished, seen.upstream_id) == (3, True, "c-9")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html></html>",
        b"[]",
        b"{}",
        b'{"choices":{}}',
        b'{"choices":null}',
        b'{"choices":[',
        b'{"choices":[]} x',
        b'{"choices":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_body_that_is_no_completion_is_a_fault_of_the_upstream(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        answered(body)


def test_an_error_in_spite_of_its_status_brings_what_was_seen() -> None:
    with pytest.raises(StreamedError) as caught:
        answered(json.dumps({"error": {"message": "x"}, "usage": USAGE}).encode())
    raw, seen = caught.value.args
    assert json.loads(raw) == {"message": "x"}
    assert seen.usage == Usage(input=7, output=2)


def test_an_answer_without_usage_has_none_and_zero_is_a_report() -> None:
    choices = [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]
    assert answered(json.dumps({"choices": choices}).encode())[1].usage is None
    zero = {"choices": choices, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    assert answered(json.dumps(zero).encode())[1].usage == Usage()


@pytest.mark.parametrize("unreadable", [{}, {"prompt_tokens": -1, "completion_tokens": 1}, None])
def test_usage_in_a_choice_counts_where_the_answers_own_cannot_be_read(unreadable: object) -> None:
    choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}
    body = {"usage": unreadable, "choices": [{**choice, "usage": {}}, {**choice, "usage": USAGE}]}
    assert answered(json.dumps(body).encode())[1].usage == Usage(input=7, output=2)
    assert answered(json.dumps({**body, "usage": USAGE}).encode())[1].usage == Usage(input=7, output=2)


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(st.binary(max_size=60))
def test_any_body_is_an_answer_or_a_fault_of_the_upstream(body: bytes) -> None:
    with suppress(ProtocolError, StreamedError):
        assert json.loads(answered(body)[0])["model"] == "p/real/model"
