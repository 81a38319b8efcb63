"""An upstream that fails is left alone: the witness log says what was sent, and the ledger what was charged."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import pytest
from rig import ALICE, CANARY, CHAT, KEY, MODEL, Delegate, Witness, ask, check_books, gateway, question, read_chat
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpp_middleware import Consumer
from hpp_middleware.asgi.app import Gateway
from hpp_middleware.core.auto import AutoPolicy
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.errors import UpstreamError
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.events import UpstreamChanged
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.operations import Reserve
from hpp_middleware.types.provider import Provider, Timeouts

pytestmark = pytest.mark.anyio

BREAKER = Breaker(failures=3, cooldown=10, window=600, longest=60)


class Clock:
    """A clock that is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def opened(upstream: FakeUpstream | str, **settings: Any) -> tuple[Gateway, Clock]:
    """A gateway whose breaker goes by a clock of the test's own."""
    provider = {"breaker": BREAKER, **settings.pop("provider", {})}
    found, clock = gateway(upstream, provider=provider, **settings), Clock()
    (await found.worker()).health.clock = clock
    return found, clock


async def wait_s(found: Gateway) -> float:
    return (await found.worker()).health.admits("fake", "fake-1")


async def test_one_that_fails_is_sent_nothing_until_a_probe_of_one_request_finds_it_well(
    fake_upstream: FakeUpstream,
) -> None:
    witness = Witness()
    found, clock = await opened(fake_upstream, observers=[witness])
    fake_upstream.next(*[Script(status=500)] * 3)
    for _ in range(3):
        assert (await read_chat(found))[0] == 502
    async with ask(found) as call:
        assert await call.started() == 503
        assert call.headers["retry-after"] == "10"
        assert "x-should-retry" not in call.headers
        error = (await call.json())["error"]
    assert (error["code"], error["provider"], error["retryable"]) == ("upstream_unavailable", "fake", True)
    assert len(fake_upstream.log) == 3
    assert witness.refused[-1].code == "upstream_unavailable"

    clock.now += 10
    fake_upstream.next(Script(delay_head_s=0.5))
    async with ask(found) as probe:
        await fake_upstream.arrived(4)
        assert (await read_chat(found))[0] == 503
        assert await probe.started() == 200
    assert (await read_chat(found))[0] == 200
    assert len(fake_upstream.log) == 5
    lines = await check_books(found)
    assert [line.report.outcome for line in lines] == ["failed"] * 3 + ["completed"] * 2
    changes = [event for event in witness.events if isinstance(event, UpstreamChanged)]
    assert [(change.upstream, change.state) for change in changes] == [("fake", "open"), ("fake", "closed")]


async def test_a_probe_that_fails_opens_it_again_for_longer(fake_upstream: FakeUpstream) -> None:
    found, clock = await opened(fake_upstream)
    fake_upstream.next(*[Script(status=503, headers=[("Retry-After", "50")])] * 4)
    for _ in range(3):
        await read_chat(found)
    assert await wait_s(found) == 50
    clock.now += 50
    await read_chat(found)
    assert await wait_s(found) == 50  # which is longer than twice ten
    assert len(fake_upstream.log) == 4
    clock.now += 50
    fake_upstream.next(Script(status=500))
    await read_chat(found)
    assert await wait_s(found) == 40


FAILURES = {
    "an error": Script(status=500),
    "a page": Script(raw_body=b"<html>", content_type="text/html"),
    "half of an answer": Script(truncate_at_byte=20),
    "another encoding": Script(content_encoding="br"),
    "a timeout of its own": Script(status=408),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_whatever_is_no_answer_is_a_failure(failure: str, fake_upstream: FakeUpstream, *, stream: bool) -> None:
    found, _ = await opened(fake_upstream)
    fake_upstream.script = FAILURES[failure]
    for _ in range(3):
        assert not await wait_s(found)
        await read_chat(found, stream=stream)
    assert await wait_s(found) == 10


async def test_a_stream_that_ends_in_an_error_is_one(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream)
    fake_upstream.script = Script(error_event={"error": {"message": "no", "code": 503}})
    for _ in range(3):
        await read_chat(found, stream=True)
    assert await wait_s(found) == 10


async def test_one_that_cannot_be_reached_is_left_alone(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened("http://127.0.0.1:9/v1")
    for _ in range(3):
        assert (await read_chat(found))[0] == 502
    assert (await read_chat(found))[0] == 503


async def test_one_that_keeps_silent_is_left_alone_by_the_providers_deadline_and_not_by_a_clients(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = Script(delay_head_s=20)
    found, _ = await opened(fake_upstream)
    for _ in range(4):
        for lower in (Deadlines(first_byte=0.1), Deadlines(total=0.1)):
            with pytest.raises(UpstreamError) as late:
                await found.complete(ALICE, question(), timeouts=lower)
            assert late.value.status == 504
    assert not await wait_s(found)
    assert fake_upstream.log != []
    found, _ = await opened(fake_upstream, timeouts=Timeouts(first_byte=0.1))
    for _ in range(3):
        assert (await read_chat(found))[0] == 504
    assert await wait_s(found) == 10


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_what_it_does_not_like_of_a_request_is_no_failure(status: int, fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream)
    fake_upstream.script = Script(status=status)
    for _ in range(5):
        assert (await read_chat(found))[0] == status
    assert not await wait_s(found)


async def test_clients_that_leave_say_nothing(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream)
    fake_upstream.script = Script(stall_after_events=1)
    for number in range(5):
        async with ask(found, stream=True) as call:
            await fake_upstream.arrived(number + 1)
            call.disconnect()
            await call.returned()
    assert not await wait_s(found)


async def test_a_key_over_its_limit_rests_until_that_is_reset(fake_upstream: FakeUpstream) -> None:
    found, clock = await opened(fake_upstream)
    fake_upstream.next(
        Script(status=429, headers=[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6.5s")])
    )
    assert (await read_chat(found))[0] == 429
    async with ask(found) as call:
        assert (await call.started(), call.headers["retry-after"]) == (503, "7")
    clock.now += 6.5
    assert (await read_chat(found))[0] == 200
    assert len(fake_upstream.log) == 2


async def test_a_key_that_is_no_good_is_told_to_the_operator_and_left_alone(fake_upstream: FakeUpstream) -> None:
    witness = Witness()
    found, _ = await opened(fake_upstream, observers=[witness])
    fake_upstream.next(Script(status=401))
    assert (await read_chat(found))[0] == 502
    assert (await read_chat(found))[0] == 503
    assert "upstream_refused" in witness.alarms


async def test_without_a_breaker_nobody_is_left_alone(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream, provider={"breaker": None})
    fake_upstream.script = Script(status=429)
    for _ in range(7):
        assert (await read_chat(found))[0] == 429


async def test_one_that_opens_while_the_hold_is_placed_is_sent_nothing_and_nothing_stays_held(
    fake_upstream: FakeUpstream,
) -> None:
    store = Delegate()
    found, _ = await opened(fake_upstream, store=store)
    health = (await found.worker()).health

    async def fail(operations: Sequence[Any]) -> None:
        if any(isinstance(each, Reserve) for each in operations):
            for _ in range(3):
                health.began("fake", "fake-1").ended(ok=False, status=500)

    store.before = fail
    assert (await read_chat(found))[0] == 503
    assert fake_upstream.log == []
    assert await check_books(found) == []


class Faulty(OpenAI):
    """A dialect with a bug."""

    def answer(self, *_: Any, **__: Any) -> Any:
        raise KeyError(CANARY)


def breaking(app: ASGIApp) -> ASGIApp:
    """A host whose own ``send`` breaks on every piece of a body."""

    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body":
                raise RuntimeError(CANARY)
            await send(message)

        await app(scope, receive, sending)

    return host


@pytest.mark.parametrize("whose", ["the host's send", "the dialect"])
async def test_what_is_a_bug_of_the_hosts_is_no_mark_against_the_provider(
    fake_upstream: FakeUpstream, whose: str, caplog: pytest.LogCaptureFixture
) -> None:
    stream = whose == "the host's send"
    found, _ = await opened(fake_upstream, **({} if stream else {"dialects": {"openai": Faulty()}}))
    for number in range(1, 5):
        app = breaking(found.app) if stream else found.app
        async with post(app, CHAT, question(stream=stream), headers={"apikey": KEY}) as call:
            with suppress(anyio.EndOfStream):
                await call.read()
        assert len(fake_upstream.log) == number
    assert await wait_s(found) == 0
    assert found.provider_states() == {"fake": "closed"}
    assert "internal error" in caplog.text
    assert CANARY not in caplog.text
    for line in await check_books(found):
        assert line.amount > 0
        assert [each.error for each in line.report.attempts] == ["internal_error"]


async def test_an_answer_that_is_kept_is_given_again_by_one_that_is_left_alone(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream)
    keyed = {"Idempotency-Key": "once"}
    async with ask(found, headers=keyed) as call:
        first = await call.read()
    fake_upstream.next(*[Script(status=500)] * 3)
    for _ in range(3):
        await read_chat(found)
    async with ask(found, headers=keyed) as call:
        assert (await call.started(), await call.read()) == (200, first)
    async with ask(found, headers={"Idempotency-Key": "another"}) as call:
        assert await call.started() == 503
    assert len(fake_upstream.log) == 4
    await check_books(found)


async def test_the_router_chooses_a_model_whose_upstream_is_well(fake_upstream: FakeUpstream) -> None:
    providers = {name: Provider(base_url=fake_upstream.url, breaker=BREAKER) for name in ("fake", "other")}
    prices = {"input": "1", "output": "2"}
    found, _ = await opened(
        fake_upstream,
        providers=providers,
        models={MODEL: prices, "other/one": prices},
        auto=AutoPolicy(simple=(MODEL, "other/one"), simple_max_tokens=1_000),
    )
    fake_upstream.next(*[Script(status=500)] * 3)
    for _ in range(3):
        await read_chat(found)
    async with ask(found, model="hpprouter/auto") as call:
        assert await call.started() == 200
        assert call.headers["x-hpp-router-resolved-model"] == "other/one"


async def test_an_app_in_process_has_no_breaker(fake_upstream: FakeUpstream) -> None:
    found, _ = await opened(fake_upstream)
    worker = await found.worker()
    fake_upstream.script = Script(status=500)
    for number in range(5):
        with pytest.raises(UpstreamError) as error:
            await found.answer(
                Consumer(id="alice"),
                b'{"model": "fake/fake-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}',
                Silent(),
                request_id=f"req_{number}",
                transport=worker.transports["fake"],
            )
        assert error.value.status == 502
    assert not await wait_s(found)


class Silent:
    """A client that takes what it is given."""

    started = False
    patient = True

    async def start(self, status: int, headers: Any) -> None:
        self.started = True

    async def send(self, data: bytes, *, more: bool) -> None:
        pass

    def hear(self, left: Any) -> None:
        return None

    async def gone(self) -> None:
        await anyio.sleep_forever()
