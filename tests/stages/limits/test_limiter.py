"""Limits on the whole path: nothing is held or sent for what is refused, and whatever ends is put right."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from rig import ALICE, BOB_KEY, KEY, MODEL, Witness, ask, check_books, gateway, question

from hpp_middleware import Consumer, Gateway, MemoryStore, Provider, RequestError, StoreError
from hpp_middleware.core import limits as deciding
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stages.limits import limiter as stage
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.limits import Ask, OnOutage, RateLimit, Standing
from hpp_middleware.types.provider import Declared
from stages.limiting import Counted, asked, limited

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_over_the_limit_is_a_429_and_reaches_nobody(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    store = Counted()
    found = limited(fake_upstream, RateLimit(requests_per_minute=2), store=store)
    told = [await asked(found, stream=stream) for _ in range(3)]
    assert [status for status, _, _ in told] == [200, 200, 429]
    assert [headers["x-ratelimit-remaining-requests"] for _, headers, _ in told] == ["1", "0", "0"]
    assert [headers["x-ratelimit-limit-requests"] for _, headers, _ in told] == ["2"] * 3
    assert [headers["x-ratelimit-reset-requests"] for _, headers, _ in told] == ["30s", "1m0s", "1m0s"]
    _, headers, body = told[-1]
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("30", "30000")
    assert "x-should-retry" not in headers
    error = json.loads(body)["error"]
    assert (error["type"], error["code"], error["retryable"]) == ("rate_limit_error", "rate_limit_exceeded", True)
    assert len(fake_upstream.log) == 2
    assert len(await check_books(found)) == 2
    store.clock.now += 30
    assert (await asked(found, stream=stream))[0] == 200


async def test_one_that_floods_takes_nothing_of_anothers(fake_upstream: FakeUpstream) -> None:
    found = limited(fake_upstream, RateLimit(requests_per_minute=2))
    for _ in range(5):
        await asked(found)
    assert (await asked(found))[0] == 429
    assert [(await asked(found, key=BOB_KEY))[0] for _ in range(3)] == [200, 200, 429]


async def test_each_key_has_windows_of_its_own_where_that_is_said(fake_upstream: FakeUpstream) -> None:
    another = "alice-shows-a-second-key"
    consumers = {"alice": Declared(quota=10**10, keys=(KEY, another))}
    found = limited(fake_upstream, RateLimit(per="key", requests_per_minute=1), consumers=consumers)
    assert [(await asked(found, key=key))[0] for key in (KEY, another, KEY, another)] == [200, 200, 429, 429]


async def test_a_models_limit_leaves_other_models_alone(fake_upstream: FakeUpstream) -> None:
    price = {"input": "1", "output": "2"}
    models = {MODEL: price, "fake/fake-2": price}
    found = limited(fake_upstream, RateLimit(model=MODEL, requests_per_minute=1), models=models, model=None)
    assert [(await asked(found))[0] for _ in range(2)] == [200, 429]
    status, headers, _ = await asked(found, model="fake/fake-2")
    assert status == 200
    assert not [name for name in headers if name.startswith("x-ratelimit")]


@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_drawn_as_estimated_and_put_right_as_reported(
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    found = limited(fake_upstream, RateLimit(tokens_per_minute=1000))
    _, headers, _ = await asked(found, stream=stream)
    estimated = 1000 - int(headers["x-ratelimit-remaining-tokens"])
    assert 100 < estimated < 200
    _, headers, _ = await asked(found, stream=stream)
    assert int(headers["x-ratelimit-remaining-tokens"]) == 1000 - estimated - 11  # what the fake reports


async def test_an_answer_longer_than_was_drawn_for_leaves_a_debt(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    found = limited(fake_upstream, RateLimit(tokens_per_minute=600), store=store)
    fake_upstream.next(Script(usage={"prompt_tokens": 900, "completion_tokens": 300, "total_tokens": 1200}))
    assert (await asked(found))[0] == 200
    status, headers, _ = await asked(found)
    assert status == 429
    assert headers["x-ratelimit-remaining-tokens"] == "0"
    assert headers["x-ratelimit-reset-tokens"] == "2m0s"
    wait_s = int(headers["retry-after-ms"]) / 1000
    assert 60 < wait_s < 80
    store.clock.now += wait_s - 0.1
    assert (await asked(found))[0] == 429
    store.clock.now += 0.1
    assert (await asked(found))[0] == 200


async def test_a_request_larger_than_its_window_is_told_not_to_try_again(fake_upstream: FakeUpstream) -> None:
    found = limited(fake_upstream, RateLimit(tokens_per_minute=600))
    status, headers, body = await asked(found, max_tokens=1000)
    assert (status, headers["x-should-retry"]) == (429, "false")
    assert "retry-after" not in headers
    assert json.loads(body)["error"]["retryable"] is False
    assert (await asked(found))[0] == 200
    assert len(fake_upstream.log) == 1


async def test_as_many_run_at_once_as_may_and_a_place_comes_back_with_each_end(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    found = limited(fake_upstream, RateLimit(concurrency=2), store=store)
    fake_upstream.next(*[Script(stall_after_events=2)] * 2)
    async with ask(found, stream=True) as one:
        assert await one.started() == 200
        async with ask(found, stream=True) as two:
            assert await two.started() == 200
            status, headers, body = await asked(found)
            assert (status, headers["retry-after"], headers["retry-after-ms"]) == (429, "1", "1000")
            assert "2 requests at once" in json.loads(body)["error"]["message"]
            assert (await asked(found, key=BOB_KEY))[0] == 200
            assert store.places == 2
        assert (await asked(found))[0] == 200
    assert store.places == 0


async def test_a_host_that_cancels_has_its_place_back(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    fake_upstream.next(Script(stall_after_events=2))
    async with limited(fake_upstream, RateLimit(concurrency=1), store=store) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: found.complete(ALICE, question(stream=True), send=_nothing))
            await fake_upstream.arrived(1)
            with pytest.raises(RequestError) as refused:
                await found.complete(ALICE, question())
            assert refused.value.code == "rate_limit_exceeded"
            tasks.cancel_scope.cancel()
        assert store.places == 0
        await found.complete(ALICE, question())


async def _nothing(_: bytes) -> None: ...


@pytest.mark.parametrize("status", [400, 500])
async def test_an_upstream_that_fails_costs_a_request_and_no_tokens(status: int, fake_upstream: FakeUpstream) -> None:
    store = Counted()
    found = limited(fake_upstream, RateLimit(requests_per_minute=5, tokens_per_minute=1000, concurrency=1), store=store)
    fake_upstream.next(Script(status=status))
    failed, headers, _ = await asked(found)
    assert failed >= 400
    assert headers["x-ratelimit-remaining-requests"] == "4"
    _, headers, _ = await asked(found, key=KEY)
    assert headers["x-ratelimit-remaining-requests"] == "3"
    assert int(headers["x-ratelimit-remaining-tokens"]) > 800
    assert store.places == 0


async def test_no_quota_counts_as_a_request_and_its_tokens_come_back(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    limit = RateLimit(requests_per_minute=5, tokens_per_minute=1000, concurrency=1)
    found = limited(fake_upstream, limit, store=store, nano=1)
    for left in ("4", "3"):
        status, headers, body = await asked(found)
        assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")
        assert headers["x-ratelimit-remaining-requests"] == left
        assert int(headers["x-ratelimit-remaining-tokens"]) > 800
        assert "retry-after" not in headers
    assert store.places == 0


async def test_an_answer_given_again_and_one_in_flight_take_nothing(fake_upstream: FakeUpstream) -> None:
    store = Counted()
    limit = RateLimit(requests_per_minute=5, tokens_per_minute=1000)
    found = limited(fake_upstream, limit, store=store)
    keyed: dict[str, Any] = {"headers": {"idempotency-key": "order-66"}}
    fake_upstream.next(Script(delay_head_s=0.5))
    async with ask(found, **keyed) as call:
        await fake_upstream.arrived(1)
        assert (await asked(found, **keyed))[0] == 409
        assert await call.started() == 200
        await call.read()
        await call.returned()
    for _ in range(3):
        status, headers, _ = await asked(found, **keyed)
        assert (status, headers["idempotency-replayed"]) == (200, "true")
        assert headers["x-ratelimit-remaining-requests"] == "3"  # this one, until it is known for a repeat
    _, headers, _ = await asked(found)
    assert headers["x-ratelimit-remaining-requests"] == "3"
    assert len(fake_upstream.log) == 2


@pytest.mark.parametrize(("outage", "expected"), [("closed", 503), ("open", 200)])
async def test_limits_that_cannot_be_counted_refuse_unless_told_otherwise(
    outage: OnOutage, expected: int, fake_upstream: FakeUpstream
) -> None:
    store, witness = Counted(), Witness()
    limit = RateLimit(requests_per_minute=1)
    found = limited(fake_upstream, limit, store=store, limit_outage=outage, observers=[witness])
    store.error = OSError("the store's own words")
    told = [await asked(found) for _ in range(2)]
    assert [status for status, _, _ in told] == [expected] * 2
    _, headers, body = told[0]
    if outage == "closed":
        assert (json.loads(body)["error"]["code"], headers["retry-after"]) == ("limits_unavailable", "1")
    assert b"own words" not in body
    store.error = None
    assert [(await asked(found))[0] for _ in range(2)] == [200, 429]
    assert witness.alarms == ["limits"]
    assert len(fake_upstream.log) == (1 if outage == "closed" else 3)


async def test_a_correction_that_is_not_taken_changes_no_answer(fake_upstream: FakeUpstream) -> None:
    store, witness = Counted(), Witness()
    found = limited(fake_upstream, RateLimit(tokens_per_minute=1000, concurrency=2), store=store, observers=[witness])
    async with ask(found, stream=True) as call:
        assert await call.started() == 200
        store.error = StoreError("gone")
        await call.read()
        await call.returned()
    assert witness.alarms == ["limits"]
    assert store.places == 1  # until its time is over
    store.error = None
    store.clock.now += deciding.SLOT_S
    assert [(await asked(found))[0] for _ in range(2)] == [200, 200]
    assert store.places == 0


@pytest.mark.parametrize("opened", [True, False])
async def test_the_place_of_a_long_request_is_extended(
    opened: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deciding, "SLOT_S", 0.2)
    extended = anyio.Event()

    class Told(Counted):
        async def extend(self, asks: Sequence[Ask]) -> None:
            await super().extend(asks)
            extended.set()

    store = Told()
    fake_upstream.next(Script(stall_after_events=2))
    found = limited(fake_upstream, RateLimit(concurrency=1), store=store)
    async with aclosing(_opened(found, opened=opened)) as there:
        await anext(there)
        async with ask(found, stream=True) as call:
            assert await call.started() == 200
            store.clock.now += 0.15
            extended = anyio.Event()
            await extended.wait()
            store.clock.now += 0.15
            assert (await asked(found))[0] == 429


async def _opened(found: Gateway, *, opened: bool) -> AsyncGenerator[None]:
    if opened:
        async with found:
            yield
    else:
        yield


async def test_a_client_that_has_its_last_byte_may_ask_again_at_once(fake_upstream: FakeUpstream) -> None:
    reached, go_on = anyio.Event(), anyio.Event()

    class Slow(Counted):
        async def correct(self, ask: Ask) -> None:
            reached.set()
            await go_on.wait()
            await super().correct(ask)

    found = limited(fake_upstream, RateLimit(concurrency=1), store=Slow())
    async with ask(found) as call:
        assert await call.started() == 200
        await call.read()
        await reached.wait()
        async with anyio.create_task_group() as tasks:
            statuses: list[int] = []

            async def again() -> None:
                statuses.append((await asked(found))[0])

            tasks.start_soon(again)
            await anyio.wait_all_tasks_blocked()
            assert statuses == []
            go_on.set()
        assert statuses == [200]
        await call.returned()


async def test_a_place_is_waited_for_only_so_long(fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "ENDING_S", 0.05)
    reached, go_on = anyio.Event(), anyio.Event()

    class Stuck(Counted):
        async def correct(self, ask: Ask) -> None:
            reached.set()
            await go_on.wait()
            await super().correct(ask)

    found = limited(fake_upstream, RateLimit(concurrency=1), store=Stuck())
    async with ask(found) as call:
        assert await call.started() == 200
        await call.read()
        await reached.wait()
        assert (await asked(found))[0] == 429
        go_on.set()
        await call.returned()


@pytest.mark.parametrize(
    ("path", "fields", "refusal"),
    [
        ("/v1/messages", {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}, "rate_limit_error"),
        ("/v1/responses", {"input": "Hi"}, "rate_limit_exceeded"),
    ],
)
async def test_other_apis_are_limited_too_each_in_its_own_words(
    path: str, fields: dict[str, Any], refusal: str, fake_upstream: FakeUpstream
) -> None:
    found = limited(fake_upstream, RateLimit(requests_per_minute=1, tokens_per_minute=100_000))
    prefix = "anthropic-ratelimit-requests-" if path == "/v1/messages" else "x-ratelimit-"
    last = "remaining" if path == "/v1/messages" else "remaining-requests"
    for expected in (200, 429):
        async with post(found.app, path, {"model": MODEL, **fields}, headers={"x-api-key": KEY}) as call:
            assert await call.started() == expected, await call.read()
            body = await call.json()
            await call.returned()
            assert dict(call.headers)[prefix + last] == "0"
    assert "retry-after-ms" in call.headers
    assert refusal in (body["error"]["type"], body["error"].get("code"))
    assert path != "/v1/messages" or body["type"] == "error"
    if path == "/v1/messages":
        reset = datetime.fromisoformat(dict(call.headers)["anthropic-ratelimit-requests-reset"])
        assert 0 <= (reset - datetime.now(UTC)).total_seconds() <= 61


def test_what_is_no_limit_store_or_no_limit_is_refused() -> None:
    providers = {"fake": Provider(base_url="http://127.0.0.1:9/v1")}
    limits = [RateLimit(requests_per_minute=1)]
    for settings, param in (
        ({"rate_limits": [{"requests_per_minute": 1}]}, r"rate_limits\[0\]"),
        ({"rate_limits": limits, "limit_store": object()}, "limit_store"),
        ({"rate_limits": limits, "limit_outage": "ajar"}, "limit_outage"),
        ({"rate_limits": [*limits, *limits]}, r"rate_limits\[1\].requests_per_minute"),
    ):
        with pytest.raises(ConfigurationError, match=f"^{param}"):
            Gateway(providers=providers, **settings)


async def test_a_store_of_another_kind_is_counted_for_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    with pytest.raises(ConfigurationError, match="limits in memory are one process's own"):
        await MemoryLimits().open()
    await MemoryLimits(several_workers=True).open()


async def test_nothing_is_asked_of_a_store_where_nothing_is_limited(fake_upstream: FakeUpstream) -> None:
    class Deaf(MemoryStore):
        async def take(self, ask: Ask) -> Standing:
            raise AssertionError

    found = gateway(fake_upstream, store=Deaf())
    status, headers, _ = await asked(found)
    assert status == 200
    assert not [name for name in headers if "ratelimit" in name]
    others = limited(fake_upstream, RateLimit(consumer="bob", requests_per_minute=1))
    assert [(await asked(others))[0] for _ in range(2)] == [200, 200]


def test_a_hosts_consumers_are_limited_by_their_names() -> None:
    rules = deciding.Rules([RateLimit(requests_per_minute=1)], {"fake"})
    found = rules.asked(Consumer(id="a host's", account="shared"), MODEL, tokens=1, holder="r")
    assert found is not None
    assert found.ask.home == "a host's"
