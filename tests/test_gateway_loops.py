"""One gateway and several event loops: each gets its own worker, and none is needed to begin with."""

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal

import anyio
import pytest
from rig import ALICE, KEY, gateway, question
from starlette.testclient import TestClient

from hpp_middleware.testing import FakeUpstream


def backend_of(name: str) -> Literal["asyncio", "trio"]:
    return "trio" if name == "trio" else "asyncio"


def in_a_loop(work: Callable[..., Awaitable[Any]], *arguments: Any, backend: str) -> Any:
    return anyio.run(work, *arguments, backend=backend)


def test_one_gateway_serves_two_event_loops_one_after_the_other(anyio_backend: str) -> None:
    found = gateway("http://127.0.0.1:9/v1")

    async def visit() -> int:
        async with FakeUpstream() as upstream, found:
            providers: Any = found.catalog.providers
            providers["fake"] = replace(providers["fake"], base_url=upstream.url)
            await found.complete(ALICE, question())
            return (await found.balance(ALICE)).requests

    assert [in_a_loop(visit, backend=anyio_backend) for _ in range(2)] == [1, 2]


def test_a_worker_is_let_go_with_its_loop(anyio_backend: str) -> None:
    found = gateway("http://127.0.0.1:9/v1")
    for _ in range(3):
        in_a_loop(found.balance, ALICE, backend=anyio_backend)
    gc.collect()
    assert len(found.setup._workers) <= 1


def test_the_test_client_without_a_lifespan_gets_an_answer_every_time(anyio_backend: str) -> None:
    found = gateway("http://127.0.0.1:9/v1")
    client = TestClient(found.app, backend=backend_of(anyio_backend))
    for _ in range(3):
        answer = client.get("/api/quota-check", headers={"apikey": KEY})
        assert answer.json()["remaining"] == 10
    assert client.post("/llm/v1/chat/completions", json=question(), headers={"apikey": KEY}).status_code == 502


def test_the_test_client_with_its_lifespan_opens_and_closes_it(anyio_backend: str) -> None:
    found = gateway("http://127.0.0.1:9/v1")
    for _ in range(2):
        with TestClient(found.app, backend=backend_of(anyio_backend)) as client:
            assert client.get("/readyz").json()["status"] == "ok"
        assert len(found.setup._workers) == 0


def test_two_event_loops_at_once_each_have_their_own_worker() -> None:
    found = gateway("http://127.0.0.1:9/v1")
    wrong: list[str] = []

    async def visit() -> None:
        mine = await found.worker()
        for _ in range(3000):
            at_hand = found.setup.at_hand()
            if at_hand is not None and at_hand is not mine:
                wrong.append("another loop's")
            if await found.worker() is not mine:
                wrong.append("another")

    threads = [threading.Thread(target=anyio.run, args=(visit,)) for _ in range(3)]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads meet between any two steps
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert not wrong


def test_whoever_leaves_it_need_not_be_the_task_that_entered_it() -> None:
    """As pytest-asyncio has it with a fixture: each half of it is run in a task of its own."""
    found = gateway("http://127.0.0.1:9/v1")

    async def fixture() -> AsyncGenerator[FakeUpstream]:
        async with FakeUpstream() as upstream, found:
            providers: Any = found.catalog.providers
            providers["fake"] = replace(providers["fake"], base_url=upstream.url)
            yield upstream

    async def test() -> int:
        await found.complete(ALICE, question())
        return (await found.balance(ALICE)).requests

    for times in (1, 2):
        with asyncio.Runner() as runner:
            halves = fixture()
            upstream = runner.run(anext(halves))
            assert runner.run(test()) == times
            assert runner.run(anext(halves, None)) is None
            assert len(upstream.log) == 1
            assert len(found.setup._workers) == 0
            assert runner.run(_tasks()) == []


async def _tasks() -> list[Any]:
    return [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


@pytest.mark.anyio
async def test_tasks_that_enter_it_at_once_leave_it_in_any_order(
    anyio_backend: str, fake_upstream: FakeUpstream
) -> None:
    found = gateway(fake_upstream)
    first_entered, second_entered, first_left = anyio.Event(), anyio.Event(), anyio.Event()

    async def first() -> None:
        async with found:
            first_entered.set()
            await second_entered.wait()
        first_left.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        await first_entered.wait()
        async with found:
            second_entered.set()
            await first_left.wait()
            worker = await found.worker()
            assert (worker.opened, worker.timed) == (1, True)
            assert (await found.complete(ALICE, question())).outcome == "completed"
    assert len(found.setup._workers) == 0
