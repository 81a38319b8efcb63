"""
A program on a disk of its own, or without root's privilege over files.

``python -m faults.confined small-disk FOLDER PROGRAM ...`` gives it 16 MB in a folder, which nobody else sees; for
root. ``python -m faults.confined unprivileged - PROGRAM ...`` lets permissions count for root too.
"""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["can_have_small_disks", "small_disk", "unprivileged"]

_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE = 24, 1
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 0x40000


def small_disk(folder: Path) -> list[str]:
    """What to put before a command."""
    return [sys.executable, "-m", "faults.confined", "small-disk", str(folder)]


def unprivileged() -> list[str]:
    """What to put before a command."""
    return [sys.executable, "-m", "faults.confined", "unprivileged", "-"]


def can_have_small_disks() -> bool:
    """Whether we may mount: root may, unless it is held in a container."""
    program = [sys.executable, __file__, "small-disk", "/tmp", sys.executable, "-c", ""]
    return subprocess.run(program, check=False, stderr=subprocess.DEVNULL).returncode == 0


def main() -> None:
    """Confine this process, and become the program."""
    how, folder, *program = sys.argv[1:]
    libc = ctypes.CDLL(None, use_errno=True)
    if how == "unprivileged":
        libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0)  # from the next program on; of no use to others
    elif (
        libc.unshare(_CLONE_NEWNS)
        or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        or libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, b"size=16m")
    ):
        raise OSError(ctypes.get_errno(), "there can be no small disk")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
