"""Limits whose store's answer is lost: nothing is drawn twice, no place stays taken, and nobody is refused for it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
from databases import Server, emptied, running_postgres, running_valkey
from rig import ALICE, gateway, read_chat
from tcp_proxy import TCPProxy, tcp_proxy

from faults.limits_kept import LIMIT, taken, tokens_of
from faults.places import PEPPER, made
from hpp_middleware import Gateway, StoreError
from hpp_middleware.core import limits as core_limits
from hpp_middleware.stages.limits import limiter as limits_stage
from hpp_middleware.stages.limits.places import MOST_OF_ONE
from hpp_middleware.stores.memory import MemoryLimits
from hpp_middleware.stores.redis.scripts import scripts
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.testing.stores.limiting import EACH, ask, draw, slot
from hpp_middleware.types.limits import Ask, RateLimit, Standing

pytestmark = pytest.mark.anyio

KINDS = ["postgres", "redis"]
Lose = Callable[[TCPProxy, int, bytes], None]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """These stores are served on asyncio only."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest) -> str:
    found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    return found


@pytest.fixture
def proxy(place: str) -> Iterator[TCPProxy]:
    with tcp_proxy(place) as found:
        yield found


@pytest.fixture
async def store(kind: str, proxy: TCPProxy) -> AsyncGenerator[Any]:
    """Opened, with all that it asks known to its server and to its connection."""
    found = made(kind, proxy.url, Clock())
    await found.open()
    await found.take(ask(draw(1), home="nobody"))
    await found.correct(ask(draw(1), home="nobody"))
    yield found
    await found.aclose()


@pytest.fixture
async def found(store: Any, fake_upstream: FakeUpstream) -> AsyncGenerator[Gateway]:
    async with gateway(fake_upstream, store=store, pepper=PEPPER, rate_limits=[LIMIT], journal=None) as opened:
        yield opened


def reply(proxy: TCPProxy, times: int, asked: bytes) -> None:
    """It is done, and nobody is told."""
    proxy.drop_replies(times, to=asked)


def request(proxy: TCPProxy, times: int, asked: bytes) -> None:
    """It is not done."""
    proxy.lose_requests(times, of=asked)


LOST = pytest.mark.parametrize("lose", [reply, request], ids=["reply", "request"])
TIMES = pytest.mark.parametrize("times", [1, 2])


def asks(kind: str, name: str) -> bytes:
    """What stands in the request for it."""
    return f"hpp_{name}(".encode() if kind == "postgres" else scripts()[name].digest.encode()


# --- the stores -----------------------------------------------------------------------------------


@LOST
@TIMES
async def test_what_is_drawn_is_drawn_once(lose: Lose, times: int, kind: str, store: Any, proxy: TCPProxy) -> None:
    for amount in (3, -1):
        await store.take(ask(draw(0)))  # on a new connection it is described first
        before = (await store.take(ask(draw(0)))).used[0]
        lose(proxy, times, asks(kind, "take"))
        standing = await or_none(store.take(ask(draw(amount), slot("a"))))
        lose(proxy, 0, b"")
        after = (await store.take(ask(draw(0)))).used[0]
        if standing is not None:
            assert standing == Standing(True, (after,), (1,))
            assert after - before == amount * EACH
        else:
            assert after - before == (amount * EACH if lose is reply else 0)


@LOST
@TIMES
async def test_what_is_corrected_is_corrected_once(
    lose: Lose, times: int, kind: str, store: Any, proxy: TCPProxy
) -> None:
    await store.take(ask(draw(5), slot("a")))
    for amount in (2, -1):
        await store.correct(ask(draw(0)))  # on a new connection it is described first
        before = (await store.take(ask(draw(0)))).used[0]
        lose(proxy, times, asks(kind, "correct"))
        told = await or_none(store.correct(ask(draw(amount), slot("a"))), true=True)
        lose(proxy, 0, b"")
        after = (await store.take(ask(draw(0)))).used[0]
        done = told is not None or lose is reply
        assert after - before == (amount * EACH if done else 0)


async def test_a_question_that_was_refused_is_asked_anew(kind: str, store: Any, proxy: TCPProxy) -> None:
    proxy.drop_replies(1, to=asks(kind, "take"))
    standing = await or_none(store.take(ask(draw(11))))
    assert standing is None or not standing.admitted
    proxy.drop_replies(0)
    assert (await store.take(ask(draw(10)))).used == (10 * EACH,)


async def or_none(work: Awaitable[Any], *, true: bool = False) -> Any:
    """What it returns; None where nothing is known."""
    try:
        returned = await work
    except StoreError:
        return None
    return True if true else returned


# --- through the gateway --------------------------------------------------------------------------


@LOST
@pytest.mark.parametrize(("asked", "times"), [("take", 1), ("take", 2), ("correct", 1), ("correct", 2)])
async def test_whoever_asks_next_is_answered_and_nothing_was_drawn_twice(  # noqa: PLR0917  # fixtures
    asked: str, lose: Lose, times: int, kind: str, found: Gateway, store: Any, proxy: TCPProxy
) -> None:
    assert (await read_chat(found))[0] == 200
    assert await taken(store) == (1, await tokens_of(found), 0)
    lose(proxy, times, asks(kind, asked))
    status, _ = await read_chat(found)
    assert proxy.dropped >= 1
    assert status == 200 or (asked == "take" and status == 503)
    lose(proxy, 0, b"")
    assert (await read_chat(found))[0] == 200, "the only place there is has come back"
    requests, tokens, places = await taken(store)
    assert (requests, places) == (3 if status == 200 or lose is reply else 2, 0)
    estimated = tokens - await tokens_of(found)
    assert estimated >= 0, "nothing was put back twice"
    assert estimated <= 100 + 60, "no more than one request's, which is estimated at its cap and its prompt"
    if status == 200 and (asked == "take" or (kind == "redis" and times == 1)):
        assert estimated == 0
    assert (await found.balance(ALICE)).held == 0


async def test_what_passes_while_nobody_counts_leaves_no_place_taken(
    kind: str, store: Any, proxy: TCPProxy, fake_upstream: FakeUpstream
) -> None:
    settings: dict[str, Any] = {"limit_store": store, "limit_outage": "open", "rate_limits": [LIMIT]}
    async with gateway(fake_upstream, **settings) as found:
        proxy.drop_replies(2, to=asks(kind, "take"))
        assert (await read_chat(found))[0] == 200
        proxy.drop_replies(0)
        assert (await read_chat(found))[0] == 200
        assert (await taken(store)).places == 0


class Mute(MemoryLimits):
    """Takes what it is asked, and says nothing; by a clock that stands still, so that no place runs out."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        self.mute = False

    @property
    def places(self) -> int:
        """How many are taken."""
        return sum(map(len, self._holders.values()))

    async def take(self, ask: Ask) -> Standing:
        standing = await super().take(ask)
        if self.mute:
            raise OSError
        return standing

    async def correct(self, ask: Ask) -> None:
        if self.mute:
            raise OSError
        await super().correct(ask)


async def test_places_whose_answers_were_lost_are_given_back_when_they_are_missed(fake_upstream: FakeUpstream) -> None:
    limits, limit = Mute(), RateLimit(concurrency=3)
    async with gateway(fake_upstream, limit_store=limits, rate_limits=[limit]) as found:
        limits.mute = True
        for _ in range(3):
            assert (await read_chat(found))[0] == 503
        limits.mute = False
        assert limits.places == 3
        assert (await read_chat(found))[0] == 200
        assert limits.places == 0
        (worker,) = found.setup.workers()
        assert worker.limiter is not None
        assert not worker.limiter.lost


async def test_places_whose_answers_were_lost_are_given_back_in_time(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_limits, "SLOT_S", 0.2)
    limits = Mute()
    async with gateway(fake_upstream, limit_store=limits, rate_limits=[RateLimit(concurrency=3)]) as found:
        limits.mute = True
        assert (await read_chat(found))[0] == 503
        limits.mute = False
        while limits.places:  # noqa: ASYNC110  # a store tells nobody
            await anyio.sleep(0.01)


class Late(MemoryLimits):
    """Limits that take in a task of their own, as stores behind a network do, and not before they are let."""

    def __init__(self) -> None:
        super().__init__(clock=Clock())
        self.asked, self.let = anyio.Event(), anyio.Event()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.done = 0

    async def take(self, ask: Ask) -> Standing:
        task = asyncio.create_task(self._later(ask))
        self.tasks.add(task)
        return await asyncio.shield(task)

    async def _later(self, ask: Ask) -> Standing:
        self.asked.set()
        await self.let.wait()
        standing = await super().take(ask)
        self.done += 1
        return standing

    async def taken(self) -> None:
        """Let it take, and wait until somebody has the place who does not know."""
        self.let.set()
        while not self.done:  # noqa: ASYNC110  # a store tells nobody
            await anyio.sleep(0.001)
        assert self._holders, "the place is taken, and nobody's"


async def test_a_place_that_is_taken_when_nobody_waits_for_it_any_more_is_given_back(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_stage, "STORE_S", 0.1)
    limits = Late()
    async with gateway(fake_upstream, limit_store=limits, rate_limits=[RateLimit(concurrency=1)]) as found:
        assert (await read_chat(found))[0] == 503
        await limits.taken()
        assert (await read_chat(found))[0] == 200
        assert not limits._holders


async def test_a_place_that_is_taken_after_its_request_was_cancelled_by_force_is_given_back(
    fake_upstream: FakeUpstream,
) -> None:
    limits = Late()
    async with gateway(fake_upstream, limit_store=limits, rate_limits=[RateLimit(concurrency=1)]) as found:
        before = asyncio.all_tasks()
        request = asyncio.create_task(read_chat(found))
        await limits.asked.wait()
        for task in asyncio.all_tasks() - before - limits.tasks:
            task.cancel()  # as who ends an event loop does
        with pytest.raises(asyncio.CancelledError):
            await request
        await limits.taken()
        assert (await read_chat(found))[0] == 200
        assert not limits._holders


async def test_a_place_that_was_taken_is_remembered_however_much_is_asked_in_vain_after_it(
    fake_upstream: FakeUpstream,
) -> None:
    limits = Mute()
    async with gateway(fake_upstream, limit_store=limits, rate_limits=[RateLimit(concurrency=1)]) as found:
        limits.mute = True
        for _ in range(MOST_OF_ONE + 1):
            assert (await read_chat(found))[0] == 503
        limits.mute = False
        assert (await read_chat(found))[0] == 200


# --- servers that are restarted -------------------------------------------------------------------


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Of this module's own, to be restarted."""
    keeps = ("--appendonly", "yes", "--appendfsync", "always")
    with (
        running_postgres(tmp_path_factory.mktemp("postgres")) as postgres,
        running_valkey(tmp_path_factory.mktemp("valkey"), *keeps) as valkey,
    ):
        yield {"postgres": postgres, "redis": valkey}


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_after_a_restart_between_requests_everybody_is_answered(
    how: str, kind: str, servers: dict[str, Server], fake_upstream: FakeUpstream
) -> None:
    server = servers[kind]
    async with at(kind, server, fake_upstream) as found:
        for _ in range(3):
            assert (await read_chat(found))[0] == 200
            await anyio.to_thread.run_sync(getattr(server, how))
            await anyio.to_thread.run_sync(server.start)
        assert (await read_chat(found))[0] == 200
        assert (await found.balance(ALICE)).held == 0


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_a_restart_in_the_middle_of_load_leaves_no_place_taken(
    how: str, kind: str, servers: dict[str, Server], fake_upstream: FakeUpstream
) -> None:
    server = servers[kind]
    statuses: list[int] = []
    over = False

    async def one(found: Gateway) -> None:
        while not over:
            statuses.append((await read_chat(found))[0])
            await anyio.sleep(0.01)

    async with at(kind, server, fake_upstream, concurrency=4) as found:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(one, found)
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(getattr(server, how))
            await anyio.sleep(0.3)
            await anyio.to_thread.run_sync(server.start)
            await anyio.sleep(0.3)
            over = True
        assert set(statuses) <= {200, 503}, "there are as many places as requests at once: nobody is refused for one"
        fake_upstream.script = Script(delay_head_s=0.3)  # so that all four are there at once
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(is_answered, found)
        store: Any = found.store
        assert (await taken(store, replace(LIMIT, concurrency=4))).places == 0


@asynccontextmanager
async def at(kind: str, server: Server, upstream: FakeUpstream, concurrency: int = 1) -> AsyncGenerator[Gateway]:
    """A gateway whose books and limits are at a server of one's own."""
    url = emptied(server.url) if kind == "redis" else server.url
    limits = [replace(LIMIT, concurrency=concurrency)]
    async with gateway(upstream, store=made(kind, url), pepper=PEPPER, rate_limits=limits, journal=None) as found:
        yield found


async def is_answered(found: Gateway) -> None:
    assert (await read_chat(found))[0] == 200
