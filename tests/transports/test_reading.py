"""The native client's reader, fed with everything: split anywhere, and hostile."""

import re
from collections.abc import Mapping
from itertools import pairwise

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from hpp_middleware.testing.transports.keeping import AMBIGUOUS
from hpp_middleware.testing.transports.reading import BROKEN, ENDED, REUSED
from hpp_middleware.transports.native.ordinary import Headers
from hpp_middleware.transports.native.reading import HEAD_BYTES, MOST_TAKEN, BrokenResponseError, Reading

Outcome = tuple[int, Mapping[str, str], bytes, bool, bool] | str

SAMPLES = [*REUSED.values(), *ENDED.values(), *BROKEN.values(), *AMBIGUOUS.values()]
SHORT = [sample for sample in SAMPLES if len(sample) < 1000]


def fed(data: bytes, cuts: list[int], *, ended: bool = True, make: type[Reading] = Reading) -> Outcome:
    """What comes of bytes that arrive in pieces."""
    reading = make()
    body = b""
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    try:
        for start, end in pairwise(places):
            reading.feed(data[start:end])
            body += reading.take()
        if ended:
            reading.end()
    except BrokenResponseError:
        return "broken"
    return reading.status, reading.headers, body, reading.complete, reading.reusable


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(st.sampled_from(SAMPLES), st.sampled_from([b"", *SAMPLES]), st.lists(st.integers(0, 20_000), max_size=12))
def test_where_the_bytes_are_cut_makes_no_difference(sample: bytes, rest: bytes, cuts: list[int]) -> None:
    assert fed(sample + rest, cuts) == fed(sample + rest, [])


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_is_the_same_byte_by_byte(sample: bytes) -> None:
    assert fed(sample, list(range(len(sample)))) == fed(sample, [])


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_is_ambiguous_is_broken(name: str) -> None:
    assert fed(AMBIGUOUS[name], []) == "broken"


@pytest.mark.parametrize("name", REUSED)
def test_what_follows_an_answer_unasked_keeps_its_connection_from_another(name: str) -> None:
    outcome = fed(REUSED[name] + b"\r\nHTTP/1.1 200 OK\r\n", [])
    assert outcome != "broken"
    assert outcome[-2:] == (True, False)


mutations = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255), st.sampled_from("xid")), max_size=6)


@settings(max_examples=rounds(400, soak=3_000), deadline=None)
@given(
    st.sampled_from([each for each in SAMPLES if len(each) < 1000]),
    mutations,
    st.lists(st.integers(0, 500), max_size=4),
)
def test_what_is_read_is_read_alike_by_another_parser_or_refused(
    sample: bytes, changes: list[tuple[int, int, str]], cuts: list[int]
) -> None:
    """h11, which is strict, is the judge: what we take for a whole answer to be followed by others, it reads alike."""
    data = bytearray(sample)
    for place, value, kind in changes:
        at = place % (len(data) + 1)
        data[at : at + (kind != "i")] = b"" if kind == "d" else bytes([value])
    outcome = fed(bytes(data), cuts, ended=False)
    if outcome == "broken" or not outcome[3] or not outcome[4]:
        return  # refused, or its connection carries nothing more
    judged = judge(bytes(data))
    assert judged is None or judged == (outcome[0], outcome[2])


class Parsed(Reading):
    """A reader that has every head parsed, the ordinary ones too."""

    _ordinary = re.compile(b"(?!)").match


ORDINARY = [
    sample
    for sample in (
        *SHORT,
        b"HTTP/1.1 200 OK\r\nServer: a: b\r\nContent-Type: application/json\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\nProxy-Connection: close\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + b"".join(b"X-%d: v\r\n" % n for n in range(199)) + b"\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + b"".join(b"X-%d: v\r\n" % n for n in range(200)) + b"\r\nhello",
    )
    if sample.startswith(b"HTTP/1.1 200 OK")
]
pieces_of_heads = [
    b" ",
    b"\t",
    b"\r\n",
    b"\n",
    b":",
    b"0",
    b",",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
]
insertions = st.lists(st.tuples(st.integers(0, 150), st.sampled_from(pieces_of_heads)), max_size=2)


@settings(max_examples=rounds(600, soak=5_000), deadline=None)
@given(st.sampled_from(ORDINARY), mutations, insertions)
def test_an_ordinary_head_is_read_as_the_parser_reads_it(
    sample: bytes, changes: list[tuple[int, int, str]], inserted: list[tuple[int, bytes]]
) -> None:
    data = bytearray(sample)
    for at, piece in inserted:
        data[at:at] = piece
    for place, value, kind in changes:
        at = place % (len(data) + 1)
        data[at : at + (kind != "i")] = b"" if kind == "d" else bytes([value])
    assert fed(bytes(data), []) == fed(bytes(data), [], make=Parsed)


def test_a_header_of_an_ordinary_head_is_found_by_its_whole_name() -> None:
    reading = Reading()
    reading.feed(b"HTTP/1.1 200 OK\r\nX-A: content-type: b\r\nContent-Length: 0\r\nX-C: 1\r\nx-c: 2\r\n\r\n")
    assert isinstance(reading.headers, Headers)
    for _ in range(2):  # before it was taken apart, and after
        assert [reading.headers.get(name) for name in ("date", "content-type", "x", "X-A")] == [None] * 4
        assert reading.headers.get("x-a") == "content-type: b"
        assert reading.headers.get("x-c") == "1, 2"
    assert reading.headers.get("age", "unknown") == "unknown"
    assert dict(reading.headers) == {"x-a": "content-type: b", "content-length": "0", "x-c": "1, 2"}
    assert "x-a" in reading.headers


def judge(data: bytes) -> tuple[int, bytes] | None:
    """Status and body as h11 reads them; None where it refuses them, which is no danger."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    status, body = 0, b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return -1, body  # not whole: the two differ
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=rounds(200, soak=500), deadline=None)
@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=4))
def test_noise_is_refused_or_read_and_nothing_else(noise: bytes, cuts: list[int]) -> None:
    fed(noise, cuts)
    fed(b"HTTP/1.1 200 OK\r\n" + noise, cuts)
    fed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + noise, cuts)


@pytest.mark.parametrize(
    "endless",
    [b"HTTP/1.1 200 OK\r\nX: " + b"v" * HEAD_BYTES * 2, b"HTTP/1.1 103 Early Hints\r\n\r\n" * 11, b"x" * 9],
)
def test_what_does_not_end_is_refused(endless: bytes) -> None:
    with pytest.raises(BrokenResponseError):
        Reading().feed(endless)


def test_a_body_is_passed_on_in_bounded_parts() -> None:
    body = bytes(range(256)) * 1_000
    reading = Reading()
    reading.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    parts = []
    while reading.pieces:
        parts.append(reading.take())
        assert reading.size == len(body) - sum(map(len, parts))
    assert (b"".join(parts), max(map(len, parts))) == (body, MOST_TAKEN)
    assert reading.complete
