"""The fake upstream fails as scripted, at the very byte."""

import json
from collections.abc import AsyncGenerator

import anyio
import httpx2
import pytest
from faked import ASK, STREAM, Body, broken, client_of, events, nameless, post

from hpp_middleware.testing import USAGE, FakeUpstream, Script

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(fake_upstream: FakeUpstream) -> AsyncGenerator[httpx2.AsyncClient]:
    async with client_of(fake_upstream) as found:
        yield found


async def test_an_error_has_openais_shape_or_the_scripts(
    client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    own = {"error": "odd"}
    fake_upstream.next(Script(status=429, headers=[("Retry-After", "7")]), Script(status=500, error=own))
    first, second = await post(client, STREAM), await post(client)
    assert (first.status_code, first.headers["retry-after"]) == (429, "7")
    assert set(first.json()["error"]) == {"message", "type", "param", "code"}
    assert (second.status_code, second.json()) == (500, own)
    assert [exchange.status for exchange in fake_upstream.log] == [429, 500]


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_a_body_has_none(
    status: int, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(Script(status=status), Script(status=status))
    for body in (ASK, STREAM):
        response = await post(client, body)
        assert (response.status_code, response.content) == (status, b"")
    assert (await post(client)).status_code == 200


async def test_an_error_event_ends_a_stream(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(error_event={"error": {"message": "overloaded"}})
    *_, last = events((await post(client, STREAM)).content)
    assert last == {"error": {"message": "overloaded"}}


async def test_done_can_be_left_out(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(omit_done=True)
    *_, last = events((await post(client, STREAM)).content)
    assert last["usage"] == USAGE
    assert fake_upstream.log[0].finished


@pytest.mark.parametrize("count", range(7))
async def test_a_stream_is_cut_after_an_event(
    count: int, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(truncate_after_events=count)
    read, _ = await broken(client)
    assert read.count(b"\n\n") == count
    (exchange,) = fake_upstream.log
    assert (exchange.bytes_sent, exchange.finished, exchange.closed_early) == (len(read), False, False)


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_is_cut_at_a_byte(body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    whole = (await post(client, body)).content.replace(b"fake-1", b"fake-0")
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        fake_upstream.script = Script(truncate_at_byte=cut)
        read, _ = await broken(client, {**body, "model": "fake-0"})
        assert len(read) == cut
        assert not fake_upstream.log[-1].finished


async def test_a_cut_beyond_the_end_cuts_nothing(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(truncate_at_byte=10**6, truncate_after_events=100)
    assert (await post(client, STREAM)).content.endswith(b"data: [DONE]\n\n")
    assert fake_upstream.log[0].finished


async def test_a_connection_can_be_reset(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(truncate_after_events=2), Script(truncate_after_events=2, reset=True))
    _, orderly = await broken(client)
    read, reset = await broken(client)
    assert read.count(b"\n\n") == 2
    assert isinstance(orderly, httpx2.RemoteProtocolError)  # told of the end, before its time
    assert isinstance(reset, httpx2.ReadError)  # the socket itself failed


@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_can_be_closed_before_the_head(
    reset: bool,  # noqa: FBT001 - a parameter of the test
    client: httpx2.AsyncClient,
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(close_before_head=True, reset=reset)
    with pytest.raises(httpx2.TransportError):
        await post(client)
    (exchange,) = fake_upstream.log
    assert (exchange.status, exchange.bytes_sent, exchange.closed_early) == (None, 0, False)
    assert exchange.json() == ASK


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_cut_into_pieces_is_the_same_body(
    size: int, body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    whole = (await post(client, body)).content
    fake_upstream.script = Script(chunk_size=size)
    again = (await post(client, body)).content
    first, second = fake_upstream.log
    assert nameless(again) == nameless(whole)
    assert (second.bytes_sent, second.usage) == (first.bytes_sent, USAGE)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_body_can_be_compressed(
    encoding: str, body: Body, client: httpx2.AsyncClient, fake_upstream: FakeUpstream
) -> None:
    whole = (await post(client, body)).content
    fake_upstream.script = Script(content_encoding=encoding)
    response = await post(client, body)
    assert response.headers["content-encoding"] == encoding
    assert nameless(response.content) == nameless(whole)
    assert fake_upstream.log[1].bytes_sent != len(whole)


async def test_an_encoding_can_be_claimed(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(content_encoding="zstd-of-sorts")
    async with client.stream("POST", "/chat/completions", json=ASK) as response:
        raw = b"".join([piece async for piece in response.aiter_raw()])
    assert response.headers["content-encoding"] == "zstd-of-sorts"
    assert json.loads(raw)["object"] == "chat.completion"


async def test_a_raw_body_goes_out_as_it_is(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_body=b"<html>", content_type="text/html", status=200)
    for path in ("/chat/completions", "/anything"):
        response = await client.post(path, content=b"no JSON")
        assert (response.status_code, response.content) == (200, b"<html>")
        assert response.headers["content-type"] == "text/html"


async def test_lines_can_end_otherwise(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(newline="\r\n")
    text = (await post(client, STREAM)).content
    assert text.count(b"\r\n\r\n") == text.count(b"\n") / 2 == 6


async def raw(upstream: FakeUpstream, body: Body | bytes = ASK) -> tuple[bytes, bool]:
    """What comes over a connection until it ends, and whether that was in order."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    port = int(upstream.url.removesuffix("/v1").rpartition(":")[2])
    read = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
        try:
            await stream.send(head.encode() + sent)
            while True:
                read += await stream.receive()
        except anyio.EndOfStream:
            return read, True
        except anyio.BrokenResourceError:
            return read, False


async def test_a_head_can_be_cut(fake_upstream: FakeUpstream) -> None:
    for reset in (False, True):
        fake_upstream.next(Script(truncate_head_at=12, reset=reset))
        assert await raw(fake_upstream) == (b"HTTP/1.1 200", not reset)
    assert [(exchange.status, exchange.finished) for exchange in fake_upstream.log] == [(None, False)] * 2


async def test_a_head_can_be_anything(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_head=b"SPAM/0.9 ", raw_body=b"and eggs")
    assert await raw(fake_upstream) == (b"SPAM/0.9 and eggs", True)
    assert fake_upstream.log[0].finished


async def test_interim_responses_come_first(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(interim=3, truncate_at_byte=0)
    read, _ = await raw(fake_upstream)
    assert read.count(b"HTTP/1.1 103") == 3
    assert read.index(b"HTTP/1.1 200") > read.rindex(b"HTTP/1.1 103")


async def test_a_body_is_cut_within_a_character(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(texts=("Gr\u00fc\u00dfe",), truncate_within="\u00fc".encode())
    for body in (ASK, STREAM):
        read, _ = await broken(client, body)
        assert read.endswith(b"Gr\xc3")


async def test_what_is_broken_off_can_stand_open(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    for script in (
        Script(close_before_head=True, stall=True),
        Script(truncate_head_at=5, stall=True),
        Script(truncate_after_events=2, stall=True),
        Script(truncate_at_byte=20, stall=True),
    ):
        fake_upstream.next(script)
        with anyio.move_on_after(0.2) as waited:
            await raw(fake_upstream, STREAM)
        assert waited.cancelled_caught
        await fake_upstream.idle()
        assert fake_upstream.log[-1].closed_early


async def test_events_can_be_put_between_the_others(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    own = b'data: {"own":1}\n\n'
    fake_upstream.script = Script(inserted={0: own, 2: own, 6: own})
    text = (await post(client, STREAM)).content
    assert [b"own" in event for event in text.removesuffix(b"\n\n").split(b"\n\n")] == [
        *(True, False, False, True, False, False, False, False, True)
    ]


async def test_a_raw_body_can_be_events_of_its_own(client: httpx2.AsyncClient, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_events=(b"one", b"two", b"three"), truncate_after_events=2)
    read, _ = await broken(client)
    assert read == b"onetwo"


async def test_bytes_that_nobody_asked_for_follow_a_response(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(trailing=b"and more", headers=[("Connection", "close")])
    read, _ = await raw(fake_upstream)
    assert read.endswith(b"}and more")


async def test_an_answer_can_come_before_the_request_is_whole(fake_upstream: FakeUpstream) -> None:
    large = json.dumps({**ASK, "padding": "x" * 20_000_000}).encode()
    fake_upstream.script = Script(answer_after=1000, raw_body=b"early", headers=[("Connection", "close")])
    read, _ = await raw(fake_upstream, large)
    assert read == b"" or read.endswith(b"early")  # the rest, unread, resets the connection
    assert 1000 <= len(fake_upstream.log[0].body) < len(large)
    assert fake_upstream.log[0].status == 200


def test_a_script_that_cannot_be_carried_out_is_refused() -> None:
    with pytest.raises(ValueError, match="endless"):
        Script(endless=True, texts=("",))
    with pytest.raises(ValueError, match="chunk_size"):
        Script(chunk_size=0)
