"""What is asked of each cell: what the client saw, what the ledger has, and what the witness says to both."""

import re
from typing import Any

from rig import USAGE_NANO

from chaos.bench import Answer, Bench, estimate
from chaos.cells import SERVERS, Cell, Fault, Way, answer
from chaos.upstreams import TEXTS
from hpp_middleware.testing import Script
from hpp_middleware.testing.upstream import Exchange
from hpp_middleware.types.quota import Entry

__all__ = ["cells", "check", "check_charged", "check_followed"]


def cells(faults: list[Fault]) -> list[tuple[Fault, Way]]:
    """Each fault, in each of the ways that it has."""
    whole: list[tuple[Fault, Way]] = [(fault, "json") for fault in faults if fault.json is not None]
    return whole + [(fault, "stream") for fault in faults if fault.stream is not None]


def check(bench: Bench, fault: Fault, way: Way) -> None:
    """Let a fault happen, and look at what comes of it."""
    cell = fault.json if way == "json" else fault.stream
    assert cell is not None
    connection = keep(bench, fault)
    consumer, before = bench.consumer(), len(bench.upstream.log)
    bench.script(*[fault.script] * fault.asked)
    with bench.line(consumer, asked(fault, way)) as line:
        told = fault.act(line)
    bench.quiet()
    arrived = len(bench.upstream.log) - before
    assert arrived == fault.asked
    assert connection is None or bench.upstream.log[before].connection == connection
    if told is None:
        assert cell.status is None
    else:
        check_told(told, fault, cell)
    exchange = bench.upstream.log[-1] if arrived else None
    text = told.text if told is not None else fault.text
    check_charged(bench.lines(consumer), exchange, text, cell, times=arrived)


def keep(bench: Bench, fault: Fault) -> int | None:
    """Have one request answered, where the fault wants a connection that was kept; that connection's number."""
    if not fault.kept:
        return None
    bench.script(Script(texts=TEXTS))
    with bench.line(bench.consumer(), asked(fault, "json")) as line:
        line.send()
        assert line.read().status == 200
    bench.quiet()
    return bench.upstream.log[-1].connection


def asked(fault: Fault, way: Way) -> dict[str, Any]:
    """The request."""
    return {
        "model": f"{fault.provider}/m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 1_000,
        "stream": way == "stream",
        **fault.fields,
    }


def check_followed(bench: Bench, fault: Fault, way: Way, cell: Cell) -> None:
    """Let a fault happen as often as the model is asked, and see that another one answers."""
    connection = keep(bench, fault)
    consumer, before = bench.consumer(), len(bench.upstream.log)
    times = 2 if cell.then == "again" else 1
    bench.script(*[fault.script] * fault.asked * times, Script(texts=TEXTS))
    with bench.line(consumer, asked(fault, way)) as line:
        line.send()
        told = line.read()
    bench.quiet()
    exchanges = bench.upstream.log[before:]
    assert connection is None or exchanges[0].connection == connection
    assert [_model(exchange) for exchange in exchanges] == ["m"] * fault.asked * times + ["other"]
    assert (told.status, told.text, told.error) == (200, "".join(TEXTS), None)
    assert not told.is_stream or told.events[-1] == "[DONE]"
    assert told.headers["x-hpp-router-resolved-model"] == "spare/other"
    assert told.headers["x-hpp-router-attempts"] == str(times + 1)
    (entry,) = bench.lines(consumer)
    costs = [_cost(cell, exchange) for exchange in exchanges[:-1]] or [0] * times
    assert [attempt.cost for attempt in entry.report.attempts] == [*costs, USAGE_NANO]
    models = [(attempt.provider, attempt.model) for attempt in entry.report.attempts]
    assert models == [(fault.provider, "m")] * times + [("spare", "other")]
    assert (entry.amount, entry.report.outcome) == (sum(costs) + USAGE_NANO, "completed")
    assert entry.report.estimated == (cell.charged == "estimate")


def _model(exchange: Exchange) -> str:
    """Which model was asked, even where not all of the request was read."""
    found = re.search(rb'"model":\s*"(\w+)"', exchange.body)
    assert found is not None, exchange.body[:200]
    return found[1].decode()


def _cost(cell: Cell, exchange: Exchange) -> int:
    """Of a failed attempt of which no client was told anything."""
    return {"nothing": 0, "usage": USAGE_NANO, "estimate": estimate(exchange, "")}[cell.charged]


def check_told(told: Answer, fault: Fault, cell: Cell) -> None:
    """The client saw what is declared, and not a word of what the upstream said or is."""
    assert (told.status, told.whole) == (cell.status, True)
    assert told.is_stream or not cell.after_head
    for secret in (b"secret", b"canary", b"127.0.0.1", b"Traceback", b"log in"):
        assert secret not in told.body
    if cell.code is None:
        assert told.error is None
        assert not told.is_stream or told.events[-1] == "[DONE]"
        said = "".join(fault.script.texts)
        assert told.text == said if cell == answer() else told.text.startswith(said) or cell.charged == "estimate"
        return
    if cell.code == SERVERS:
        assert told.body == b"Invalid HTTP request received."
        return
    error = told.error
    assert error is not None
    assert (error["code"], b"[DONE]" in told.body) == (cell.code, False)
    assert (error["type"] == "upstream_error") == (cell.outcome is not None)


def check_charged(lines: list[Entry], exchange: Exchange | None, text: str, cell: Cell, *, times: int = 1) -> None:
    """The ledger has what the witness saw, to the nano-dollar."""
    if cell.charged == "no entry":
        assert lines == []
        return
    if times > 1:  # each has a line like the last
        assert len(lines) == times
        lines = lines[-1:]
    first, amount = lines[0], sum(line.amount for line in lines)
    assert {line.line for line in lines[1:]} <= {"overage"}
    assert (first.report.outcome, len(first.report.attempts)) == (cell.outcome, 1)
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
            assert (amount, first.report.estimated) == (estimate(exchange, text), True)
        case "relayed":
            assert exchange is not None
            assert first.report.estimated
            assert estimate(exchange, text) <= amount <= first.held
        case "hold":
            assert (amount, first.report.estimated) == (first.held, True)
