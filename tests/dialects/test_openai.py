"""OpenAI's dialect: the call that is built."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from rounds import rounds

from hpp_middleware.core import parse
from hpp_middleware.dialects.openai import COST_FIELDS, MOST_PROVIDERS, OpenAI
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

DIALECT = OpenAI()
HELLO = [{"role": "user", "content": "hello"}]


def target(**provider: Any) -> Target:
    return Target(
        id="p/real/model",
        provider_name="p",
        model_name="real/model",
        provider=Provider(**{"base_url": "https://p.test/v1", "api_key": "sk-operator", **provider}),
        model=Model(),
        price=Price(base=Rates(input=1, output=1)),
    )


def asked(**fields: Any) -> Request:
    return parse.completion(json.dumps({"model": "p/m", "messages": HELLO, **fields}).encode(), Limits())


def raw(text: str) -> Request:
    """A request with members written as they are."""
    return parse.completion(f'{{"model":"p/m","messages":[{{"role":"user","content":"x"}}],{text}}}'.encode(), Limits())


def call(request: Request, cap: int | None = None, **provider: Any) -> HTTPCall:
    return DIALECT.call(request, target(**provider), cap=cap, request_id="req-1")


def body(request: Request, cap: int | None = None, **provider: Any) -> dict[str, Any]:
    pairs = json.loads(call(request, cap, **provider).body, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs)
    found: dict[str, Any] = json.loads(call(request, cap, **provider).body)
    return found


def refused(request: Request, **provider: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        call(request, **provider)
    error = caught.value
    assert (error.status, error.code) == (400, "invalid_request")
    assert error.param is not None
    assert error.param in error.message
    return error


def test_sound_is_refused_where_cached_sound_has_another_price_since_this_api_does_not_tell_it_apart() -> None:
    heard = {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]}
    request = asked(messages=[heard])
    assert call(request).body
    price = Price(base=Rates(input=1, output=1, input_audio=4, cache_read_audio=1))
    with pytest.raises(RequestError) as caught:
        DIALECT.call(request, replace(target(), price=price), cap=None, request_id="req-1")
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, "unsupported_model", "messages")


def test_a_call_goes_where_the_operator_said_with_exactly_these_headers() -> None:
    found = call(asked())
    assert (found.method, found.url) == ("POST", "https://p.test/v1/chat/completions")
    assert found.headers == [
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        ("Authorization", "Bearer sk-operator"),
        ("X-Request-Id", "req-1"),
    ]
    assert list(found.shared) == found.headers[:-1]
    assert call(asked()).shared == found.shared
    assert ("Accept", "text/event-stream") in call(asked(stream=True)).headers
    assert call(asked(), base_url="https://p.test/v1/").url == found.url


def test_configured_headers_are_added_and_without_a_key_there_is_no_authorization() -> None:
    found = call(asked(), api_key=None, headers={"X-Team": "a b"})
    assert ("X-Team", "a b") in found.headers
    assert "Authorization" not in dict(found.headers)


@pytest.mark.parametrize(
    "headers", [{"X-A": "a\r\nX-B: b"}, {"X-A\r\nX-B": "b"}, {"": "x"}, {"X A": "b"}, {"X-A": "é"}, {"X-A:": "b"}]
)
def test_a_configured_header_that_would_break_a_call_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError):
        target(headers=headers)


def test_nothing_but_the_model_changes_in_a_request_that_has_its_cap() -> None:
    text = '"z":{ "a":1.10, "b":[ 1e5,123456789012345678901234567890 ] },"max_tokens": 5 ,"s":"\\u00e9\\/"'
    text += ',"stream":false,"seed":-0'
    assert call(raw(text)).body == (
        b'{"model":"real/model","messages":[{"role":"user","content":"x"}],"z":{ "a":1.10, "b":[ 1e5,'
        b'123456789012345678901234567890 ] },"max_tokens":5,"s":"\\u00e9\\/","stream":false,"seed":-0}'
    )


def test_a_key_given_twice_reaches_the_upstream_once() -> None:
    found = call(raw('"x":1,"model":"p/other","x":[2],"x":{"y":3}')).body
    assert found == b'{"model":"real/model","messages":[{"role":"user","content":"x"}],"x":{"y":3}}'


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
OURS = {*parse.ACTED_ON, *parse.STEERING, *COST_FIELDS, "service_tier"}
free = names.filter(lambda name: name.casefold() not in OURS)


@settings(max_examples=rounds(100, soak=300), deadline=None)
@given(fields=st.dictionaries(free, values, max_size=6), stream=st.booleans())
def test_unknown_fields_reach_the_upstream_value_for_value(fields: dict[str, Any], *, stream: bool) -> None:
    found = body(asked(**fields, stream=stream), cap=9)
    expected = {**fields, "model": "real/model", "messages": HELLO, "stream": stream, "max_tokens": 9}
    if stream:
        expected["stream_options"] = {"include_usage": True}
    assert found == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", '{"include_usage":true}'),
        (',"stream_options":null', '{"include_usage":true}'),
        (',"stream_options":{}', '{"include_usage":true}'),
        (',"stream_options":{"include_usage":false}', '{"include_usage":true}'),
        (',"stream_options":{"include_usage":true}', '{"include_usage":true}'),
        (',"stream_options":{"a":{ "b":1.0 },"include_usage":null}', '{"a":{ "b":1.0 },"include_usage":true}'),
    ],
)
def test_usage_is_always_asked_for_beside_the_clients_options(options: str, expected: str) -> None:
    found = call(raw(f'"stream":true{options}')).body
    assert found.endswith(f'"stream_options":{expected}}}'.encode())


def test_usage_is_not_asked_for_where_it_would_be_refused_or_is_no_stream() -> None:
    assert "stream_options" not in body(asked(stream=True), include_usage=False)
    assert "stream_options" not in body(asked())
    assert body(asked(stream_options={"x": 1}))["stream_options"] == {"x": 1}


BOTH = ("max_tokens", "max_completion_tokens")
NEW_FIRST = ("max_completion_tokens", "max_tokens")
OLD = ("max_tokens",)
CAPS: list[tuple[tuple[str, ...], dict[str, Any], int | None, dict[str, Any]]] = [
    (BOTH, {}, 9, {"max_tokens": 9}),
    (NEW_FIRST, {}, 9, {"max_completion_tokens": 9}),
    (OLD, {}, 9, {"max_tokens": 9}),
    (NEW_FIRST, {"max_tokens": None}, 9, {"max_completion_tokens": 9}),
    (OLD, {"max_completion_tokens": None}, 9, {"max_tokens": 9}),
    (BOTH, {"max_tokens": 5}, None, {"max_tokens": 5}),
    (NEW_FIRST, {"max_tokens": 5}, None, {"max_tokens": 5}),
    (OLD, {"max_completion_tokens": 5}, None, {"max_tokens": 5}),
    (OLD, {"max_completion_tokens": 5, "max_tokens": 7}, None, {"max_tokens": 7}),
    (BOTH, {"max_completion_tokens": 5, "max_tokens": 7}, None, {"max_completion_tokens": 5, "max_tokens": 7}),
    (("max_output",), {"max_completion_tokens": 5}, None, {"max_output": 5}),
    (("max_output",), {"max_tokens": 5}, None, {"max_output": 5}),
    (("max_output",), {}, 9, {"max_output": 9}),
]


@pytest.mark.parametrize(("known", "given_caps", "ours", "expected"), CAPS)
def test_a_cap_stands_in_a_field_that_the_provider_knows(
    known: tuple[str, ...], given_caps: dict[str, Any], ours: int | None, expected: dict[str, Any]
) -> None:
    request = asked(**given_caps)
    assert (request.cap is None) == (ours is not None)
    found = body(request, ours, cap_fields=known)
    assert {key: value for key, value in found.items() if key.startswith("max")} == expected
    assert request.cap is None or max(expected.values()) <= request.cap


@pytest.mark.parametrize("field", sorted(COST_FIELDS))
def test_a_field_that_changes_the_cost_is_refused_in_every_letter_case(field: str) -> None:
    for spelling in (field, field.upper(), field.title()):
        assert refused(asked(**{spelling: {"x": 1}})).param == spelling
    assert field in body(asked(**{field: None}))


def test_a_provider_has_cost_fields_of_its_own() -> None:
    assert refused(asked(plugins=[]), cost_fields=frozenset({"plugins"})).param == "plugins"
    assert refused(asked(Plugins=[]), cost_fields=frozenset({"plugins"})).param == "Plugins"
    assert "plugins" in body(asked(plugins=[]))


@pytest.mark.parametrize("tier", ["priority", "scale", "PRIORITY", "", 1, True, {}, ["default"], "\u00e9", '"default'])
def test_a_service_tier_of_another_price_is_refused(tier: Any) -> None:
    assert refused(asked(service_tier=tier)).param == "service_tier"
    assert refused(asked(Service_Tier=tier)).param == "Service_Tier"


@pytest.mark.parametrize("tier", ["auto", "default", "flex", None])
def test_a_service_tier_of_no_higher_price_passes(tier: Any) -> None:
    assert body(asked(service_tier=tier))["service_tier"] == tier


@pytest.mark.parametrize(
    "tool",
    [
        '{"type":"web_search"}',
        '{"type":"web_search_preview"}',
        '{"type":"code_interpreter"}',
        '{"type":"file_search","function":{}}',
        '{"type":"browser_search"}',
        '{"type":"openrouter:web_search"}',
        '{"\\u0074ype":"web_search"}',
        '{"type":"function","type":"web_search"}',
        '{"type":null}',
        '{"type":["function"]}',
        '{"type":{}}',
        '{"type":1e999}',
        '{"type":"Function"}',
    ],
)
def test_a_tool_that_runs_at_the_provider_is_refused(tool: str) -> None:
    assert refused(raw(f'"tools":[{{"type":"function"}},{tool}]')).param == "tools[1].type"


@pytest.mark.parametrize(
    "tools",
    [
        "null",
        "[]",
        '[{"type":"function","function":{"name":"f","parameters":{"type":"web_search","maximum":1e999}}}]',
        '[{"type":"custom","custom":{"name":"f"}}]',
        '[{"function":{"name":"f"}}]',
        '["judged upstream",5]',
    ],
)
def test_tools_that_run_at_the_client_pass_as_they_are(tools: str) -> None:
    assert call(raw(f'"tools":{tools}')).body.endswith(f'"tools":{tools}}}'.encode())


def test_a_hint_that_is_none_is_refused() -> None:
    OpenAI().check(Provider(base_url="https://p.test", options={"takes": "cache_control reasoning"}))
    with pytest.raises(
        ConfigurationError, match=r"options\.takes: 'cache_contol' is unknown; there are cache_control,"
    ):
        OpenAI().check(Provider(base_url="https://p.test", options={"takes": "reasoning cache_contol"}))


def test_a_provider_made_anew_is_called_by_its_own_settings() -> None:
    dialect = OpenAI()
    for number in range(600):
        made = target(base_url=f"https://p{number}.test/v1/", api_key=f"sk-{number}")
        call = dialect.call(asked(), made, cap=None, request_id="r")
        assert call.url == f"https://p{number}.test/v1/chat/completions"
        assert ("Authorization", f"Bearer sk-{number}") in call.headers
    assert len(dialect._fixed) <= MOST_PROVIDERS
