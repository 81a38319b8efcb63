"""Each fault of an upstream, at each position: what the client sees, what is charged, and what the witness saw."""

from collections.abc import Iterator

import pytest

from chaos.bench import Answer, Bench, estimate, running
from chaos.cells import Cell, Fault, Way, answer
from chaos.places import running_places
from chaos.upstreams import UPSTREAM
from hpp_middleware.types.quota import Entry

CELLS: list[tuple[Fault, Way]] = [(fault, "json") for fault in UPSTREAM if fault.json is not None]
CELLS += [(fault, "stream") for fault in UPSTREAM if fault.stream is not None]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        running_places(tmp_path_factory.mktemp("places")) as (places, ca_file),
        running(places, consumers=len(CELLS), ca_file=ca_file) as found,
    ):
        yield found


def check_told(told: Answer, cell: Cell) -> None:
    """The client saw what is declared, and not a word of what the upstream said or is."""
    assert (told.status, told.whole) == (cell.status, True)
    assert told.is_stream or not cell.after_head
    for secret in (b"secret", b"canary", b"127.0.0.1", b"Traceback", b"log in"):
        assert secret not in told.body
    if cell.code is None:
        assert told.error is None
        assert not told.is_stream or told.events[-1] == "[DONE]"
        return
    error = told.error
    assert error is not None
    assert (error["code"], error["type"], b"[DONE]" in told.body) == (cell.code, "upstream_error", False)


def check_charged(bench: Bench, lines: list[Entry], told: Answer, cell: Cell, arrived: int) -> None:
    """The ledger has what the witness saw, to the nano-dollar."""
    if cell.charged == "no entry":
        assert lines == []
        return
    first, amount = lines[0], sum(line.amount for line in lines)
    assert {line.line for line in lines[1:]} <= {"overage"}
    assert (first.report.outcome, len(first.report.attempts)) == (cell.outcome, 1)
    exchange = bench.upstream.log[-1] if arrived else None
    match cell.charged:
        case "nothing":
            assert (amount, first.report.estimated) == (0, False)
        case "usage":
            assert exchange is not None
            usage = exchange.usage or {"prompt_tokens": 9, "completion_tokens": 2}
            expected = usage["prompt_tokens"] * 1_000 + usage["completion_tokens"] * 2_000
            assert (amount, first.report.estimated) == (expected, False)
        case "estimate":
            assert exchange is not None
            assert first.report.estimated
            assert estimate(exchange, told.text) == amount
        case "hold":
            assert (amount, first.report.estimated) == (first.held, True)


@pytest.mark.parametrize(("fault", "way"), [pytest.param(*each, id=f"{each[0].id}-{each[1]}") for each in CELLS])
def test_a_fault(bench: Bench, fault: Fault, way: Way) -> None:
    cell = fault.json if way == "json" else fault.stream
    assert cell is not None
    consumer, before = bench.consumer(), len(bench.upstream.log)
    bench.upstream.next(*[fault.script] * fault.asked)
    told = bench.ask(
        consumer,
        {
            "model": f"{fault.provider}/m",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 1_000,
            "stream": way == "stream",
            **fault.fields,
        },
    )
    bench.quiet()
    arrived = len(bench.upstream.log) - before
    check_told(told, cell)
    said = "".join(fault.script.texts)
    assert told.text == said if cell == answer() else told.text in said or cell.charged == "hold" or told.is_stream
    assert arrived == fault.asked
    check_charged(bench, bench.lines(consumer), told, cell, arrived)
