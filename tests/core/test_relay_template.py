"""Events known by their bytes: what the client gets and what is counted is the same as if each had been read."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core.relay import ProtocolError, Relay, StreamedError
from hpp_middleware.core.settlement import End, Settlement
from hpp_middleware.core.sse import Event
from hpp_middleware.dialects.openai import OpenAI, Stream
from hpp_middleware.types.completion import Request, Seen, Target
from hpp_middleware.types.price import Price, Rates, Usage
from hpp_middleware.types.provider import Model, Provider

TARGET = Target(
    id="p/m",
    provider_name="p",
    model_name="m",
    provider=Provider(base_url="https://p.test"),
    model=Model(),
    price=Price(base=Rates(input=1, output=1)),
)


class Counting(Relay):
    """A relay that says which events it has read, and may know none by their bytes."""

    def __init__(self, request: Request, *, cap: int = 1000, charged: bool = False, knows: bool = True) -> None:
        super().__init__(request, TARGET, cap=cap, charge=charge if charged else None)
        self.knows = knows
        self.read: list[bytes | None] = []

    def feed(self, event: Event) -> bytes:
        self.read.append(event.data)
        return super().feed(event)

    def again(self, event: bytes) -> bytes | None:
        return super().again(event) if self.knows else None


def charge(end: End, seen: Seen) -> Settlement:
    usage = seen.usage or Usage(output=seen.relayed_bytes)
    return Settlement(len(end.name) + seen.texts, "completed", estimated=seen.usage is None, usage=usage)


def started(request: Request, most: int = 1 << 20, **relay: Any) -> tuple[Stream, Counting]:
    made = OpenAI().stream(request, TARGET, event_bytes=most, cap=1000)
    made.relay = counting = Counting(request, **relay)
    return made, counting


def asked(**fields: Any) -> Request:
    return Request(fields={}, model="p/m", stream=True, **fields)


def said(text: bytes, *, name: bytes = b"content", index: int = 0, finish: bytes = b"null", rest: bytes = b"") -> bytes:
    return (
        b'{"id":"c-1","object":"chat.completion.chunk","created":1,"model":"theirs","choices":[{"index":%d,"delta":{"%b":'
        b'"%b"},"logprobs":null,"finish_reason":%b}]%b}' % (index, name, text, finish, rest)
    )


def line(data: bytes) -> bytes:
    return b"data: %b\n\n" % data


PADDED = b',"usage":null,"obfuscation":"%b"'


@pytest.mark.parametrize(
    "events",
    [
        [said(b"Hello"), said(b" world"), said(b"")],
        [said(b"a", rest=b',"usage":null'), said(b"b", rest=b',"usage":null')],
        [said(b"a", rest=PADDED % b"xyz"), said(b"bc", rest=PADDED % b""), said(b"d", rest=PADDED % b"pq")],
        [said("é".encode()), said("日本".encode()), said(rb"\n\n\"quoted\" \u00e9 \ud83d\ude00"), said(b"plain")],
        [said(b"a", name=b"reasoning_content"), said(b"b", name=b"reasoning_content")],
        [
            b'{"id":"1","choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%b"}}]}}]}' % each
            for each in (rb"{\"a\":", rb"1", rb"}")
        ],
        [b'{ "choices": [ { "delta": { "content": "%b" } } ] }' % each for each in (b"a", b"bc")],
    ],
    ids=["text", "usage null", "padding", "escapes", "reasoning", "tool call", "spaced, without an id"],
)
def test_an_event_with_another_text_is_passed_on_unread(events: list[bytes]) -> None:
    fast, relay = started(asked())
    slow, _ = started(asked(), knows=False)
    for each in (b'{"choices":[]}', *events):
        assert fast.feed(line(each)) == slow.feed(line(each)) != b""
        assert fast.seen == slow.seen
        assert fast.relay.stub() == slow.relay.stub()
    assert relay.read == [b'{"choices":[]}', events[0]]


def test_choices_that_take_turns_are_each_known() -> None:
    fast, relay = started(asked(n=3))
    fast.feed(b"".join(line(said(b"text %d" % turn, index=index)) for turn in range(20) for index in range(3)))
    assert len(relay.read) == 3
    assert fast.seen.texts == 60


def test_an_event_that_came_in_two_pieces_or_with_other_line_ends_is_known() -> None:
    fast, relay = started(asked())
    fast.feed(line(said(b"one")))
    whole = line(said(b"two")) + b"data: " + said(b"three") + b"\r\n\r\n" + line(said(b"four"))
    assert fast.feed(whole[:30]) + fast.feed(whole[30:])
    assert fast.seen.texts == 4
    assert relay.read == [said(b"one")]


def test_events_that_are_never_alike_are_not_learned_from_for_ever() -> None:
    fast, relay = started(asked())
    for number in range(200):
        fast.feed(line(said(b"a", rest=b',"n":%d' % number)))
        relay.read.append(b"%d" % len(relay._templates))
    assert len(relay.read) == 400
    assert len(relay._templates) <= 2 * 1 + 2


ALIKE_AND_NOT = [
    said(b"b", finish=b'"stop"'),
    said(b"b", rest=b',"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}'),
    said(b'b","refusal":"no'),
    said(b'b"},"finish_reason":"stop","x":{"y":"'),
    said(b'b"},"logprobs":null,"finish_reason":"stop"}],"z":[{"x":{"content":"c'),
    said(b'b","content":""'),
    said(b"b", index=1),
    said(b"b", rest=b',"error":{"message":"no"}'),
    said(b"b\n"),
    said(b"b\r"),
    said(b"b\t"),
    said(b"\xff"),
    said(b"\xed\xa0\x80"),
    said(rb"\ud800"),
    said(rb"\x"),
    said(b"b\\"),
    said(b"b")[:-1],
    b'{"id":"c-1"}',
    b"[DONE]",
    b"[]",
    b"",
]


@pytest.mark.parametrize("event", ALIKE_AND_NOT, ids=[each.decode("latin-1")[-30:] for each in ALIKE_AND_NOT])
def test_what_is_more_than_another_text_is_read(event: bytes) -> None:
    after = [said(b"after"), b"[DONE]"]
    assert through([said(b"a"), event, *after]) == through([said(b"a"), event, *after], knows=False)


@pytest.mark.parametrize(
    "padding",
    [
        b'a","usage":{"prompt_tokens":7,"completion_tokens":2},"z":"b',
        b'a","error":{"message":"no"},"z":"b',
        b'a","choices":[],"z":"b',
        b'a"',
        b"\n",
        b"\xff",
        rb"\x",
    ],
)
def test_padding_that_is_more_than_padding_is_read(padding: bytes) -> None:
    events = [said(b"a", rest=PADDED % b"xyz"), said(b"b", rest=PADDED % padding), said(b"c", rest=PADDED % b"")]
    assert through(events) == through(events, knows=False)


@pytest.mark.parametrize("include_usage", [False, True])
def test_events_that_report_usage_are_each_read(include_usage: bool) -> None:  # noqa: FBT001  # a parameter
    usage = b',"usage":{"prompt_tokens":7,"completion_tokens":2}'
    events = [said(b"word", rest=usage)] * 5
    made, relay = started(asked(include_usage=include_usage))
    for each in events:
        made.feed(line(each))
        assert not made.seen.text_after_usage
    assert relay.read == events


def test_a_string_that_only_looks_like_the_text_is_no_template() -> None:
    event = b'{"x":{"content":"%b"},"choices":[{"delta":{"tool_calls":[{"function":{"name":"%b"}}]}}]}'
    events = [event % (each, b"n" * len("~template~text~")) for each in (b"a", b"bc", b"")]
    assert through(events) == through(events, knows=False)


def test_a_text_that_is_counted_with_another_one_is_no_template() -> None:
    both = b'{"choices":[{"delta":{"reasoning":"%b","content":"%b"}}]}'
    events = [both % (b"four", b"a"), both % (b"four", b"bcd"), both % (b"four", b"")]
    assert through(events) == through(events, knows=False)


def test_a_stream_past_its_cap_is_cut_at_the_same_event() -> None:
    events = [said(b"word")] * 200
    assert through(events, cap=10) == through(events, cap=10, knows=False)
    assert through(events, cap=10)[2]
    large = [said(b"w" * 500)] * 20
    assert through(large, cap=10) == through(large, cap=10, knows=False)
    assert through(large, cap=10)[2]


def test_an_event_larger_than_the_bound_is_refused_though_it_is_like_another() -> None:
    events = [said(b"word"), said(b"w" * 1000)]
    found = through(events, most=600)
    assert found == through(events, most=600, knows=False)
    assert found[1] == (ProtocolError, ("an event is too large",))


def through(events: list[bytes], **options: Any) -> tuple[Any, ...]:
    return fed([line(each) for each in events], **options)


def fed(pieces: list[bytes], request: Request | None = None, *, close: bool = False, **options: Any) -> tuple[Any, ...]:
    """What the client gets, what went wrong, and what was seen."""
    made, _ = started(request or asked(), **options)
    out = b""
    problem: tuple[Any, ...] | None = None
    try:
        for piece in pieces:
            out += made.feed(piece)
        if close:
            out += made.close()
    except (ProtocolError, StreamedError) as error:
        out += error.before
        problem = (type(error), error.args)
    return out, problem, made.cut, made.done, made.seen, made.relay.stub()


texts = st.sampled_from(
    [
        *(b"", b"a", b" hello", b"x" * 70, "é日\u2028😀".encode()),
        *(b"\xff", b"\n", b"\r", b"\x00", b"\x7f", b"\\", b'"', b"\n\n"),
        *(rb"\n", rb"\"", rb"\\", rb"\u00e9", rb"\ud83d\ude00", rb"\ud83d"),
        *(b'","refusal":"no', b'"}}],"choices":[{"delta":{"content":"', b"~template~text~"),
    ]
)
rests = st.sampled_from(
    [
        *(b"", b',"usage":null', b',"usage": {"prompt_tokens":7,"completion_tokens":2,"total_tokens":9,"cost":1}'),
        *(b',"error":null', b',"error":{"message":"no"}', b',"choices":[]', b',"id":"c-2"', b',"n":1'),
        *(b',"obfuscation":"abc"', b',"obfuscation":"d"', b',"obfuscation":"\xff"', PADDED % b"ef"),
    ]
)
names = st.sampled_from([b"content", b"reasoning_content", b"reasoning", b"refusal", b"role", b"x"])
finishes = st.sampled_from([b"null", b"null", b"null", b'"stop"'])
usual = st.builds(said, texts)
any_said = st.builds(said, texts, name=names, index=st.integers(0, 1), finish=finishes, rest=rests)
two_texts = st.builds(
    lambda a, b, name: b'{"id":"c-1","choices":[{"index":0,"delta":{"content":"%b","%b":"%b"}}]}' % (a, name, b),
    texts,
    texts,
    names,
)
calls = st.builds(
    lambda text, more: b'{"choices":[{"delta":{"tool_calls":[{"function":{%b"arguments":"%b"}}]}}]}' % (more, text),
    texts,
    st.sampled_from([b"", b'"name":"f",', b'"name":"",']),
)
data = usual | any_said | any_said | two_texts | calls | st.sampled_from(ALIKE_AND_NOT)
events = st.builds(
    lambda before, each, end: before + b"data: " + each + end,
    st.sampled_from([b""] * 12 + [b": comment\n", b"event: x\n", b"id: 1\n\n", b"\xef\xbb\xbf", b"\n"]),
    data,
    st.sampled_from([b"\n\n"] * 12 + [b"\r\n\r\n", b"\r\r", b"\r\n\n", b"\n\n\n", b"\n"]),
)


requests = st.builds(asked, include_usage=st.booleans(), n=st.sampled_from([1, 2]))
options = st.fixed_dictionaries(
    {"charged": st.booleans(), "cap": st.sampled_from([1000, 0]), "most": st.sampled_from([1 << 20, 300])}
)


@settings(max_examples=rounds(300, soak=1_500), deadline=None)
@given(st.lists(events, max_size=12), st.lists(st.integers(0, 2000), max_size=6), requests, options)
@example([line(said(b"a")), line(said(b"b")), b"data: [DONE]\n\n", line(said(b"c"))], [], asked(), {"charged": True})
def test_any_stream_cut_anywhere_is_the_same_as_if_each_event_had_been_read(
    sent: list[bytes], cuts: list[int], request: Request, options: dict[str, Any]
) -> None:
    whole = b"".join(sent)
    edges = sorted({0, len(whole), *(cut % (len(whole) + 1) for cut in cuts)})
    pieces = [whole[begin:end] for begin, end in pairwise(edges)]
    expected = fed([whole[at : at + 1] for at in range(len(whole))], request, close=True, knows=False, **options)
    assert fed(pieces, request, close=True, **options) == expected
    assert fed(sent, request, close=True, **options) == expected
    assert fed([whole], request, close=True, knows=False, **options) == expected
