"""A request body, read strictly and only as far as the router acts on it."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpp_middleware.core import parse
from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images, Request
from hpp_middleware.types.provider import Limits

LIMITS = Limits()
HELLO = [{"role": "user", "content": "hello"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "p/m", "messages": HELLO, **fields}).encode()


def raw(**fields: str) -> bytes:
    """A body with members written as they are."""
    members = "".join(f', "{name}": {text}' for name, text in fields.items())
    return f'{{"model": "p/m", "messages": [{{"role": "user", "content": "hello"}}]{members}}}'.encode()


def accepted(data: bytes) -> Request:
    return parse.completion(data, LIMITS)


def refused(data: bytes) -> RequestError:
    with pytest.raises(RequestError) as caught:
        parse.completion(data, LIMITS)
    error = caught.value
    assert (error.status, error.code) == (400, "invalid_request")
    assert error.param is None or error.param in error.message
    return error


def test_the_least_that_is_a_request() -> None:
    found = accepted(body())
    assert (found.model, found.stream, found.include_usage, found.n, found.cap) == ("p/m", False, False, 1, None)
    assert found.images == Images()
    assert (found.audio_input, found.output_modalities, found.hidden_reasoning) == (False, frozenset(), False)


NO_JSON: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \n",
    "truncated": body()[:-1],
    "two values": body() + body(),
    "bom": b"\xef\xbb\xbf" + body(),
    "utf-16": body().decode().encode("utf-16"),
    "utf-16 without a mark": body().decode().encode("utf-16-le"),
    "utf-32": body().decode().encode("utf-32"),
    "latin-1": body(user="x").replace(b'"x"', b'"\xfc"'),
    "overlong utf-8": body(user="x").replace(b'"x"', b'"\xc0\xaf"'),
    "surrogate in utf-8": body(user="x").replace(b'"x"', b'"\xed\xa0\x80"'),
    "nul behind": body() + b"\x00",
    "nul in a string": body(user="x").replace(b'"x"', b'"a\x00b"'),
    "newline in a string": body(user="x").replace(b'"x"', b'"a\nb"'),
    "array": b"[" + body() + b"]",
    "null": b"null",
    "number": b"1",
    "string": b'"model"',
    "NaN": raw(temperature="NaN"),
    "nested NaN": raw(logit_bias='{"a": [NaN]}'),
    "Infinity": raw(temperature="Infinity"),
    "-Infinity": raw(temperature="-Infinity"),
    "lone surrogate": raw(user='"\\ud800"'),
    "reversed surrogates": raw(user='"\\ude00\\ud83d"'),
    "lone surrogate as a key": raw(**{"\\ud800": "1"}),
    "single quotes": b"{'model': 'p/m'}",
    "trailing comma": b'{"model": "p/m",}',
    "comment": b'{"model": "p/m" /* x */}',
    "leading zero": raw(seed="01"),
    "plus": raw(seed="+1"),
    "hex": raw(seed="0x10"),
    "deep arrays": raw(x="[" * 100_000 + "]" * 100_000),
    "deep objects": raw(x='{"a":' * 100_000 + "1" + "}" * 100_000),
    "deep and open": b"[" * 100_000,
    "65 levels": raw(x="[" * 64 + "]" * 64),
}


@pytest.mark.parametrize("data", NO_JSON.values(), ids=NO_JSON.keys())
def test_what_is_no_strict_json_object_is_a_400(data: bytes) -> None:
    error = refused(data)
    assert error.message.startswith("The body ")


def test_nesting_up_to_the_limit_passes() -> None:
    accepted(raw(x="[" * 63 + "]" * 63))
    accepted(raw(x=json.dumps("[{" * 1000 + '"\\')))  # brackets in a string are no nesting


@pytest.mark.parametrize("tail", [b"", b"\\"])
def test_a_string_that_never_ends_is_read_once_and_not_once_a_quote(tail: bytes) -> None:
    # Quadratic work on these five megabytes would outlast the suite's time limit.
    refused(b'{"a":' + b'"' + b'\\"{' * 1_700_000 + tail)


def test_a_million_keys_are_refused_before_they_are_read() -> None:
    many = ",".join(f'"k{number}":0' for number in range(1_000_000))
    data = b'{"model":"p/m","messages":[{"role":"user","content":"x"}],' + many.encode() + b"}"
    with pytest.raises(RequestError, match="values"):
        accepted(data)


def test_a_key_given_twice_counts_once_and_the_last() -> None:
    found = accepted(b'{"model":"p/a","n":1,"model":"p/b","messages":[{"role":"user","content":"x"}],"n":2}')
    assert (found.model, found.n) == ("p/b", 2)
    assert list(found.fields) == ["model", "n", "messages"]
    assert bytes(found.fields["model"]) == b'"p/b"'


def test_an_escaped_key_is_the_same_key() -> None:
    found = accepted(raw(**{"n": "1", "\\u006e": "3"}))
    assert found.n == 3
    assert refused(raw(**{"\\u0061pi_key": '"x"'})).param == "api_key"


def test_values_stay_byte_for_byte() -> None:
    odd = '{ "big" : 123456789012345678901234567890 ,"f":1.10,"e":1E5,"s":"\\u00e9\\/" , "z":[ ],"a":-0,"far":1e999 }'
    found = accepted(raw(metadata=odd, seed="9" * 5000))
    assert bytes(found.fields["metadata"]) == odd.encode()
    assert bytes(found.fields["seed"]) == b"9" * 5000


STEERING = [
    *("api_base", "base_url", "api_key", "api_version", "api_type", "extra_headers", "extra_body", "headers"),
    *("custom_llm_provider", "callbacks", "mock_response"),
]


@pytest.mark.parametrize("key", STEERING)
def test_a_key_that_steers_gateways_is_refused_in_every_letter_case(key: str) -> None:
    for spelling in (key, key.upper(), key.title()):
        for value in ('"x"', "null", "{}"):
            assert refused(raw(**{spelling: value})).param == spelling


@pytest.mark.parametrize(
    "key",
    [
        *(
            "Model",
            "MODEL",
            "Messages",
            "STREAM",
            "Stream_Options",
            "N",
            "Max_Tokens",
            "MAX_COMPLETION_TOKENS",
            "Tools",
        ),
        *("\u017ftream", "me\u017f\u017fages", "max_to\u212aens", "tool\u017f", "Modalities", "Reasoning_Effort"),
    ],
)
def test_another_letter_case_of_a_key_acted_on_is_refused(key: str) -> None:
    error = refused(body(**{key: 1}))
    assert error.param == key


@pytest.mark.parametrize("key", ["models", "metadata", "temperature", "Temperature", "ns", "modèle", "\u0131", ""])
def test_other_keys_pass(key: str) -> None:
    assert key in accepted(body(**{key: {"x": 1}})).fields


@pytest.mark.parametrize("field", ["model", "messages"])
@pytest.mark.parametrize("value", [None, ..., 1, True, {}, []])
def test_model_and_messages_are_required_and_typed(field: str, value: Any) -> None:
    fields = {"model": "p/m", "messages": HELLO, field: value}
    if value is ...:
        del fields[field]
    assert refused(json.dumps(fields).encode()).param == field


@pytest.mark.parametrize(
    "model", ["", " ", "a b", "a\nb", "a\r\nX-Evil: 1", "é/x", "p/m?x", "p/m#", "p%2fm", "x" * 201, "p\\m"]
)
def test_a_model_that_could_not_stand_in_a_header_is_refused(model: str) -> None:
    assert refused(body(model=model)).param == "model"


@pytest.mark.parametrize("model", ["ollama/gpt-oss:120b", "a/b/c@2024-01-01", "auto", "x" * 200])
def test_models_of_every_usual_form_pass(model: str) -> None:
    assert accepted(body(model=model)).model == model


NUMBERS = ["0", "-1", "1.0", "1.5", "1e2", "true", "false", '"1"', "[1]", "{}", "9" * 30, "9" * 5000, "1e999", "-0"]


@pytest.mark.parametrize("field", ["n", "max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("text", [*NUMBERS, "10000001"])
def test_a_count_that_is_no_whole_number_in_range_is_refused(field: str, text: str) -> None:
    error = refused(raw(**{field: text}))
    assert error.param == field
    assert "an integer from 1 to" in error.message


def test_counts_at_their_bounds_pass() -> None:
    assert accepted(raw(n="16")).n == 16
    assert refused(raw(n="17")).param == "n"
    assert accepted(raw(max_tokens="10000000")).cap == 10_000_000
    assert accepted(raw(n="null", max_tokens="null")).cap is None


def test_of_two_caps_the_larger_is_held_for() -> None:
    assert accepted(raw(max_tokens="5", max_completion_tokens="9")).cap == 9
    assert accepted(raw(max_tokens="9", max_completion_tokens="5")).cap == 9
    assert accepted(raw(max_tokens="9", max_completion_tokens="null")).cap == 9


@pytest.mark.parametrize("text", ["1", "0", '"true"', "[]", "{}", "1.0"])
def test_stream_is_true_or_false(text: str) -> None:
    assert refused(raw(stream=text)).param == "stream"


@pytest.mark.parametrize("text", ["1", '"x"', "[]", "true", '{"include_usage": 1}', '{"include_usage": "true"}'])
def test_stream_options_are_an_object_with_a_boolean(text: str) -> None:
    assert refused(raw(stream="true", stream_options=text)).param == "stream_options"


@pytest.mark.parametrize(
    ("text", "asked"),
    [("null", False), ("{}", False), ('{"include_usage": null}', False), ('{"include_usage": true, "x": 1}', True)],
)
def test_the_usage_event_is_the_clients_only_if_it_asked(text: str, *, asked: bool) -> None:
    assert accepted(raw(stream="true", stream_options=text)).include_usage is asked


MESSAGES: list[tuple[Any, str]] = [
    ("hello", "messages[0]"),
    (None, "messages[0]"),
    ([], "messages[0]"),
    ({}, "messages[0].role"),
    ({"content": "x"}, "messages[0].role"),
    ({"role": None, "content": "x"}, "messages[0].role"),
    ({"role": 1, "content": "x"}, "messages[0].role"),
    ({"role": ["user"], "content": "x"}, "messages[0].role"),
    ({"role": {"a": 1}, "content": "x"}, "messages[0].role"),
    ({"role": "User", "content": "x"}, "messages[0].role"),
    ({"role": "function", "content": "x"}, "messages[0].role"),
    ({"role": "user"}, "messages[0].content"),
    ({"role": "user", "content": None}, "messages[0].content"),
    ({"role": "tool", "content": None, "tool_calls": [{}]}, "messages[0].content"),
    ({"role": "user", "content": 5}, "messages[0].content"),
    ({"role": "user", "content": True}, "messages[0].content"),
    ({"role": "user", "content": {"type": "text"}}, "messages[0].content"),
    ({"role": "assistant", "content": None}, "messages[0].content"),
    ({"role": "assistant", "content": None, "tool_calls": []}, "messages[0].content"),
    ({"role": "assistant", "content": None, "tool_calls": None}, "messages[0].content"),
    ({"role": "assistant", "tool_calls": "x"}, "messages[0].tool_calls"),
    ({"role": "user", "content": ["x"]}, "messages[0].content[0]"),
    ({"role": "user", "content": [None]}, "messages[0].content[0]"),
    ({"role": "user", "content": [{}]}, "messages[0].content[0].type"),
    ({"role": "user", "content": [{"type": None}]}, "messages[0].content[0].type"),
    ({"role": "user", "content": [{"type": 1}]}, "messages[0].content[0].type"),
    ({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": ["x"]}]}, "messages[0].content[1].type"),
    ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0].image_url"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": None}]}, "messages[0].content[0].image_url"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0].image_url"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": 1}}]}, "messages[0].content[0].image_url"),
]


@pytest.mark.parametrize(("message", "param"), MESSAGES)
def test_a_message_that_breaks_a_rule_is_refused_by_the_name_of_its_field(message: Any, param: str) -> None:
    assert refused(body(messages=[message])).param == param
    second = refused(body(messages=[*HELLO, message]))
    assert second.param == param.replace("messages[0]", "messages[1]")


def test_an_odd_number_where_a_word_belongs_is_refused_by_its_field() -> None:
    for text in ("1e999", "9" * 5000, "[1e999]"):
        data = f'{{"model":"p/m","messages":[{{"role":{text},"content":"x"}}]}}'.encode()
        assert refused(data).param == "messages[0].role"


@pytest.mark.parametrize(
    "message",
    [
        *({"role": role, "content": "x"} for role in ("system", "developer", "user", "assistant", "tool")),
        {"role": "assistant", "tool_calls": [{"id": "1"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "", "tool_call_id": "1"},
        {"role": "user", "content": []},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "made_up", "y": 1}]},
        {"role": "assistant", "content": "x", "tool_calls": "judged upstream"},
    ],
)
def test_messages_of_every_usual_form_pass(message: dict[str, Any]) -> None:
    accepted(body(messages=[message]))


def picture(url: Any) -> list[Any]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": url}]}]


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "ftp://x/y",
        "//x/y",
        "",
        "javascript:1",
        " https://x",
        "gopher://x",
        "HTTP://x",
    ],
)
def test_an_image_url_of_another_scheme_is_refused(url: str) -> None:
    for value in ({"url": url}, url):
        assert refused(body(messages=picture(value))).param == "messages[0].content[0].image_url.url"


def test_images_are_counted_and_inline_ones_measured() -> None:
    data = "data:image/png;base64," + "A" * 1000
    assert accepted(body(messages=picture({"url": "https://x/y.png"}))).images == Images(1, 0)
    assert accepted(body(messages=picture("HTTPS://x/y.png"))).images == Images(1, 0)
    assert accepted(body(messages=picture({"url": data, "detail": "low"}) * 3)).images == Images(3, 3 * len(data))
    assert accepted(body(messages=picture({"url": data.replace("data:", "DATA:")}))).images == Images(1, len(data))


def test_inline_data_that_is_no_image_counts_by_its_bytes_too() -> None:
    assert accepted(body(messages=picture({"url": "data:application/pdf;base64," + "A" * 1000}))).images == Images(1, 0)


def test_an_escaped_image_url_is_never_measured_longer_than_it_is_sent() -> None:
    url = '"data:image\\/png;base64,' + "\\u0041" * 10 + '"'
    data = f'{{"model":"p/m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{url}}}]}}]}}'
    assert accepted(data.encode()).images == Images(1, len("data:image/png;base64,") + 10)


def test_audio_and_output_modalities_are_noted() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    assert accepted(body(messages=[{"role": "user", "content": [part]}])).audio_input
    assert accepted(body(modalities=["text", "audio"])).output_modalities == {"audio"}
    assert accepted(body(modalities=["text"])).output_modalities == frozenset()
    for value in ("audio", [1], {"a": 1}):
        assert refused(body(modalities=value)).param == "modalities"


@pytest.mark.parametrize(
    ("fields", "hidden"),
    [
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "low"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": None}, False),
        ({"reasoning": {"effort": "high"}}, True),
        ({"reasoning": None}, False),
    ],
)
def test_a_request_for_reasoning_is_noted(fields: dict[str, Any], *, hidden: bool) -> None:
    assert accepted(body(**fields)).hidden_reasoning is hidden


def test_too_many_messages_or_tools_are_refused() -> None:
    assert refused(body(messages=HELLO * 2049)).param == "messages"
    assert refused(body(tools=[{}] * 257)).param == "tools"
    accepted(body(messages=HELLO * 2048, tools=[{}] * 256))
    for text in ("{}", '"x"', "1"):
        assert refused(raw(tools=text)).param == "tools"


def test_a_tools_schema_is_the_upstreams_to_judge() -> None:
    schema = '[{"type":"function","function":{"parameters":{"maximum":1e999,"minimum":' + "9" * 5000 + "}}}]"
    assert bytes(accepted(raw(tools=schema)).fields["tools"]) == schema.encode()


def only_a_400(data: bytes) -> None:
    told = (400, "invalid_request", "")
    try:
        parse.completion(data, LIMITS)
    except RequestError as error:
        told = (error.status, error.code, error.message.encode().decode())
    assert told[:2] == (400, "invalid_request")


@settings(max_examples=2_000, deadline=None)
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


@settings(max_examples=2_000, deadline=None)
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


@settings(max_examples=500, deadline=None)
@given(st.dictionaries(st.sampled_from([*sorted(parse.ACTED_ON), "user"]), json_values, max_size=6))
def test_any_value_in_any_field_is_a_request_or_a_400(fields: dict[str, Any]) -> None:
    only_a_400(json.dumps({"model": "p/m", "messages": HELLO, **fields}).encode())


@settings(max_examples=500, deadline=None)
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
    optional={"tool_calls": st.sampled_from([None, [], [{"id": "1"}], 1]), "name": st.just("x")},
)


@settings(max_examples=500, deadline=None)
@given(st.lists(messages, max_size=4))
def test_usual_messages_are_taken_as_any_others(given_messages: list[Any]) -> None:
    def outcome() -> Request | tuple[Any, ...]:
        try:
            return accepted(body(messages=given_messages))
        except RequestError as error:
            return error.message, error.param

    taken = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse, "_usual", lambda raw, limits: None)
        assert outcome() == taken
