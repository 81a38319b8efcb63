"""The benchmark of overload: each part of it does what it says, in small. No figure is judged."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import overload
import pytest
from bench.pressure import Tenant
from overload import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack, tmp_path)


def test_every_request_comes_to_something(bench: Bench) -> None:
    with bench.gateway("--in-flight", "1", "--per-consumer", "1", "--queue", "0") as target:
        one, other = bench.press(target, Tenant(key=0, rate=200), Tenant(key=1, rate=50), seconds=0.5)
    for found in (one, other):
        assert found.offered > 0
        assert found.offered == found.good + found.refused + found.left + found.other
        assert found.other == 0
    assert one.refused > 0


def test_a_tenant_alone_is_answered(bench: Bench) -> None:
    with bench.gateway(*overload.WAYS["with bounds"]) as target:
        (alone,) = bench.press(target, Tenant(key=0, rate=10), seconds=0.5)
    assert alone.good > 0
    assert alone.p99_ms >= alone.p50_ms > 0


def test_the_tables_have_a_row_for_each_way(bench: Bench, tmp_path: Path) -> None:
    rows = overload.goodput(bench, (1.0,), 0.3)
    assert [row[:2] for row in rows] == [["1 x", way] for way in overload.WAYS]
    assert [row[0] for row in overload.idle_streams(tmp_path / "held", 4)] == ["noop", "ours", "ours-sqlite"]
