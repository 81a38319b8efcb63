"""A request that was refused is charged nothing, though its hold was placed, and however many they are."""

from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from journals import on_disk
from rig import ALICE, USAGE_NANO, Delegate, ask, check_books, gateway, question

from hpp_middleware import Gateway, MemoryStore
from hpp_middleware.stages.reserve import lease
from hpp_middleware.stages.settle import journal
from hpp_middleware.testing import FakeUpstream
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.operations import Operation, Release, Reserve, Result

pytestmark = pytest.mark.anyio

AT_ONCE = 250


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "REPLAY_AFTER_S", 0.0)


class Mute(Delegate):
    """A store that does what it is told and never says so, once it is mute; and that gives nothing back."""

    mute = False

    async def apply(self, operations: Sequence[Operation]) -> list[Result]:
        """Do it, and fail."""
        if not self.mute:
            return await super().apply(operations)
        self.calls.append(operations)
        await self.inner.apply([each for each in operations if not isinstance(each, Release)])
        raise OSError


async def _is_refused(found: Gateway) -> None:
    async with ask(found) as call:
        assert await call.started() == 503
        await call.read()
        await call.returned()


async def test_all_that_were_refused_are_given_back_when_the_store_answers(fake_upstream: FakeUpstream) -> None:
    store = Mute()
    async with gateway(fake_upstream, store=store) as found:
        await found.balance(ALICE)
        store.mute = True
        async with anyio.create_task_group() as asking:
            for _ in range(AT_ONCE):
                asking.start_soon(_is_refused, found)
        assert (await store.balance("alice")).held > 0, "they were placed, though nobody was told"
        store.mute = False
        await found.complete(ALICE, question())
    (line,) = await store.lines("alice")
    assert ((await store.balance("alice")).held, line.amount) == (0, USAGE_NANO)
    assert len({each.id for each in store.asked(Release)}) == AT_ONCE
    assert len(fake_upstream.log) == 1


async def test_before_there_are_too_many_nothing_more_is_held(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "MOST_RELEASES", 5)
    store = Mute()
    async with gateway(fake_upstream, store=store) as found:
        await found.balance(ALICE)
        store.mute = True
        for _ in range(8):
            await _is_refused(found)
        assert len({each.id for each in store.asked(Reserve)}) == 5
        store.mute = False
        await found.complete(ALICE, question())
        assert len(await check_books(found)) == len(fake_upstream.log) == 1


async def test_what_a_gateway_that_ends_could_not_give_back_is_given_back_by_the_next(
    fake_upstream: FakeUpstream, tmp_path: Path
) -> None:
    clock = Clock()
    books = MemoryStore(clock=clock)
    store = Mute(books)
    async with gateway(fake_upstream, store=store, journal=tmp_path) as found:
        await found.balance(ALICE)
        store.mute = True
        for _ in range(3):
            await _is_refused(found)
    assert [record.operation for record in on_disk(tmp_path)] == [
        Release(id=operation.id) for operation in store.asked(Reserve)
    ]
    clock.now += 31  # its lease is over: what is held is the sweeper's
    async with gateway(fake_upstream, store=books, journal=tmp_path) as found:
        assert await check_books(found) == []
        assert (await found.balance(ALICE)).used == 0
    assert on_disk(tmp_path) == []
    assert fake_upstream.log == []
