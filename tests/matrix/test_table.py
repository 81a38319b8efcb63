"""The table of the docs says what the suite tests."""

import re

from matrix.declared import CELLS, CLIENTS, NO, NO_BEFORE, reason
from matrix.features import FEATURES
from matrix.table import PAGE, render
from matrix.vendors import VENDORS


def test_the_page_is_what_the_suite_declares() -> None:
    assert PAGE.read_text("utf-8") == render(), "run `make matrix`"


def test_each_cell_stands_there_once() -> None:
    rows = [line for line in render().split("\n## Before a real model")[0].splitlines() if line.startswith("| ")]
    said = re.findall(r"\| (?:yes|no\[\^\d+\])(?= \|)", "\n".join(rows))
    assert len(said) == len(CELLS) == len(CLIENTS) * len(VENDORS) * len(FEATURES)
    assert sum("no" in each for each in said) == sum(reason(cell) is not None for cell in CELLS)


def test_each_reason_is_one_of_a_cell() -> None:
    assert {client for client, _ in NO} | {client for client, _, _ in NO_BEFORE} <= CLIENTS.keys()
    assert {vendor for _, vendor, _ in NO_BEFORE} <= VENDORS.keys()
    assert {feature for _, feature in NO} | {feature for *_, feature in NO_BEFORE} <= FEATURES.keys()
