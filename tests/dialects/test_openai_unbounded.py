"""What would cost more than is held for, or than is priced, is refused with the field named."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace
from rounds import rounds

from hpp_middleware.core import parse
from hpp_middleware.core.parse_usual import PLAIN
from hpp_middleware.core.price import rates_from_usd
from hpp_middleware.dialects.openai import COST_FIELDS, OpenAI
from hpp_middleware.dialects.presets import provider
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price
from hpp_middleware.types.provider import Limits, Model


def call(body: str, name: str = "openai") -> HTTPCall:
    return call_of(parse.completion(body.encode(), Limits()), name)


def call_of(request: Request, name: str = "openai") -> HTTPCall:
    target = Target(
        id=f"{name}/m",
        provider_name=name,
        model_name="m",
        provider=provider(name, api_key="sk-a-key"),
        model=Model(),
        price=Price(base=rates_from_usd({"input": "1", "output": "2"}, "m")),
    )
    return OpenAI().call(request, target, cap=None, request_id="req_1")


@pytest.mark.parametrize(
    "part",
    [
        '{"type":"file","file":{"file_id":"file-1"}}',
        '{"type":"document_url","document_url":"https://example.com/a.pdf"}',
        '{"type":"video_url","video_url":{"url":"https://example.com/a.mp4"}}',
        '{"type":"audio_url","audio_url":{"url":"https://example.com/a.mp3"}}',
    ],
)
def test_content_that_is_only_referred_to_is_refused(part: str) -> None:
    with pytest.raises(RequestError) as refused:
        call(f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}')
    assert refused.value.param == "messages[0].content[0]"


def test_content_that_is_sent_along_passes() -> None:
    part = '{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA","filename":"a.pdf"}}'
    sent = call(f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}')
    assert part.encode() in sent.body


def test_the_dearer_cache_is_refused_where_it_has_no_price() -> None:
    part = '{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"TTL"}}'
    body = f'{{"model":"openai/m","messages":[{{"role":"user","content":[{part}]}}]}}'
    assert b"5m" in call(body.replace("TTL", "5m")).body
    with pytest.raises(RequestError) as refused:
        call(body.replace("TTL", "1h"))
    assert refused.value.param == "messages"


def test_a_provider_that_refuses_stream_options_is_never_sent_any() -> None:
    options = '"stream":true,"stream_options":{"include_usage":true}'
    body = '{"model":"NAME/m","messages":[{"role":"user","content":"x"}],' + options + "}"
    assert b"stream_options" not in call(body.replace("NAME", "mistral"), "mistral").body
    assert b"stream_options" in call(body.replace("NAME", "groq"), "groq").body


def test_no_field_that_is_taken_for_plain_has_a_price() -> None:
    assert not PLAIN & {*COST_FIELDS, "service_tier", "cache_control"}


PARTS = [
    {"type": "text", "text": "hi"},
    {"type": "text", "text": '"cache_control":"1h"'},
    {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    {"type": "text", "text": "hi", "image_url": {"url": "data:application/pdf;base64,AAAA"}},
    {"type": "image_url", "text": "hi", "image_url": {"url": "data:image/png;base64,AAAA"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
    {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    {"type": "image_url", "image_url": {"url": "data:application/pdf;base64,AAAA"}},
    {"type": "image_url", "image_url": {"url": "data:application/pdf;base64," + "A" * 20_000}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
    {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "flac"}},
]
HOUR = {"type": "ephemeral", "ttl": "1h"}
CALLS = [
    {
        "id": "1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"file_data": "data:application/pdf;"}'},
    },
    {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}, "cache_control": HOUR},
    {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}", "cache_control": HOUR}},
]
TOOLS = [
    {"type": "web_search"},
    {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "look"}, "cache_control": {"type": "ephemeral"}},
    {"type": "function", "function": {"name": "look"}, "cache_control": HOUR},
    {"type": "function", "function": {"name": "look", "cache_control": HOUR}},
    {"function": {"name": "look"}},
]
messages = st.fixed_dictionaries(
    {
        "role": st.sampled_from(["user", "assistant", "system"]),
        "content": st.just("hi") | st.lists(st.sampled_from(PARTS), max_size=2),
    },
    optional={
        "name": st.just("x"),
        "cache_control": st.just({"ttl": "1h"}),
        "tool_calls": st.lists(st.sampled_from(CALLS), max_size=2),
        "file_data": st.just("data:application/pdf;base64,AAAA"),
    },
)
tools = st.lists(st.sampled_from(TOOLS), max_size=2)
others = st.fixed_dictionaries({}, optional={"user": st.just("x"), "tools": tools, "service_tier": st.just("priority")})


@settings(max_examples=rounds(200, soak=1_000), deadline=None)
@given(st.lists(messages, min_size=1, max_size=3), others, st.booleans())
def test_nothing_is_taken_for_plain_that_a_look_would_find(
    said: list[dict[str, Any]],
    more: dict[str, Any],
    escaped: bool,  # noqa: FBT001
) -> None:
    text = json.dumps({"model": "openai/m", "messages": said, **more})
    if escaped:
        text = (
            text.replace("cache_", "c\\u0061che_")
            .replace("file_", "f\\u0069le_")
            .replace("application", "\\u0061pplication")
        )
    try:
        request = parse.completion(text.encode(), Limits())
    except RequestError:
        return
    outcomes: list[int | str] = []
    for each in (request, replace(request, plain=None)):
        try:
            outcomes.append(call_of(each).more_tokens)
        except RequestError as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]


def test_fields_that_were_made_of_plain_ones_are_looked_at() -> None:
    request = parse.completion(b'{"model":"openai/m","messages":[{"role":"user","content":"hi"}]}', Limits())
    assert request.plain is request.fields
    changed = replace(request, fields={**request.fields, "best_of": Raw(b"9")})
    with pytest.raises(RequestError, match="best_of"):
        call_of(changed)
