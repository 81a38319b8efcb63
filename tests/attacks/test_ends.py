"""Endings that come at a bad moment: of the caller, of the server, of the store."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from rig import ALICE, Delegate, check_books, gateway, question

from hpp_middleware.errors import StoreError
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.script import Script
from hpp_middleware.types.operations import Operation, Release, Reserve, Result, Settle

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_cancelled_while_it_settles_leaves_no_reader_waiting(anyio_backend: str) -> None:
    store = Delegate()
    settling = anyio.Event()

    async def hang(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            store.before = None
            settling.set()
            await anyio.sleep_forever()

    store.before = hang
    async with FakeUpstream() as upstream, gateway(upstream, store=store) as found:
        task = asyncio.ensure_future(found.complete(ALICE, question()))
        await settling.wait()
        task.cancel()  # asyncio's own: no scope of ours shields from it
        with pytest.raises(asyncio.CancelledError):
            await task
        began = time.monotonic()
        await found.balance(ALICE)
        assert time.monotonic() - began < found.limits.read_wait_s


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_stopping_server_cancels_is_settled_before_the_stores_close(anyio_backend: str) -> None:
    store = Delegate()
    closed = False
    inner = store.inner

    class Closing(Delegate):
        async def aclose(self) -> None:
            nonlocal closed
            closed = True

    async def once_open(operations: Sequence[Operation]) -> None:
        if any(isinstance(operation, Settle) for operation in operations):
            await anyio.sleep(0.05)
            if closed:
                raise StoreError("The database is not open.")

    last = Closing(inner)
    last.before = once_open
    async with FakeUpstream() as upstream:
        upstream.script = Script(texts=("word ",), endless=True, delay_between_s=0.01)
        found = gateway(upstream, store=last)
        async with found:
            begun = anyio.Event()

            async def take(_data: bytes) -> None:
                begun.set()

            task = asyncio.ensure_future(found.complete(ALICE, question(stream=True), send=take))
            await begun.wait()
            task.cancel()  # as uvicorn does after its grace, and goes on to close without awaiting it
        assert closed
        with pytest.raises(asyncio.CancelledError):
            await task
    (line,) = await inner.lines("alice")
    assert line.report.outcome == "failed"
    assert (await inner.balance("alice")).held == 0


async def test_a_hold_that_could_not_be_given_back_is_owed() -> None:
    store = Delegate()

    async def lost(operations: Sequence[Operation], results: list[Result]) -> Any:
        if any(isinstance(operation, Reserve) for operation in operations):
            store.before = down  # it was placed; nobody hears of it, nor can give it back
            raise StoreError("lost")
        return results

    async def down(operations: Sequence[Operation]) -> None:
        raise StoreError("down")

    store.after = lost
    async with FakeUpstream() as upstream:
        found = gateway(upstream, store=store)
        await found.worker()
        with pytest.raises(StoreError):
            await found.complete(ALICE, question())
        assert (await store.inner.balance("alice")).held > 0
        store.before = store.after = None
        assert (await found.balance(ALICE)).held == 0
        assert upstream.log == []
        assert await check_books(found) == []
        before = len(store.asked(Release))
        await found.balance(ALICE)
        assert len(store.asked(Release)) == before  # it is owed once
