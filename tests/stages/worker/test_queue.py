"""The way in, awaited: turns, refusals in time, and waiters that leave."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from hpp_middleware.core.fair import PRESENT_S
from hpp_middleware.errors import OverloadedError
from hpp_middleware.stages.worker.queue import Queue
from hpp_middleware.types.load import Load

pytestmark = pytest.mark.anyio


def queue(**load: Any) -> Queue:
    return Queue(Load(**{"in_flight": 2, "per_consumer": 0, "queue": 10, "queue_s": 60.0, **load}))


@contextmanager
def nothing_is_left(found: Queue) -> Iterator[None]:
    yield
    assert (found.running, found.waiting) == (0, 0)


async def stand(found: Queue, waiting: int) -> None:
    """Go on when so many wait."""
    while found.waiting < waiting:
        await checkpoint()


async def test_a_place_is_had_at_once_and_given_back_whatever_happens() -> None:
    found = queue()
    with nothing_is_left(found):
        with await found.place("a"), await found.place("a"):
            assert (found.running, found.waiting) == (2, 0)
        with pytest.raises(ZeroDivisionError), await found.place("a"):
            raise ZeroDivisionError


async def test_who_waits_is_served_in_turn() -> None:
    found = queue(in_flight=1)
    served: list[str] = []

    async def ask(consumer: str) -> None:
        with await found.place(consumer):
            served.append(consumer)

    with nothing_is_left(found):
        async with anyio.create_task_group() as tasks:
            with await found.place("flood"):
                for number, consumer in enumerate(("flood", "flood", "flood", "victim")):
                    tasks.start_soon(ask, consumer)
                    await stand(found, number + 1)
                assert served == []
        assert served == ["flood", "victim", "flood", "flood"]


async def test_a_line_that_is_full_refuses_at_once_and_says_when_to_come_again() -> None:
    found = queue(in_flight=1, queue=0, queue_s=1.5)
    with nothing_is_left(found), await found.place("a"), pytest.raises(OverloadedError) as refused:
        await found.place("b")
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (503, "overloaded", True)
    assert refused.value.headers == {"Retry-After": "2"}


async def test_who_is_not_served_in_time_is_refused() -> None:
    found = queue(in_flight=1, queue_s=0.01)
    with nothing_is_left(found):
        with await found.place("a"):
            with pytest.raises(OverloadedError):
                await found.place("b")
            assert found.waiting == 0
        with await found.place("b"):
            assert found.running == 1


async def test_who_loses_its_place_in_the_line_is_refused_at_once() -> None:
    found = queue(in_flight=1, queue=4)
    refused: list[str] = []
    served: list[str] = []

    async def ask(consumer: str) -> None:
        try:
            with await found.place(consumer):
                served.append(consumer)
        except OverloadedError:
            refused.append(consumer)

    with nothing_is_left(found):
        async with anyio.create_task_group() as tasks:
            with await found.place("c"):
                for number, consumer in enumerate("aabb"):
                    tasks.start_soon(ask, consumer)
                    await stand(found, number + 1)
                tasks.start_soon(ask, "c")
                while not refused:
                    await checkpoint()
                assert (refused, served, found.waiting) == (["a"], [], 4)
        assert sorted(served) == ["a", "b", "b", "c"]


async def test_whoever_becomes_alone_waits_for_none_of_its_own_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("hpp_middleware.stages.worker.queue.time", SimpleNamespace(monotonic=lambda: now))
    found = queue(in_flight=10, per_consumer=1)
    ended = anyio.Event()

    async def ask() -> None:
        with await found.place("a"):
            await ended.wait()

    with nothing_is_left(found):
        async with anyio.create_task_group() as tasks:
            with await found.place("b"):
                tasks.start_soon(ask)
                tasks.start_soon(ask)
                await stand(found, 1)
            assert (found.running, found.waiting) == (1, 1)
            now = 3 * PRESENT_S
            tasks.start_soon(ask)
            with anyio.fail_after(10):
                while found.running < 3:
                    await checkpoint()
            ended.set()


async def test_a_waiter_that_is_cancelled_leaves_no_trace() -> None:
    found = queue(in_flight=1)
    with nothing_is_left(found), await found.place("a"):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(found.place, "b")
            await stand(found, 1)
            tasks.cancel_scope.cancel()
        assert (found.running, found.waiting) == (1, 0)


async def test_a_waiter_that_is_cancelled_at_its_turn_hands_it_on() -> None:
    found = queue(in_flight=1)
    served: list[str] = []
    scope = anyio.CancelScope()

    async def leave() -> None:
        with scope, await found.place("b"):
            served.append("b")

    async def stay() -> None:
        with await found.place("c"):
            served.append("c")

    with nothing_is_left(found):
        async with anyio.create_task_group() as tasks:
            with await found.place("a"):
                tasks.start_soon(leave)
                await stand(found, 1)
                tasks.start_soon(stay)
                await stand(found, 2)
            scope.cancel()  # it has its turn by now, and has not been told
            assert found.running == 1
        assert "c" in served


@pytest.mark.parametrize("rounds", [200])
async def test_no_turn_is_lost_among_many_that_come_leave_and_give_up(rounds: int) -> None:
    found = queue(in_flight=3, per_consumer=2, queue=20, queue_s=0.005)
    ended: list[str] = []

    async def ask(number: int) -> None:
        with anyio.move_on_after(0.002 if number % 7 == 0 else 60):
            try:
                with await found.place("abc"[number % 3]):
                    assert found.running <= 3
                    for _ in range(number % 5):
                        await checkpoint()
            except OverloadedError:
                pass
        ended.append(str(number))

    with nothing_is_left(found):
        async with anyio.create_task_group() as tasks:
            for number in range(rounds):
                tasks.start_soon(ask, number)
                if number % 4 == 0:
                    await checkpoint()
    assert len(ended) == rounds
