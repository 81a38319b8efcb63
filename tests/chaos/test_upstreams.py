"""Each fault of an upstream, at each position."""

from collections.abc import Iterator

import pytest

from chaos.bench import Bench, running
from chaos.cells import Fault, Way
from chaos.checks import cells, check
from chaos.places import running_places
from chaos.upstreams import UPSTREAM

CELLS = cells(UPSTREAM)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        running_places(tmp_path_factory.mktemp("places")) as (places, ca_file),
        running(places, consumers=len(CELLS), ca_file=ca_file) as found,
    ):
        yield found


@pytest.mark.parametrize(("fault", "way"), [pytest.param(*each, id=f"{each[0].id}-{each[1]}") for each in CELLS])
def test_a_fault(bench: Bench, fault: Fault, way: Way) -> None:
    check(bench, fault, way)
