"""What is read in one step: which requests are, and which of them are plain."""

import json
from contextlib import nullcontext
from typing import Any

import pytest
from parsing import HELLO, LIMITS, accepted, body, raw

from hpp_middleware.core import body as bodies
from hpp_middleware.core import parse, parse_usual
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

PNG = "data:image/png;base64,AAAA"


CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"for":"it"}'}}
CALLED: list[dict[str, Any]] = [
    *HELLO,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "it is there"},
]
LOOK = {
    "name": "look",
    "description": "Look",
    "parameters": {"type": "object", "properties": {"for": {}}},
    "strict": True,
}
TOOL = {"type": "function", "function": LOOK}
SHORT = {"type": "ephemeral"}


def at_once(data: bytes) -> Request | None:
    return parse_usual.request(data, bodies.members(data, LIMITS), LIMITS)


def said(*parts: dict[str, Any], **more: Any) -> bytes:
    return body(messages=[{"role": "user", "content": list(parts), **more}])


def picture(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


@pytest.mark.parametrize(
    "data",
    [
        body(),
        body(messages=[{"role": "user", "content": "hi", "name": "x"}]),
        body(max_tokens=5, temperature=0.5, stream=True, stream_options={"include_usage": True}),
        body(response_format={"type": "json_object"}, metadata={"cache_control": "1h"}),
        said({"type": "text", "text": "hi"}, picture(PNG, detail="low")),
        said(picture("https://example.com/a.png")),
        body(tools=[]),
        body(tools=None),
        body(tools=[TOOL, TOOL], tool_choice="auto", parallel_tool_calls=False, prompt_cache_key="x", verbosity="low"),
        body(messages=CALLED, tools=[TOOL], reasoning_effort="low"),
        body(tools=[{**TOOL, "cache_control": SHORT}]),
        body(messages=[{"role": "user", "content": "hi", "cache_control": {**SHORT, "ttl": "5m"}}]),
        said(
            {"type": "text", "text": "hi", "cache_control": SHORT}, picture(PNG, detail="low") | {"cache_control": None}
        ),
        body(messages=[*HELLO, {"role": "assistant", "content": "hi", "tool_calls": [], "refusal": None}]),
        body(messages=[*HELLO, {"role": "assistant", "tool_calls": [CALL], "audio": None, "function_call": None}]),
    ],
)
def test_text_images_and_functions_in_the_usual_fields_are_plain(data: bytes) -> None:
    found = accepted(data)
    assert found.plain is found.fields


@pytest.mark.parametrize(
    "data",
    [
        body(tools=[{**TOOL, "cache_control": {"ttl": "1h"}}]),
        body(tools=[{"type": "function", "function": {**LOOK, "cache_control": {"ttl": "1h"}}}]),
        body(tools=[{"type": "function", "name": "look"}]),
        said({"type": "text", "text": "hi", "cache_control": {**SHORT, "ttl": "1h"}}),
        said({"type": "text", "text": "hi", "cache_control": {**SHORT, "for": "1h"}}),
        body(tools=[{"type": "custom", "custom": {"name": "look"}}]),
        body(tools=[{"function": LOOK}]),
        body(x=1),
        body(reasoning={"effort": "low"}),
        body(models=["p/m"]),
        body(messages=[{"role": "user", "content": "hi", "cache_control": {"ttl": "1h"}}]),
        body(messages=[*HELLO, {"role": "assistant", "tool_calls": [{**CALL, "cache_control": {"ttl": "1h"}}]}]),
        body(messages=[*HELLO, {"role": "assistant", "tool_calls": [{"type": "custom", "custom": {"name": "x"}}]}]),
        body(messages=[*HELLO, {"role": "assistant", "content": "hi", "function_call": {"name": "look"}}]),
        said({"type": "text", "text": "hi", "cache_control": {"ttl": "1h"}}),
        said({"type": "text", "text": "hi", "image_url": {"url": "data:application/pdf;base64,AAAA"}}),
        said({"type": "file", "file": {"file_data": PNG}}),
        said({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
        said(picture("data:application/pdf;base64,AAAA")),
        said(picture(PNG, file_data="data:application/pdf;base64,AAAA")),
    ],
)
def test_nothing_else_is(data: bytes) -> None:
    assert accepted(data).plain is None


@pytest.mark.parametrize(
    "message",
    [
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL"}}],"content":"hi"}',
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL"},"image_url":{"url":"https://x"}}]}',
        '{"role":"user","content":[{"type":"image_url","image_url":{"url":"URL","url":"https://x"}}]}',
        '{"role":"user","content":[{"type":"image_url","type":"text","image_url":{"url":"URL"},"image_url":null}]}',
    ],
)
@pytest.mark.parametrize("size", [10, 20_000])
def test_what_is_given_twice_is_plain_only_where_both_are(message: str, size: int) -> None:
    for kind, plain in (("application/pdf", False), ("image/png", True)):
        url = f"data:{kind};base64,{'A' * size}"
        found = accepted(f'{{"model":"p/m","messages":[{message.replace("URL", url)}]}}'.encode())
        assert (found.plain is found.fields) is plain


def test_an_escaped_image_is_as_plain_as_it_says_and_no_longer() -> None:
    data = "A/B" * 10_000
    text = said(picture(f"data:image/png;base64,{data}")).decode().replace("/", "\\/").replace("p\\/m", "p/m")
    found = accepted(text.encode())
    assert found.plain is found.fields
    assert found.images == Images(1, len(f"data:image/png;base64,{data}"))


@pytest.mark.parametrize("escaped", [b"\x7f", b"\\u007f", b"\\u007F"])
def test_no_client_says_itself_how_long_what_was_left_out_is(escaped: bytes) -> None:
    data = said(picture(PNG + "A" * 100_000), picture(PNG + "\x7f1000000")).replace(b"\\u007f", escaped)
    assert accepted(data).images.inline_bytes < len(data) < 1_000_000


def test_what_is_wrong_or_unusual_is_left_to_be_looked_at() -> None:
    for data in (
        body(model="a b"),
        body(n=LIMITS.n + 1),
        body(n=0),
        body(max_tokens=LIMITS.max_tokens + 1),
        body(max_tokens=5, max_completion_tokens=0),
        body(messages=[]),
        body(messages=[{"role": "assistant", "content": None}]),
        body(messages=[{"role": "assistant", "content": None, "tool_calls": []}]),
        body(messages=[{"role": "user", "content": None, "tool_calls": [CALL]}]),
        body(messages=[{"role": "tool", "tool_call_id": "call_1"}]),
        body(tools=[TOOL] * (LIMITS.tools + 1)),
        body(stream_options=1),
        said(picture("http://example.com/a.png")),
    ):
        assert at_once(data) is None


def test_what_the_router_acts_on_is_read() -> None:
    data = body(stream=True, stream_options={"include_usage": True}, n=2, max_tokens=5, max_completion_tokens=7)
    found = at_once(data)
    assert found is not None
    assert (found.model, found.stream, found.include_usage, found.n, found.cap) == ("p/m", True, True, 2, 7)
    assert (found.images, found.audio_input, found.plain) == (Images(), False, found.fields)


def test_a_function_that_is_given_twice_is_plain_only_where_both_are() -> None:
    for search in (
        '[{"type":"web_search","type":"function","function":{"name":"x"}}]',
        '[{"type":"function","function":{"name":"x","cache_control":{"ttl":"1h"}},"function":{"name":"x"}}]',
        '[{"type":"function","function":{"name":"x"},"cache_control":{"type":"ephemeral","ttl":"1h","ttl":"5m"}}]',
        '[{"type":"web_search"}], "tools": [{"type":"function","function":{"name":"x"}}]',
    ):
        assert accepted(raw(tools=search)).plain is None


def test_who_asks_for_reasoning_is_heard_in_a_plain_request() -> None:
    for effort, asks in (("low", True), ("none", False), ("minimal", False), (None, False)):
        found = accepted(body(reasoning_effort=effort, tools=[TOOL]))
        assert (found.plain is found.fields, found.hidden_reasoning) == (True, asks)


def test_no_plain_field_is_one_that_the_router_acts_on_by_what_is_in_it() -> None:
    special = {"modalities", "audio", "models", "provider", "reasoning"}
    assert special.isdisjoint(parse_usual.PLAIN)
    assert special | parse_usual.PLAIN == parse._NEED_NO_LOOK


def deep(levels: int) -> object:
    return 0 if levels == 0 else [deep(levels - 1)]


def deepest(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(deepest, inner), default=0)


@pytest.mark.parametrize("limit", [3, 5, 6, 7, 12])
@pytest.mark.parametrize("levels", [0, 1, 2, 5, 8, 12, 2000])
@pytest.mark.parametrize("size", [0, bodies.SMALL])
def test_no_value_is_deeper_than_may_be_wherever_it_stands(size: int, levels: int, limit: int) -> None:
    inside, limits = deep(min(levels, 12)), Limits(depth=limit)
    whole: list[dict[str, Any]] = [
        {"metadata": inside},
        {"stream_options": {"x": inside}},
        {"unknown": inside},
        {"tools": [{"type": "function", "function": {**LOOK, "parameters": inside}}]},
        {"tools": [{"type": "function", "function": LOOK, "x": inside}]},
        {"messages": [*CALLED, {"role": "user", "content": "hi", "x": inside}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", "x": inside}]}]},
        {"messages": [{"role": "user", "content": [picture(PNG, x=inside)]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "x": inside}]}]},
    ]
    for fields in whole:
        data = body(**fields, user="x" * size)
        allowed = deepest(json.loads(data)) <= limit and levels <= 12
        if levels > 12:  # deeper than can be written, and read
            text = json.dumps(inside)
            data = data.replace(text.encode(), b"[" * levels + b"0" + b"]" * levels)
        too_deep = pytest.raises(RequestError, match=f"nested more than {limit} levels deep")
        with nullcontext() if allowed else too_deep:
            parse.completion(data, limits)


def test_the_values_of_a_large_body_are_counted_before_any_is_read() -> None:
    limits = Limits(values=1000)
    many = body(messages=[{"role": "user", "content": "x"}] * 500)
    with pytest.raises(RequestError, match="more than 1000 values"):
        parse.completion(many, limits)
    assert parse.completion(body(messages=[{"role": "user", "content": "[{,:" * 5000}]), limits).plain
