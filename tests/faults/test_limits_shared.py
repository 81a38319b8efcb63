"""Limits on four gateways that share a store: together they admit what one would, whoever of them is killed."""

from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from uuid import uuid4

import anyio
import httpx2
import msgspec
import pytest
from rig import BOB_KEY, KEY

from faults.workers import Clock, Settings, Worker, asked, running_worker
from hpp_middleware.testing import FakeUpstream, Script

pytestmark = pytest.mark.anyio

KINDS = ["sqlite", "postgres", "redis"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Two of the stores are served on asyncio only."""
    return "asyncio"


@pytest.fixture(params=KINDS)
def settings(request: pytest.FixtureRequest, tmp_path: Path, fake_upstream: FakeUpstream) -> Settings:
    """What all workers of a test are told."""
    kind: str = request.param
    place = {"sqlite": "", "postgres": "postgres_dsn", "redis": "redis_url"}[kind]
    return Settings(
        kind=kind,
        place=request.getfixturevalue(place) if place else str(tmp_path / f"{uuid4().hex}.db"),
        upstream=fake_upstream.url,
        journal=str(tmp_path / "journal"),
        limits=[{"requests_per_day": 12, "requests_burst": 12, "concurrency": 5}],
        slot_s=2.0,
    )


def four(stack: ExitStack, tmp_path: Path, settings: Settings) -> list[Worker]:
    return [stack.enter_context(running_worker(tmp_path, settings)) for _ in range(4)]


async def statuses(client: httpx2.AsyncClient, workers: list[Worker], count: int, key: str) -> list[int]:
    """What so many requests at once are answered, over all workers."""
    found: list[int] = []

    async def one(number: int) -> None:
        for _ in range(100):  # too many at once may try again; too many a day may not
            response = await client.post(**asked(workers[number % len(workers)], key=key))
            if response.status_code != 429 or "at once" not in response.json()["error"]["message"]:
                break
            await anyio.sleep(0.05)
        found.append(response.status_code)

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(one, number)
    return found


async def test_requests_that_race_on_four_workers_are_as_many_as_one_would_admit(
    settings: Settings, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    with ExitStack() as stack:
        workers = four(stack, tmp_path, settings)
        async with httpx2.AsyncClient(timeout=60) as client:
            found = await statuses(client, workers, 40, KEY)
            assert (found.count(200), found.count(429)) == (12, 28)
            assert len(fake_upstream.log) == 12
            found = await statuses(client, workers, 8, BOB_KEY)
            assert found == [200] * 8, "and another tenant has all of its own"


@pytest.mark.parametrize("kind", ["postgres", "redis"])
async def test_workers_whose_clocks_are_wrong_admit_no_more_and_keep_no_place(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    clocks: list[Clock] = ["an hour ahead", "an hour behind", "frozen", "backwards"]
    told = Settings(
        kind=kind,
        place=request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind]),
        upstream=fake_upstream.url,
        journal=str(tmp_path / "journal"),
        limits=[{"requests_per_day": 12, "requests_burst": 12, "concurrency": 5}],
        slot_s=2.0,
    )
    with ExitStack() as stack:
        settings = [msgspec.structs.replace(told, clock=clock) for clock in clocks]
        workers = [stack.enter_context(running_worker(tmp_path, each)) for each in settings]
        async with httpx2.AsyncClient(timeout=60) as client:
            found = await statuses(client, workers, 10, KEY)
            for worker in workers:
                worker.let_the_clock_jump()
            found += await statuses(client, workers, 30, KEY)
            assert (found.count(200), found.count(429)) == (12, 28)
            found = await statuses(client, workers, 12, BOB_KEY)
            assert found == [200] * 12, "and every place has come back"


async def test_places_are_shared_and_a_worker_that_is_killed_gives_them_back_in_time(
    settings: Settings, tmp_path: Path, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(*[Script(stall_after_events=2)] * 5)
    with ExitStack() as stack:
        workers = four(stack, tmp_path, settings)
        async with httpx2.AsyncClient(timeout=60) as client, AsyncExitStack() as streams:
            for number in range(5):
                request = client.stream("POST", **asked(workers[number % 2], stream=True))
                assert (await streams.enter_async_context(request)).status_code == 200
            await anyio.sleep(2.5)  # longer than a place lasts that nobody extends
            for worker in workers:
                response = await client.post(**asked(worker))
                assert response.status_code == 429
                assert "5 requests at once" in response.json()["error"]["message"]
            workers[0].kill()
            with anyio.fail_after(30):
                while (await client.post(**asked(workers[3]))).status_code == 429:  # noqa: ASYNC110  # a store tells nobody
                    await anyio.sleep(0.1)
            for worker in workers[1:]:
                assert (await client.post(**asked(worker))).status_code == 200
            await streams.aclose()
