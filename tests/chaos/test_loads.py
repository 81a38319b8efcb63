"""Each fault of load: whom it hits is told so, and nobody else notices."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from rig import USAGE_NANO

from chaos.bench import Answer, Bench, Line, running, wait
from chaos.cells import Cell, Way
from chaos.checks import check_charged
from chaos.loads import BENCHES, LOADS, Load
from chaos.upstreams import TEXTS
from hpp_middleware.testing import Script

CELLS: list[tuple[Load, Way]] = [(load, way) for load in LOADS for way in ("json", "stream")]


@pytest.fixture(scope="module")
def benches() -> Iterator[Callable[[str], Bench]]:
    poor = {f"poor-{way}": 4_300_000 for way in ("json", "stream")}  # two holds, and not a third
    rich = [f"{name}-{way}" for name in ("keyed", "few", "terse", "single") for way in ("json", "stream")]
    quotas = {**poor, **dict.fromkeys(rich, 10**9)}
    found: dict[str, Bench] = {}
    with ExitStack() as stack:

        def bench(name: str) -> Bench:
            if name not in found:
                found[name] = stack.enter_context(running({}, consumers=400, quotas=quotas, **BENCHES[name]))
            return found[name]

        yield bench


BODY = {"model": "fake/m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1_000}


def matching(told: Answer, cells: Counter[Cell]) -> Cell:
    """Which of the declared cells an answer is."""
    code = None if told.error is None else told.error["code"]
    found = [cell for cell in cells if (cell.status, cell.code) == (told.status, code) and cells[cell]]
    assert len(found) == 1, (told, code)
    return found[0]


@pytest.mark.parametrize(("load", "way"), [pytest.param(*each, id=f"{each[0].id}-{each[1]}") for each in CELLS])
def test_a_load(benches: Callable[[str], Bench], load: Load, way: Way) -> None:
    bench = benches(load.bench)
    cells = Counter(load.json if way == "json" else load.stream)
    for script in load.before:
        bench.script(script)
        with bench.line(bench.consumer(), BODY) as line:
            line.send()
            line.read()
        bench.quiet()
    before = len(bench.upstream.log)

    def client(stream: bool, consumer: str | None = None) -> tuple[str, Line]:  # noqa: FBT001
        name = f"{load.consumer}-{way}" if load.consumer else consumer or bench.consumer()
        words = "Hi" if load.consumer else name
        body = {"model": f"{load.provider}/m", "messages": [{"role": "user", "content": words}], "max_tokens": 1_000}
        return name, bench.line(name, {**body, "stream": stream})

    def ask(each: tuple[str, Line]) -> Answer:
        with each[1] as mine:
            mine.send(mine.head(**load.headers) + mine.body)
            return mine.read()

    with ThreadPoolExecutor(load.running + cells.total()) as threads:
        bench.upstream.fake.holding = load.running > 0
        bench.script(*[Script(texts=TEXTS)] * load.running)
        first = [client(stream=way == "stream") for _ in range(load.running)]
        running_ = [threads.submit(ask, each) for each in first]
        wait(lambda: len(bench.upstream.log) - before == load.running)
        bench.script(*load.scripts)
        asking = [client(stream=way == "stream") for _ in range(cells.total())]
        answers = list(threads.map(ask, asking))
        bench.upstream.fake.holding = False
        assert [each.result().text for each in running_] == ["".join(TEXTS)] * load.running
    bench.quiet()
    assert len(bench.upstream.log) - before == load.running + len(load.scripts)
    seen = {exchange.json()["messages"][0]["content"]: exchange for exchange in bench.upstream.log[before:]}
    for (name, _), told in zip(asking, answers, strict=True):
        cell = matching(told, cells)
        cells[cell] -= 1
        assert told.whole
        if load.consumer is None:
            check_charged(bench.lines(name), seen.get(name), told.text, cell)
    assert cells.total() == 0
    for name, number in Counter(name for name, _ in first).items():
        lines = bench.lines(name)
        assert [(line.amount, line.report.outcome) for line in lines] == [(USAGE_NANO, "completed")] * number
