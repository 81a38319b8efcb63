"""A chain or a cascade, cancelled at each of its suspensions, one run for each: its books are right every time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from cascading import DOUBT, GOOD, SMALL_NANO, STRONG_NANO, cascading
from chains import B_NANO, pair
from rig import ALICE, CHAT, KEY, question

from faults.places import PEPPER, made
from faults.suspensions import How, cancelled_at, counting
from hpp_middleware import Gateway
from hpp_middleware.audit import Auditor
from hpp_middleware.core.attempts import Budget
from hpp_middleware.testing import FakeUpstream, Script
from hpp_middleware.types.budget import Budget as Money

pytestmark = pytest.mark.anyio

MOST = 300
LEAST = {"json": 12, "stream": 15, "cascade": 8}
"""So many suspensions there are at least: were they fewer, less would be tested here than it seems."""

BOTH = pytest.mark.parametrize("shape", ["json", "stream"])


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where an empty store is."""
    if kind in {"postgres", "redis"}:
        found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
        return found
    return str(tmp_path / "hpp.db")


@BOTH
@pytest.mark.parametrize("kind", ["memory", "sqlite", "postgres", "redis"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_task_may_be_cancelled_at_every_suspension(
    anyio_backend: str, kind: str, shape: str, place: str
) -> None:
    await at_every_suspension(kind, place, "task", shape)


@BOTH
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_scope_may_be_cancelled_at_every_suspension(kind: str, shape: str, place: str) -> None:
    await at_every_suspension(kind, place, "scope", shape)


async def at_every_suspension(kind: str, place: str, how: How, shape: str) -> None:
    """The first model fails twice, the second answers; the ledger agrees, whatever of it is cut off."""
    ends = set()
    store: Any = made(kind, place)
    settings: dict[str, Any] = {"store": store, "pepper": PEPPER, "retries": 1, "nano": 10**12, "opened": False}
    async with pair(**settings) as found:
        with counting():
            found.fake.script = Script(status=500, headers=[("retry-after", "0")])
            await asked(found.gateway, "fake/a", shape)
            lines, worker = len(await all_lines(store)), await found.gateway.worker()
            for at in range(1, MOST):
                before = len(found.fake.log), len(found.other.log)
                worker.budget = Budget()  # which would not let every one of so many try again
                run = await cancelled_at(at, lambda: asked(found.gateway, "fake/a", shape), how=how)
                if not run.cancels:
                    break
                with anyio.fail_after(5):
                    await found.fake.idle()
                    await found.other.idle()
                calls = len(found.fake.log) - before[0], len(found.other.log) - before[1]
                new = (await all_lines(store))[lines:]
                lines += len(new)
                assert len(new) <= 1
                for line in new:
                    told = [each.provider for each in line.report.attempts]
                    assert sum(calls) <= len(told) <= sum(calls) + 1  # one may have been cancelled on its way out
                    assert line.amount == sum(each.cost for each in line.report.attempts)
                    assert line.amount == B_NANO or line.report.outcome != "completed"
                    assert line.amount <= line.held
                    ends.add((len(told), line.report.outcome))
                if not new:
                    assert calls == (0, 0)
                    ends.add((0, "released"))
                assert (await store.balance("alice")).held == 0
                assert (await Auditor(store).reconcile("alice")).findings == ()
    assert at > LEAST[shape]
    assert {attempts for attempts, _ in ends} == {0, 1, 2, 3}  # before, during and between them


FIRST = pytest.mark.parametrize("first", ["doubt", "failure"])


@FIRST
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_cascade_may_be_cancelled_at_every_suspension(
    kind: str, first: str, place: str, fake_upstream: FakeUpstream
) -> None:
    await cascaded(kind, first, place, fake_upstream, "scope")


@FIRST
@pytest.mark.parametrize("kind", ["postgres", "redis"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_any_task_of_a_cascade_may_be_cancelled_at_every_suspension(
    anyio_backend: str, kind: str, first: str, place: str, fake_upstream: FakeUpstream
) -> None:
    await cascaded(kind, first, place, fake_upstream, "task")
    await cascaded(kind, first, place, fake_upstream, "own")


async def cascaded(kind: str, first: str, place: str, fake_upstream: FakeUpstream, how: How) -> None:
    """The smaller model's answer is found wanting, or there is none; the books are right, whatever is cut off."""
    small = DOUBT if first == "doubt" else Script(status=500)
    whole = STRONG_NANO + (SMALL_NANO if first == "doubt" else 0)
    store: Any = made(kind, place)
    ends = set()
    budgets = [Money(amount=10**12, period="day", consumer="*", model="fake/strong")]
    async with cascading(fake_upstream, store=store, pepper=PEPPER, nano=10**12, budgets=budgets) as found:
        with counting():
            fake_upstream.next(small, GOOD)
            await asked(found, "hpprouter/auto")
            lines, worker = len(await all_lines(store)), await found.worker()
            for at in range(1, MOST):
                fake_upstream._scripts.clear()
                fake_upstream.next(small, GOOD)
                before = len(fake_upstream.log)
                worker.budget = Budget()
                run = await cancelled_at(at, lambda: asked(found, "hpprouter/auto"), how=how)
                if not run.cancels:
                    break
                with anyio.fail_after(5):
                    await fake_upstream.idle()
                await found.balance(ALICE)  # by then all is settled
                calls = len(fake_upstream.log) - before
                new = (await all_lines(store))[lines:]
                lines += len(new)
                assert len(new) <= 1
                for line in new:
                    told = len(line.report.attempts)
                    assert line.draft.model in {f"fake/{each.model}" for each in line.report.attempts}
                    assert bool(line.draft.also) == (line.draft.model == "fake/strong")
                    assert calls <= told <= calls + 1  # one may have been cancelled on its way out
                    assert line.amount == sum(each.cost for each in line.report.attempts) <= line.held
                    assert line.report.outcome != "completed" or line.amount in {whole, SMALL_NANO}
                if not new:
                    assert calls == 0
                ends.add(len(new) and len(new[0].report.attempts))
                assert (await store.balance("alice")).held == 0
                assert (await Auditor(store).reconcile("alice")).findings == ()
                assert not worker.pending.ending
    assert at > LEAST["cascade"]
    assert ends == {0, 1, 2}


async def all_lines(store: Any) -> list[Any]:
    lines = await store.lines("alice", most=1000)
    return list(lines)


async def asked(found: Gateway, model: str, shape: str = "json") -> None:
    """One request, whose client stays."""
    body = msgspec.json.encode(question(model=model, stream=shape == "stream"))
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Mapping[str, Any]:
        await checkpoint()
        if not messages:
            await anyio.sleep_forever()
        return messages.pop()

    async def send(_message: Any) -> None:
        await checkpoint()

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": CHAT,
        "raw_path": CHAT.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json"), (b"apikey", KEY.encode())],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 80),
    }
    await found.app(scope, receive, send)  # type: ignore[arg-type]  # as a server does
