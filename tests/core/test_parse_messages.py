"""The messages and tools of a request body: what is refused by its field, and what is counted."""

import json
from typing import Any

import pytest
from parsing import HELLO, accepted, body, raw, refused

from hpp_middleware.types.completion import Images

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


@pytest.mark.parametrize("form", ["%s", '{"url":%s}', '{"url":%s,"detail":"low"}'])
@pytest.mark.parametrize("kind", ["data:image\\/png;base64,", "data:image/png;base64," + "A" * 100_000])
def test_an_escaped_image_url_is_never_measured_longer_than_it_is_sent(form: str, kind: str) -> None:
    picture = form % ('"' + kind + r"\u0041" * 10 + '"')
    data = f'{{"model":"p/m","messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{picture}}}]}}]}}'
    assert accepted(data.encode()).images == Images(1, len(kind.replace("\\", "")) + 10)


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


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
@pytest.mark.parametrize("form", ["data:image/png;base64,", "DATA:Image/png,"])
def test_a_large_image_is_measured_as_a_small_one(size: int, form: str) -> None:
    url = form + "A" * size
    found = accepted(body(messages=picture({"url": url})))
    assert found.images == Images(1, len(url))


def test_no_words_of_a_client_stand_in_for_data() -> None:
    small, large = "data:image/png;base64,AA\x7f999999", "data:image/png;base64," + "A" * 100_000
    content = [{"type": "image_url", "image_url": {"url": url}} for url in (small, large)]
    said = json.dumps({"model": "p/m", "messages": [{"role": "user", "content": content}]}, ensure_ascii=False)
    found = accepted(said.encode())
    assert found.images == Images(2, len(small) + len(large))
