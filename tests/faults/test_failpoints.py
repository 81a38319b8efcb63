"""Workers killed with ``kill -9`` at each point of a request: nothing acknowledged is lost, and nothing stays held."""

import random
from pathlib import Path

import anyio
import pytest
from background import BackgroundUpstream
from rig import USAGE_NANO

from faults.crashing import Scene
from faults.mortal import ASLEEP_S, STREAMS
from hpp_middleware.testing import Script
from hpp_middleware.types.quota import Entry

pytestmark = pytest.mark.anyio

ALL = pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
KILLS = 3

# What may stand in the ledger afterwards, as outcomes of its lines, and how often the upstream was asked.
POINTS: dict[str, tuple[list[list[str]], int]] = {
    "before reserve": ([[]], 0),
    "during reserve": ([[], ["orphaned"]], 0),
    "after reserve": ([["orphaned"]], 0),
    "before send": ([["orphaned"]], 0),
    "at send": ([["orphaned"]], 0),
    "after head": ([["orphaned"]], 1),
    "first byte": ([["orphaned"]], 1),
    "mid stream": ([["orphaned"]], 1),
    "usage seen": ([["orphaned"]], 1),
    "before settle": ([["orphaned"]], 1),
    "during settle": ([["orphaned"], ["completed"]], 1),
    "after settle": ([["completed"]], 1),
    "before journal": ([["orphaned"]], 1),
    "during journal": ([["orphaned"]], 1),
    "after journal": ([["completed"]], 1),
    "before strike": ([["completed"]], 1),
    "after strike": ([["completed"]], 1),
    "before correction": ([["orphaned"]], 1),
    "during correction": ([["orphaned"], ["orphaned", "completed"]], 1),
    "after correction": ([["orphaned", "completed"]], 1),
}
UNCOMMITTED: dict[str, tuple[list[list[str]], int]] = {
    "uncommitted reserve": ([[]], 0),
    "uncommitted settle": ([["orphaned"]], 1),
    "uncommitted correction": ([["orphaned"]], 1),
}
SWEEPS = ["before sweep", "during sweep", "after sweep"]


@pytest.fixture(scope="module", params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The databases are on asyncio only, and so are the workers."""
    backend: str = request.param
    return backend


@pytest.fixture
def scene(kind: str, tmp_path: Path, request: pytest.FixtureRequest, background_upstream: BackgroundUpstream) -> Scene:
    """An empty store, with nobody at it."""
    place = str(tmp_path / "hpp.db")
    if kind != "sqlite":
        place = request.getfixturevalue({"postgres": "postgres_dsn", "redis": "redis_url"}[kind])
    background_upstream.fake.script = Script(delay_between_s=0.002)
    return Scene(kind, place, background_upstream, tmp_path / "journal")


def orphaned(scene: Scene) -> int:
    """What a request is charged whose worker has died: its prompt, at a token for four bytes of what is sent."""
    return -(-len(scene.upstream.log[0].body) // 4) * 1000


async def judge(scene: Scene, expected: tuple[list[list[str]], int]) -> list[Entry]:
    """The lines of the request that its worker died of; the one before it was acknowledged."""
    outcomes, forwarded = expected
    first, *lines = await scene.judged()
    assert scene.acknowledged == {first.hold: USAGE_NANO}
    assert [line.report.outcome for line in lines] in outcomes
    assert len(scene.upstream.log) == 1 + forwarded
    if lines:
        amounts = [orphaned(scene), USAGE_NANO - orphaned(scene)][: len(lines)]
        assert [line.amount for line in lines] == amounts or lines[0].report.outcome == "completed"
        assert lines[-1].report.outcome == "orphaned" or sum(line.amount for line in lines) == USAGE_NANO
    return lines


@ALL
@pytest.mark.parametrize("point", POINTS)
async def test_a_worker_may_be_killed_at_every_point(kind: str, point: str, scene: Scene) -> None:
    scene.dies(point)
    await judge(scene, POINTS[point])
    assert ("journal" in scene.witness.alarms) == (point == "during journal")


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("point", UNCOMMITTED)
async def test_a_worker_may_be_killed_in_a_transaction(kind: str, point: str, scene: Scene) -> None:
    scene.dies(point)
    await judge(scene, UNCOMMITTED[point])


@ALL
async def test_a_worker_may_be_killed_when_its_request_is_on_the_wire(kind: str, scene: Scene) -> None:
    scene.upstream.next(Script(), Script(delay_head_s=60))
    with scene.working(point="never reached", stream=False) as process:
        while not (len(scene.upstream.log) == 2 and scene.upstream.last.body):
            assert process.poll() is None
            await anyio.sleep(0.005)
        process.kill()
        scene.heard(process.communicate()[0])
    await judge(scene, ([["orphaned"]], 1))


@ALL
@pytest.mark.parametrize("point", SWEEPS)
async def test_a_worker_may_be_killed_while_it_sweeps(kind: str, point: str, scene: Scene) -> None:
    scene.dies("before send")
    scene.dies(point, ahead_s=ASLEEP_S)
    await judge(scene, ([["orphaned"]], 0))


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_a_worker_may_be_killed_in_the_transaction_of_a_sweep(kind: str, scene: Scene) -> None:
    scene.dies("before send")
    scene.dies("uncommitted sweep", ahead_s=ASLEEP_S)
    await judge(scene, ([["orphaned"]], 0))


@pytest.mark.parametrize("kind", ["sqlite"])
@pytest.mark.parametrize("point", ["before reserve", "after reserve", "after head", "before settle", "after settle"])
async def test_it_need_not_be_a_stream(kind: str, point: str, scene: Scene) -> None:
    scene.dies(point, stream=False)
    await judge(scene, POINTS[point])


@ALL
@pytest.mark.parametrize("orphan", ["hold", "free"])
async def test_an_orphan_is_charged_as_the_policy_says(kind: str, orphan: str, scene: Scene) -> None:
    scene.dies("mid stream", orphan=orphan)
    _, line = await scene.judged()
    assert line.report.outcome == "orphaned"
    assert line.amount == (line.held if orphan == "hold" else 0)


@ALL
async def test_workers_may_be_killed_at_any_time_under_load(kind: str, scene: Scene) -> None:
    scene.upstream.fake.script = Script(texts=("a", "b", "c", "d", "e", "f"), delay_between_s=0.005)
    chance = random.Random(kind)
    for _ in range(KILLS):
        with scene.working() as process:
            assert process.stdout is not None
            scene.heard(process.stdout.readline())
            await anyio.sleep(chance.uniform(0.05, 0.8))
            process.kill()
            scene.heard(process.communicate()[0])
    lines = await scene.judged()
    ends = [line.report.outcome for line in lines]
    assert set(ends) <= {"completed", "orphaned"}
    assert len(scene.acknowledged) <= ends.count("completed") <= len(scene.acknowledged) + KILLS * STREAMS
    assert 0 < ends.count("orphaned") <= KILLS * STREAMS
    assert {line.amount for line in lines if line.report.outcome == "completed"} == {USAGE_NANO}
    assert {line.amount for line in lines if line.report.outcome == "orphaned"} == {orphaned(scene)}
