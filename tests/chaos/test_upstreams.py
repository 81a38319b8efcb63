"""Each fault of an upstream, at each position."""

from collections.abc import Iterator

import pytest

from chaos.bench import Bench, running
from chaos.cells import Fault, Way
from chaos.checks import cells, check, check_followed
from chaos.places import running_places
from chaos.upstreams import UPSTREAM
from hpp_middleware.core import attempts

CELLS = cells(UPSTREAM)
EACH = [pytest.param(*each, id=f"{each[0].id}-{each[1]}") for each in CELLS]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        running_places(tmp_path_factory.mktemp("places")) as (places, ca_file),
        running(places, consumers=len(CELLS) + len(UPSTREAM), ca_file=ca_file) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with (
        pytest.MonkeyPatch.context() as patch,
        running_places(tmp_path_factory.mktemp("places")) as (places, ca_file),
    ):
        patch.setattr(attempts, "FIRST_PAUSE_S", 0.01)
        patch.setattr(attempts, "FLOOR", 10**6)  # all that fails here is far more than a budget is for
        with running(places, consumers=len(CELLS) + len(UPSTREAM), ca_file=ca_file, retries=1) as found:
            yield found


@pytest.mark.parametrize(("fault", "way"), EACH)
def test_a_fault(bench: Bench, fault: Fault, way: Way) -> None:
    check(bench, fault, way)


@pytest.mark.parametrize(("fault", "way"), EACH)
def test_what_follows_a_fault(chained: Bench, fault: Fault, way: Way) -> None:
    cell = fault.json if way == "json" else fault.stream
    if cell is None or cell.then == "no":
        check(chained, fault, way)
    else:
        check_followed(chained, fault, way, cell)
