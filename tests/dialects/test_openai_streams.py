"""OpenAI's dialect: recorded streams, cut at every offset."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core import parse, settlement
from hpp_middleware.core.relay import ProtocolError, StreamedError
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.dialects.openai import OpenAI, Stream
from hpp_middleware.types.completion import Request, Seen, Target
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


def charge(end: End, seen: Seen) -> Settlement:
    """By the settlement table."""
    return settlement.settle(end, seen, price=target().price, hold=10**9, prompt_estimate=7)


def reader(*, include_usage: bool = False, priced: bool = False, cap: int = 1000, n: int = 1) -> Stream:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    request = asked(stream=True, n=n, **options)
    return DIALECT.stream(request, target(), event_bytes=4096, cap=cap, charge=charge if priced else None)


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
@pytest.mark.parametrize("priced", [False, True])
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_recorded_stream_is_the_same_wherever_it_is_cut(
    data: bytes, fields: dict[str, Any], *, include_usage: bool, priced: bool
) -> None:
    fields = {**fields, "include_usage": include_usage, "priced": priced}
    whole = reader(**fields)
    expected = relayed(whole, data)
    for offset in range(min(len(data), 2500) + 1):
        stream = reader(**fields)
        assert relayed(stream, data[:offset], data[offset:]) == expected
        assert stream.seen == whole.seen
    single = reader(**fields)
    assert relayed(single, *(data[n : n + 1] for n in range(len(data)))) == expected


@recorded
@pytest.mark.parametrize("include_usage", [False, True])
def test_a_recorded_stream_says_in_its_last_event_what_it_cost(
    data: bytes, fields: dict[str, Any], *, include_usage: bool
) -> None:
    stream = reader(include_usage=include_usage, priced=True, **fields)
    *chunks, last, done = events(relayed(stream, data))
    assert done == "[DONE]"
    assert last["choices"] == []
    assert last["usage"] == USAGE | {"cost": 1e-09}  # 25 tokens of an atto-dollar each, rounded up once
    assert not any("cost" in (each.get("usage") or {}) for each in chunks)
    assert [each["choices"] for each in chunks if each["choices"]] == [
        each["choices"] for each in original(data) if each.get("choices")
    ]


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
    assert {key: bytes(value) for key, value in stream.relay.stub().items()} == {
        "id": b'"chatcmpl-1"',
        "object": b'"chat.completion.chunk"',
        "created": b"1",
        "model": b'"p/real/model"',
    }


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
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
