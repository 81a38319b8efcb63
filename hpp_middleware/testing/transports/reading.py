"""What a transport promises of answers: every way to frame a body, and what becomes of the connection."""

import anyio

from hpp_middleware.testing.transports.bench import (
    HELLO,
    MakeTransport,
    Peer,
    Serve,
    TransportPromise,
    always,
    ask,
    pool,
    refused,
    server,
    whole,
)

__all__ = ["PROMISES"]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

REUSED = {
    "a length": HELLO,
    "a length of nothing": OK + b"Content-Length: 0\r\n\r\n",
    "chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunks with extensions": CHUNKED + b'3;a=b\r\nhel\r\n002;c="d"\r\nlo\r\n0\r\n\r\n',
    "chunks and trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "an interim response": b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + b"HTTP/1.1 102 Processing\r\n\r\n" + HELLO,
    "a status without words": b"HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello",
    "many headers": OK + b"".join(b"X-%d: %s\r\n" % (each, b"v" * 100) for each in range(80)) + HELLO[17:],
    "a long header": OK + b"X-Long: " + b"v" * 16_000 + b"\r\n" + HELLO[17:],
}
"""Answers after which the connection can carry another one."""

ENDED = {
    "nothing but the end": OK + b"\r\nhello",
    "a connection to be closed": OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello",
    "chunks of a connection to be closed": OK + b"Connection: close\r\n" + CHUNKED[17:] + b"5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
}
"""Answers that end their connection."""

BROKEN = {
    "nothing": b"",
    "half a head": OK + b"Content-Le",
    "less than its length": OK + b"Content-Length: 6\r\n\r\nhello",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no end of the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n",
    "an interim response alone": b"HTTP/1.1 100 Continue\r\n\r\n",
}
"""Answers that break off when the connection ends."""


def _expected(answer: bytes) -> bytes:
    return b"" if b"204" in answer or b"Length: 0" in answer else b"hello"


async def an_answer_ends_where_its_framing_says(make: MakeTransport) -> None:
    for name, answer in REUSED.items():
        await _is_read(make, name, answer, [answer])


async def an_answer_may_come_byte_by_byte(make: MakeTransport) -> None:
    for name, answer in REUSED.items():
        if len(answer) < 1000:
            await _is_read(make, name, answer, [answer[at : at + 1] for at in range(len(answer))])


async def _is_read(make: MakeTransport, name: str, answer: bytes, pieces: list[bytes]) -> None:
    async with server(always(*pieces)) as found, pool(make) as transport:
        for _ in range(3):
            _, body = await whole(transport, found.url)
            assert body == _expected(answer), f"an answer with {name} is read, in {len(pieces)} pieces"
        assert found.connections == 1, f"the connection is used again after an answer with {name}"


async def an_answer_may_end_its_connection(make: MakeTransport) -> None:
    for name, answer in ENDED.items():
        async with server(_once(answer)) as found, pool(make, connections=1) as transport:
            for _ in range(3):
                assert await whole(transport, found.url) == (200, b"hello"), f"an answer with {name} is read"
            assert found.connections == 3, f"no connection is used again after an answer with {name}"


async def a_connection_is_left_that_says_it_will_close(make: MakeTransport) -> None:
    for name, answer in ENDED.items():
        if b"Length" in answer or b"chunked" in answer:
            async with server(always(answer)) as found, pool(make, connections=1) as transport:
                for _ in range(3):
                    assert await whole(transport, found.url) == (200, b"hello"), f"an answer with {name} is read"
                assert found.connections == 3, f"no connection is used again after an answer with {name}"


async def an_answer_that_breaks_off_is_an_error(make: MakeTransport) -> None:
    for name, answer in BROKEN.items():
        async with server(_once(answer)) as found, pool(make, connections=1) as transport:
            for _ in range(2):
                error = await refused(transport, found.url, promise=f"an answer with {name} is an error")
                assert (error.status, error.unsent) == (502, False), "what breaks off may have cost money"


async def a_reset_is_an_error(make: MakeTransport) -> None:
    for answer in (b"", OK + b"Content-Length: 9\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n"):
        async with server(_reset(answer)) as found, pool(make, connections=1) as transport:
            for _ in range(2):
                error = await refused(transport, found.url, promise="a reset is an error")
                assert (error.status, error.unsent) == (502, False), "what breaks off may have cost money"


async def pieces_come_as_they_are_sent(make: MakeTransport) -> None:
    read = anyio.Semaphore(0)

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(3):
            await peer.send(b"5\r\nhello\r\n")
            await read.acquire()
        await peer.send(b"0\r\n\r\n")

    async with server(serve) as found, pool(make) as transport:
        response = await ask(transport, found.url)
        for _ in range(3):
            assert await response.read() == b"hello", "a piece is given when it has come, not when the next has"
            read.release()
        assert await response.read() == b"", "the end is told"
        assert await response.read() == b"", "as often as it is asked"
        await response.aclose()
        await response.aclose()


async def an_answer_may_come_before_the_request_is_whole(make: MakeTransport) -> None:
    async def serve(peer: Peer) -> None:
        if await peer.head() is not None:
            await peer.send(b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
            await peer.gone()

    async with server(serve) as found, pool(make, connections=1) as transport:
        for _ in range(3):
            assert await whole(transport, found.url, b"x" * 4_000_000) == (413, b"large"), "an early answer is read"


async def headers_are_found_by_their_names_in_lower_case(make: MakeTransport) -> None:
    answer = OK + b"CoNTent-Type:  text/event-stream \r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
    async with server(always(answer)) as found, pool(make) as transport:
        response = await ask(transport, found.url)
        assert response.headers["content-type"] == "text/event-stream", "headers are found by names in lower case"
        assert response.headers.get("retry-after") == "3", "headers are found by names in lower case"
        assert response.headers.get("x-none") is None, "and those that are not there are not found"
        await response.aclose()


async def nothing_is_followed_kept_or_decoded(make: MakeTransport) -> None:
    answer = (
        b"HTTP/1.1 307 Elsewhere\r\nLocation: /elsewhere\r\nSet-Cookie: a=b; Path=/\r\nContent-Encoding: gzip\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    async with server(always(answer)) as found, pool(make) as transport:
        for _ in range(2):
            assert await whole(transport, found.url) == (307, b"hello"), (
                "redirects are not followed, nor bodies decoded"
            )
        assert len(found.log) == 2, "redirects are not followed"
        assert all("cookie" not in dict(request.headers) for request in found.log), "cookies are not kept"


def _once(answer: bytes) -> Serve:
    async def serve(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(answer)

    return serve


def _reset(answer: bytes) -> Serve:
    async def serve(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(answer)
            await anyio.sleep(0.02)
            peer.reset()

    return serve


PROMISES: tuple[TransportPromise, ...] = (
    an_answer_ends_where_its_framing_says,
    an_answer_may_come_byte_by_byte,
    an_answer_may_end_its_connection,
    a_connection_is_left_that_says_it_will_close,
    an_answer_that_breaks_off_is_an_error,
    a_reset_is_an_error,
    pieces_come_as_they_are_sent,
    an_answer_may_come_before_the_request_is_whole,
    headers_are_found_by_their_names_in_lower_case,
    nothing_is_followed_kept_or_decoded,
)
