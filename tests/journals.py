"""A journal as it lies on the disk, and a store that takes no settlement."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hpp_middleware.stages.settle.records import Record
from hpp_middleware.stages.settle.slotfile import SLOT_BYTES
from hpp_middleware.types.operations import Operation, Settle

__all__ = ["names", "on_disk", "refuse_settlements"]


def on_disk(folder: Path) -> list[Record]:
    """What the folder's files hold, read beside whoever has them."""
    found = []
    for path in sorted(folder.glob("settle-*.journal")):
        data = path.read_bytes()
        for start in range(0, len(data), SLOT_BYTES):
            length = int.from_bytes(data[start + 8 : start + 12], "little")
            if data[start : start + 4] == b"HPPJ":
                found.append(msgspec.json.decode(data[start + 16 : start + 16 + length], type=Record))
    return found


async def refuse_settlements(operations: Sequence[Operation]) -> None:
    """For ``Delegate.before``: everything else is taken."""
    if any(isinstance(operation, Settle) for operation in operations):
        raise OSError


def names(folder: Path) -> list[str]:
    """The files of a folder, in order."""
    return sorted(path.name for path in folder.iterdir())
