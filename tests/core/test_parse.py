"""A request body, read strictly and only as far as the router acts on it."""

import json
from typing import Any

import pytest
from parsing import HELLO, accepted, body, raw, refused

from hpp_middleware.errors import RequestError
from hpp_middleware.types.completion import Images


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


@pytest.mark.parametrize("key", ["modelx", "metadata", "temperature", "Temperature", "ns", "modèle", "\u0131", ""])
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
