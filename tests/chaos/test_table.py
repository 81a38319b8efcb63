"""The page of the docs says what the suite tests."""

from chaos.clients import CLIENTS
from chaos.loads import LOADS
from chaos.table import PAGE, render
from chaos.upstreams import UPSTREAM


def test_the_page_is_what_the_suite_declares() -> None:
    assert PAGE.read_text("utf-8") == render(), "run `make faults`"


def test_each_fault_stands_there_once() -> None:
    faults = [*UPSTREAM, *CLIENTS]
    assert len({fault.id for fault in faults}) == len(faults)
    assert len({(fault.position, fault.title) for fault in faults}) == len(faults)
    assert all(fault.json is not None or fault.stream is not None for fault in faults)
    rows = [line for line in render().split("\n## ", 1)[1].split("\n") if line.startswith("| ")]
    assert len(rows) == len(faults) + len(LOADS) + 3
