"""Server-sent events, framed alike wherever their bytes are cut."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.core.sse import DONE, Event, EventTooLarge, Framer, data_event

MOST = 1 << 20
SEPARATORS_OF_STR = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"
ODD = f'{{"text":"a{SEPARATORS_OF_STR}b"}}'.encode()

CORPUS: dict[str, tuple[bytes, list[Event]]] = {
    "empty": (b"", []),
    "lf": (b"data: 1\n\ndata: 2\n\n", [Event(b"1"), Event(b"2")]),
    "crlf": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [Event(b"1"), Event(b"2")]),
    "cr": (b"data: 1\r\rdata: 2\r\r", [Event(b"1"), Event(b"2")]),
    "mixed": (
        b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\ndata: 4\n\rdata: 5\r\n\r",
        [Event(b"%d" % n) for n in range(1, 6)],
    ),
    "crlf then lf": (b"data: 1\r\n\r\n\ndata: 2\r\n\r\n\r\n", [Event(b"1"), Event(b"2")]),
    "comment alone": (b": keep-alive\n\ndata: 1\n\n", [Event(None, b": keep-alive\n"), Event(b"1")]),
    "comment within": (b": hello\ndata: 1\n: there\n\n", [Event(b"1", b": hello\n: there\n")]),
    "event, id and retry": (
        b"event: message\nid: 7\nretry: 10\ndata: 1\n\n",
        [Event(b"1", b"event: message\nid: 7\nretry: 10\n")],
    ),
    "event alone": (b"event: ping\r\n\r\n", [Event(None, b"event: ping\n")]),
    "many data lines": (b"data: {\ndata:\ndata: }\n\n", [Event(b"{\n\n}")]),
    "many data lines, cr": (b"data: a\rdata: b\r\r", [Event(b"a\nb")]),
    "no space": (b"data:x\n\n", [Event(b"x")]),
    "two spaces": (b"data:  x \n\n", [Event(b" x ")]),
    "no colon": (b"data\n\ndata\ndata\n\n", [Event(b""), Event(b"\n")]),
    "empty data": (b"data:\n\ndata: \n\n", [Event(b""), Event(b"")]),
    "colon in data": (b"data: a: b\n\n", [Event(b"a: b")]),
    "other fields": (b"database: 1\nDATA: 2\n data: 3\n\n", [Event(None, b"database: 1\nDATA: 2\n data: 3\n")]),
    "bom": (b"\xef\xbb\xbfdata: 1\n\n", [Event(b"1")]),
    "bom alone": (b"\xef\xbb\xbf\ndata: 1\n\n", [Event(b"1")]),
    "bom later": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [Event(b"1"), Event(None, b"\xef\xbb\xbfdata: 2\n")]),
    "blank lines": (b"\n\n\r\n\r\rdata: 1\n\n\n\n", [Event(b"1")]),
    "unfinished": (b"data: 1\n\ndata: 2\n", [Event(b"1")]),
    "what str.splitlines would split": (b"data: " + ODD + b"\n\ndata: 2\r\n\r\n", [Event(ODD), Event(b"2")]),
    "no utf-8": (b"data: \xff\xfe\xc2\n\n", [Event(b"\xff\xfe\xc2")]),
    "nul": (b"data: \x00\n\n", [Event(b"\x00")]),
    "done": (b'data: {"a":1}\n\ndata: [DONE]\n\n', [Event(b'{"a":1}'), Event(b"[DONE]")]),
}
streams = pytest.mark.parametrize(("stream", "events"), CORPUS.values(), ids=CORPUS.keys())


def framed_by(framer: Framer, *pieces: bytes) -> list[Event]:
    return [event for piece in pieces for event in framer.feed(piece)]


def framed(*pieces: bytes) -> list[Event]:
    return framed_by(Framer(MOST), *pieces)


@streams
def test_a_stream_in_one_piece(stream: bytes, events: list[Event]) -> None:
    assert framed(stream) == events


@streams
def test_a_stream_cut_at_every_offset(stream: bytes, events: list[Event]) -> None:
    for offset in range(len(stream) + 1):
        assert framed(stream[:offset], stream[offset:]) == events
        assert framed(stream[:offset], b"", stream[offset:]) == events


@streams
def test_a_stream_cut_at_every_two_offsets(stream: bytes, events: list[Event]) -> None:
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert framed(stream[:first], stream[first:second], stream[second:]) == events


@streams
def test_a_stream_byte_by_byte(stream: bytes, events: list[Event]) -> None:
    assert framed(*(stream[n : n + 1] for n in range(len(stream)))) == events


@streams
def test_a_stream_that_goes_on_from_a_whole_event(stream: bytes, events: list[Event]) -> None:
    if stream.startswith(b"\xef\xbb\xbf"):
        events = framed(b"\n" + stream)  # it is no mark of the stream's beginning there
    for cut in range(len(stream) + 1):
        assert framed(b"data: 0\n\n", stream[:cut], stream[cut:]) == [Event(b"0"), *events]


@streams
def test_events_encoded_and_framed_again_are_the_same(stream: bytes, events: list[Event]) -> None:
    if events and all(b"\xef\xbb\xbf" not in event.other[:3] for event in events):
        assert framed(b"".join(event.encode() for event in events)) == events


def by_the_letter(stream: bytes) -> list[Event]:
    """What the specification says, on the whole stream at once."""
    events: list[Event] = []
    data: list[bytes] = []
    other: list[bytes] = []
    lines = re.split(b"\r\n|\r|\n", stream.removeprefix(b"\xef\xbb\xbf"))[:-1]
    for line in lines:
        if not line:
            if data or other:
                events.append(Event(b"\n".join(data) if data else None, b"".join(each + b"\n" for each in other)))
            data, other = [], []
        elif line == b"data" or line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        else:
            other.append(line)
    return events


pieces = st.lists(
    st.sampled_from(
        [b"data", b":", b" ", b"\r", b"\n", b"\r\n", b"x", b"{}", b"event", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"data: "]
    )
    | st.binary(max_size=3),
    max_size=30,
)


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(pieces)
@example([b"data: 1\r", b"\n", b"\r", b"\n"])
@example([b"\xef", b"\xbb", b"\xbfdata: 1\n\n"])
def test_any_bytes_in_any_pieces_are_framed_by_the_letter(chunks: list[bytes]) -> None:
    assert framed(*chunks) == by_the_letter(b"".join(chunks))


def test_an_event_up_to_the_bound_passes_and_one_byte_more_does_not() -> None:
    exact = b"data: " + b"x" * 94
    for end in (b"\n\n", b"\r\r", b"\r\n\r\n"):
        for cut in range(len(exact) + 3):
            framer = Framer(100)
            stream = exact + end
            assert framed_by(framer, stream[:cut], stream[cut:]) == [Event(b"x" * 94)]
            framer = Framer(99)
            with pytest.raises(EventTooLarge):
                framed_by(framer, stream[:cut], stream[cut:])


@pytest.mark.parametrize("line", [b"data: xxxx\n", b": comment\n", b"event: x\r\n", b"x"])
def test_an_event_without_an_end_is_refused_before_it_fills_the_memory(line: bytes) -> None:
    framer = Framer(1000)
    framed_by(framer, *[line] * (900 // len(line)))
    with pytest.raises(EventTooLarge):
        framed_by(framer, *[line] * (600 // len(line)))


def test_the_events_before_one_too_large_are_not_lost() -> None:
    with pytest.raises(EventTooLarge) as caught:
        Framer(10).feed(b"data: 1\n\ndata: 2\n\ndata: 3456789\n\ndata: 4\n\n")
    assert caught.value.events == [Event(b"1"), Event(b"2")]


def test_the_events_before_one_too_large_are_not_lost_in_a_stream_that_goes_on() -> None:
    framer = Framer(10)
    assert framer.feed(b"data: 0\n\n") == [Event(b"0")]
    with pytest.raises(EventTooLarge) as caught:
        framer.feed(b"data: 1\n\n: 2\n\ndata: 3456789\n\ndata: 4\n\n")
    assert caught.value.events == [Event(b"1"), Event(None, b": 2\n")]


def test_the_bound_is_on_each_event_and_not_on_the_stream() -> None:
    framer = Framer(10)
    assert sum(len(framer.feed(b"data: 1234\n\n")) for _ in range(1000)) == 1000


def test_what_waits_for_its_end_is_pending() -> None:
    framer = Framer(MOST)
    assert not framer.pending
    for piece, pending in (
        (b"da", True),
        (b"ta: 1\r", True),
        (b"\n", True),
        (b"\r", False),
        (b"\n", False),
        (b": x", True),
    ):
        framer.feed(piece)
        assert framer.pending is pending


def test_data_with_line_breaks_stays_one_event() -> None:
    assert data_event(b"a\nb\n") == b"data: a\ndata: b\ndata: \n\n"
    assert framed(data_event(b"a\nb\n")) == [Event(b"a\nb\n")]
    assert DONE == b"data: [DONE]\n\n"
