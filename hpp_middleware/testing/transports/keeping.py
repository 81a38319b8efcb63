"""What a transport promises of its connections: none carries what is not its own, and none is lost."""

import random

import anyio

from hpp_middleware.errors import UpstreamError
from hpp_middleware.ports import Transport
from hpp_middleware.testing.transports.bench import (
    HELLO,
    MakeTransport,
    Peer,
    Server,
    TransportPromise,
    ask,
    patience,
    pool,
    refused,
    server,
    whole,
)

__all__ = ["PROMISES"]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
FOREIGN = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nforeign"

AMBIGUOUS = {
    "a length and chunks": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 0\r\n\r\nhello",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\nhello",
    "a length in hex": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "a length beyond all measure": OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
    "chunks in another coding": OK + b"Transfer-Encoding: xchunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunks that are not the last coding": OK + b"Transfer-Encoding: chunked, identity\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size beyond all measure": CHUNKED + b"F" * 20 + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": CHUNKED + b"4\r\nhello\r\n0\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a header without a colon": OK + b"Content-Length 5\r\n\r\nhello",
    "a zero byte": OK + b"X-A: \0\r\nContent-Length: 5\r\n\r\nhello",
    "another protocol": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "no protocol": b"hello\r\n\r\n",
}
"""Answers that two readers could understand differently."""

ENDLESS = {
    "a header": (OK + b"X-A: ", b"v" * 10_000),
    "headers": (OK, b"X-A: " + b"v" * 1_000 + b"\r\n"),
    "trailers": (CHUNKED + b"5\r\nhello\r\n0\r\n", b"X-A: " + b"v" * 1_000 + b"\r\n"),
}
"""Answers of which a part has no end."""

INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100

CANCELLED = 20_000
"""How many requests are cancelled over one pool."""


async def no_answer_goes_to_whom_it_is_not_for(make: MakeTransport) -> None:
    """A second response that follows the first one unasked, at once or while the connection is idle."""
    said = anyio.Semaphore(0)

    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            if peer.number % 2:
                await peer.send(HELLO + FOREIGN)
            else:
                await peer.send(HELLO)
                await anyio.sleep(0.005)
                await peer.send(FOREIGN)
            said.release()

    async with server(serve) as found, pool(make) as transport:
        for _ in range(10):
            assert await whole(transport, found.url) == (200, b"hello"), "nothing that nobody asked for is an answer"
            await said.acquire()


async def what_is_half_read_is_not_used_again(make: MakeTransport) -> None:
    for rest in (b"Content-Length: 10\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"):

        async def serve(peer: Peer, rest: bytes = rest) -> None:
            if await peer.request() is not None:
                await peer.send(OK + rest if peer.number == 1 else HELLO)
                await peer.gone()

        async with server(serve) as found, pool(make, connections=1) as transport:
            response = await ask(transport, found.url)
            assert await response.read() == b"hello", "what has come is read"
            await response.aclose()
            with patience("the next answer comes over another connection"):
                assert await whole(transport, found.url) == (200, b"hello"), "the next answer is its own"
            assert found.connections == 2, "a connection is not used again whose answer was not read to its end"
            await found.settled(open_=1, promise="and it is closed, so that the provider hears it")


async def a_connection_that_was_closed_is_not_used(make: MakeTransport) -> None:
    async def serve(peer: Peer) -> None:
        if await peer.request() is not None:
            await peer.send(HELLO)

    async with server(serve) as found, pool(make, connections=2) as transport:
        for _ in range(5):
            assert await whole(transport, found.url) == (200, b"hello"), (
                "a connection that was closed is not used again"
            )
            await found.settled(open_=0, promise="what the server has closed is closed")
            await anyio.sleep(0.01)


async def a_request_that_was_sent_is_not_sent_again(make: MakeTransport) -> None:
    """The race that cannot be won: the server closes a kept connection when the next request comes over it."""

    async def serve(peer: Peer) -> None:
        await peer.request()
        await peer.send(HELLO)
        await peer.request()

    async with server(serve) as found, pool(make, connections=1) as transport:
        assert await whole(transport, found.url) == (200, b"hello"), "an answer is read"
        error = await refused(transport, found.url, promise="a request without an answer is an error")
        assert not error.unsent, "which says that it may have cost money"
        assert len(found.log) == 2, "a request that was sent is not sent again"


async def what_is_ambiguous_is_refused(make: MakeTransport) -> None:
    for name, answer in AMBIGUOUS.items():

        async def serve(peer: Peer, answer: bytes = answer) -> None:
            while await peer.request() is not None:
                await peer.send(answer if peer.number == 1 else HELLO)
                if peer.number == 1 and b"Content-Length" not in answer:
                    return

        async with server(serve) as found, pool(make, connections=1) as transport:
            with patience(f"an answer with {name} is refused at once"):
                error = await refused(transport, found.url, promise=f"an answer with {name} is refused")
                assert (error.status, error.unsent) == (502, False), "as one that may have cost money"
                assert await whole(transport, found.url) == (200, b"hello"), f"nothing is left after {name}"
            assert found.connections == 2, f"no connection is used again after {name}"


async def what_has_no_end_is_refused(make: MakeTransport) -> None:
    for name, (start, piece) in ENDLESS.items():
        await _is_refused_early(make, name, start, piece)


async def interim_responses_without_end_are_refused(make: MakeTransport) -> None:
    await _is_refused_early(make, "interim responses", b"", INTERIM)


async def a_chunks_extension_without_end_is_refused(make: MakeTransport) -> None:
    await _is_refused_early(make, "chunk extensions", CHUNKED + b"5;a=", b"v" * 10_000)


async def _is_refused_early(make: MakeTransport, name: str, start: bytes, piece: bytes) -> None:
    """Refused while there is more to come, and not when the server has had enough."""
    ended = anyio.Event()
    was_read = False

    async def serve(peer: Peer) -> None:
        nonlocal was_read
        await peer.request()
        try:
            await peer.send(start)
            for _ in range(50_000_000 // len(piece)):
                await peer.send(piece)
            was_read = True
        finally:
            ended.set()

    async with server(serve) as found, pool(make, connections=1) as transport:
        with patience(f"{name} without end are refused while they come"):
            error = await refused(transport, found.url, promise=f"{name} without end are refused")
        assert (error.status, error.unsent) == (502, False), "as an answer that may have cost money"
        with patience("and their connection is closed"):
            await ended.wait()
        assert not was_read, f"{name} without end are not read for as long as they come"


async def a_slow_reader_slows_the_provider_down(make: MakeTransport) -> None:
    taken = 0

    async def serve(peer: Peer) -> None:
        nonlocal taken
        await peer.request()
        await peer.send(OK + b"Content-Length: 4000000000\r\n\r\n")
        while True:
            await peer.send(b"x" * 100_000)
            taken += 100_000

    async with server(serve) as found, pool(make) as transport:
        response = await ask(transport, found.url)
        read = len(await response.read())
        before = -1
        while taken != before and taken - read < 32_000_000:  # until the server cannot write any more
            before = taken
            await anyio.sleep(0.1)
        assert taken - read < 32_000_000, "what nobody reads is not taken from the provider either"
        while read < 50_000_000:
            read += len(await response.read())
        assert taken > before, "and it goes on when it is read again"
        await response.aclose()


async def who_leaves_closes_the_connection(make: MakeTransport) -> None:
    leaving = anyio.CancelScope()

    async def serve(peer: Peer) -> None:
        await peer.request()
        if peer.number % 2:
            await peer.send(CHUNKED + b"5\r\nhello\r\n")
        await anyio.sleep(0.02)
        leaving.cancel()
        await peer.gone()

    async with server(serve) as found, pool(make, connections=1) as transport:
        for number in range(6):
            leaving = anyio.CancelScope()
            with leaving:
                response = await ask(transport, found.url)
                try:
                    while await response.read():
                        pass
                finally:
                    with anyio.CancelScope(shield=True):
                        await response.aclose()
            await found.settled(open_=0, promise="who leaves, before the answer or within it, is heard")
            assert found.connections == number + 1, "and the pool goes on"


async def a_pool_of_five_survives_20_000_requests_that_are_cancelled(make: MakeTransport) -> None:
    chance = random.Random(7)

    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await anyio.sleep(chance.random() * 0.004)
            await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            await anyio.sleep(chance.random() * 0.002)
            await peer.send(b"0\r\n\r\n")

    async with server(serve) as found, pool(make, connections=5) as transport:
        left = CANCELLED

        async def leave() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                with anyio.move_on_after(chance.random() * 0.006):
                    await _read_anyhow(transport, found)

        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(leave)
        for _ in range(100):
            with patience("after all of them there are connections"):
                assert await whole(transport, found.url) == (200, b"hello"), "after all of them the pool is as it was"
        await anyio.sleep(0.05)
        assert found.open <= 5, "and no connection was forgotten"


async def _read_anyhow(transport: Transport, found: Server) -> None:
    try:
        response = await ask(transport, found.url)
    except UpstreamError:
        return
    try:
        while await response.read():
            pass
    except UpstreamError:
        pass
    finally:
        with anyio.CancelScope(shield=True):
            await response.aclose()


PROMISES: tuple[TransportPromise, ...] = (
    no_answer_goes_to_whom_it_is_not_for,
    what_is_half_read_is_not_used_again,
    a_connection_that_was_closed_is_not_used,
    a_request_that_was_sent_is_not_sent_again,
    what_is_ambiguous_is_refused,
    what_has_no_end_is_refused,
    interim_responses_without_end_are_refused,
    a_chunks_extension_without_end_is_refused,
    a_slow_reader_slows_the_provider_down,
    who_leaves_closes_the_connection,
    a_pool_of_five_survives_20_000_requests_that_are_cancelled,
)
