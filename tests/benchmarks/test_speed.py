"""The benchmark itself: each part of it does what it says, in small. No figure is judged."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import bytecodes
import pytest
from bench import goals, nginx, report, samples, tls
from bench.accounting import cpu_ns, resident_mb
from bench.contestant import TRANSPORTS
from bench.contestants import contestant
from bench.orders import Report
from bench.processes import Loader
from bench.results import Results
from bench.scenarios import ASGI, SCENARIOS, named
from instructions import compared

TINY = {"connections": 2, "seconds": 0.05, "warm_s": 0.02, "events": 5, "gap_us": 0, "times": 2, "spread_s": 0.0}
NAMES = ["direct", "noop", "bare", "bare-sqlite", "rawproxy", "ours", "ours-sqlite", "naive", "router"]
NAMES += ["nginx"] if nginx.path() else []


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HPP_BENCH_TLS", "")  # is set by what follows, and as it was afterwards
        tls.prepare(tmp_path_factory.mktemp("tls"))
        with Loader() as found:
            yield found


@pytest.mark.parametrize("name", [*NAMES, *TRANSPORTS])
def test_every_contestant_is_measured(name: str, loader: Loader, tmp_path: Path) -> None:
    with contestant(name, loader.upstream, tmp_path) as target:
        cpu_us = 0.0
        for scenario in ("json32", "step", "flat", "ttft32", "image"):
            if name == "noop" and scenario not in ASGI:
                continue
            found = loader.run(target, {**SCENARIOS[scenario].order, **TINY})
            assert (found.failed, found.notes) == (0, []), scenario
            assert found.finished
            assert found.units
            cpu_us += found.cpu_us
            assert found.p50_ms > 0
        if name != "direct":
            assert cpu_us > 0
            assert resident_mb(target.pids) > 1
            assert target.start_s > 0


def test_paced_streams_are_counted_chunk_by_chunk(loader: Loader, tmp_path: Path) -> None:
    with contestant("ours", loader.upstream, tmp_path) as target:
        paced = {**SCENARIOS["paced"].order, "connections": 3, "events": 20, "gap_us": 5000}
        found = loader.run(target, paced)
        assert (found.finished, found.failed, found.notes) == (3, 0, [])
        assert 0 < found.units <= 60
        assert found.total_s >= 19 * 0.005


def test_streams_that_are_held_are_left_by_the_next_order(loader: Loader, tmp_path: Path) -> None:
    with contestant("ours", loader.upstream, tmp_path) as target:
        held = loader.run(target, {"kind": "hold", "connections": 4, "events": 100, "gap_us": 500_000, "seconds": 0.1})
        assert (held.units, held.failed) == (4, 0)
        assert loader.run(target, {"kind": "closed", "seconds": 0.05}).finished


def test_a_refusal_is_counted_as_failed(loader: Loader, tmp_path: Path) -> None:
    with contestant("ours", loader.upstream, tmp_path) as target:
        too_large = {"kind": "closed", "seconds": 0.05, "image_bytes": 11_000_000, "deadline_s": 1.0}
        found = loader.run(target, too_large)
        assert found.failed
        assert not found.finished


def test_cpu_time_of_this_process_grows_as_it_computes() -> None:
    before, own = cpu_ns([os.getpid()]), time.process_time_ns()
    sum(range(200_000))
    assert cpu_ns([os.getpid()]) - before >= (time.process_time_ns() - own) * 0.5


def test_goals_are_ratios_of_the_same_rounds() -> None:
    results = Results()
    for noop, ours in ((10.0, 20.0), (20.0, 42.0), (30.0, 90.0)):
        results.add("json32", "noop", Report(cpu_us=noop, units=1, wall_s=1))
        results.add("json32", "ours", Report(cpu_us=ours, units=1, wall_s=1))
    judged = goals.judged(results)
    assert [(goal.title, value, goal.met(value)) for goal, value in judged] == [
        ("JSON, 32 connections, against the no-op app", 2.1, True)
    ]
    text = report.tables(results)
    assert "| ours | 20.0 / 42.0 |" in text
    assert "| <= 2.5 x | 2.10 x | met |" in text


def test_what_matters_most_stands_in_one_table() -> None:
    results = Results()
    for name, cpu_us in (("direct", 0.0), ("rawproxy", 1.0), ("nginx", 2.0), ("ours", 3.0)):
        for scenario in ("json32", "paced50", "ttft1", "streams500"):
            found = Report(cpu_us=cpu_us, units=1, wall_s=1, p50_ms=cpu_us, p99_ms=9, finished=500, total_s=5.9)
            found.server = 0.4
            results.add(scenario, name, found)
    assert "| ours | 3.00 | 3.00 | 500, 5.9 s, 40%, 9.00 ms | 3.00 ms |" in report.summary(results)
    assert "rawproxy" not in report.summary(results)
    assert report.summary(Results()) == ""


def test_a_table_replaces_the_one_before_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figures -->\nold\n<!-- /figures -->\nafter\n", "utf-8")
    report.put(page, "figures", "new")
    report.put(page, "figures", "newer")
    assert page.read_text("utf-8") == "before\n<!-- figures -->\n\nnewer\n\n<!-- /figures -->\nafter\n"


def test_a_group_names_its_scenarios_and_an_unknown_name_is_refused() -> None:
    assert named("ttft,flat") == ["ttft1", "ttft32", "flat"]
    with pytest.raises(ValueError, match="no scenario flit"):
        named("flit")


def test_ten_percent_more_instructions_are_told() -> None:
    _, slower = compared({"same": 109, "slower": 111, "new": 5}, {"same": 100, "slower": 100})
    assert slower == ["slower: +11.0%"]


def test_bytecodes_of_a_request_are_counted_alike_at_each_run(loader: Loader, tmp_path: Path) -> None:
    first, second = (bytecodes.count("ours", "stream", loader.upstream, tmp_path) for _ in range(2))
    calls, run = first["core/parse.py completion"]
    assert (calls, run) == second["core/parse.py completion"]
    assert calls == 1
    assert 10 < run < bytecodes.sums(first)[1]


def test_samples_are_told_by_their_owner(tmp_path: Path) -> None:
    stacks = tmp_path / "stacks"
    lines = [
        "main (/x/site-packages/uvicorn/server.py:1);feed (/x/hpp_middleware/core/relay.py:3) 3",
        "main (/x/site-packages/uvicorn/server.py:1);send (/x/site-packages/uvicorn/protocols/http.py:9) 1",
    ]
    stacks.write_text("\n".join(lines), "utf-8")
    found = samples.read(stacks)
    assert found.owners == {"ours": 3, "the server (uvicorn)": 1}
    assert found.functions["hpp_middleware/core/relay.py feed"] == 3
    assert found.total == 4
