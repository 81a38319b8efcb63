"""Deadlines: a provider's, as a request lowers them; what runs out after sending is never free."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import anyio
import pytest
from rig import ALICE, KEY, USAGE_NANO, Delegate, ask, check_books, chunks, gateway, question, read_chat

from hpp_middleware import Gateway, UpstreamError
from hpp_middleware.core.deadlines import HEADERS
from hpp_middleware.ports import UpstreamResponse
from hpp_middleware.stages.attempts.plan import HOLD_GRACE_S
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.operations import Reserve
from hpp_middleware.types.provider import Timeouts

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("stream", [False, True])
LONG = Timeouts(connect=30, first_byte=60, idle=60, total=60)
COMMENT = b": still thinking\n\n"
APIS = {
    "/v1/chat/completions": question(),
    "/v1/messages": question(),
    "/v1/responses": {"model": "fake/fake-1", "input": "Hi", "max_output_tokens": 100},
    "/v1/embeddings": {"model": "fake/fake-1", "input": "Hi"},
    "/v1/images/generations": {"model": "fake/fake-1", "prompt": "a fish"},
}
SILENT = {
    "total": Script(endless=True, texts=("so",), delay_between_s=0.05),
    "first_byte": Script(delay_head_s=60),
    "idle": Script(stall_after_events=2),
}
"""An upstream that each deadline is for."""


def silent(name: str, *, stream: bool) -> Script:
    """The same; a body that is no stream comes in pieces, too, of which there are two."""
    return SILENT[name] if stream or name != "idle" else replace(SILENT[name], chunk_size=40)


def event(**delta: str) -> bytes:
    """A piece of an answer."""
    return b"data: " + json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


END = b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


def dribble(body: bytes, *, delay_s: float) -> Script:
    """A stream that comes a comment's length at a time."""
    return Script(raw_body=body, content_type="text/event-stream", chunk_size=len(COMMENT), delay_between_s=delay_s)


async def error_of(found: Gateway, *, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """The error of a request that a deadline has ended, be it the response or the last event of a stream."""
    async with ask(found, headers=headers, **fields) as call:
        status, body = await call.started(), await call.read()
        await call.returned()
    if status == 200:
        assert b"[DONE]" not in body
        error = chunks(body)[-1]["error"]
    else:
        assert status == 504
        error = json.loads(body)["error"]
    assert (error["code"], error["type"], error["provider"]) == ("timeout", "upstream_error", "fake")
    return dict(error)


async def check_charged(found: Gateway, upstream: FakeUpstream) -> None:
    """The upstream was left, and what it had cost by then is in the ledger."""
    with anyio.fail_after(5):
        await upstream.idle()
    assert upstream.log[0].closed_early
    (line,) = await check_books(found)
    assert (line.report.outcome, line.report.estimated) == ("failed", True)
    assert 0 < line.amount <= line.held
    assert line.report.attempts[0].error == "timeout"


@BOTH
@pytest.mark.parametrize("name", SILENT)
async def test_a_request_lowers_each_deadline_and_one_that_runs_out_is_charged(
    name: str,
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = silent(name, stream=stream)
    async with gateway(fake_upstream, timeouts=LONG) as found:
        await error_of(found, headers={HEADERS[name]: "0.3"}, stream=stream)
        await check_charged(found, fake_upstream)


@BOTH
@pytest.mark.parametrize("name", SILENT)
async def test_a_request_raises_none_of_them(
    name: str,
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = silent(name, stream=stream)
    timeouts = Timeouts(**{"connect": 30, "first_byte": 60, "idle": 60, "total": 60, name: 0.3})
    async with gateway(fake_upstream, timeouts=timeouts) as found:
        await error_of(found, headers={HEADERS[name]: "50"}, stream=stream)
        await check_charged(found, fake_upstream)


@BOTH
@pytest.mark.parametrize("name", SILENT)
async def test_a_deadline_of_its_own_shows_a_client_no_hidden_thoughts_for_less_than_its_departure(
    name: str,
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = silent(name, stream=stream)
    thinks = {"reasoning": ("*",)}
    async with gateway(fake_upstream, timeouts=LONG, provider=thinks) as found:
        await error_of(found, headers={HEADERS[name]: "0.3"}, stream=stream)
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount) == ("failed", line.held)
    async with gateway(fake_upstream, timeouts=replace(LONG, **{name: 0.3}), provider=thinks) as found:
        await error_of(found, headers={HEADERS[name]: "50"}, stream=stream)
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount < line.held) == ("failed", True)


class Unreachable:
    """A transport that is asked how long a connection may take to open."""

    connect_s = 0.0

    async def send(self, call: HTTPCall, *, provider: str, sent: Callable[[], None]) -> UpstreamResponse:  # nothing is
        self.connect_s = call.connect_s
        raise UpstreamError("It could not be reached.", provider=provider, status=504, code="timeout", unsent=True)

    async def aclose(self) -> None:
        """There is no pool."""


@BOTH
@pytest.mark.parametrize(("asked", "given"), [("0.25", 0.25), ("31", 30.0)])
async def test_a_request_lowers_the_time_to_connect_which_costs_nothing(
    asked: str,
    given: float,
    stream: bool,  # noqa: FBT001
) -> None:
    transport = Unreachable()
    async with gateway("http://127.0.0.1:9/v1", timeouts=LONG, transports={"fake": transport}) as found:
        await error_of(found, headers={HEADERS["connect"]: asked}, stream=stream)
        assert transport.connect_s == given
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


@pytest.mark.parametrize("path", APIS)
async def test_they_are_lowered_in_every_api(path: str, fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(raw_body=b"{}", delay_head_s=60)
    model = {"output_image": "2"} if "images" in path else {}
    async with gateway(fake_upstream, timeouts=LONG, model=model) as found:
        headers = {"apikey": KEY, HEADERS["total"]: "0.3"}
        async with post(found.app, path, APIS[path], headers=headers, ahead=0) as call:
            assert await call.started() == 504, await call.read()
            error = (await call.json())["error"]
        assert error["message"] == "The provider did not answer in time."
        assert error.get("provider", "fake") == "fake"
        await check_charged(found, fake_upstream)


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("path", [*APIS, "/v1/messages/count_tokens"])
async def test_a_value_that_is_none_is_refused_by_its_headers_name_and_nothing_is_held(
    path: str, name: str, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as found:
        headers = {"apikey": KEY, HEADERS[name]: "soon"}
        body = APIS.get(path, question())
        async with post(found.app, path, body, headers=headers, ahead=0) as call:
            assert await call.started() == 400
            assert HEADERS[name] in (await call.json())["error"]["message"]
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_head_and_comments_are_no_first_event(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = dribble(COMMENT * 2000, delay_s=0.05)
    async with gateway(fake_upstream, timeouts=LONG) as found:
        await error_of(found, headers={HEADERS["first_byte"]: "0.4"}, stream=True)
        await check_charged(found, fake_upstream)


async def test_the_head_and_the_first_event_have_one_deadline_and_not_one_each(fake_upstream: FakeUpstream) -> None:
    """The upstream takes long for its head, and as long for its first event: each alone is within the deadline."""
    script = dribble(COMMENT * 3 + event(content="late") + END, delay_s=0.5)
    fake_upstream.script = Script(
        raw_body=script.raw_body,
        content_type=script.content_type,
        chunk_size=script.chunk_size,
        delay_head_s=0.7,
        delay_between_s=0.5,
    )
    async with gateway(fake_upstream, timeouts=LONG) as found:
        await error_of(found, headers={HEADERS["first_byte"]: "1"}, stream=True)
        await check_charged(found, fake_upstream)


async def test_an_upstream_that_says_that_it_still_thinks_is_not_idle(fake_upstream: FakeUpstream) -> None:
    """Its comments go on for longer than it may be silent."""
    fake_upstream.script = dribble(event(content="Hello") + COMMENT * 14 + END, delay_s=0.25)
    async with gateway(fake_upstream, timeouts=Timeouts(connect=5, first_byte=20, idle=2, total=60)) as found:
        status, body = await read_chat(found, stream=True)
        assert (status, body.endswith(b"data: [DONE]\n\n")) == (200, True)
        (line,) = await check_books(found)
        assert line.report.outcome == "completed"


@pytest.mark.parametrize("rest", [COMMENT * 2000, b"data: {" + b" " * 30_000], ids=["comments", "half an event"])
async def test_an_upstream_that_dribbles_for_ever_is_left_at_the_total_deadline(
    rest: bytes, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = dribble(event(content="Hello") + rest, delay_s=0.05)
    async with gateway(fake_upstream, timeouts=LONG) as found:
        await error_of(found, headers={HEADERS["total"]: "0.6"}, stream=True)
        await check_charged(found, fake_upstream)


async def test_a_hold_lasts_as_long_as_the_request_may(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    async with gateway(fake_upstream, timeouts=LONG, store=store) as found:
        for asked in ("7.5", "5000"):
            async with ask(found, headers={HEADERS["total"]: asked}) as call:
                assert await call.started() == 200
                await call.read()
                await call.returned()
        assert [each.ttl_s for each in store.asked(Reserve)] == [7.5 + HOLD_GRACE_S, LONG.total + HOLD_GRACE_S]


@BOTH
async def test_a_hosts_own_code_lowers_them_too(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    fake_upstream.next(Script(delay_head_s=60), Script())
    async with gateway(fake_upstream, timeouts=LONG) as found:
        with pytest.raises(UpstreamError) as late:
            await found.complete(ALICE, question(stream=stream), timeouts=Deadlines(total=0.3))
        assert (late.value.status, late.value.provider) == (504, "fake")
        found_next = await found.complete(ALICE, question(stream=stream), timeouts=Deadlines(total=500, idle=500))
        assert found_next.cost == USAGE_NANO
        first, second = await check_books(found)
        assert first.amount > 0
        assert second.amount == USAGE_NANO


@pytest.mark.parametrize("key", [None, "once"])
async def test_a_deadline_that_runs_out_while_a_slow_reader_takes_a_piece_is_told_it(
    key: str | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(endless=True, texts=("so",))
    headers = {HEADERS["total"]: "0.2", **({"idempotency-key": key} if key is not None else {})}
    async with gateway(fake_upstream) as found:
        async with ask(found, headers=headers, stream=True) as call:
            assert await call.started() == 200
            await call.event()
            await fake_upstream.idle()  # nothing is taken until the upstream was left
            body = await call.read()
            await call.returned()
        assert chunks(body)[-1]["error"]["code"] == "timeout"
        await check_charged(found, fake_upstream)
