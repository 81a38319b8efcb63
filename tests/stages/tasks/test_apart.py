"""A host that cancels a request's task, in whatever way and however often, is a client that has left."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from rig import CHAT, KEY, USAGE_NANO, check_books, gateway, question

from hpp_middleware.stages.tasks import apart
from hpp_middleware.stages.tasks.guard import asyncios
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
DRAIN = {"on_disconnect": "drain"}


class Host:
    """An app around an app, which cancels what it has called."""

    def __init__(self, app: Any, way: str) -> None:
        self.app = app
        self.way = way
        self.cancelled = False
        self.scope = anyio.CancelScope()
        self.task: asyncio.Task[Any] | None = None

    async def __call__(self, *connection: Any) -> None:
        if self.way == "scope":
            with self.scope:
                await self.app(*connection)
            self.cancelled = self.scope.cancelled_caught
            return
        self.task = asyncio.ensure_future(self.app(*connection))
        with suppress(asyncio.CancelledError):
            await self.task
        self.cancelled = self.task.cancelled()

    def cancel(self) -> None:
        if self.task is None:
            self.scope.cancel()
        else:
            self.task.cancel()

    def ask(self, **fields: Any) -> Call:
        return post(self, CHAT, question(**fields), headers={"apikey": KEY}, ahead=0)


def ways() -> pytest.MarkDecorator:
    found = [("scope", "asyncio"), ("scope", "trio"), ("task", "asyncio")]
    return pytest.mark.parametrize(("way", "anyio_backend"), found)


async def left(upstream: FakeUpstream) -> bool:
    """Whether the upstream was closed before it had finished."""
    with anyio.fail_after(5):
        await upstream.idle()
    return upstream.log[0].closed_early


def result(lines: list[Entry]) -> tuple[int, str, bool]:
    (line,) = lines
    return line.amount, line.report.outcome, line.report.estimated


@ways()
@pytest.mark.parametrize("order", ["cancelled", "left, then cancelled", "cancelled, then left", "cancelled twice"])
async def test_a_host_that_cancels_a_stream_is_drained_for(
    order: str, way: str, anyio_backend: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(delay_between_s=0.05)
    async with gateway(fake_upstream, provider=DRAIN) as found:
        host = Host(found.app, way)
        async with host.ask(stream=True) as call:
            assert await call.event()
            for step in order.split(", then "):
                call.disconnect() if step == "left" else host.cancel()
                await anyio.wait_all_tasks_blocked()
            if order == "cancelled twice":
                host.cancel()
            with anyio.fail_after(5):
                await call.returned()
        assert host.cancelled or order.startswith("left")  # it has its way in the end
        assert not await left(fake_upstream)
        assert result(await check_books(found)) == (USAGE_NANO, "abandoned", False)


@ways()
async def test_a_host_that_cancels_before_the_head_is_drained_for(
    way: str, anyio_backend: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(delay_head_s=1)
    async with gateway(fake_upstream, provider=DRAIN) as found:
        host = Host(found.app, way)
        async with host.ask(stream=True) as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            host.cancel()
            with anyio.fail_after(5):
                await call.returned()
        assert host.cancelled
        assert not await left(fake_upstream)
        assert result(await check_books(found)) == (USAGE_NANO, "abandoned", False)


@ways()
async def test_a_host_that_cancels_a_stream_whose_provider_stops_closes_it(
    way: str, anyio_backend: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream) as found:
        host = Host(found.app, way)
        async with host.ask(stream=True) as call:
            await call.event()
            host.cancel()
            with anyio.fail_after(5):
                await call.returned()
        assert host.cancelled
        assert await left(fake_upstream)
        (line,) = await check_books(found)
        assert (line.report.outcome, line.report.estimated) == ("abandoned", True)
        assert 0 < line.amount < line.held


@ways()
async def test_a_host_that_cancels_a_json_request_is_awaited_for(
    way: str, anyio_backend: str, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(delay_head_s=1)
    async with gateway(fake_upstream) as found:
        host = Host(found.app, way)
        async with host.ask() as call:
            await fake_upstream.arrived()
            await anyio.wait_all_tasks_blocked()
            host.cancel()
            with anyio.fail_after(5):
                await call.returned()
        assert host.cancelled
        assert not await left(fake_upstream)
        assert result(await check_books(found)) == (USAGE_NANO, "abandoned", False)


class Work:
    """Work that ends when it is told to, and notes what happened to it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun = anyio.Event()
        self.end = anyio.Event()

    async def run(self, gone: Callable[[], Awaitable[None]] = anyio.sleep_forever) -> None:
        returned = await apart.run(
            self._work(), loop=asyncios(), hear=lambda: None, gone=gone, dismissed=self._dismissed, upkeep=self._upkeep
        )
        self.notes.append(returned)

    async def _work(self) -> str:
        self.begun.set()
        await self.end.wait()
        self.notes.append("worked")
        return "returned"

    def _dismissed(self) -> None:
        self.notes.append("dismissed")

    async def _upkeep(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self.notes.append("no more upkeep")


async def test_work_that_ends_ends_the_listening_and_the_upkeep() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work.run)
        await work.begun.wait()
        work.end.set()
    assert work.notes == ["worked", "no more upkeep", "returned"]


async def test_cancelled_work_goes_on_with_its_upkeep_and_the_cancellation_after_it() -> None:
    work = Work()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work.run)
        await work.begun.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert work.notes == ["dismissed"]
            work.end.set()
    assert work.notes == ["dismissed", "worked", "no more upkeep"]


async def test_a_client_that_has_left_is_not_listened_for_again() -> None:
    work = Work()

    async def gone() -> None:
        work.notes.append("gone")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work.run, gone)
        await anyio.wait_all_tasks_blocked()
        assert work.notes == ["gone"]
        work.end.set()
    assert work.notes == ["gone", "worked", "no more upkeep", "returned"]


@ASYNCIO
async def test_asyncios_own_cancellation_is_held_back_however_often_it_comes(anyio_backend: str) -> None:
    work = Work()
    task = asyncio.ensure_future(work.run())
    await work.begun.wait()
    for _ in range(3):
        task.cancel()
        await anyio.wait_all_tasks_blocked()
    assert work.notes == ["dismissed"]
    work.end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.notes == ["dismissed", "worked", "no more upkeep"]
