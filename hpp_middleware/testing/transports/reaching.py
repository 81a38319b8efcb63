"""What a transport promises of the way there: pool, deadlines, and when a request counts as sent."""

import socket

import anyio

from hpp_middleware.errors import UpstreamError
from hpp_middleware.testing.transports.bench import (
    HELLO,
    MakeTransport,
    Peer,
    Serve,
    TransportPromise,
    always,
    ask,
    call,
    pool,
    refused,
    server,
    whole,
)

__all__ = ["PROMISES"]

_MAY_ADD = {"host", "content-length", "connection"}


class _RefusedError(Exception):
    """What ``sent`` raises."""


async def a_request_is_sent_as_it_is_built(make: MakeTransport) -> None:
    async with server(always(HELLO)) as found, pool(make) as transport:
        body = b'{"a":1}' * 1000
        assert await whole(transport, f"{found.url}/base%20x?a=b%26c&d=", body) == (200, b"hello"), "an answer is read"
        (request,) = found.log
        built = call("", b"").headers
        assert request.line == "POST /base%20x?a=b%26c&d=/v1/x HTTP/1.1", "the URL is sent as it is"
        assert request.body == body, "the body is sent as it is"
        assert dict(request.headers)["host"] == f"127.0.0.1:{found.port}", "Host is the URL's"
        names = [name for name, _ in request.headers]
        assert len(names) == len(set(names)), "no header is sent twice"
        assert set(names) <= {name.lower() for name, _ in built} | _MAY_ADD, "no header is added"
        assert {(name.lower(), value) for name, value in built} <= set(request.headers), "no header is changed"


async def sent_is_called_once_and_before_the_first_byte(make: MakeTransport) -> None:
    async with server(always(HELLO)) as found, pool(make, connections=1) as transport:
        for number in range(3):  # over a new connection, and over one that was kept
            seen: list[int] = []

            def sent(seen: list[int] = seen) -> None:
                seen.append(len(found.log))

            response = await transport.send(call(found.url), provider="bench", sent=sent)
            assert await response.read() == b"hello", "an answer is read"
            assert await response.read() == b"", "and its end is told"
            await response.aclose()
            assert seen == [number], "sent is called once, before the first byte goes out"


async def what_sent_raises_passes_through_and_nothing_is_sent(make: MakeTransport) -> None:
    def refuse() -> None:
        raise _RefusedError

    async with server(always(HELLO)) as found, pool(make, connections=2) as transport:
        for _ in range(3):
            for _ in range(3):
                try:
                    await transport.send(call(found.url), provider="bench", sent=refuse)
                except _RefusedError:
                    pass
                else:
                    raise AssertionError("what sent raises passes through")
            before = len(found.log)
            assert await whole(transport, found.url) == (200, b"hello"), "the pool is as it was"
            assert len(found.log) == before + 1, "nothing is sent where sent raises"
        assert found.open <= 2, "a connection that was not used is kept in the pool, or closed"


async def where_nobody_listens_nothing_was_sent(make: MakeTransport) -> None:
    with socket.socket() as taken:  # bound, but it does not listen
        taken.bind(("127.0.0.1", 0))
        async with pool(make) as transport:
            error = await refused(transport, f"http://127.0.0.1:{taken.getsockname()[1]}", promise="nobody is there")
            assert (error.status, error.unsent) == (502, True), (
                "a refused connection is a 502 of which nothing was sent"
            )


async def a_connection_that_takes_too_long_was_not_sent(make: MakeTransport) -> None:
    with socket.socket() as busy, socket.socket() as first, socket.socket() as second:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)  # and accepts nothing: once its queue is full, a connection is neither made nor refused
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(busy.getsockname())
        await anyio.sleep(0.05)
        async with pool(make) as transport:
            url = f"http://127.0.0.1:{busy.getsockname()[1]}"
            error = await refused(transport, url, connect_s=0.2, promise="connecting has a deadline")
            assert (error.status, error.unsent) == (504, True), (
                "too slow a connection is a 504 of which nothing was sent"
            )


async def no_more_connections_are_made_than_allowed(make: MakeTransport) -> None:
    busy = most = 0

    async def serve(peer: Peer) -> None:
        nonlocal busy, most
        while await peer.request() is not None:
            busy += 1
            most = max(most, busy)
            await anyio.sleep(0.002)
            busy -= 1
            await peer.send(HELLO)

    async with server(serve) as found, pool(make, connections=3) as transport, anyio.create_task_group() as tasks:
        for _ in range(30):
            tasks.start_soon(whole, transport, found.url)
    assert most <= 3, "no more requests are under way than there may be connections"
    assert found.connections <= 3, "and connections are used again"


async def a_full_pool_refuses_when_the_time_to_connect_is_over(make: MakeTransport) -> None:
    end = anyio.Event()
    async with server(_held(end)) as found, pool(make, connections=1) as transport:
        first = await ask(transport, found.url)
        for _ in range(3):
            error = await refused(transport, found.url, connect_s=0.05, promise="a full pool refuses in the end")
            assert (error.status, error.unsent) == (503, True), "a full pool is a 503 of which nothing was sent"
            assert "Retry-After" in error.headers, "which says when to come again"
        assert len(found.log) == 1, "nothing is sent over a full pool"
        end.set()
        while await first.read():
            pass
        await first.aclose()
        assert await whole(transport, found.url) == (200, b"hello"), "a connection that comes free is used"


async def who_waits_for_a_connection_gets_the_next_one(make: MakeTransport) -> None:
    got: list[bytes] = []
    end = anyio.Event()
    async with server(_held(end)) as found, pool(make, connections=1) as transport:
        first = await ask(transport, found.url)

        async def wait() -> None:
            got.append((await whole(transport, found.url))[1])

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            with anyio.CancelScope() as given_up:
                tasks.start_soon(_cancel_soon, given_up)
                await ask(transport, found.url)
            assert not got, "nobody is served over a connection that is in use"
            end.set()
            await first.aclose()
    assert got == [b"hello"] * 3, "all who wait are served, although one of them has left the queue"


def _held(end: anyio.Event) -> Serve:
    """Answers to the last byte, and with that when it is told to."""

    async def serve(peer: Peer) -> None:
        while await peer.request() is not None:
            await peer.send(HELLO[:-1])
            await end.wait()
            await peer.send(HELLO[-1:])

    return serve


async def _cancel_soon(scope: anyio.CancelScope) -> None:
    await anyio.sleep(0.02)
    scope.cancel()


async def a_closed_pool_closes_its_connections(make: MakeTransport) -> None:
    async with server(always(HELLO)) as found:
        async with pool(make) as transport:
            await whole(transport, found.url)
            half = await ask(transport, found.url)
        await found.settled(open_=0, promise="a closed pool closes its connections, busy ones too")
        await half.aclose()
        try:
            await ask(transport, found.url)
        except (UpstreamError, RuntimeError):
            return
        raise AssertionError("a closed pool sends nothing")


PROMISES: tuple[TransportPromise, ...] = (
    a_request_is_sent_as_it_is_built,
    sent_is_called_once_and_before_the_first_byte,
    what_sent_raises_passes_through_and_nothing_is_sent,
    where_nobody_listens_nothing_was_sent,
    a_connection_that_takes_too_long_was_not_sent,
    no_more_connections_are_made_than_allowed,
    a_full_pool_refuses_when_the_time_to_connect_is_over,
    who_waits_for_a_connection_gets_the_next_one,
    a_closed_pool_closes_its_connections,
)
