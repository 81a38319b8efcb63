"""A request cancelled at each of its suspensions, one run for each, at every store: its books are right every time."""

from pathlib import Path

import pytest

from faults.cancelling import Cancelling, cancelling
from faults.places import made
from faults.suspensions import How

pytestmark = pytest.mark.anyio

MOST = 200
LEAST = {"json": 8, "stream": 14}
"""So many suspensions a request has at least: were they fewer, less would be tested here than it seems."""
FIRST = {"json": 3, "stream": 1}
"""So many more the first one has, for whom the gateway is opened, and who gives way to nobody."""

BOTH = pytest.mark.parametrize("shape", ["json", "stream"])
ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@pytest.fixture
def place(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where an empty store is."""
    if kind in {"postgres", "redis"}:
        found: str = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
        return found
    return str(tmp_path / "hpp.db")


@BOTH
@pytest.mark.parametrize("how", ["task", "late task", "again"])
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite", "postgres", "redis"])
@ASYNCIO
async def test_a_task_may_be_cancelled_at_every_suspension(
    anyio_backend: str, kind: str, how: How, shape: str, place: str
) -> None:
    async with cancelling(made(kind, place), stream=shape == "stream") as each:
        await at_every_suspension(each, how, shape)


@BOTH
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite"])
async def test_a_scope_may_be_cancelled_at_every_suspension(kind: str, shape: str, place: str) -> None:
    async with cancelling(made(kind, place), stream=shape == "stream") as each:
        await at_every_suspension(each, "scope", shape)


async def at_every_suspension(each: Cancelling, how: How, shape: str) -> None:
    """All of them; every kind of end was met."""
    cancels = 0
    for at in range(1, MOST):
        run = await each.cancelled(at, how)
        if not run.cancels:
            break
        cancels = max(cancels, run.cancels)
        await each.whole()
    assert at > LEAST[shape]
    assert (cancels > 1) == (how == "again")
    assert each.unseen == 0
    assert set(each.ends) == {"released", "abandoned", "completed"}


@BOTH
@pytest.mark.parametrize("kind", ["memory", "fragile", "sqlite", "postgres", "redis"])
@ASYNCIO
async def test_a_request_with_a_key_that_is_cancelled_anywhere_is_run_once(
    anyio_backend: str, kind: str, shape: str, place: str
) -> None:
    async with cancelling(made(kind, place), stream=shape == "stream") as each:
        for at in range(1, MOST):
            run = await each.cancelled_and_repeated(at, "task")
            if not run.cancels:
                break
    assert at > LEAST[shape]
    assert set(each.ends) == {"200 abandoned", "200 completed"}


@pytest.mark.parametrize(
    ("kind", "how", "shape"),
    [("memory", "task", "json"), ("memory", "scope", "stream"), ("sqlite", "task", "stream")],
)
@ASYNCIO
async def test_the_first_request_of_all_may_be_cancelled_at_every_suspension(
    anyio_backend: str, kind: str, how: How, shape: str, tmp_path: Path
) -> None:
    for at in range(1, MOST):
        async with cancelling(made(kind, str(tmp_path / f"{at}.db")), stream=shape == "stream", warm=False) as each:
            run = await each.cancelled(at, how)
        if not run.cancels:
            break
    assert at > LEAST[shape] + FIRST[shape]
