"""OpenAI's dialect: the call that is built, and recorded streams cut at every offset."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpp_middleware.core import parse
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.dialects.openai import COST_FIELDS, OpenAI, Stream
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.price import Price, Rates, Usage
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


# --- the call --------------------------------------------------------------------------------------


def test_a_call_goes_where_the_operator_said_with_exactly_these_headers() -> None:
    found = call(asked())
    assert (found.method, found.url) == ("POST", "https://p.test/v1/chat/completions")
    assert found.headers == [
        ("Content-Type", "application/json"),
        ("Accept", "application/json"),
        ("Accept-Encoding", "identity"),
        ("User-Agent", "hpp-router"),
        ("X-Request-Id", "req-1"),
        ("Authorization", "Bearer sk-operator"),
    ]
    assert ("Accept", "text/event-stream") in call(asked(stream=True)).headers
    assert call(asked(), base_url="https://p.test/v1/").url == found.url


def test_configured_headers_are_added_and_without_a_key_there_is_no_authorization() -> None:
    found = call(asked(), api_key=None, headers={"X-Team": "a b"})
    assert [name for name, _ in found.headers][-1] == "X-Team"
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


@settings(max_examples=300, deadline=None)
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


# --- recorded streams ------------------------------------------------------------------------------

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 5,
    "total_tokens": 25,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
SPENT = Usage(input=12, cache_read=8, output=3, reasoning=2)


def head(**fields: Any) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "real-2025", **fields}


def said(content: Any, index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    change = {**({} if content is None else {"content": content}), **delta}
    return head(choices=[{"index": index, "delta": change, "logprobs": None, "finish_reason": finish}])


def called(index: int, **function: str) -> dict[str, Any]:
    return said(None, tool_calls=[{"index": index, "function": function}])


def lines(*events: Any, end: str = "\n", done: bool = True) -> bytes:
    texts = [each if isinstance(each, str) else f"data: {json.dumps(each, ensure_ascii=False)}" for each in events]
    return "".join(f"{text}{end}{end}" for text in [*texts, *(["data: [DONE]"] if done else [])]).encode()


FORGED = 'text\n\ndata: [DONE]\n\ndata: {"usage":null}\r\r\u2028event: x\x85"error"'
NULLED = [each | {"usage": None} for each in (said("", role="assistant"), said("Héllo"), said(None, finish="stop"))]
STREAMS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "OpenAI": (lines(*NULLED, head(choices=[], usage=USAGE)), {}),
    "CRLF": (lines(*NULLED, head(choices=[], usage=USAGE), end="\r\n"), {}),
    "CR": (lines(*NULLED, head(choices=[], usage=USAGE), end="\r"), {}),
    "OpenRouter, with comments": (
        lines(
            ": OPENROUTER PROCESSING",
            said("a"),
            ": OPENROUTER PROCESSING",
            said("b", finish="stop"),
            head(choices=[], usage=USAGE),
        ),
        {},
    ),
    "DeepSeek, usage in the last chunk": (lines(said("a"), said("", finish="stop") | {"usage": USAGE}), {}),
    "Groq, usage in every chunk": (
        lines(*(said(c, finish=f) | {"usage": USAGE} for c, f in (("a", None), ("b", "stop")))),
        {},
    ),
    "forged frames": (lines(said(FORGED), said(None, finish="stop"), head(choices=[], usage=USAGE)), {}),
    "tool calls": (
        lines(
            called(0, name="get", arguments=""),
            called(0, arguments='{"a":'),
            called(0, arguments='"é"}'),
            called(1, name="x"),
        ).replace(b"data: [DONE]", b"")
        + lines(said(None, finish="tool_calls"), head(choices=[], usage=USAGE)),
        {},
    ),
    "two choices": (
        lines(
            said("a"),
            said("b", 1),
            said(None, finish="stop"),
            said(None, 1, finish="length"),
            head(choices=[], usage=USAGE),
        ),
        {"n": 2},
    ),
    "Azure, filters first": (
        lines(
            head(choices=[], prompt_filter_results=[{"x": 1}]), said("a", finish="stop"), head(choices=[], usage=USAGE)
        ),
        {},
    ),
    "pretty-printed in many data lines": (
        b'data: {"id": "chatcmpl-1",\ndata:  "choices": [\n'
        b'data: {"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n'
        + lines(head(choices=[], usage=USAGE)),
        {},
    ),
    "no end mark": (lines(said("a", finish="stop"), head(choices=[], usage=USAGE), done=False), {}),
    "no last blank line": (lines(said("a", finish="stop"), head(choices=[], usage=USAGE)).rstrip(), {}),
    "byte order mark": (b"\xef\xbb\xbf" + lines(said("a", finish="stop"), head(choices=[], usage=USAGE)), {}),
    "junk after the end": (lines(said("a", finish="stop") | {"usage": USAGE}) + b"data: junk\n\n" + b"x" * 5000, {}),
    "odd bytes kept": (
        b'data: {"id":"c","big":123456789012345678901234567890, "f":1.10,"model":"x","z":"\\u00e9\\/\\ud83d\\ude00",'
        b'"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":'
        + json.dumps(USAGE).encode()
        + b"}\n\n"
        b"data: [DONE]\n\n",
        {},
    ),
}
recorded = pytest.mark.parametrize(("data", "fields"), STREAMS.values(), ids=STREAMS.keys())


def reader(*, include_usage: bool = False, cap: int = 1000, event_bytes: int = 4096, n: int = 1) -> Stream:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    return DIALECT.stream(asked(stream=True, n=n, **options), target(), event_bytes=event_bytes, cap=cap)


def relayed(stream: Stream, *pieces: bytes) -> bytes:
    return b"".join([*(stream.feed(piece) for piece in pieces), stream.close()])


def events(data: bytes) -> list[Any]:
    """Events as a client reads them, by LF alone."""
    found: list[Any] = []
    for block in data.decode().split("\n\n")[:-1]:
        text = "\n".join(line[6:] for line in block.split("\n") if line.startswith("data: "))
        if text:
            found.append(text if text == "[DONE]" else json.loads(text))
    return found


def original(data: bytes) -> list[Any]:
    """What the upstream said, up to its end mark."""
    text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    found: list[Any] = []
    for block in text.split("\n\n"):
        joined = "\n".join(line[5:] for line in block.split("\n") if line.startswith("data:")).strip()
        if joined == "[DONE]":
            break
        if joined:
            found.append(json.loads(joined))
    return found


@recorded
def test_a_recorded_stream_reaches_the_client_with_its_model_and_without_usage(
    data: bytes, fields: dict[str, Any]
) -> None:
    stream = reader(**fields)
    *chunks, last = events(relayed(stream, data))
    expected = [
        {key: value for key, value in each.items() if key != "usage"} | {"model": "p/real/model"}
        for each in original(data)
        if each.get("choices") or not each.get("usage")
    ]
    assert (chunks, last) == (expected, "[DONE]")
    assert stream.seen.usage == SPENT
    assert stream.seen.finished
    assert stream.done
    assert not stream.cut


@recorded
def test_a_recorded_stream_reaches_a_client_that_asked_for_usage_with_it(data: bytes, fields: dict[str, Any]) -> None:
    stream = reader(include_usage=True, **fields)
    *chunks, last = events(relayed(stream, data))
    assert chunks == [each | {"model": "p/real/model"} for each in original(data)]
    assert last == "[DONE]"
    assert stream.seen.usage == SPENT


@recorded
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_recorded_stream_is_the_same_wherever_it_is_cut(
    data: bytes, fields: dict[str, Any], *, include_usage: bool
) -> None:
    whole = reader(include_usage=include_usage, **fields)
    expected = relayed(whole, data)
    for offset in range(min(len(data), 2500) + 1):
        stream = reader(include_usage=include_usage, **fields)
        assert relayed(stream, data[:offset], data[offset:]) == expected
        assert stream.seen == whole.seen
    single = reader(include_usage=include_usage, **fields)
    assert relayed(single, *(data[n : n + 1] for n in range(len(data)))) == expected


def test_nested_values_of_a_stream_pass_byte_for_byte() -> None:
    data = relayed(reader(), STREAMS["odd bytes kept"][0])
    assert data == (
        b'data: {"id":"c","big":123456789012345678901234567890,"f":1.10,"model":"p/real/model",'
        b'"z":"\\u00e9\\/\\ud83d\\ude00","choices":[{"index":0,"delta":{"content":"a"},'
        b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )


def test_comments_reach_the_client_as_comments() -> None:
    data = relayed(reader(), STREAMS["OpenRouter, with comments"][0])
    assert data.count(b": OPENROUTER PROCESSING\n\n") == 2


def failing(stream: Stream, pieces: list[bytes], kind: type[Exception]) -> bytes:
    """What the client had got when the stream failed."""
    got: list[bytes] = []
    with pytest.raises(kind) as caught:
        feed_all(stream, pieces, got)
    assert isinstance(caught.value, ProtocolError | StreamedError)
    return b"".join(got) + caught.value.before


def feed_all(stream: Stream, pieces: list[bytes], got: list[bytes]) -> None:
    got.extend(stream.feed(piece) for piece in pieces)
    got.append(stream.close())


ERROR = {"error": {"message": "boom", "code": 502}}
GOOD = lines(said("a") | {"usage": USAGE}, said("b"), done=False)
BROKEN: dict[str, tuple[bytes, type[Exception]]] = {
    "an error event": (GOOD + lines(ERROR, said("never")), StreamedError),
    "an error in a chunk": (GOOD + lines(said("", finish="error") | ERROR), StreamedError),
    "an error without its blank line": (GOOD + f"data: {json.dumps(ERROR)}".encode(), StreamedError),
    "cut off between events": (GOOD, ProtocolError),
    "cut off in an event": (GOOD + b'data: {"id":"c","cho', ProtocolError),
    "no JSON": (GOOD + b"data: <html>\n\n", ProtocolError),
    "an event too large": (GOOD + b"data: " + b"x" * 5000, ProtocolError),
    "an event too large in many lines": (GOOD + b"data: x\n" * 5000, ProtocolError),
}


@pytest.mark.parametrize(("data", "kind"), BROKEN.values(), ids=BROKEN.keys())
def test_a_stream_that_breaks_gives_what_came_before_wherever_it_is_cut(data: bytes, kind: type[Exception]) -> None:
    expected = events(relayed(reader(), GOOD + lines(said("", finish="stop"))))[:2]
    for offset in range(0, len(data) + 1, 1 if len(data) < 2000 else 97):
        stream = reader()
        got = events(failing(stream, [data[:offset], data[offset:]], kind))
        assert got == expected
        assert stream.seen.usage == SPENT
        assert not stream.done


def test_a_stream_of_two_choices_with_one_finished_has_broken_off() -> None:
    data = lines(said("a", finish="stop"), said("b", 1), done=False)
    assert len(events(failing(reader(n=2), [data], ProtocolError))) == 2


def test_a_stream_past_its_cap_is_cut_alike_wherever_it_is_cut() -> None:
    data = lines(*(said("x") for _ in range(80)))

    def outcome(*pieces: bytes) -> tuple[bytes, int]:
        stream = reader(cap=3)
        got = relayed(stream, *pieces)
        assert stream.cut
        assert stream.done
        return got, stream.seen.relayed_bytes

    expected = outcome(data)
    *chunks, last, done = events(expected[0])
    assert done == "[DONE]"
    assert len(chunks) < 80
    assert last["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    for offset in range(0, len(data), 61):
        assert outcome(data[:offset], data[offset:]) == expected


def test_the_head_of_an_event_of_our_own_comes_from_the_stream() -> None:
    stream = reader()
    stream.feed(GOOD)
    assert {key: bytes(value) for key, value in stream.stub().items()} == {
        "id": b'"chatcmpl-1"',
        "object": b'"chat.completion.chunk"',
        "created": b"1",
        "model": b'"p/real/model"',
    }


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.sampled_from(STREAMS["OpenAI"][0].split(b" ")) | st.binary(max_size=8), max_size=20))
def test_any_bytes_are_relayed_or_break_the_stream(pieces: list[bytes]) -> None:
    def outcome(cut: list[bytes]) -> tuple[bytes, str]:
        got: list[bytes] = []
        try:
            feed_all(reader(), cut, got)
        except (ProtocolError, StreamedError) as error:
            return b"".join(got) + error.before, type(error).__name__
        return b"".join(got), "done"

    assert outcome([b"".join(pieces)]) == outcome(pieces)


def test_a_json_answer_is_read_like_a_stream() -> None:
    answer = {"id": "c", "model": "x", "choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}
    data, seen = DIALECT.answer(json.dumps(answer | {"usage": USAGE}).encode(), asked(), target())
    assert json.loads(data) == answer | {"usage": USAGE, "model": "p/real/model"}
    assert seen.usage == SPENT
