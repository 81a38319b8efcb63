"""What goes out to a client whose server takes its time with each piece."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import pytest
from rig import CHAT, KEY, check_books, gateway, question, read_chat

from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.stages.worker.queue import stopping
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.script import answer
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Timeouts
from hpp_middleware.types.streams import KeepAlive

pytestmark = pytest.mark.anyio


class Breaking:
    """A provider that begins a stream, says nothing, and breaks off when it is told to."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "text/event-stream"}

    def __init__(self) -> None:
        self.breaks = anyio.Event()

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        sent()
        return self

    async def read(self) -> bytes:
        await self.breaks.wait()
        raise OSError

    async def aclose(self) -> None:
        """Nothing is open."""


class Late:
    """A provider whose whole answer comes in the moment in which nobody waits for it any more."""

    status = 200
    headers: Mapping[str, str] = {"content-type": "application/json"}

    def __init__(self) -> None:
        self.happens: Callable[[], None] = lambda: None

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:
        sent()
        pieces = answer(Script(), json.loads(call.body), number=1).pieces
        self._pieces = [piece.data for piece in pieces if piece.data]
        return self

    async def read(self) -> bytes:
        self.happens()
        return self._pieces.pop(0) if self._pieces else b""

    async def aclose(self) -> None:
        """Nothing is open."""


async def test_what_is_too_late_is_told_and_no_answer_goes_lost_on_its_way() -> None:
    upstream = Late()
    async with gateway("http://127.0.0.1:9/v1", transports={"fake": upstream}) as found:
        (worker,) = found.setup.workers()
        upstream.happens = lambda: worker.answering.expire(stopping)
        status, body = await read_chat(found)
        assert (status, json.loads(body)["error"]["code"]) == (503, "overloaded")
        (line,) = await check_books(found)
    assert (line.report.outcome, line.report.estimated) == ("failed", True)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_piece_has_the_time_that_a_client_may_take_it(
    fake_upstream: FakeUpstream, *, stream: bool
) -> None:
    # As behind a middleware of the host's whose ``send`` hands over what the client has time for.
    async with gateway(fake_upstream, timeouts=Timeouts(total=1), cost_in="header") as found:

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def slow(message: Any) -> None:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await anyio.sleep(1.2)
                await send(message)

            await found.app(scope, receive, slow)

        async with post(app, CHAT, question(stream=stream), headers={"apikey": KEY}) as call:
            body = await call.read()
        (line,) = await check_books(found)
    assert body.endswith(b"data: [DONE]\n\n") if stream else json.loads(body)["usage"]
    assert (line.report.outcome, line.report.estimated) == ("completed", False)


async def test_no_error_event_goes_out_without_the_head_before_it() -> None:
    upstream, waits = Breaking(), anyio.Event()
    sent: list[str] = []
    # With a retry to come the head waits for the answer, or goes out with a sign of life: from beside the work.
    found = gateway(
        "http://127.0.0.1:9/v1",
        transports={"fake": upstream},
        keep_alive=KeepAlive(after=0.01),
        provider={"retries": 1},
    )
    async with found:

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            async def stuck(message: Any) -> None:
                sent.append(message["type"])
                waits.set()
                if sent == ["http.response.start"]:
                    await anyio.sleep_forever()

            await found.app(scope, receive, stuck)

        async with post(app, CHAT, question(stream=True), headers={"apikey": KEY}) as call:
            with anyio.fail_after(10):
                await waits.wait()
                upstream.breaks.set()
                await call.returned()
        (line,) = await check_books(found)
    assert (line.amount, line.report.outcome, len(line.report.attempts)) == (0, "failed", 1)
    assert sent == ["http.response.start"]
