"""The gateway as an object: completions without HTTP, and its opening and closing."""

import json
from typing import Any

import anyio
import pytest
from rig import ALICE, MODEL, USAGE_NANO, Delegate, check_books, chunks, gateway, question

from hpp_middleware import Gateway, MemoryStore, RequestError, StoreError, UpstreamError
from hpp_middleware.testing import FakeUpstream, Script

pytestmark = pytest.mark.anyio


async def test_a_completion_without_http_is_answered_settled_and_charged(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        reply = await found.complete(ALICE, question(), client_request_id="host-1")
        assert reply.status == 200
        assert json.loads(reply.body)["choices"][0]["message"]["content"] == "Hello world"
        headers = dict(reply.headers)
        assert headers["X-HPP-Router-Resolved-Model"] == MODEL
        assert headers["X-HPP-Router-Cost"] == "0.000013"
        assert headers["X-Request-Id"] == reply.id
        assert (reply.cost, reply.outcome) == (USAGE_NANO, "completed")
        (line,) = await check_books(found)
        assert (line.hold, line.amount, line.draft.client_request_id) == (reply.id, USAGE_NANO, "host-1")
        assert (await found.entries(ALICE, reply.id))[0] == line
        balance = await found.balance(ALICE)
        assert (balance.used, balance.held, balance.requests, balance.tokens) == (USAGE_NANO, 0, 1, 11)


async def test_a_stream_without_http_arrives_piece_by_piece_and_whole(fake_upstream: FakeUpstream) -> None:
    pieces: list[bytes] = []

    async def send(piece: bytes) -> None:
        pieces.append(piece)

    fake_upstream.script = Script(delay_between_s=0.01)  # so that no two events share a piece
    async with gateway(fake_upstream) as found:
        reply = await found.complete(ALICE, question(stream=True), send=send)
        assert b"".join(pieces) == reply.body
        assert len(pieces) > 3
        assert chunks(reply.body)[-1] == "[DONE]"
        assert reply.cost == USAGE_NANO
        await check_books(found)


async def test_a_stream_that_breaks_off_without_http_says_so(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(truncate_after_events=2)
    async with gateway(fake_upstream) as found:
        reply = await found.complete(ALICE, question(stream=True))
        assert (reply.status, reply.outcome) == (200, "failed")
        assert "error" in chunks(reply.body)[-1]
        (line,) = await check_books(found)
        assert line.report.outcome == reply.outcome


@pytest.mark.parametrize("consumer", ["alice", None, {"id": "alice"}])
async def test_a_consumer_that_is_none_is_named(consumer: Any, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        with pytest.raises(TypeError, match=r"Consumer\(id='alice'\)"):
            await found.complete(consumer, question())
    assert fake_upstream.log == []


@pytest.mark.parametrize(
    ("client_request_id", "error"), [(7, TypeError), (b"7", TypeError), ("\ud800", RequestError), ("\0", RequestError)]
)
async def test_an_id_of_the_hosts_that_the_ledger_cannot_keep_is_named(
    client_request_id: Any, error: type[Exception], fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as found:
        with pytest.raises(error, match="client_request_id"):
            await found.complete(ALICE, question(), client_request_id=client_request_id)
        assert await check_books(found) == []
    assert fake_upstream.log == []


@pytest.mark.parametrize(
    ("body", "error", "status"),
    [
        (b"{", RequestError, 400),
        (question(model="fake/nobody-priced-this/x"), RequestError, 400),
        (question(model="other/model"), RequestError, 400),
        (question(max_tokens=10_000_000), RequestError, 429),
    ],
)
async def test_what_the_caller_can_fix_is_raised_and_nothing_is_forwarded(
    body: Any, error: type[Exception], status: int, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream, provider={"models": ()}, nano=10**9) as found:
        with pytest.raises(error) as caught:
            await found.complete(ALICE, body)
        assert caught.value.status == status  # type: ignore[attr-defined]  # every error here has one
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_an_upstream_that_fails_raises_its_error_and_costs_nothing(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(status=500)
    async with gateway(fake_upstream) as found:
        with pytest.raises(UpstreamError) as caught:
            await found.complete(ALICE, question())
        assert (caught.value.status, caught.value.upstream_status) == (502, 500)
        (line,) = await check_books(found)
        assert (line.amount, line.report.outcome) == (0, "failed")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_host_that_gives_up_closes_the_upstream_and_is_charged_an_estimate(
    stream: bool,  # noqa: FBT001  # a parameter of the test
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(stall_after_events=2 if stream else 0)
    async with gateway(fake_upstream) as found:
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(found.complete, ALICE, question(stream=stream))
                await fake_upstream.arrived()
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        with anyio.fail_after(5):
            await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        (line,) = await check_books(found)
        assert line.report.outcome == "failed"
        assert line.report.estimated
        assert 0 < line.amount < line.held


async def test_a_host_that_had_given_up_before_is_charged_nothing(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await found.complete(ALICE, question())
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_an_error_of_the_hosts_own_send_comes_back_as_it_is_and_the_request_is_settled(
    fake_upstream: FakeUpstream,
) -> None:
    async def send(_: bytes) -> None:
        raise ZeroDivisionError

    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream) as found:
        with pytest.raises(ZeroDivisionError):
            await found.complete(ALICE, question(stream=True), send=send)
        (line,) = await check_books(found)
        assert line.report.estimated
        assert line.amount > 0


async def test_several_gateways_share_nothing(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as one, gateway(fake_upstream) as other:
        await one.complete(ALICE, question())
        assert (await one.balance(ALICE)).requests == 1
        assert (await other.balance(ALICE)).requests == 0
        key = await one.accounts.create_key("carol", quota="1")
        assert (await one.authenticate([(b"apikey", key.key.encode())])).id == "carol"
        with pytest.raises(RequestError):
            await other.authenticate([(b"apikey", key.key.encode())])


async def test_64_first_requests_at_once_open_the_store_once(fake_upstream: FakeUpstream) -> None:
    opened = 0

    class Slow(MemoryStore):
        async def open(self) -> None:
            nonlocal opened
            opened += 1
            await anyio.sleep(0.05)

    found = gateway(fake_upstream, store=Slow())
    async with anyio.create_task_group() as tasks:
        for _ in range(64):
            tasks.start_soon(found.complete, ALICE, question())
    assert opened == 1
    assert (await found.balance(ALICE)).requests == 64
    assert len(await check_books(found)) == 64
    await close(found)


async def test_a_store_that_cannot_be_opened_is_tried_again_by_the_next_request(fake_upstream: FakeUpstream) -> None:
    class Late(MemoryStore):
        tries = 0

        async def open(self) -> None:
            self.tries += 1
            if self.tries == 1:
                raise OSError("secret-host is down")

    found = gateway(fake_upstream, store=Late())
    with pytest.raises(StoreError) as caught:
        await found.complete(ALICE, question())
    assert "secret" not in caught.value.message
    assert (await found.complete(ALICE, question())).status == 200
    assert len(fake_upstream.log) == 1
    await close(found)


async def test_a_gateway_can_be_opened_again_after_it_was_closed(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    for turn in (1, 2, 3):
        async with found:
            await found.complete(ALICE, question())
            assert (await found.balance(ALICE)).requests == turn


async def test_a_gateway_opened_twice_stays_open_until_both_have_left(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    closed = 0

    async def aclose() -> None:
        nonlocal closed
        closed += 1

    store.aclose = aclose  # type: ignore[attr-defined]  # in the place of the other's
    found = gateway(fake_upstream, store=store)
    async with found:
        async with found:
            await found.complete(ALICE, question())
        assert closed == 0
        await found.complete(ALICE, question())
        assert (await found.worker()).timed
    assert closed == 1


async def test_what_the_body_of_a_gateways_block_raises_leaves_it_as_it_was(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    for block in (found, found.lifespan(None)):
        with pytest.raises(ZeroDivisionError):
            async with block:
                raise ZeroDivisionError


async def close(found: Gateway) -> None:
    """Close what a first request has opened."""
    async with found:
        pass
