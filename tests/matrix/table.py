"""
The table of the docs, made of what the suite declares.

``make matrix`` runs the suite, and then this: ``python tests/matrix/table.py`` writes ``docs/compatibility.md``.
"""

import sys
from pathlib import Path

if not __package__:  # started by its path
    sys.path.insert(0, str(Path(__file__).parent.parent))

from matrix.declared import CELLS, CLIENTS, LLAMA, LLAMA_APIS, Cell, reason
from matrix.features import FEATURES
from matrix.vendors import VENDORS

__all__ = ["PAGE", "render"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "compatibility.md"
WORDS = Path(__file__).parent / "page.md"
"""The page without its tables."""


def render() -> str:
    """The page."""
    notes: list[str] = []
    parts = []
    for name, client in CLIENTS.items():
        parts.append(f"## {client.title}\n\nSpeaks {_SPOKEN[client.api]}.\n\n{_table(name, notes)}")
    parts.append("".join(f"[^{number}]: {note}.\n" for number, note in enumerate(notes, 1)))
    words = WORDS.read_text("utf-8").replace("<!-- tables -->\n", "\n".join(part for part in parts if part))
    return words.replace("<!-- real -->\n", _real())


_SPOKEN = {
    "chat": "chat completions (`/v1/chat/completions`)",
    "Responses": "OpenAI's Responses (`/v1/responses`)",
    "Messages": "Anthropic's Messages (`/v1/messages`)",
}


def _table(client: str, notes: list[str]) -> str:
    lines = [f"| | {' | '.join(FEATURES.values())} |", f"|---{'|---' * len(FEATURES)}|"]
    for vendor in VENDORS:
        cells = [cell for cell in CELLS if (cell.client, cell.vendor) == (client, vendor)]
        lines.append(f"| {VENDORS[vendor].title} | {' | '.join(_said(cell, notes) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _said(cell: Cell, notes: list[str]) -> str:
    why = reason(cell)
    if why is None:
        return "yes"
    if why not in notes:
        notes.append(why)
    return f"no[^{notes.index(why) + 1}]"


def _real() -> str:
    lines = [
        f"| | {' | '.join(f'{api}: JSON | {api}: stream' for api in LLAMA_APIS.values())} |",
        f"|---{'|---' * 2 * len(LLAMA_APIS)}|",
    ]
    for client in dict.fromkeys(cell.client for cell in LLAMA):
        cells = [cell for cell in LLAMA if cell.client == client]
        lines.append(f"| {CLIENTS[client].title} | {' | '.join('yes' for _ in cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), "utf-8")
