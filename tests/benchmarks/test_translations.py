"""The benchmark of the dialects measures what it says: text is told, usage is read, and every table has its figures."""

import pytest
from bench.translated import APIS, SPEECHES, Case, cases
from translations import KINDS, measured, tables

from hpp_middleware.types.http import HTTPCall


def _named(case: Case) -> str:
    return f"{case.dialect}-{case.api}{'-passed-on' * case.passed_on}"


@pytest.mark.parametrize("case", list(cases()), ids=_named)
def test_each_case_does_what_is_measured(case: Case) -> None:
    call = case.request()
    assert isinstance(call, HTTPCall)
    assert b"weather" in call.body
    reader = case.reader()
    told = [reader.feed(chunk) for chunk in case.chunks]
    assert all(told)
    assert b"quic" in b"".join(told[:4])
    assert (reader.cut, reader.done) == (False, False)
    answer = case.answer()
    assert b"The quick brown fox" in answer
    assert b"210" in answer


def test_every_cell_of_the_tables_has_a_figure() -> None:
    figures = measured(rounds=1, times=1)
    assert all(us >= 0 for rounds in figures.values() for us in rounds)
    text = tables(figures)
    rows = [line for line in text.splitlines() if line.split(" | ")[0].removeprefix("| ") in SPEECHES]
    assert len(rows) == len(SPEECHES) * len(KINDS)
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
    assert all(row.count("|") == len(APIS) + 2 for row in rows)
