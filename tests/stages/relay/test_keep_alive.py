"""Keep-alive: what a stream says while its provider is silent, in each API, and when it says nothing."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import pytest
from rig import KEY, MODEL, USAGE_NANO, ask, check_books, chunks, gateway, question

from hpp_middleware import ConfigurationError, Gateway
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.stages.relay.keep_alive import alive
from hpp_middleware.stages.tasks.guard import asyncios
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.testing.script import answer
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.streams import KeepAlive

pytestmark = pytest.mark.anyio

SOON = KeepAlive(after=0.05)
COMMENT = b": keep-alive\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class Told:
    """A provider that goes on when it is told to."""

    def __init__(self, pieces: list[bytes] | None = None) -> None:
        self._pieces = pieces
        self._send, self._receive = anyio.create_memory_object_stream[bytes](100)
        self.asked = anyio.Event()

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self._send.send_nowait(piece)

    async def send(
        self, call: HTTPCall, *, provider: str, sent: Callable[[], None]
    ) -> UpstreamResponse:  # there is one
        sent()
        if self._pieces is None:
            script = answer(Script(), json.loads(call.body), number=1)
            self._pieces = [piece.data for piece in script.pieces if piece.data]
        self.asked.set()
        return _Response(self._receive)

    @property
    def pieces(self) -> list[bytes]:
        assert self._pieces is not None
        return self._pieces

    async def aclose(self) -> None:
        """There is no pool."""
        self._send.close()
        self._receive.close()


class _Response:
    status = 200

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.headers: Mapping[str, str] = {"content-type": "text/event-stream"}
        self._pieces = pieces

    async def read(self) -> bytes:
        return await anext(self._pieces, b"")

    async def aclose(self) -> None:
        """Nothing is open."""


def over(told: Told, keep_alive: KeepAlive = SOON, **settings: Any) -> Gateway:
    return gateway("http://127.0.0.1:9/v1", transports={"fake": told}, keep_alive=keep_alive, **settings)


async def events_until(call: Call, wanted: bytes, *, times: int = 1) -> list[bytes]:
    """The stream's events, until one has come so many times."""
    found: list[bytes] = []
    with anyio.fail_after(10):
        while found.count(wanted) < times:
            found.append(await call.event() + b"\n\n")
    return found


async def test_a_comment_is_said_again_and_again_while_the_provider_is_silent() -> None:
    told = Told()
    async with over(told) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        told.say(told.pieces[0])
        said = await events_until(call, COMMENT, times=3)
        told.say(*told.pieces[1:])
        rest = await call.read()
        await call.returned()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert [item for item in chunks(b"".join(said) + rest) if item != "[DONE]"][-1]["choices"][0]["finish_reason"]
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome, line.report.estimated) == (USAGE_NANO, "completed", False)
    await told.aclose()


async def test_nothing_is_said_before_the_head_or_after_the_end() -> None:
    told = Told()
    async with over(told) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        await anyio.sleep(0.3)  # for longer than the silence after which something would be said
        told.say(*told.pieces)
        whole = await call.read()
        await call.returned()
        await anyio.sleep(0.3)
    assert b": keep-alive" not in whole.partition(b"data:")[0]
    assert whole.endswith(b"data: [DONE]\n\n")
    await told.aclose()


async def test_off_says_nothing_and_a_provider_that_speaks_is_not_spoken_over() -> None:
    for keep_alive in (KeepAlive(after=0.05, kind="off"), KeepAlive(after=60)):
        told = Told()
        async with over(told, keep_alive) as found, ask(found, stream=True) as call:
            await told.asked.wait()
            told.say(told.pieces[0])
            first = await call.event()
            await anyio.sleep(0.3)
            told.say(*told.pieces[1:])
            assert b"keep-alive" not in first + await call.read()
            await call.returned()
        await told.aclose()


async def test_a_chunk_without_content_is_for_clients_that_cannot_read_comments() -> None:
    told = Told()
    async with over(told, KeepAlive(after=0.05, kind="chunk")) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        told.say(told.pieces[0])
        head = json.loads((await call.event()).removeprefix(b"data: "))
        with anyio.fail_after(10):
            said = json.loads((await call.event()).removeprefix(b"data: "))
        assert said == {
            "id": head["id"],
            "object": "chat.completion.chunk",
            "created": head["created"],
            "model": MODEL,
            "choices": [{"index": 0, "delta": {}, "finish_reason": None}],
        }
        told.say(*told.pieces[1:4])  # the texts, and the finish reason
        with anyio.fail_after(10):
            while json.loads((await call.event()).removeprefix(b"data: "))["choices"] != []:
                continue
        told.say(*told.pieces[4:])
        assert (await call.read()).endswith(b"data: [DONE]\n\n")
        await call.returned()
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")
    await told.aclose()


MESSAGE = [
    f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
    for event in (
        {
            "type": "message_start",
            "message": {
                "id": "m",
                "type": "message",
                "role": "assistant",
                "model": "m",
                "content": [],
                "stop_reason": None,
                "usage": {"input_tokens": 9, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
]


@pytest.mark.parametrize("kind", ["comment", "chunk"])
@pytest.mark.parametrize("native", [False, True])
async def test_messages_have_a_word_of_their_own_for_it(native: bool, kind: Any) -> None:  # noqa: FBT001
    told = Told(MESSAGE if native else None)
    provider: dict[str, Any] = {"native_apis": frozenset({"messages"} if native else ())}
    async with over(told, KeepAlive(after=0.05, kind=kind), provider=provider) as found:
        async with post(found.app, "/v1/messages", question(stream=True), headers={"apikey": KEY}, ahead=0) as call:
            await told.asked.wait()
            told.say(*told.pieces[:2])
            await events_until(call, PING, times=2)
            told.say(*told.pieces[2:])
            rest = await call.read()
            await call.returned()
        assert b"event: message_stop" in rest.split(b"\n\n")[-2]
        (line,) = await check_books(found)
        assert (line.report.outcome, line.report.estimated) == ("completed", False)
    await told.aclose()


@pytest.mark.parametrize("kind", ["comment", "chunk"])
async def test_responses_have_a_comment(kind: Any) -> None:
    told = Told()
    body = {"model": MODEL, "input": "Hi", "max_output_tokens": 100, "stream": True}
    async with over(told, KeepAlive(after=0.05, kind=kind)) as found:
        async with post(found.app, "/v1/responses", body, headers={"apikey": KEY}, ahead=0) as call:
            await told.asked.wait()
            told.say(*told.pieces[:2])
            await events_until(call, COMMENT, times=2)
            told.say(*told.pieces[2:])
            assert b"event: response.completed" in (await call.read()).split(b"\n\n")[-2]
            await call.returned()
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (USAGE_NANO, "completed")
    await told.aclose()


async def test_it_is_not_a_part_of_an_answer_that_is_given_again() -> None:
    told = Told()
    headers = {"Idempotency-Key": "k"}
    async with over(told) as found:
        async with ask(found, stream=True, headers=headers) as call:
            await told.asked.wait()
            told.say(told.pieces[0])
            await events_until(call, COMMENT)
            told.say(*told.pieces[1:])
            await call.read()
            await call.returned()
        async with ask(found, stream=True, headers=headers) as call:
            again = await call.read()
            await call.returned()
        assert b"keep-alive" not in again
        assert again.endswith(b"data: [DONE]\n\n")
    await told.aclose()


async def test_a_client_that_leaves_while_it_is_told_is_settled() -> None:
    told = Told()
    async with over(told) as found:
        async with ask(found, stream=True) as call:
            await told.asked.wait()
            told.say(*told.pieces[:2])
            await events_until(call, COMMENT)
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount > 0) == ("abandoned", True)
    await told.aclose()


async def test_a_stream_that_breaks_after_it_ends_in_its_error(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(omit_done=True, finish_reason=None, delay_between_s=0.2)
    async with gateway(fake_upstream, keep_alive=SOON) as found, ask(found, stream=True) as call:
        body = await call.read()
        await call.returned()
    assert COMMENT in body
    assert b"error" in body.split(b"\n\n")[-2]
    assert b"[DONE]" not in body


@pytest.mark.parametrize("kind", ["comment", "chunk"])
async def test_a_sign_of_life_lets_go_the_head_that_was_kept_for_a_second_attempt(kind: Any) -> None:
    told = Told()
    settings: Any = {"keep_alive": KeepAlive(after=0.05, kind=kind), "provider": {"retries": 1}}
    async with over(told, **settings) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        assert await call.started() == 200  # nothing has come of the provider's but its head
        said = await call.event()
        assert said == COMMENT.strip() if kind == "comment" else b"chat.completion.chunk" in said
        told.say(*told.pieces)
        assert (await call.read()).endswith(b"data: [DONE]\n\n")
        await call.returned()
        assert call.headers["x-hpp-router-attempts"] == "1"
        (line,) = await check_books(found)
        assert (line.amount, len(line.report.attempts)) == (USAGE_NANO, 1)
    await told.aclose()


async def test_what_breaks_after_a_sign_of_life_is_not_begun_anew() -> None:
    told = Told()
    async with over(told, provider={"retries": 1}) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        assert await call.started() == 200
        await told.aclose()
        body = await call.read()
        await call.returned()
        assert chunks(body)[-1]["error"]["code"] == "provider_unavailable"
        (line,) = await check_books(found)
        assert len(line.report.attempts) == 1


async def test_where_nothing_is_said_the_head_waits_for_the_first_event() -> None:
    told = Told()
    keep_alive = KeepAlive(after=0.05, kind="off")
    async with over(told, keep_alive, provider={"retries": 1}) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        told.say(COMMENT)
        await anyio.sleep(0.3)  # for longer than the silence after which something would be said
        with anyio.move_on_after(0.01) as waited:
            await call.started()
        assert waited.cancelled_caught
        told.say(*told.pieces)
        body = await call.read()
        await call.returned()
        assert body.startswith(b"data:")
    await told.aclose()


async def test_a_providers_own_comments_are_a_sign_of_life_too() -> None:
    told = Told()
    async with over(told, provider={"retries": 1}) as found, ask(found, stream=True) as call:
        await told.asked.wait()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_mumble, told)
            assert await call.started() == 200
            tasks.cancel_scope.cancel()
        assert call.headers["x-hpp-router-attempts"] == "1"
        told.say(*told.pieces)
        assert (await call.read()).endswith(b"data: [DONE]\n\n")
        await call.returned()
    await told.aclose()


async def _mumble(told: Told) -> None:
    """Never be silent for as long as it takes to be spoken for."""
    while True:
        told.say(b": thinking\n\n")
        await anyio.sleep(0.02)


async def test_a_piece_waits_for_what_is_being_said() -> None:
    order: list[str] = []
    gate, saying = anyio.Event(), anyio.Event()

    async def say() -> None:
        saying.set()
        await gate.wait()
        order.append("said")

    async def send() -> None:
        order.append("sent")

    async def work() -> None:
        await saying.wait()
        assert staying.saying
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(staying.first, send())
            await anyio.wait_all_tasks_blocked()
            gate.set()
        staying.end()

    staying = alive(asyncios(), 0.01, say)
    with anyio.fail_after(10):
        await staying.beside(work())
    assert order == ["said", "sent"]


async def test_what_it_raises_is_dropped_and_what_the_work_raises_is_not() -> None:
    said = anyio.Event()

    async def say() -> None:
        said.set()
        raise OSError

    async def work() -> None:
        await said.wait()
        raise KeyError("the work's own")

    with pytest.raises(KeyError, match="own"), anyio.fail_after(10):
        await alive(asyncios(), 0.01, say).beside(work())


async def test_a_piece_that_is_given_up_while_it_waits_is_never_begun() -> None:
    saying, begun = anyio.Event(), False

    async def say() -> None:
        saying.set()
        await anyio.sleep_forever()

    async def send() -> None:
        nonlocal begun
        begun = True

    async def work() -> None:
        await saying.wait()
        with anyio.move_on_after(0.05):
            await staying.first(send())

    staying = alive(asyncios(), 0.01, say)
    with anyio.fail_after(10):
        await staying.beside(work())
    assert not begun


@pytest.mark.parametrize(("wrong", "named"), [({"after": 0}, "after"), ({"kind": "shout"}, "kind")])
def test_settings_that_are_wrong_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=f"keep_alive.{named}"):
        KeepAlive(**wrong)
