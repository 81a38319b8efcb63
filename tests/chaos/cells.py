"""The words of the table: what a client sees of a fault, and what it is charged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from chaos.bench import Answer, Line
from hpp_middleware.testing import Script

__all__ = [
    "SERVERS",
    "Act",
    "Cell",
    "Charged",
    "Fault",
    "Way",
    "answer",
    "cut",
    "error",
    "gone",
    "left",
    "stays",
    "unsent",
]

SERVERS = "the server's own"
"""The code of an error that the server has made before we heard of the request: it has none."""
Way = Literal["json", "stream"]
Then = Literal["no", "next", "again"]
"""What follows where it may: nothing; the next model of the chain; the same one once more, and then the next."""

Charged = Literal["nothing", "usage", "estimate", "relayed", "hold", "no entry"]
"""
What the ledger has: an entry of 0; the cost of what the witness reported; of the prompt and of the text that the client
was sent, a token for four bytes; the same of what was relayed for a client that did not read it; all that was held; or
no entry, since nothing was sent.
"""


class Cell(NamedTuple):
    """
    What comes of a fault.

    Attributes:
        status: Of the answer; None where the client gets none.
        code: The error's; None for an answer.
        after_head: Whether the error is the last event of a stream that had begun.
        charged: See above.
        outcome: The ledger's word; None where it has no entry.
        then: What follows where there are `retries` and `[fallbacks]`.
    """

    status: int | None
    code: str | None
    after_head: bool
    charged: Charged
    outcome: str | None
    then: Then = "no"


def answer(charged: Charged = "usage") -> Cell:
    """The whole answer."""
    return Cell(200, None, after_head=False, charged=charged, outcome="completed")


def error(status: int, code: str, charged: Charged = "nothing", then: Then | None = None) -> Cell:
    """An error in the place of an answer: where it has cost nothing, the same model is asked once more."""
    if then is None:
        then = "again" if charged == "nothing" else "next"
    return Cell(status, code, after_head=False, charged=charged, outcome="failed", then=then)


def unsent(status: int, code: str) -> Cell:
    """An error before anything was held or sent."""
    return Cell(status, code, after_head=False, charged="no entry", outcome=None)


def cut(code: str, charged: Charged, then: Then = "no") -> Cell:
    """A stream that ends in an error event; before its first event nobody has seen anything of it."""
    return Cell(200, code, after_head=True, charged=charged, outcome="failed", then=then)


def left(charged: Charged, outcome: str = "abandoned") -> Cell:
    """A client that had left, and saw no more."""
    return Cell(None, None, after_head=False, charged=charged, outcome=outcome)


def gone() -> Cell:
    """A client that had left before anything was sent for it."""
    return Cell(None, None, after_head=False, charged="no entry", outcome=None)


Act = Callable[[Line], Answer | None]
"""What a client does over its connection; None where it leaves without an answer."""


def stays(line: Line) -> Answer:
    """It asks, and reads the answer."""
    line.send()
    return line.read()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    A row: one fault at one position.

    Attributes:
        id: The tests'.
        title: What happens.
        position: When.
        json: What comes of it where the answer is JSON; None where there is no such position.
        stream: The same of a stream.
        script: What the upstream does.
        provider: Which of the bench's providers is asked.
        asked: How often the witness is asked.
        fields: What the request says besides.
        kept: Whether the connection to the upstream has carried a request before, which was answered.
        act: What the client does.
        text: What a client that leaves has been sent of the model's words by then.
    """

    id: str
    title: str
    position: str
    json: Cell | None = None
    stream: Cell | None = None
    script: Script = field(default_factory=Script)
    provider: str = "fake"
    asked: int = 1
    fields: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    act: Act = stays
    text: str = ""
