"""Bytes in, bytes out: events one by one, whatever goes wrong among them."""

import pytest

from hpp_middleware.core import relay, sse
from hpp_middleware.core.feeding import Count, fed, size


def loud(event: sse.Event) -> bytes:
    data = event.data or b""
    if data == b"fault":
        raise relay.ProtocolError("x")
    if data == b"error":
        raise relay.StreamedError(b"x")
    if data == b"odd":
        raise KeyError("x")
    return data.upper() + b";"


def read(data: bytes, *, most: int = 100, last: bytes = b"") -> bytes:
    ended: list[bool] = []

    def one(event: sse.Event) -> bytes:
        ended.extend([True] if last and event.data == last else [])
        return loud(event)

    return fed(sse.Framer(most), data, one, done=lambda: bool(ended))


def test_each_event_is_asked_for_up_to_the_last_one() -> None:
    assert read(b"data: a\n\ndata: b\n\ndata: c") == b"A;B;"
    assert read(b"data: a\n\ndata: b\n\ndata: fault\n\n", last=b"b") == b"A;B;"
    assert read(b"") == b""


@pytest.mark.parametrize(
    ("bad", "kind"), [(b"fault", relay.ProtocolError), (b"error", relay.StreamedError), (b"odd", relay.ProtocolError)]
)
def test_what_comes_before_a_fault_is_the_client_s(bad: bytes, kind: type[relay.ProtocolError]) -> None:
    with pytest.raises(kind) as raised:
        read(b"data: a\n\ndata: %b\n\ndata: c\n\n" % bad)
    assert raised.value.before == b"A;"


def test_an_event_that_is_too_large_is_a_fault_unless_the_last_one_has_come() -> None:
    data = b"data: a\n\ndata: " + b"x" * 200
    with pytest.raises(relay.ProtocolError) as raised:
        read(data)
    assert raised.value.before == b"A;"
    assert read(data, last=b"a") == b"A;"


def test_text_is_counted_in_bytes_and_pieces_up_to_what_was_held_for() -> None:
    count = Count(10)
    for piece in ("ab", "", "é"):
        count.add(size(piece))
    assert (count.bytes, count.texts, count.past) == (4, 2, False)


@pytest.mark.parametrize(
    ("pieces", "past"),
    [
        ([1] * (10 + relay.SLACK_CHUNKS), False),
        ([1] * (11 + relay.SLACK_CHUNKS), True),
        ([10 * relay.BYTES_A_TOKEN + relay.SLACK_BYTES], False),
        ([10 * relay.BYTES_A_TOKEN + relay.SLACK_BYTES, 1], True),
    ],
)
def test_a_stream_is_past_its_cap_by_pieces_or_by_bytes(pieces: list[int], *, past: bool) -> None:
    count = Count(10)
    for piece in pieces:
        count.add(piece)
    assert count.past is past
