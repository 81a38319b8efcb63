"""The pepper of a router that was given none: random, kept beside its database, readable by its owner only."""

import os
import secrets
from pathlib import Path

__all__ = ["beside"]


def beside(database: Path) -> bytes:
    """
    The pepper in ``<database>.pepper``, made at first use with mode 0600.

    Whoever has the database alone has digests under an unknown pepper, and can show no key.
    """
    path = database.with_name(database.name + ".pepper")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return _read(path)


def _read(path: Path) -> bytes:
    return path.read_text("ascii").strip().encode()
