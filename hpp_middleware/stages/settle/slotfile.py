"""
A file of fixed slots, for settlements whose store does not answer.

It is allocated in advance, so that a full disk takes none of them, and belongs to whoever holds its lock: a process
that dies gives it up, and another one takes it over with what it holds. A slot is a header and a body; a header of
zeros is a free slot. A record that was written is on the disk; one that was cleared may come back after a power cut,
and is then replayed once more, which changes nothing. Everything here blocks: it runs in a thread.
"""

import errno
import os
import re
import struct
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

if sys.platform != "win32":
    import fcntl

__all__ = ["BODY_BYTES", "SUPPORTED", "NewerFileError", "SlotFile", "abandoned", "claim", "free"]

SUPPORTED = sys.platform != "win32"
"""Whether there are locks that end with their process."""

SLOT_BYTES = 8 * 1024
MOST_SLOTS = 1024 * 1024
MOST_FILES = 10_000

_HEADER = struct.Struct("<4sB3xII")  # mark, version, the body's length and its CRC-32
_MARK, _VERSION = b"HPPJ", 1
_FREE = bytes(_HEADER.size)
_NAME = re.compile(r"settle-(\d{1,6})\.journal")

BODY_BYTES = SLOT_BYTES - _HEADER.size


class NewerFileError(Exception):
    """A later release has written a file: what it holds cannot be read here, and must not be taken for torn."""

    def __init__(self, path: Path, version: int) -> None:
        super().__init__(f"{path.name} is of version {version}, and this release reads {_VERSION}")


class SlotFile:
    """
    One such file, open and locked.

    Args:
        path: Where it is.
        descriptor: Open and locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()  # a descriptor that was closed may be another file's by the time it is used

    @classmethod
    def open(cls, path: Path, *, create: bool) -> "SlotFile | None":
        """
        Open and lock a file; None if another process, or another gateway of this one, has it.

        Raises:
            OSError: It cannot be opened, or is not there.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        while True:
            descriptor = os.open(path, flags, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            if os.fstat(descriptor).st_nlink:
                return cls(path, descriptor)
            os.close(descriptor)  # removed between opening and locking: it is nobody's any more

    def allocate(self, slots: int) -> None:
        """
        Make room for so many slots, for good.

        Raises:
            OSError: There is not so much.
        """
        size = slots * SLOT_BYTES
        with self._lock:
            descriptor = self._open()
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
            else:
                for offset in range(os.fstat(descriptor).st_size, size, SLOT_BYTES):
                    _write(descriptor, bytes(SLOT_BYTES), offset)
            os.fsync(descriptor)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self) -> tuple[dict[int, bytes], list[int]]:
        """
        The bodies of the slots that are in use, and the numbers of those that cannot be read.

        Raises:
            NewerFileError: A later release has written there.
            OSError: It cannot be read.
        """
        found: dict[int, bytes] = {}
        torn: list[int] = []
        with self._lock:
            descriptor = self._open()
            size = min(os.fstat(descriptor).st_size, MOST_SLOTS * SLOT_BYTES)
            for number in range(-(-size // SLOT_BYTES)):
                header = os.pread(descriptor, _HEADER.size, number * SLOT_BYTES)
                if not header.strip(b"\0"):
                    continue
                if header.startswith(_MARK) and header[len(_MARK) :][:1] > bytes([_VERSION]):
                    raise NewerFileError(self.path, header[len(_MARK)])
                body = _body(header, os.pread(descriptor, BODY_BYTES, number * SLOT_BYTES + _HEADER.size))
                if body is None:
                    torn.append(number)
                else:
                    found[number] = body
        return found, torn

    def write(self, bodies: Mapping[int, bytes]) -> None:
        """
        Put bodies in their slots; on return they are on the disk.

        Raises:
            OSError: It is not known of any of them.
        """
        with self._lock:
            descriptor = self._open()
            for number, body in bodies.items():
                header = _HEADER.pack(_MARK, _VERSION, len(body), zlib.crc32(body))
                _write(descriptor, header + body, number * SLOT_BYTES)
            _sync(descriptor)

    def clear(self, numbers: Iterable[int], *, sync: bool = False) -> None:
        """
        Free slots.

        Args:
            numbers: Which.
            sync: Whether they are free on the disk, too, on return.
        Raises:
            OSError: They may not be.
        """
        with self._lock:
            descriptor = self._open()
            for number in numbers:
                _write(descriptor, _FREE, number * SLOT_BYTES)
            if sync:
                _sync(descriptor)

    def is_lost(self) -> bool:
        """Whether its name is gone, or another file's: whoever comes next does not find it."""
        with self._lock:
            own = os.fstat(self._open())
        try:
            return not os.path.samestat(own, self.path.lstat())
        except OSError as error:  # of what may not be looked at, nothing is known
            return error.errno == errno.ENOENT

    def close(self) -> None:
        """Give it up, with what it holds; safe to repeat."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def remove(self) -> None:
        """Give it up for good."""
        self.path.unlink(missing_ok=True)  # before the lock is given up: whoever gets that sees that it is gone
        self.close()

    def _open(self) -> int:
        if self._descriptor is None:
            raise OSError("the journal is closed")
        return self._descriptor


def claim(folder: Path, slots: int) -> SlotFile:
    """
    The first file of a folder that nobody has, made if there is none, with room for so many slots.

    Raises:
        OSError: There can be none.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(MOST_FILES):
        found = SlotFile.open(folder / f"settle-{number}.journal", create=True)
        if found is not None:
            try:
                found.allocate(slots)
            except BaseException:
                found.close()
                raise
            return found
    raise OSError("there are too many journals")


def abandoned(folder: Path, refused: Callable[[Path, OSError], object] = lambda *_: None) -> Iterator[SlotFile]:
    """
    The other files of a folder whose process is gone, locked.

    Args:
        folder: Where they are.
        refused: Told what cannot be opened, and why.
    """
    for path in sorted(folder.iterdir()):
        if _NAME.fullmatch(path.name):
            try:
                found = SlotFile.open(path, create=False)
            except FileNotFoundError:  # removed meanwhile by another process that starts
                continue
            except OSError as error:  # not ours to open
                refused(path, error)
                continue
            if found is not None:
                yield found


def free(places: Iterable[tuple[SlotFile, int]]) -> None:
    """Free slots of several files."""
    for file, number in places:
        file.clear([number])


def _body(header: bytes, rest: bytes) -> bytes | None:
    if len(header) < _HEADER.size:
        return None
    mark, version, length, checksum = _HEADER.unpack(header)
    body = rest[:length]
    whole = (mark, version) == (_MARK, _VERSION) and len(body) == length and zlib.crc32(body) == checksum
    return body if whole else None


def _write(descriptor: int, data: bytes, offset: int) -> None:
    if os.pwrite(descriptor, data, offset) != len(data):
        raise OSError("the disk took only a part of it")


def _sync(descriptor: int) -> None:
    getattr(os, "fdatasync", os.fsync)(descriptor)
