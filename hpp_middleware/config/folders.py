"""Whether a router could write where its file says, as far as that shows without writing."""

import os
from pathlib import Path

from hpp_middleware.config.settings import Settings
from hpp_middleware.stores import urls

__all__ = ["unwritable"]


def unwritable(settings: Settings) -> list[str]:
    """
    What the process that asks could not write, a line a place, each beginning with the key's path.

    It is for whoever serves: a command may be run by somebody who has no business there.
    """
    places = settings.places
    named = {"ledger.url": places.ledger, "credentials.url": places.credentials, "store.url": places.store}
    wanted = [
        (where, file)
        for url, where in {url: where for where, url in named.items()}.items()
        if (file := urls.file_of(url, places.directory)) is not None
    ]
    if isinstance(settings.journal, Path):
        wanted.append(("journal.dir", settings.journal))
    if settings.sealing is not None and settings.sealing.heads is not None:
        wanted.append(("ledger.heads", settings.sealing.heads))
    return [f"{where}: {problem}" for where, path in wanted if (problem := _problem(path)) is not None]


def _problem(path: Path) -> str | None:
    """What keeps a file or folder from being made, or from being written where it is there."""
    folder = path if path.is_dir() else path.parent
    if not folder.is_dir():
        return f"there is no directory {folder}"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} is not writable"
    if path.is_file() and not os.access(path, os.R_OK | os.W_OK):
        return f"the file {path} is not writable"
    return None
