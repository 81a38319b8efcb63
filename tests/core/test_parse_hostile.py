"""A request body that anything may have been done to: a request, or a 400."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from parsing import HELLO, LIMITS, accepted, body
from rounds import rounds

from hpp_middleware.core import parse, parse_usual
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request


def only_a_400(data: bytes) -> None:
    told = (400, "invalid_request", "")
    try:
        parse.completion(data, LIMITS)
    except RequestError as error:
        told = (error.status, error.code, error.message.encode().decode())
    assert told[:2] == (400, "invalid_request")


@settings(max_examples=rounds(400, soak=2_000), deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_a_400(data: bytes) -> None:
    only_a_400(data)


TEMPLATE = body(
    stream=True,
    stream_options={"include_usage": True},
    n=2,
    max_tokens=5,
    tools=[{"type": "function"}],
    modalities=["text"],
    messages=[
        {"role": "assistant", "content": None, "tool_calls": [{"id": "x"}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]},
    ],
)


@settings(max_examples=rounds(400, soak=2_000), deadline=None)
@given(
    st.integers(0, len(TEMPLATE)),
    st.integers(0, 12),
    st.binary(max_size=12) | st.sampled_from([b"null", b"[", b"{}", b"1e999", b'"']),
)
def test_a_mangled_request_is_a_request_or_a_400(position: int, cut: int, piece: bytes) -> None:
    only_a_400(TEMPLATE[:position] + piece + TEMPLATE[position + cut :])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=rounds(200, soak=500), deadline=None)
@given(st.dictionaries(st.sampled_from([*sorted(parse.ACTED_ON), "user"]), json_values, max_size=6))
def test_any_value_in_any_field_is_a_request_or_a_400(fields: dict[str, Any]) -> None:
    only_a_400(json.dumps({"model": "p/m", "messages": HELLO, **fields}).encode())


@settings(max_examples=rounds(200, soak=500), deadline=None)
@given(json_values, st.integers(0, 2**32))
def test_any_value_in_a_message_is_a_request_or_a_400(value: Any, seed: int) -> None:
    message: dict[str, Any] = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}]}
    spot = random.Random(seed).choice(["message", "role", "content", "tool_calls", "part", "type", "image_url", "url"])
    part = message["content"][0]
    match spot:
        case "message":
            message = value
        case "part":
            message["content"] = [value]
        case "type" | "image_url":
            part[spot] = value
        case "url":
            part["image_url"] = {"url": value}
        case _:
            message[spot] = value
    only_a_400(body(messages=[message]))


CALLED = {"name": "look", "arguments": "{}"}
urls = st.sampled_from(
    ["data:image/png;base64,AAAA", "DATA:image/x,", "data:text/plain,x", "https://x.test", "http://x", ""]
)
parts = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["text", "image_url", "input_audio", "audio_url", "file", "refusal", 1, None]),
        "text": st.sampled_from(["hello", "\ud800", None]),
        "image_url": st.fixed_dictionaries({}, optional={"url": urls | st.none(), "detail": st.just("low")}) | urls,
    },
)
likely_parts = st.sampled_from(
    [
        {"type": "text", "text": "hello"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA"}},
    ]
)
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system", "tool", "developer", "function"]),
        "content": st.sampled_from(["hello", "", None]) | st.lists(likely_parts | parts, max_size=3),
    },
    optional={
        "tool_calls": st.sampled_from([None, [], [{"id": "1"}], [{"id": "1", "function": CALLED}], [1], 1]),
        "tool_call_id": st.just("1"),
        "name": st.just("x"),
        "audio": st.sampled_from([None, {"id": "1"}]),
    },
)
functions = st.sampled_from([{"name": "look"}, {"name": "look", "parameters": {"a": [{}]}}, {"name": 1}, None])
tools = st.sampled_from([{"type": "web_search"}, {}, 1]) | st.builds(
    lambda f: {"type": "function", "function": f}, functions
)


numbers = st.sampled_from([None, 0, 1, 2, 16, 17, 10**7, 10**7 + 1, -1, 1.0, 1.5, "1", True, 2**70])
settings_: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["fake/a", "", "a b", None, 1]),
        "n": numbers,
        "max_tokens": numbers,
        "max_completion_tokens": numbers,
        "stream": st.sampled_from([True, False, None, 0, "true"]),
        "tools": st.lists(tools, max_size=3) | st.sampled_from([None, [{}] * 257, 1]),
        "reasoning_effort": st.sampled_from([None, "low", "none", 1]),
    },
)


@settings(max_examples=rounds(300, soak=2_000), deadline=None)
@given(st.lists(messages, max_size=3), settings_)
def test_a_usual_request_is_taken_as_any_other(given_messages: list[Any], others: dict[str, Any]) -> None:
    def outcome() -> Request | tuple[Any, ...]:
        try:
            return replace(accepted(body(messages=given_messages, **others)), plain=None)
        except RequestError as error:
            return error.message, error.param

    taken = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_usual, "request", lambda data, fields, limits, *, brief, nested: None)
        assert outcome() == taken
