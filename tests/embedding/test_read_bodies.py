"""Hosts that have read the body before the gateway does, and give it again: each in its own way."""

from collections.abc import Callable

import anyio
import pytest
from rig import CHAT, KEY, USAGE_NANO, check_books, gateway, question
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.provider import Timeouts
from hpp_middleware.types.streams import KeepAlive

pytestmark = pytest.mark.anyio

Host = Callable[[ASGIApp], ASGIApp]


def again_and_again(app: ASGIApp) -> ASGIApp:
    """What many answers on the web advise: ``receive`` is the body, whenever it is asked, and never a departure."""

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()

        async def replay() -> Message:
            return message

        await app(scope, replay, send)

    return host


def a_few_times(app: ASGIApp) -> ASGIApp:
    """The same, and then the server's own."""

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        message, times = await receive(), iter(range(3))

        async def replay() -> Message:
            return message if next(times, None) is not None else await receive()

        await app(scope, replay, send)

    return host


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("host", [again_and_again, a_few_times])
async def test_a_body_that_is_given_again_and_again_stops_nothing(
    host: Host, fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    async with gateway(fake_upstream) as found:
        app = host(found.app)
        async with post(app, CHAT, question(stream=stream), headers={"apikey": KEY}) as call:
            assert await call.started() == 200
            assert await call.read()
        assert [line.amount for line in await check_books(found)] == [USAGE_NANO]


async def test_a_departure_that_cannot_be_heard_is_told_to_the_log_once(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    fake_upstream.script = Script(texts=("some words",), stall_after_events=2)
    timeouts = Timeouts(connect=2, first_byte=2, idle=2, total=10)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        for _ in range(2):
            async with post(again_and_again(found.app), CHAT, question(stream=True), headers={"apikey": KEY}) as call:
                await call.read()
        told = [record.levelname for record in caplog.records if "receive() gives the same" in record.getMessage()]
        assert told == ["WARNING"]
        await check_books(found)


async def test_a_host_that_gives_the_body_once_is_not_warned(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    fake_upstream.script = Script(texts=("some words",), stall_after_events=2)
    timeouts = Timeouts(connect=2, first_byte=2, idle=2, total=10)
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        async with post(a_few_times(found.app), CHAT, question(stream=True), headers={"apikey": KEY}) as call:
            await call.read()
        assert "receive()" not in caplog.text


async def test_a_departure_that_only_send_tells_of_is_heard(fake_upstream: FakeUpstream) -> None:
    """As by a server that raises, behind a host that gives the body again and again."""
    gone = anyio.Event()

    def host(app: ASGIApp) -> ASGIApp:
        async def leaving(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if gone.is_set():
                    raise OSError("the client has left")
                await send(message)
                if b"some" in message.get("body", b""):
                    gone.set()

            await again_and_again(app)(scope, receive, sending)

        return leaving

    fake_upstream.next(Script(texts=("some words",), stall_after_events=2))
    async with gateway(fake_upstream, keep_alive=KeepAlive(after=1)) as found:
        async with post(host(found.app), CHAT, question(stream=True), headers={"apikey": KEY}) as call:
            while b"some words" not in await call.event():
                pass
            with anyio.fail_after(15):  # far less than the 20 s for which a stream may be idle
                await fake_upstream.idle()
        assert fake_upstream.log[-1].closed_early
        assert [line.report.outcome for line in await check_books(found)] == ["abandoned"]


async def test_a_departure_behind_a_body_that_was_given_a_few_times_is_heard(fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(texts=("some words",), stall_after_events=2))
    async with gateway(fake_upstream) as found:
        async with post(a_few_times(found.app), CHAT, question(stream=True), headers={"apikey": KEY}) as call:
            while b"some words" not in await call.event():
                pass
        with anyio.fail_after(20):
            await fake_upstream.idle()
        assert fake_upstream.log[-1].closed_early
        assert [line.report.outcome for line in await check_books(found)] == ["abandoned"]
