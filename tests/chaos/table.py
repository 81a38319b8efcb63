"""
The page of faults, made of what the suite declares.

``make faults`` runs the suite, and then this: ``python tests/chaos/table.py`` writes ``docs/faults.md``.
"""

import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.cells import SERVERS, Cell, Fault
from chaos.clients import CLIENTS
from chaos.loads import LOADS, Load
from chaos.upstreams import UPSTREAM

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "faults.md"
WORDS = Path(__file__).parent / "page.md"
"""The page without its tables."""

SEEN, CHARGED_, THEN_ = "the client sees", "charged", "then"
PLAIN = ("when", "what happens", f"JSON: {SEEN}", CHARGED_, f"stream: {SEEN}", CHARGED_)
CHAINED = ("when", "what happens", f"JSON: {SEEN}", CHARGED_, THEN_, f"stream: {SEEN}", CHARGED_, THEN_)
"""For faults of providers: another may be asked."""
THEN = {"no": "no", "next": "next", "again": "again, next"}
CHARGED = {
    "nothing": "0",
    "no entry": "0, no entry",
    "usage": "usage",
    "estimate": "estimate",
    "relayed": "estimate",
    "hold": "the hold",
}


def render() -> str:
    """The page."""
    parts = [
        f"## The provider\n\n{_head(CHAINED)}{_rows(UPSTREAM, then=True)}",
        f"## The client\n\n{_head(PLAIN)}{_rows(CLIENTS, then=False)}",
        f"## Load\n\n{_head(PLAIN)}{''.join(map(_load, LOADS))}",
    ]
    return WORDS.read_text("utf-8").replace("<!-- tables -->\n", "\n".join(parts))


def _head(columns: tuple[str, ...]) -> str:
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"


def _rows(faults: list[Fault], *, then: bool) -> str:
    lines = []
    for position, found in groupby(faults, key=lambda fault: fault.position):
        for number, fault in enumerate(found):
            cells = [
                part
                for cell in (fault.json, fault.stream)
                for part in (*_said(cell), *([_followed(cell)] if then else []))
            ]
            lines.append(f"| {'' if number else position} | {fault.title} | {' | '.join(cells)} |\n")
    return "".join(lines)


def _followed(cell: Cell | None) -> str:
    return "" if cell is None or cell.code is None else THEN[cell.then]


def _load(load: Load) -> str:
    cells = [*_of_many(load.json), *_of_many(load.stream)]
    return f"| {load.position} | {load.title} | {' | '.join(cells)} |\n"


def _of_many(cells: Mapping[Cell, int]) -> tuple[str, str]:
    """What they see, whoever is hit first, and what they are charged."""
    said = [(number, *_said(cell)) for cell, number in cells.items()]
    if len(said) == 1:
        return said[0][1:]
    return tuple("; ".join(f"{each[0]} x {each[part]}" for each in said) for part in (1, 2))  # type: ignore[return-value]


def _said(cell: Cell | None) -> tuple[str, str]:
    if cell is None:
        return "", ""
    charged = CHARGED[cell.charged]
    if cell.outcome is not None:
        charged = f"{charged}, {cell.outcome}"
    if cell.code == SERVERS:
        return f"{cell.status}, the server's own", charged
    if cell.code is not None:
        return (f"event `{cell.code}`" if cell.after_head else f"{cell.status} `{cell.code}`"), charged
    return ("the answer" if cell.status is not None else "nothing more"), charged


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
