"""Streams of chunks as Anthropic's events: its grammar, its types and its SDK agree with them, however they are cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from messaging import ID, TARGET, accumulated, events, feed, reader, sse

from hpp_middleware.apis.messages.stream import Reader
from hpp_middleware.core import relay
from hpp_middleware.core.settlement import End as Ended
from hpp_middleware.core.settlement import Settlement
from hpp_middleware.dialects import translating
from hpp_middleware.dialects.translating import Begun, Delta, End, Finish, Piece, Reported
from hpp_middleware.errors import UpstreamError
from hpp_middleware.types.completion import Request, Seen
from hpp_middleware.types.price import Usage

USAGE = {
    "choices": [],
    "usage": {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 4},
    },
}


def call(index: int | None, *, id_: str | None = None, name: str | None = None, arguments: str | None = None) -> Any:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    piece = {"index": index, "id": id_, "function": function}
    return {"tool_calls": [{key: value for key, value in piece.items() if value is not None}]}


WHOLE = sse(
    {"role": "assistant", "content": ""},
    {"reasoning_content": "Hm"},
    {"reasoning_content": ", é"},
    {"content": "I "},
    {"content": "look."},
    call(0, id_="c1", name="weather", arguments=""),
    call(0, arguments='{"city": '),
    call(0, arguments='"Zürich"}'),
    call(1, id_="c2", name="weather", arguments="{}"),
    "tool_calls",
    USAGE,
)

EXPECTED = [
    {"type": "thinking", "thinking": "Hm, é", "signature": ""},
    {"type": "text", "text": "I look."},
    {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Zürich"}},
    {"type": "tool_use", "id": "c2", "name": "weather", "input": {}},
]


def content(data: bytes) -> list[Any]:
    return [block.model_dump(exclude_none=True) for block in accumulated(events(data)).content]


def test_a_stream_is_a_message_wherever_its_bytes_are_cut() -> None:
    whole = feed(reader(), WHOLE, size=1)
    assert content(whole) == EXPECTED
    start = whole.index(b"\n\n")  # whose usage is what was told until then
    for cut in range(len(WHOLE) + 1):
        made = reader()
        said = made.feed(WHOLE[:cut]) + made.feed(WHOLE[cut:])
        assert said[said.index(b"\n\n") :] == whole[start:], cut


def test_it_begins_with_an_empty_message_and_ends_with_the_usage() -> None:
    first, *_, last, _ = events(feed(reader(), WHOLE))
    assert first["message"]["id"] == f"msg_{ID[4:]}"
    assert (first["message"]["model"], first["message"]["content"]) == ("fake/m", [])
    assert first["message"]["stop_reason"] is None
    assert last["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert last["usage"] == {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 5,
    }
    usage = accumulated(events(feed(reader(), WHOLE))).usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (6, 4, 5)


def test_what_is_seen_is_what_the_provider_s_reader_has_seen() -> None:
    made = reader()
    feed(made, WHOLE)
    assert made.done
    assert not made.cut
    assert made.seen.usage == Usage(input=6, cache_read=4, output=5)
    assert made.seen.upstream_id == "chatcmpl-1"


def test_each_piece_is_told_as_it_comes() -> None:
    made = reader()
    made.feed(sse({"role": "assistant", "content": ""}, done=False))
    first = made.feed(sse({"content": "a"}, done=False))
    assert first.count(b"\n\n") == 2  # the block begins, and goes on
    assert made.feed(sse({"content": "b"}, done=False)).count(b"event: content_block_delta") == 1


@pytest.mark.parametrize(
    "pieces",
    [
        # interleaved
        [
            call(0, id_="a", name="f", arguments='{"x"'),
            call(1, id_="b", name="g", arguments='{"y"'),
            call(0, arguments=": 1}"),
            call(1, arguments=": 2}"),
        ],
        # heads first
        [
            call(0, id_="a", name="f"),
            call(1, id_="b", name="g"),
            call(0, arguments='{"x": 1}'),
            call(1, arguments='{"y": 2}'),
        ],
        # every one numbered 0, as Gemini's and Ollama's are
        [
            call(0, id_="a", name="f", arguments='{"x": 1}'),
            call(0, id_="b", name="g", arguments='{"y": 2}'),
        ],
        # none numbered
        [
            call(None, id_="a", name="f", arguments='{"x": '),
            call(None, arguments="1}"),
            call(None, id_="b", name="g", arguments='{"y": 2}'),
        ],
        # the id again with each piece
        [
            call(0, id_="a", name="f", arguments='{"x": '),
            call(0, id_="a", arguments="1}"),
            call(1, id_="b", name="g", arguments='{"y": 2}'),
        ],
        # the name after the id
        [
            call(0, id_="a"),
            call(0, name="f", arguments='{"x": 1}'),
            call(1, id_="b", name="g", arguments='{"y": 2}'),
        ],
        # both in one piece, arguments as an object
        [
            {
                "tool_calls": [
                    {"index": 0, "id": "a", "function": {"name": "f", "arguments": {"x": 1}}},
                    {"index": 1, "id": "b", "function": {"name": "g", "arguments": '{"y": 2}'}},
                ]
            }
        ],
    ],
    ids=["interleaved", "heads first", "all 0", "unnumbered", "ids repeated", "name later", "at once"],
)
def test_calls_are_blocks_one_after_the_other_however_they_come(pieces: list[Any]) -> None:
    assert content(feed(reader(), sse(*pieces, "tool_calls"))) == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
    ]


def test_text_within_a_call_waits_for_it() -> None:
    pieces = [
        call(0, id_="a", name="f", arguments='{"x"'),
        {"content": "so"},
        {"content": "!"},
        call(0, arguments=": 1}"),
    ]
    assert content(feed(reader(), sse(*pieces, "tool_calls"))) == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "text", "text": "so!"},
    ]


def test_a_call_without_an_id_is_given_one() -> None:
    (block,) = content(feed(reader(), sse(call(0, name="f", arguments="{}"), "tool_calls")))
    assert block["id"].startswith("toolu_")


def test_thoughts_are_proven_in_their_own_block() -> None:
    data = sse(
        {"reasoning": "Hm", "reasoning_details": [{"type": "reasoning.text", "text": "Hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "", "signature": "sig"}]},
        {"reasoning": "And"},
        {"reasoning_details": [{"type": "reasoning.encrypted", "data": "xyz"}]},
        {"content": "Yes"},
        "stop",
    )
    assert content(feed(reader(), data)) == [
        {"type": "thinking", "thinking": "Hm", "signature": "sig"},
        {"type": "thinking", "thinking": "And", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "Yes"},
    ]


def test_a_thought_that_its_proof_repeats_is_told_once() -> None:
    data = sse(
        {"reasoning_content": "H"},
        {"reasoning_content": "m"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "sig"}]},
        {"content": "Yes"},
        "stop",
    )
    assert content(feed(reader(), data))[0] == {"type": "thinking", "thinking": "Hm", "signature": "sig"}


def test_a_signature_that_comes_alone_has_a_block() -> None:
    data = sse({"reasoning_details": [{"type": "reasoning.text", "signature": "sig"}]}, {"content": "Yes"}, "stop")
    assert content(feed(reader(), data))[0] == {"type": "thinking", "thinking": "", "signature": "sig"}


def test_a_refusal_is_text_and_the_reason() -> None:
    *_, last, _ = events(feed(reader(), sse({"refusal": "No."}, "stop")))
    assert last["delta"]["stop_reason"] == "refusal"


@pytest.mark.parametrize(
    ("reason", "expected"), [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal")]
)
def test_why_it_stopped(reason: str, expected: str) -> None:
    *_, last, _ = events(feed(reader(), sse({"content": "x"}, reason)))
    assert last["delta"]["stop_reason"] == expected


def test_an_answer_of_nothing_is_a_message_without_blocks() -> None:
    assert content(feed(reader(), sse("stop"))) == []
    assert content(feed(reader(), b"data: [DONE]\n\n")) == []


def test_comments_keep_the_connection_as_pings() -> None:
    data = feed(reader(), b": OPENROUTER PROCESSING\n\n" + WHOLE)
    assert data.startswith(b'event: ping\ndata: {"type":"ping"}\n\nevent: message_start\n')
    assert content(data) == EXPECTED


def test_a_stream_that_ends_after_its_finish_is_whole() -> None:
    made = reader()
    said = made.feed(sse({"content": "x"}, "stop", done=False)) + made.close()
    assert content(said) == [{"type": "text", "text": "x"}]
    assert made.done


def test_one_that_breaks_off_is_told_up_to_there_and_then_the_error() -> None:
    made = reader()
    said = made.feed(sse({"content": "x"}, done=False))
    with pytest.raises(relay.ProtocolError):
        made.close()
    error = UpstreamError("The connection to the provider broke.", provider="fake", upstream_status=200)
    last = made.failed(error)
    assert b"message_stop" not in said + last
    name, _, data = last.decode().partition("\n")
    assert name == "event: error"
    body = json.loads(data.removeprefix("data: "))
    assert (body["type"], body["error"]["type"], body["request_id"]) == ("error", "api_error", ID)
    assert last.endswith(b"\n\n")


def test_what_came_before_a_fault_is_told() -> None:
    made = reader()
    with pytest.raises(relay.StreamedError) as raised:
        made.feed(sse({"content": "x"}, {"error": {"message": "no"}}, done=False))
    assert b'"text":"x"' in raised.value.before
    made = reader()
    with pytest.raises(relay.ProtocolError) as broken:
        made.feed(sse({"content": "x"}, {"content": 5}, done=False))
    assert b'"text":"x"' in broken.value.before


def test_the_last_error_says_what_it_cost() -> None:
    made = reader()
    made.feed(sse({"content": "x"}, done=False))
    error = UpstreamError("It broke.", provider="fake")
    usage: Any = b'{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,"cost":0.5,"estimated":true}'
    body = json.loads(made.failed(error, usage).split(b"data: ")[1])
    assert (body["usage"]["input_tokens"], body["usage"]["output_tokens"]) == (3, 1)
    assert (body["usage"]["cost"], body["usage"]["estimated"]) == (0.5, True)


def test_a_stream_past_its_cap_is_cut_and_says_so() -> None:
    made = reader(cap=1)
    data = feed(made, sse(*({"content": "xx"} for _ in range(100)), done=False), size=100)
    *_, last, _ = events(data)
    assert made.cut
    assert last["delta"]["stop_reason"] == "max_tokens"


def test_the_cost_is_told_with_the_usage() -> None:
    def charge(_end: Ended, seen: Seen) -> Settlement:
        return Settlement(1500, "completed", estimated=False, usage=seen.usage or Usage())

    *_, last, _ = events(feed(reader(charge=charge), WHOLE))
    assert last["usage"]["cost"] == 0.0000015
    assert last["usage"]["input_tokens"] == 6


class Scripted:
    """A translation that says a piece for each byte."""

    def __init__(self, *pieces: Piece) -> None:
        self._pieces = list(pieces)

    def feed(self, chunk: bytes) -> list[Piece]:
        found, self._pieces = self._pieces[: len(chunk)], self._pieces[len(chunk) :]
        return found

    def close(self) -> list[Piece]:
        return []


def test_a_translated_stream_is_told_too_with_all_its_buckets() -> None:
    usage = Usage(input=3, cache_write=1, cache_write_1h=2, output=5)
    script = Scripted(
        Begun("msg_01up"),
        Reported(usage, b"{}"),  # type: ignore[arg-type]  # bytes will do for Raw
        Delta({"reasoning_content": "Hm"}),
        Delta({"content": "Hi"}),
        Finish("stop", native="stop_sequence"),
        End(),
    )
    request = Request(fields={}, model="fake/m", stream=True, include_usage=True)
    inner = translating.Reader(script, request, TARGET, cap=1000, request_id=ID)
    found = events(feed(Reader(inner, TARGET, ID), b"x" * 6, size=1))
    first, *_, last, _ = found
    assert first["message"]["id"] == "msg_01up"
    assert first["message"]["usage"]["input_tokens"] == 3
    assert last["delta"]["stop_reason"] == "stop_sequence"
    assert last["usage"]["cache_creation"] == {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}


# --- any answer, in any pieces ----------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
VALUES = st.dictionaries(TEXTS, TEXTS | st.integers(-5, 5) | st.none(), max_size=2)


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_any_answer_comes_out_as_it_went_in(data: st.DataObject) -> None:
    thought, text = data.draw(st.none() | TEXTS), data.draw(st.none() | TEXTS)
    inputs = data.draw(st.lists(VALUES, max_size=3))
    pieces: list[Any] = [{"reasoning_content": piece} for piece in thought or ""]
    pieces += [{"content": piece} for piece in text or ""]
    queues = []
    for number, value in enumerate(inputs):
        arguments = json.dumps(value)
        cut = data.draw(st.integers(0, len(arguments)))
        head = call(number, id_=f"c{number}", name="f", arguments=arguments[:cut])
        queues.append([head, call(number, arguments=arguments[cut:])])
    heads: list[Any] = []
    while any(queues):  # heads in order, the rest in any
        ready = [queue for queue in queues if queue and (len(queue) == 1 or len(heads) == queues.index(queue))]
        queue = data.draw(st.sampled_from(ready))
        if len(queue) == 2:
            heads.append(queue)
        pieces.append(queue.pop(0))
    stream = sse({"role": "assistant", "content": ""}, *pieces, "tool_calls" if inputs else "stop", USAGE)
    size = data.draw(st.integers(1, 200))
    expected: list[Any] = []
    if thought:
        expected.append({"type": "thinking", "thinking": thought, "signature": ""})
    if text:
        expected.append({"type": "text", "text": text})
    expected += [{"type": "tool_use", "id": f"c{n}", "name": "f", "input": value} for n, value in enumerate(inputs)]
    found = events(feed(reader(), stream, size=size))
    assert [
        block.model_dump(exclude_none=False, include=set(want))
        for block, want in zip(accumulated(found).content, expected, strict=True)
    ] == expected
