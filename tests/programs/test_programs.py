"""
Random programs of all that resilience and limits consist of, together: chains, cascades, preferences, several
upstreams, breakers, teams, budgets that downgrade, the clamp, limits, keys that repeat, three APIs, clients that leave.

After each of them the books agree, nothing is held, no place is taken, and a repeated request is given the same answer.
What fails can be run alone: the test's name has the seed. Some run in an event loop that stands still now and then:
what fails there hangs on the moment as well, and ``tests/soak/stalled.py`` tries it again and again.
"""

import json
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import anyio
import databases
import pytest
from rounds import rounds

from hpp_middleware import MemoryStore, SQLiteStore
from hpp_middleware.core import attempts
from hpp_middleware.stores.postgres import PostgresStore
from hpp_middleware.stores.redis import RedisStore
from hpp_middleware.testing import Call, FakeUpstream, post
from programs.drawing import SCRIPTS, Asked, Made, asked, made, scripts
from programs.holding import books, only_who_may_be_asked
from programs.stalling import stalling

pytestmark = pytest.mark.anyio

LONG_S = 60
_KEPT_ALIVE = re.compile(rb"^(?:event: ping\ndata: [^\n]*|:[^\n]*)\n\n", re.MULTILINE)
SAME = (
    *("x-request-id", "x-hpp-router-resolved-model", "x-hpp-router-attempts", "x-hpp-router-max-tokens"),
    *("x-hpp-router-downgraded", "x-hpp-router-rule-id"),
)
"""What an answer's head says again, when it is given again."""


class Answer(NamedTuple):
    """What a client was given."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries do not wait."""
    monkeypatch.setattr(attempts, "FIRST_PAUSE_S", 0.001)


@pytest.mark.parametrize("seed", range(rounds(6, soak=400)))
async def test_in_memory(seed: int) -> None:
    await program(seed, MemoryStore())


@pytest.mark.parametrize("seed", range(1000, 1000 + rounds(2, soak=200)))
async def test_in_sqlite(seed: int, tmp_path: Path) -> None:
    await program(seed, SQLiteStore(tmp_path / "books.db"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seed", range(2000, 2000 + rounds(1, soak=150)))
async def test_in_postgres(seed: int, postgres_server: str) -> None:
    with databases.fresh_database(postgres_server) as dsn:
        await program(seed, PostgresStore(dsn))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seed", range(3000, 3000 + rounds(2, soak=200)))
async def test_in_redis(seed: int, redis_server: str) -> None:
    await program(seed, RedisStore(databases.emptied(redis_server)))


@pytest.mark.parametrize("seed", range(4000, 4000 + rounds(4, soak=200)))
async def test_in_memory_while_the_loop_stands_still_now_and_then(seed: int) -> None:
    async with stalling(seed):
        await program(seed, MemoryStore())


@pytest.mark.parametrize("seed", range(5000, 5000 + rounds(2, soak=100)))
async def test_in_sqlite_while_the_loop_stands_still_now_and_then(seed: int, tmp_path: Path) -> None:
    async with stalling(seed):
        await program(seed, SQLiteStore(tmp_path / "books.db"))


async def program(seed: int, store: Any) -> None:
    """Some requests, one after the other, each that has a key twice; and then what must hold."""
    rng, departures = Random(seed), 0
    async with FakeUpstream() as fake, FakeUpstream() as other:
        fakes = {"fake": fake, "other": other}
        found = made(rng, fake, other, store)
        async with found.gateway:
            for number in range(rng.choice([1, 2, 4])):
                one = asked(rng, number)
                names = scripts(rng)
                for each in fakes.values():
                    _scripted(each, names)
                before = _logged(fakes)
                given = await _carried_out(found, one, fakes)
                departures += given is None
                only_who_may_be_asked(found, one, fakes, before)
                if given is not None and given.status == 429 and before == _logged(fakes):
                    _says_whether_to_wait(given)
                if "idempotency-key" in one.headers:
                    await _repeated(found, one, given, fakes)
            await books(found, fakes, departures=departures)


def _scripted(fake: FakeUpstream, names: list[str]) -> None:
    """The next calls are answered so, and those behind them well."""
    fake._scripts.clear()
    fake.script = SCRIPTS["good"]
    fake.next(*(SCRIPTS[name] for name in names))


async def _carried_out(found: Made, one: Asked, fakes: Mapping[str, FakeUpstream]) -> Answer | None:
    """One request; None where its client has left."""
    async with _posted(found, one) as call:
        if one.leaves_after is None:
            return await _read(call)
        before = _calls(fakes)
        async with anyio.create_task_group() as beside:

            async def leave() -> None:
                while _calls(fakes) < before + (one.leaves_after or 0):  # noqa: ASYNC110  # of two logs, and one may end
                    await anyio.sleep(0.001)
                call.disconnect()

            beside.start_soon(leave)
            await call.returned()
            beside.cancel_scope.cancel()
    return None


@asynccontextmanager
async def _posted(found: Made, one: Asked) -> AsyncGenerator[Call]:
    with anyio.fail_after(LONG_S):
        async with post(found.gateway.app, one.path, one.body, headers=one.headers, ahead=50) as call:
            yield call


async def _read(call: Call) -> Answer | None:
    """
    An answer, or an error that says what it is.

    None where there was no response: one that was cut in the very moment in which its head was sent, since its time was
    up, may be out or not, and nothing can be said behind it.
    """
    try:
        status = await call.started()
        body = await call.read()
    except anyio.EndOfStream:
        assert not call._buffer
        return None
    await call.returned()
    assert status != 500, body
    if status >= 400:
        assert json.loads(body)["error"]["message"]
    return Answer(status, call.headers, body)


async def _repeated(found: Made, one: Asked, first: Answer | None, fakes: Mapping[str, FakeUpstream]) -> None:
    """Under its key a request that was answered is given that answer, which costs nothing and asks nobody."""
    before, spent = _calls(fakes), await _spent(found)
    for each in fakes.values():
        _scripted(each, [])
    async with _posted(found, one) as call:
        again = await _read(call)
    if again is None:
        return
    whole = first is not None and first.status == 200 and b'"error"' not in first.body
    if first is None or not whole or "idempotency-replayed" in first.headers:
        return
    if again.status != 200:  # a limit has no room for asking, or it was not kept whole
        assert again.status in {409, 429}
        return
    assert again.headers["idempotency-replayed"] == "true"
    assert _KEPT_ALIVE.sub(b"", again.body) == _KEPT_ALIVE.sub(b"", first.body)
    assert {name: again.headers.get(name) for name in SAME} == {name: first.headers.get(name) for name in SAME}
    assert again.headers.get("x-hpp-router-cost", "0") == "0"
    assert (_calls(fakes), await _spent(found)) == (before, spent)


def _says_whether_to_wait(refusal: Answer) -> None:
    """A limit says how long; a quota or a budget that waiting does not help."""
    told = {name in refusal.headers for name in ("retry-after", "retry-after-ms")}
    assert told == {refusal.headers.get("x-should-retry") != "false"}


def _logged(fakes: Mapping[str, FakeUpstream]) -> dict[str, int]:
    return {name: len(each.log) for name, each in fakes.items()}


def _calls(fakes: Mapping[str, FakeUpstream]) -> int:
    return sum(len(each.log) for each in fakes.values())


async def _spent(found: Made) -> int:
    return sum(line.amount for line in await found.gateway.store.lines("alice"))
