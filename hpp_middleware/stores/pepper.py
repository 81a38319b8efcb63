"""The pepper of a router that was given none: random, kept beside its database, readable by its owner only."""

import contextlib
import os
import secrets
from pathlib import Path

from hpp_middleware.errors import ConfigurationError

__all__ = ["beside"]

LEAST_BYTES = 32


def beside(database: Path) -> bytes:
    """
    The pepper in ``<database>.pepper``, made at first use with mode 0600.

    Whoever has the database alone has digests under an unknown pepper, and can show no key.

    Raises:
        ConfigurationError: The file is there, and too short to be a pepper.
    """
    path = database.with_name(database.name + ".pepper")
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no directory {path.parent} for the database", param="store")
    if not path.exists():
        _make(path)
    pepper = path.read_text("ascii").strip().encode()
    if len(pepper) < LEAST_BYTES:
        raise ConfigurationError(f"{path.name} is too short to be a pepper", param="pepper")
    return pepper


def _make(path: Path) -> None:
    """Written aside and linked into place: nobody reads half a pepper, and of several processes the first wins."""
    aside = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
