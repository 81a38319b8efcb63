"""The package as another revision has it, for a contestant called ``ours@REVISION``."""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

__all__ = ["ROOT", "package_of", "this_revision"]

ROOT = Path(__file__).parents[3]


def package_of(contestant: str, folder: Path) -> Path:
    """
    The source tree that a contestant is run from: a copy in the folder, or this one where it names no revision.

    Raises:
        ValueError: There is no such revision.
    """
    _, _, revision = contestant.partition("@")
    if not revision:
        return ROOT
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision, "hpp_middleware"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise ValueError(f"git knows no revision {revision!r}")
    target = folder / revision.replace("/", "_")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")
    return target


def this_revision() -> str | None:
    """What is checked out, with ``-dirty`` behind it where it was changed; None outside of a repository."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None
