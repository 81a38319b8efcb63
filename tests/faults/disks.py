"""A disk that is full for one worker."""

import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from faults.confined import can_have_small_disks
from faults.workers import Worker

__all__ = ["FILLED", "Filled", "copied", "filled"]

MOST_BYTES = 8192

Filled = Callable[[Worker, Path], AbstractContextManager[None]]


@contextmanager
def filled(worker: Worker, folder: Path) -> Iterator[None]:
    """Somebody has written the rest of the disk full."""
    filler = Path(f"/proc/{worker.process.pid}/root{folder}/filler")
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(worker: Worker, folder: Path) -> Iterator[None]:
    """No file may be written beyond its first 8 kB: that is a slot of the journal, and less than any commit."""
    pid = worker.process.pid
    assert (folder / "books.db-wal").stat().st_size > MOST_BYTES
    usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (MOST_BYTES, usual[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)


def copied(worker: Worker, folder: Path, to: Path) -> Path:
    """The database as a worker has it on its own disk, while it runs: a copy, to be opened elsewhere."""
    worker.pause()
    try:
        for each in Path(f"/proc/{worker.process.pid}/root{folder}").glob("books.db*"):
            shutil.copy(each, to)
    finally:
        worker.resume()
    return to / "books.db"


FILLED: list[Filled] = [limited, filled] if can_have_small_disks() else [limited]
"""In which ways a disk can be full here."""
