"""A worker with more to do than it can: who is answered next, and what the others are told."""

import json
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint
from rig import ALICE, BOB_KEY, CHAT, KEY, Witness, ask, check_books, gateway, question, read

from hpp_middleware import ConfigurationError, Gateway
from hpp_middleware.errors import OverloadedError
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.deadlines import Deadlines
from hpp_middleware.types.load import Load

pytestmark = pytest.mark.anyio

STANDS = Script(texts=("some", "words"), stall_after_events=2)
NO_LINE = Load(in_flight=1, queue=0)


async def places(found: Gateway, running: int, waiting: int) -> None:
    """Go on when so many have a place, and so many wait for one."""
    queue = (await found.worker()).queue
    while (queue.running, queue.waiting) != (running, waiting):
        await checkpoint()


async def opened(stack: AsyncExitStack, found: Gateway, **settings: Any) -> Call:
    """A stream that has begun, and goes on until the stack is left."""
    call = await stack.enter_async_context(ask(found, stream=True, **settings))
    assert await call.started() == 200
    return call


async def test_a_tenant_that_floods_waits_behind_itself(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    load = Load(in_flight=4, per_consumer=0, queue=20, queue_s=60)
    async with gateway(fake_upstream, load=load) as found:
        async with AsyncExitStack() as stack:
            first = [await opened(stack, found, user=f"flood {number}") for number in range(4)]
            later = []
            for number in range(5):
                later.append(await stack.enter_async_context(ask(found, stream=True)))
                await places(found, 4, number + 1)
            victim = await stack.enter_async_context(ask(found, key=BOB_KEY, stream=True))
            await places(found, 4, 6)
            assert len(fake_upstream.log) == 4  # who waits is not forwarded, and holds nothing
            assert (await read(found, "/api/quota-check", key=BOB_KEY))["held"] == 0
            first[0].disconnect()
            assert await victim.started() == 200  # though five of the others came before
            await places(found, 4, 5)
            first[1].disconnect()
            assert await later[0].started() == 200
            for call in (*first, *later, victim):
                call.disconnect()
        await places(found, 0, 0)
        assert len(await check_books(found)) == len(fake_upstream.log) - 1


async def test_a_share_leaves_room_for_others(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    load = Load(in_flight=10, per_consumer=2, queue=20, queue_s=60)
    async with gateway(fake_upstream, load=load) as found, AsyncExitStack() as stack:
        await opened(stack, found, key=BOB_KEY)
        mine = [await opened(stack, found) for _ in range(2)]
        await stack.enter_async_context(ask(found, stream=True))
        await places(found, 3, 1)
        await opened(stack, found, key=BOB_KEY)
        await places(found, 4, 1)
        mine[0].disconnect()
        await places(found, 4, 0)


@pytest.mark.parametrize(
    ("path", "kind"),
    [(CHAT, "server_error"), ("/v1/messages", "overloaded_error"), ("/v1/responses", "server_error")],
)
async def test_what_is_refused_is_told_in_its_own_api_before_its_body_is_read(
    path: str, kind: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=NO_LINE) as found, AsyncExitStack() as stack:
        await opened(stack, found)
        headers = {"apikey": BOB_KEY, "content-type": "application/json"}
        async with post(found.app, path, b'{"model', headers=headers, unfinished=True) as call:
            assert await call.started() == 503
            told = await call.json()
        assert call.headers["retry-after"] == "2"
        assert told["error"]["type"] == kind
        assert told["error"]["code"] == "overloaded"
        assert told["error"]["retryable"] is True
        assert len(fake_upstream.log) == 1
        assert await found.store.lines("bob") == []
        balance = await read(found, "/api/quota-check", key=BOB_KEY)
        assert (balance["held"], balance["used"]) == (0, 0)


async def test_a_key_that_nobody_has_takes_no_place_and_is_told_nothing_of_the_load(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=NO_LINE) as found, AsyncExitStack() as stack:
        await opened(stack, found)
        async with ask(found, key="nobody-shows-this-key-of-his") as call:
            assert await call.started() == 401


async def test_nobody_waits_for_longer_than_it_has_time(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    short = {"X-HPP-Router-Timeout": "0.05"}
    async with gateway(fake_upstream, load=Load(in_flight=1, queue_s=600)) as found, AsyncExitStack() as stack:
        await opened(stack, found)
        with anyio.fail_after(20):
            async with ask(found, key=BOB_KEY, headers=short) as call:
                assert await call.started() == 503
                assert (await call.json())["error"]["code"] == "overloaded"
            async with post(
                found.app, "/v1/messages/count_tokens", question(), headers={"apikey": KEY, **short}
            ) as call:
                assert await call.started() == 503
            with pytest.raises(OverloadedError):
                await found.complete(ALICE, question(), timeouts=Deadlines(total=0.05))
            async with ask(found, key=BOB_KEY, headers={"X-HPP-Router-Timeout": "soon"}) as call:
                assert await call.started() == 400  # at once, whoever is before it
        await places(found, 1, 0)
        assert len(fake_upstream.log) == 1


async def test_a_hosts_own_call_is_bounded_alike(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=NO_LINE) as found:
        async with AsyncExitStack() as stack:
            await opened(stack, found)
            with pytest.raises(OverloadedError):
                await found.complete(ALICE, question())
        fake_upstream.script = Script()
        await places(found, 0, 0)
        assert (await found.complete(ALICE, question())).status == 200


async def test_a_count_of_tokens_needs_a_place_too(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=NO_LINE) as found, AsyncExitStack() as stack:
        await opened(stack, found)
        async with post(found.app, "/v1/messages/count_tokens", question(), headers={"apikey": KEY}) as call:
            assert await call.started() == 503
            assert (await call.json())["error"]["type"] == "overloaded_error"


@pytest.mark.parametrize(
    ("script", "fields", "status"),
    [
        (Script(), {}, 200),
        (Script(), {"stream": True}, 200),
        (Script(status=500), {}, 502),
        (Script(close_before_head=True), {}, 502),
        (Script(), {"model": "fake/no-such-model"}, 400),
        (Script(), {"messages": []}, 400),
    ],
)
async def test_a_place_is_given_back_however_it_ends(
    script: Script, fields: dict[str, Any], status: int, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = script
    async with gateway(fake_upstream, load=NO_LINE) as found:
        for _ in range(3):
            async with ask(found, **fields) as call:
                assert await call.started() == status
                await call.read()
                await call.returned()
            await places(found, 0, 0)


async def test_a_place_is_kept_until_a_cancelled_call_is_settled_and_then_given_back(
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = STANDS
    async with gateway(fake_upstream, load=NO_LINE) as found:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.complete, ALICE, question(stream=True))
            await fake_upstream.arrived(1)
            await places(found, 1, 0)
            tasks.cancel_scope.cancel()
        await places(found, 0, 0)
        await check_books(found)


async def test_without_bounds_nobody_waits(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS
    load = Load(in_flight=0, per_consumer=0, queue=0)
    async with gateway(fake_upstream, load=load) as found, AsyncExitStack() as stack:
        for _ in range(30):
            await opened(stack, found)
        await places(found, 30, 0)


async def test_a_refusal_is_told_to_the_observers(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = STANDS

    witness = Witness()
    async with gateway(fake_upstream, load=NO_LINE, observers=(witness,)) as found, AsyncExitStack() as stack:
        await opened(stack, found)
        async with ask(found) as call:
            body = json.loads(await call.read())
        assert body["error"]["code"] == "overloaded"
    assert [(each.status, each.code) for each in witness.refused] == [(503, "overloaded")]


@pytest.mark.parametrize(
    ("load", "param"),
    [
        ({"in_flight": -1}, "load.in_flight"),
        ({"per_consumer": -1}, "load.per_consumer"),
        ({"queue": -1}, "load.queue"),
        ({"queue_s": 0}, "load.queue_s"),
        ({"queue_s": float("nan")}, "load.queue_s"),
        ({"grace_s": -1}, "load.grace_s"),
    ],
)
async def test_a_bound_that_is_none_is_refused_by_name(load: dict[str, Any], param: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        gateway("http://127.0.0.1:9/v1", load=Load(**load))
    assert refused.value.param == param
