"""A request with an Idempotency-Key is run once and charged once, whoever asks again, and whenever."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from rig import ALICE, BOB_KEY, KEY, MODEL, USAGE_NANO, Delegate, ask, check_books, chunks, gateway, question

from hpp_middleware import Gateway, MemoryStore, RequestError, SQLiteStore
from hpp_middleware.core.auto import AutoPolicy
from hpp_middleware.errors import OverloadedError
from hpp_middleware.observers.logging import LoggingObserver
from hpp_middleware.stages.settle.settling import Pending
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.operations import Renew, Settle, Sweep
from hpp_middleware.types.provider import Declared
from hpp_middleware.types.replay import Idempotency

pytestmark = pytest.mark.anyio

KEYED = {"idempotency-key": "order-66"}


async def asked(
    found: Gateway, *, key: str = KEY, headers: dict[str, str] = KEYED, **fields: Any
) -> tuple[int, Any, bytes]:
    async with ask(found, key=key, headers=headers, **fields) as call:
        status = await call.started()
        body = await call.read()
        await call.returned()
        return status, call.headers, body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_gets_the_same_answer_and_is_charged_once(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    found = gateway(fake_upstream)
    fields: dict[str, Any] = {"stream": stream, **({"stream_options": {"include_usage": True}} if stream else {})}
    status, first, body = await asked(found, **fields)
    assert (status, first.get("idempotency-replayed")) == (200, None)
    for _ in range(2):
        status, again, replayed = await asked(found, **fields)
        assert (status, replayed) == (200, body)
        assert again["idempotency-replayed"] == "true"
        assert again["x-request-id"] == first["x-request-id"]
        assert again["content-type"] == first["content-type"]
        assert again.get("x-hpp-router-cost") == (None if stream else "0")
    assert len(fake_upstream.log) == 1
    (line,) = await check_books(found)
    assert (line.amount, line.id) == (USAGE_NANO, first["x-request-id"])
    if stream:
        assert chunks(body)[-1] == "[DONE]"


async def test_observers_are_told_of_an_answer_given_again(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    found = gateway(fake_upstream, observers=[LoggingObserver()])
    caplog.set_level("INFO", "hpp_middleware")
    _, first, _ = await asked(found)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["completed"]
    caplog.clear()
    await asked(found)
    (line,) = caplog.records
    assert line.getMessage() == f"replayed {first['x-request-id']} alice fake/fake-1"


async def test_a_repeat_while_it_runs_is_a_409_that_no_sdk_repeats(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    fake_upstream.next(Script(delay_head_s=1.0))
    async with ask(found, headers=KEYED) as call:
        await fake_upstream.arrived(1)
        status, headers, body = await asked(found)
        assert (status, headers["x-should-retry"]) == (409, "false")
        assert json.loads(body)["error"]["code"] == "idempotency_request_in_progress"
        assert await call.started() == 200
        await call.read()
        await call.returned()
    assert len(fake_upstream.log) == 1
    assert len(await check_books(found)) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_right_after_the_last_byte_gets_the_answer_although_settling_is_slow(
    stream: bool,  # noqa: FBT001  # a parameter of the test
    fake_upstream: FakeUpstream,
) -> None:
    store = Delegate()

    async def slow(operations: Sequence[Any]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            await anyio.sleep(0.3)

    store.before = slow
    async with gateway(fake_upstream, store=store) as found, ask(found, headers=KEYED, stream=stream) as call:
        first = await call.read()
        assert not call._returned.is_set()
        status, headers, body = await asked(found, stream=stream)
        assert (status, headers["idempotency-replayed"], body) == (200, "true", first)
    assert len(fake_upstream.log) == 1


async def test_another_request_under_the_same_key_is_a_409(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    await asked(found)
    status, headers, body = await asked(found, max_tokens=99)
    assert (status, headers["x-should-retry"]) == (409, "false")
    assert json.loads(body)["error"]["code"] == "idempotency_key_conflict"
    assert len(fake_upstream.log) == 1


async def test_a_key_is_its_consumers_own(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    await asked(found)
    status, headers, _ = await asked(found, key=BOB_KEY)
    assert (status, "idempotency-replayed" in headers) == (200, False)
    assert len(fake_upstream.log) == 2


@pytest.mark.parametrize(
    "settings",
    [Idempotency(keep=False), Idempotency(body_bytes=10), Idempotency(account_bytes=10)],
    ids=["not kept", "too long", "no room"],
)
async def test_what_was_not_kept_is_not_run_again(settings: Idempotency, fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream, idempotency=settings)
    assert (await asked(found))[0] == 200
    status, headers, body = await asked(found)
    assert (status, headers["x-should-retry"]) == (409, "false")
    assert json.loads(body)["error"]["code"] == "idempotency_not_replayable"
    assert len(fake_upstream.log) == 1
    assert len(await check_books(found)) == 1


async def test_a_failure_that_cost_nothing_can_be_tried_again(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    fake_upstream.next(Script(status=503))
    assert (await asked(found))[0] == 502
    status, headers, _ = await asked(found)
    assert (status, "idempotency-replayed" in headers) == (200, False)
    lines = await check_books(found)
    assert [line.amount for line in lines] == [0, USAGE_NANO]


async def test_a_stream_that_broke_was_charged_and_is_not_run_again(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    fake_upstream.next(Script(truncate_after_events=2))
    await asked(found, stream=True)
    status, _, body = await asked(found, stream=True)
    assert (status, json.loads(body)["error"]["code"]) == (409, "idempotency_not_replayable")
    (line,) = await check_books(found)
    assert line.amount > 0


async def test_a_stream_is_drained_for_a_client_that_left_and_given_to_it_later(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    fake_upstream.next(Script(delay_between_s=0.02))
    async with ask(found, headers=KEYED, stream=True) as call:
        await call.started()
        await call.event()
        call.disconnect()
        await call.returned()
    status, headers, body = await asked(found, stream=True)
    assert (status, headers["idempotency-replayed"]) == (200, "true")
    assert chunks(body)[-1] == "[DONE]"
    (line,) = await check_books(found)
    assert (line.report.outcome, line.amount, line.report.estimated) == ("abandoned", USAGE_NANO, False)
    assert len(fake_upstream.log) == 1


async def test_nobody_waits_for_a_stream_that_is_drained_under_another_key(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []
    waited = Pending.wait

    async def wait(pending: Pending, name: str, seconds: float) -> None:
        waits.extend([name] if pending.has(name) else [])
        await waited(pending, name, 0)

    monkeypatch.setattr(Pending, "wait", wait)
    found = gateway(fake_upstream)
    fake_upstream.next(Script(texts=("Hello",), stall_after_events=2))
    async with ask(found, headers=KEYED, stream=True) as call:
        await call.event()
        call.disconnect()
        await anyio.wait_all_tasks_blocked()
        assert (await asked(found, headers={"idempotency-key": "another"}))[0] == 200
        assert waits == []
        assert (await asked(found, stream=True))[0] == 409
        assert len(waits) == 1
        for worker in found.setup.workers():
            worker.answering.expire(lambda: OverloadedError("It is enough."))
        await call.returned()


async def test_a_key_is_found_when_the_quota_is_used_up(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream, nano=300_000)
    first = await asked(found)
    account = found.accounts
    await account.set_quota("alice", "0")
    again = await asked(found)
    assert (again[0], again[2]) == (200, first[2])


async def test_a_dead_workers_key_can_be_used_again(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    found = gateway(fake_upstream, store=MemoryStore(clock=clock))
    fake_upstream.next(Script(delay_head_s=5))
    async with ask(found, headers=KEYED):
        await fake_upstream.arrived(1)
        clock.now += 31  # as for a worker that renews nothing any more
        await found.store.apply([Renew(owner="sweeper", ttl_s=30), Sweep()])
        status, headers, _ = await asked(found)
        assert (status, "idempotency-replayed" in headers) == (200, False)
    assert len(fake_upstream.log) == 2


async def test_an_answer_outlives_its_process_and_can_be_read_by_nobody_else(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    fake_upstream.next(Script(texts=["a very private answer"]))
    store = SQLiteStore(tmp_path / "hpp.db")
    async with gateway(fake_upstream, store=store) as found:
        _, _, body = await asked(found)
        assert b"a very private answer" in body
    async for name in anyio.Path(tmp_path).glob("hpp.db*"):
        if await name.is_file():
            for secret in (b"private", b"order-66"):
                assert secret not in await name.read_bytes()
    async with gateway(fake_upstream, store=SQLiteStore(tmp_path / "hpp.db")) as found:
        assert (await asked(found))[2] == body
    async with gateway(
        fake_upstream, store=SQLiteStore(tmp_path / "hpp.db"), pepper=b"another pepper, 32 bytes or more"
    ) as found:
        status, _, refused = await asked(found)  # known still, but nobody can read it
        assert (status, json.loads(refused)["error"]["code"]) == (409, "idempotency_not_replayable")
    assert len(fake_upstream.log) == 1


async def test_an_answer_is_forgotten_in_its_time(fake_upstream: FakeUpstream) -> None:
    clock = Clock()
    found = gateway(fake_upstream, store=MemoryStore(clock=clock), idempotency=Idempotency(ttl_s=60))
    await asked(found)
    clock.now += 59
    assert (await asked(found))[1]["idempotency-replayed"] == "true"
    clock.now += 2
    assert "idempotency-replayed" not in (await asked(found))[1]
    assert len(fake_upstream.log) == 2


async def test_the_time_of_a_key_begins_with_its_request_and_ends_never_while_that_runs(
    fake_upstream: FakeUpstream,
) -> None:
    clock = Clock()
    found = gateway(fake_upstream, store=MemoryStore(clock=clock), idempotency=Idempotency(ttl_s=10))
    fake_upstream.holding = True
    async with ask(found, headers=KEYED) as call:
        await fake_upstream.arrived()
        clock.now += 11
        assert (await asked(found))[0] == 409
        fake_upstream.holding = False
        assert await call.started() == 200
        await call.read()
        await call.returned()
    assert "idempotency-replayed" not in (await asked(found))[1]
    assert len(await check_books(found)) == len(fake_upstream.log) == 2


@pytest.mark.parametrize("value", ["", "x" * 256, "a\tb"])
async def test_a_bad_key_is_a_400_that_names_it(value: str, fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    status, _, body = await asked(found, headers={"idempotency-key": value})
    error = json.loads(body)["error"]
    assert (status, error["code"], error["param"]) == (400, "invalid_request", "Idempotency-Key")
    assert not fake_upstream.log


async def test_a_hosts_own_code_can_use_keys_too(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream, consumers={"alice": Declared(quota=10**10)})
    first = await found.complete(ALICE, question(), idempotency_key="job-1")
    again = await found.complete(ALICE, question(), idempotency_key="job-1")
    assert (again.body, again.id, again.cost) == (first.body, first.id, 0)
    with pytest.raises(RequestError, match="another request"):
        await found.complete(ALICE, question(max_tokens=3), idempotency_key="job-1")
    assert len(fake_upstream.log) == 1


async def test_of_many_at_once_one_is_run(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream)
    fake_upstream.next(*[Script(delay_head_s=0.2)] * 16)
    statuses: list[int] = []

    async def one() -> None:
        statuses.append((await asked(found))[0])

    async with anyio.create_task_group() as group:
        for _ in range(16):
            group.start_soon(one)
    assert sorted(set(statuses)) in ([200], [200, 409])
    assert len(fake_upstream.log) == 1
    assert len(await check_books(found)) == 1


async def test_a_repeat_gets_the_answer_that_auto_chose_while_all_models_are_left_alone(
    fake_upstream: FakeUpstream,
) -> None:
    policy = AutoPolicy(rules_version="1", simple=(MODEL,), simple_max_tokens=1000)
    async with gateway(fake_upstream, provider={"breaker": Breaker(failures=1)}, auto=policy) as found:
        status, first, body = await asked(found, model="hpprouter/auto")
        assert status == 200
        (await found.worker()).health.began("fake", "fake-1").ended(ok=False, status=500)
        status, again, replayed = await asked(found, model="hpprouter/auto")
        assert (status, replayed, again["idempotency-replayed"]) == (200, body, "true")
        assert again["x-request-id"] == first["x-request-id"]
        status, _, refused = await asked(found, model="hpprouter/auto", headers={"idempotency-key": "another"})
        assert (status, json.loads(refused)["error"]["code"]) == (503, "upstream_unavailable")
        status, _, refused = await asked(found, model="hpprouter/auto", headers={})
        assert (status, json.loads(refused)["error"]["code"]) == (400, "smart_routing_failed")
        assert len(await check_books(found)) == 1
    assert len(fake_upstream.log) == 1


async def test_a_model_that_the_host_finds_ill_is_not_asked_under_a_key_either(fake_upstream: FakeUpstream) -> None:
    policy = AutoPolicy(rules_version="1", simple=(MODEL,), simple_max_tokens=1000)
    async with gateway(fake_upstream, auto=policy, unhealthy=lambda _: True) as found:
        status, _, refused = await asked(found, model="hpprouter/auto")
        assert (status, json.loads(refused)["error"]["code"]) == (400, "smart_routing_failed")
    assert fake_upstream.log == []
