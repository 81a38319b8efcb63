"""
The heads of the chains, outside the database: who rewrites the database and its seals, or puts back an older copy of
both, does not reach them.

A file that is only appended to: one JSON object a line, ``{"created": ..., "heads": [seal, ...]}``, each line fsynced.
"""

import fcntl
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec
from msgspec import Struct, field

from hpp_middleware.errors import StoreError
from hpp_middleware.types.quota import Seal

__all__ = ["Heads", "Known"]

_T = TypeVar("_T")

POLL_S = 0.05
_PIECE = 1 << 20


class Known(Struct):
    """
    What a heads file says.

    Attributes:
        heads: By account, and then by key, the head of the furthest line.
        unreadable: The numbers of lines that are no record.
        lines: How many lines were read.
    """

    heads: dict[str, dict[str, Seal]] = field(default_factory=dict)
    unreadable: list[int] = field(default_factory=list)
    lines: int = 0

    def learn(self, line: bytes) -> None:
        """Read one more line."""
        self.lines += 1
        try:
            record = _record.decode(line)
        except (msgspec.DecodeError, RecursionError):
            self.unreadable.append(self.lines)
            return
        for seal in record.heads:
            mine = self.heads.setdefault(seal.account, {})
            if seal.key not in mine or mine[seal.key].seq <= seal.seq:
                mine[seal.key] = seal


class _Record(Struct):
    created: float
    heads: list[Seal]


_record = msgspec.json.Decoder(_Record)


class Heads:
    """
    One heads file, of which every process of this host may have one.

    Args:
        path: Made at first use, mode 0600.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known = Known()
        self._read = 0

    @asynccontextmanager
    async def claimed(self, *, wait: bool) -> AsyncIterator[bool]:
        """
        The file for oneself; what others have written meanwhile is known then.

        Args:
            wait: Wait for another process's pass to end; else give False at once.
        Raises:
            StoreError: It cannot be opened or read.
        """
        descriptor = await self._threaded(self._open)
        try:
            while not (mine := _lock(descriptor)) and wait:  # noqa: ASYNC110  # nobody tells when a file's lock is free
                await anyio.sleep(POLL_S)
            if mine:
                await self._threaded(lambda: self._learn(descriptor))
            yield mine
        finally:
            os.close(descriptor)

    async def append(self, seals: Sequence[Seal], *, created: float) -> None:
        """
        Write one line; by whoever has claimed the file.

        Raises:
            StoreError: It cannot be written.
        """
        line = msgspec.json.encode(_Record(created, list(seals))) + b"\n"
        await self._threaded(lambda: self._append(line))

    async def read(self) -> Known | None:
        """
        What the file says, to a reader who writes nothing; None where there is no such file.

        Raises:
            StoreError: It cannot be read.
        """
        return await self._threaded(self._look)

    async def _threaded(self, work: Callable[[], _T]) -> _T:
        try:
            return await anyio.to_thread.run_sync(work)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise StoreError(f"The heads file {self.path} cannot be read or written: {reason}.") from error

    def _open(self) -> int:
        made = not self.path.exists()
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        if made:
            _sync_folder(self.path.parent)
        return descriptor

    def _learn(self, descriptor: int) -> None:
        """Read on from where the last reading ended; half a line, left by a crash, is taken out."""
        if os.fstat(descriptor).st_size < self._read:
            raise StoreError(f"The heads file {self.path} has become shorter.")
        rest = b""
        while piece := os.pread(descriptor, _PIECE, self._read + len(rest)):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self.known.learn(line)
                self._read += len(line) + 1
        if rest:
            os.ftruncate(descriptor, self._read)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.known.learn(line)
        self._read += len(line)

    def _look(self) -> Known | None:
        if not self.path.exists():
            return None
        known = Known()
        with self.path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # else it is being written, or was cut off by a crash
                    known.learn(line)
        return known


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
