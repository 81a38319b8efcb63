"""Each fault of a client, at each position."""

from collections.abc import Iterator

import pytest

from chaos.bench import Bench, running
from chaos.cells import Fault, Way
from chaos.checks import cells, check
from chaos.clients import CLIENTS

CELLS = cells(CLIENTS)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with running({}, consumers=len(CELLS)) as found:
        yield found


@pytest.mark.parametrize(("fault", "way"), [pytest.param(*each, id=f"{each[0].id}-{each[1]}") for each in CELLS])
def test_a_fault(bench: Bench, fault: Fault, way: Way) -> None:
    check(bench, fault, way)
