"""Clients of Node.js: all the cells of one in a single run of a script, since to start it is what takes time."""

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import nodejs

from matrix.features import PNG, SCHEMA, Ask, Told, tool_result

__all__ = ["Found", "told"]


@dataclass(frozen=True, slots=True)
class Found:
    """What the script found in one way of one cell."""

    answer: dict[str, Any]

    def told(self) -> Told:
        """
        The same as of any client.

        Raises:
            AssertionError: The client has thrown.
        """
        assert "error" not in self.answer, self.answer["error"]
        answer = {**self.answer, "called": [(each["name"], each["input"]) for each in self.answer["called"]]}
        counts = answer.pop("counts")
        return Told(**answer, counts=None if counts is None else tuple(counts))


def told(client: str, asks: list[tuple[int, Ask]]) -> dict[int, list[Found]]:
    """
    What a client has made of each cell, by the cells' numbers.

    Args:
        client: A name that ``node/matrix.mjs`` knows.
        asks: Numbers of cells, and what is asked in each; a cell may come more than once.
    """
    cells = [asdict(ask) for _, ask in asks]
    answers = nodejs.run("matrix.mjs", client=client, cells=cells, png=PNG, schema=SCHEMA, result=tool_result())
    found: defaultdict[int, list[Found]] = defaultdict(list)
    for (number, _), answer in zip(asks, answers, strict=True):
        found[number].append(Found(answer))
    return found
