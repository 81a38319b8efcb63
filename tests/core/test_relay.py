"""Streams in OpenAI's shape, passed on while being read: one event at a time."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import relay
from hpp_middleware.core.relay import ProtocolError, Relay, StreamedError
from hpp_middleware.core.sse import Event
from hpp_middleware.types.completion import Request, Target
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


def asked(**fields: Any) -> Request:
    return Request(fields={}, model="alias", stream=True, **fields)


def chunk(**fields: Any) -> dict[str, Any]:
    return {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "real-model-2025", **fields}


def text(content: Any = "hi", index: int = 0, finish: Any = None, **delta: Any) -> dict[str, Any]:
    return chunk(choices=[{"index": index, "delta": {"content": content, **delta}, "finish_reason": finish}])


def event(value: Any) -> Event:
    return Event(json.dumps(value).encode())


def started(cap: int = 1000, **fields: Any) -> Relay:
    return Relay(asked(**fields), TARGET, cap=cap)


def sent(data: bytes) -> dict[str, Any]:
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    found: dict[str, Any] = json.loads(data.removeprefix(b"data: "))
    return found


def test_an_empty_id_is_none_and_the_next_one_counts() -> None:
    reader = started()
    reader.feed(event({**chunk(choices=[]), "id": ""}))
    assert reader.seen.upstream_id is None
    reader.feed(event(text()))
    assert reader.seen.upstream_id == "c-1"


def test_only_the_model_of_a_chunk_is_changed() -> None:
    raw = (
        b'{"id":"c-1", "big" : 123456789012345678901234567890,"f":1.10,"model":"x","s":"\\u00e9\\/","choices":[ { } ]}'
    )
    expected = (
        b'data: {"id":"c-1","big":123456789012345678901234567890,"f":1.10,"model":"p/real/model","s":"\\u00e9\\/",'
        b'"choices":[ { } ]}\n\n'
    )
    assert started().feed(Event(raw)) == expected


def test_a_chunk_without_a_model_is_given_one() -> None:
    assert sent(started().feed(event({"choices": []})))["model"] == "p/real/model"


HIDDEN: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("own chunk", chunk(choices=[], usage=USAGE), None),
    ("own chunk without choices", chunk(usage=USAGE), None),
    ("own chunk with null choices", chunk(choices=None, usage=USAGE), None),
    ("null", text() | {"usage": None}, text()),
    ("null without choices", chunk(choices=[], usage=None), chunk(choices=[])),
    ("last chunk", text(finish="stop") | {"usage": USAGE}, text(finish="stop")),
    ("every chunk", text() | {"usage": USAGE}, text()),
]


@pytest.mark.parametrize(("sent_up", "expected"), [row[1:] for row in HIDDEN], ids=[row[0] for row in HIDDEN])
def test_usage_that_only_the_router_asked_for_is_hidden(
    sent_up: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    reader = started()
    data = reader.feed(event(sent_up))
    if expected is None:
        assert data == b""
    else:
        assert sent(data) == expected | {"model": "p/real/model"}
    assert (reader.seen.usage is not None) == (sent_up["usage"] is not None)


@pytest.mark.parametrize("sent_up", [row[1] for row in HIDDEN], ids=[row[0] for row in HIDDEN])
def test_usage_that_the_client_asked_for_is_passed_on_as_it_is(sent_up: dict[str, Any]) -> None:
    assert sent(started(include_usage=True).feed(event(sent_up))) == sent_up | {"model": "p/real/model"}


def test_a_usage_chunk_is_known_however_its_empty_list_is_spaced() -> None:
    for empty in (b"[]", b"[ ]", b"[\t]"):
        assert (
            started().feed(Event(b'{"choices":' + empty + b',"usage":{"prompt_tokens":1,"completion_tokens":1}}'))
            == b""
        )


REPORTS: list[tuple[str, list[dict[str, Any]], Usage | None, bool]] = [
    ("own chunk", [text(), chunk(choices=[], usage=USAGE)], Usage(input=7, output=2), False),
    ("last chunk", [text(finish="stop") | {"usage": USAGE}], Usage(input=7, output=2), False),
    ("null in others", [text() | {"usage": None}, chunk(choices=[], usage=USAGE)], Usage(input=7, output=2), False),
    (
        "cumulative",
        [text() | {"usage": {"prompt_tokens": 7, "completion_tokens": n}} for n in (1, 2, 3)],
        Usage(input=7, output=3),
        False,
    ),
    ("zero", [chunk(choices=[], usage={"prompt_tokens": 0, "completion_tokens": 0})], Usage(), False),
    (
        "then null",
        [chunk(choices=[], usage=USAGE), text(finish="stop") | {"usage": None}],
        Usage(input=7, output=2),
        False,
    ),
    ("then unreadable", [chunk(usage=USAGE), chunk(usage={})], Usage(input=7, output=2), True),
    ("contradicting itself", [chunk(usage=USAGE | {"total_tokens": 8})], Usage(input=7, output=2), True),
    ("unreadable", [chunk(usage={"prompt_tokens": -1, "completion_tokens": 2})], None, False),
    ("none", [text(), text(finish="stop")], None, False),
    (
        "Moonshot, in the choice",
        [chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE | {"cached_tokens": 4}}])],
        Usage(input=3, cache_read=4, output=2),
        False,
    ),
    (
        "cumulative, in the choice",
        [
            chunk(
                choices=[
                    {"index": 0, "delta": {"content": "hi"}, "usage": {"prompt_tokens": 7, "completion_tokens": n}}
                ]
            )
            for n in (1, 2, 3)
        ],
        Usage(input=7, output=3),
        False,
    ),
    (
        "at the top and then in the choice",
        [chunk(usage=USAGE), chunk(choices=[{"index": 0, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}])],
        Usage(input=7, output=2),
        False,
    ),
    (
        "in the choice and then at the top",
        [
            chunk(choices=[{"index": 0, "delta": {}, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}]),
            chunk(choices=[], usage=USAGE),
        ],
        Usage(input=7, output=2),
        False,
    ),
]


@pytest.mark.parametrize(("chunks", "usage", "doubtful"), [row[1:] for row in REPORTS], ids=[row[0] for row in REPORTS])
def test_the_last_report_of_usage_counts(chunks: list[dict[str, Any]], usage: Usage | None, *, doubtful: bool) -> None:
    reader = started()
    for each in chunks:
        reader.feed(event(each))
    assert (reader.seen.usage, reader.seen.usage_doubtful) == (usage, doubtful)


def test_usage_is_kept_as_it_came() -> None:
    reader = started()
    reader.feed(Event(b'{"choices":[],"usage":{ "prompt_tokens":7,"completion_tokens":2,"cost":0.10 }}'))
    assert bytes(reader.seen.usage_raw or b"") == b'{ "prompt_tokens":7,"completion_tokens":2,"cost":0.10 }'


@pytest.mark.parametrize(
    ("chunks", "n", "finished"),
    [
        ([text()], 1, False),
        ([text(finish="stop")], 1, True),
        ([text(finish="stop"), text(index=1)], 2, False),
        ([text(finish="stop"), text(finish="stop")], 2, False),
        ([text(finish="stop"), text(index=1, finish="length")], 2, True),
    ],
)
def test_a_stream_is_finished_when_every_choice_is(chunks: list[dict[str, Any]], n: int, *, finished: bool) -> None:
    reader = started(n=n)
    for each in chunks:
        reader.feed(event(each))
    assert reader.seen.finished is finished
    if finished:
        assert reader.close() == b"data: [DONE]\n\n"
        assert reader.done
        assert reader.close() == b""
    else:
        with pytest.raises(ProtocolError):
            reader.close()
        assert not reader.done


def test_the_end_mark_ends_the_stream() -> None:
    reader = started()
    assert reader.feed(Event(b"[DONE]")) == b"data: [DONE]\n\n"
    assert reader.done
    assert reader.feed(event(text())) == b""
    assert reader.close() == b""


def test_comments_and_foreign_lines_pass() -> None:
    reader = started()
    assert reader.feed(Event(None, b": OPENROUTER PROCESSING\n")) == b": OPENROUTER PROCESSING\n\n"
    data = reader.feed(Event(json.dumps(text()).encode(), b"event: x\nid: 1\n"))
    assert data.startswith(b"event: x\nid: 1\ndata: {")


@pytest.mark.parametrize("error", [{"message": "boom", "code": 502}, "boom", ["x"], 1, True])
def test_an_error_in_the_stream_is_raised_with_the_usage_before_it(error: Any) -> None:
    reader = started()
    reader.feed(event(text() | {"usage": USAGE}))
    with pytest.raises(StreamedError) as caught:
        reader.feed(event({"error": error}))
    assert json.loads(caught.value.args[0]) == error
    assert reader.seen.usage == Usage(input=7, output=2)
    assert not reader.done


def test_usage_in_the_error_event_itself_counts() -> None:
    reader = started()
    with pytest.raises(StreamedError):
        reader.feed(event(text(finish="error") | {"error": {"message": "x"}, "usage": USAGE}))
    assert reader.seen.usage == Usage(input=7, output=2)


def test_a_null_error_is_none() -> None:
    assert sent(started().feed(event(text() | {"error": None})))["error"] is None


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"[]",
        b"1",
        b"null",
        b'{"a":',
        b"{}{}",
        b'{"a":NaN}',
        b"<html>",
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_no_json_object_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        started().feed(Event(data))


@pytest.mark.parametrize(
    "value", [None, 1, "x", {}, [1], [[]], [None], [{"delta": 5}], [{"index": "x"}], [{"delta": {"content": 1}}]]
)
def test_odd_choices_pass_as_they_are(value: Any) -> None:
    assert sent(started().feed(event(chunk(choices=value))))["choices"] == value


DELTAS: list[tuple[dict[str, Any], int]] = [
    ({}, 0),
    ({"role": "assistant", "content": ""}, 0),
    ({"content": None}, 0),
    ({"content": "hello"}, 5),
    ({"content": "héé€😀"}, 12),
    ({"content": '"\\\n\t\u0001'}, 5),
    ({"refusal": "no"}, 2),
    ({"reasoning_content": "abc", "content": "de"}, 5),
    ({"reasoning": "abc"}, 3),
    ({"reasoning": "abc", "reasoning_content": "abc"}, 3),
    ({"reasoning": "\n\n\u0001", "reasoning_content": "\n\n\u0001"}, 3),
    ({"reasoning": "abc", "reasoning_content": "abcdef"}, 6),
    ({"tool_calls": [{"index": 0, "id": "x", "type": "function", "function": {"name": "get", "arguments": ""}}]}, 3),
    ({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}, {"function": {"arguments": "é"}}]}, 6),
    ({"tool_calls": [{"custom": {"name": "ab", "input": "cde"}}]}, 5),
    ({"function_call": {"name": "f", "arguments": "{}"}}, 3),
    ({"tool_calls": "odd"}, 0),
    ({"tool_calls": [None, 1, {"function": None}]}, 0),
]


@pytest.mark.parametrize(("delta", "size"), DELTAS)
def test_relayed_text_is_counted_in_utf8_bytes(delta: dict[str, Any], size: int) -> None:
    reader = started()
    reader.feed(event(chunk(choices=[{"index": 0, "delta": delta}])))
    assert reader.seen.relayed_bytes == size


@pytest.mark.parametrize("name", ["content", "reasoning_content", "refusal"])
def test_a_character_that_is_cut_in_two_is_passed_on_as_it_is_and_counted(name: str) -> None:
    data = json.dumps(chunk(choices=[{"index": 0, "delta": {name: "abXX"}}])).encode().replace(b"XX", b"\xc3")
    reader = started()
    assert b'"ab\xc3"' in reader.feed(Event(data))
    assert (reader.seen.texts, reader.seen.relayed_bytes) == (1, 2 + len("\ufffd".encode()))


def test_the_pieces_that_text_comes_in_are_counted() -> None:
    reader = started(n=2)
    for each in (text(""), text("a"), text("b", index=1), text(None), text("", reasoning="c"), text(finish="stop")):
        reader.feed(event(each))
    assert (reader.seen.texts, reader.seen.relayed_bytes) == (4, 5)


EARLY: list[tuple[str, list[dict[str, Any]], bool]] = [
    ("none", [text()], False),
    ("at the end", [text(), chunk(choices=[], usage=USAGE)], False),
    ("with the text", [text() | {"usage": USAGE}, text() | {"usage": USAGE}], False),
    ("in the choice of the text", [chunk(choices=[text()["choices"][0] | {"usage": USAGE}])], False),
    ("before the text", [chunk(choices=[], usage=USAGE), text()], True),
    ("before the end alone", [text() | {"usage": USAGE}, text("", finish="stop")], False),
    ("before and after", [chunk(choices=[], usage=USAGE), text(), chunk(choices=[], usage=USAGE)], False),
    ("before, and after it unreadable", [chunk(choices=[], usage=USAGE), text() | {"usage": {}}], True),
]


@pytest.mark.parametrize(("chunks", "early"), [row[1:] for row in EARLY], ids=[row[0] for row in EARLY])
def test_it_is_known_whether_text_has_come_since_the_report(chunks: list[dict[str, Any]], *, early: bool) -> None:
    reader = started()
    for each in chunks:
        reader.feed(event(each))
    assert reader.seen.text_after_usage is early


@pytest.mark.parametrize("last", [(0, 0), (7, 0), (0, 2)])
def test_a_report_that_takes_back_what_was_told_of_an_answer_leaves_that_in_doubt(last: tuple[int, int]) -> None:
    taken_back = {"prompt_tokens": last[0], "completion_tokens": last[1], "total_tokens": sum(last)}
    reader = started()
    for each in (text(), text(), chunk(choices=[], usage=USAGE), chunk(choices=[], usage=taken_back)):
        reader.feed(event(each))
    seen = reader.seen
    assert (seen.usage, seen.usage_doubtful, seen.usage_early) == (Usage(input=7, output=2), True, False)


def test_a_last_report_of_nothing_stands_where_no_text_has_come() -> None:
    reader = started()
    for usage in (USAGE, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}):
        reader.feed(event(chunk(choices=[], usage=usage)))
    assert (reader.seen.usage, reader.seen.usage_doubtful) == (Usage(), False)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
keys = ["content", "reasoning", "reasoning_content", "refusal", "tool_calls", "function_call"]
top = ["choices", "usage", "model", "id", "x"]


@settings(max_examples=rounds(150, soak=400), deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(top), json_values) | st.dictionaries(st.sampled_from(keys), json_values),
        max_size=5,
    )
)
def test_any_chunks_are_relayed_or_break_the_stream_and_counts_never_fall(chunks: list[dict[str, Any]]) -> None:
    reader, before = started(), 0
    for each in chunks:
        value = each if each.keys() <= set(top) else {"choices": [{"index": 0, "delta": each}]}
        data = reader.feed(event(value))
        if data:
            expected = value | {"model": "p/real/model"}
            expected.pop("usage", None)
            assert sent(data) == expected
        assert reader.seen.relayed_bytes >= before
        before = reader.seen.relayed_bytes


def test_a_stream_in_pieces_past_its_cap_is_cut_with_a_length_and_an_end() -> None:
    reader = started(cap=10, n=2)
    reader.feed(event(text(index=1, finish="stop")))
    data = b""
    for _ in range(1000):
        data = reader.feed(event(text("x")))
        if reader.done:
            break
    assert reader.cut
    last, done = data[:-14], data[-14:]
    assert done == b"data: [DONE]\n\n"
    assert sent(last) == chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "length"}]) | {
        "model": "p/real/model"
    }
    assert reader.feed(event(text())) == b""
    assert reader.seen.relayed_bytes <= 2 * 10 + relay.SLACK_CHUNKS + 3


def test_a_stream_in_great_pieces_past_its_cap_is_cut_too() -> None:
    reader = started(cap=10)
    reader.feed(event(text("x" * (10 * relay.BYTES_A_TOKEN + relay.SLACK_BYTES))))
    assert not reader.cut
    reader.feed(event(text("x")))
    assert reader.cut


def test_a_model_that_keeps_to_its_cap_is_never_cut() -> None:
    reader = started(cap=500, n=2)
    for number in range(1000):
        reader.feed(event(text("token ", index=number % 2)))
        reader.feed(event(text("", index=number % 2)))
    reader.feed(event(text(finish="length")))
    assert not reader.cut


def test_the_head_of_an_event_of_our_own_is_the_streams() -> None:
    reader = started()
    assert {key: bytes(value) for key, value in reader.stub().items()} == {"model": b'"p/real/model"'}
    reader.feed(event(text()))
    head = {key: json.loads(bytes(value)) for key, value in reader.stub().items()}
    assert head == {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "p/real/model"}
    assert reader.seen.upstream_id == "c-1"
