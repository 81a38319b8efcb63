"""One operation that is owed to a store, and where it is written down meanwhile."""

from dataclasses import dataclass, field

from hpp_middleware.stages.settle.slotfile import SlotFile
from hpp_middleware.types.operations import Release, Resize, Settle

__all__ = ["Debt"]


@dataclass(slots=True, eq=False)
class Debt:
    """
    One operation that a store has not answered for good.

    Attributes:
        account: Who is charged; empty where that does not matter.
        lasting: Whether it belongs in the journal.
        amends: What may have to be done before it.
        written: Whether it is on the disk.
        places: The slots that hold it.
        busy: Whether somebody is trying it.
        misses: How often the store did not answer to it alone, while it answered to others.
        after: When it is tried again, by the journal's clock.
    """

    operation: Settle | Release
    account: str
    lasting: bool
    amends: Resize | None = None
    written: bool = False
    places: list[tuple[SlotFile, int]] = field(default_factory=list)
    busy: bool = False
    misses: int = 0
    after: float = float("-inf")

    def leave(self, lost: SlotFile) -> None:
        """A file is gone, with what it had of this."""
        if any(file is lost for file, _ in self.places):
            self.places = [place for place in self.places if place[0] is not lost]
            self.written = bool(self.places)
