"""``[journal]``: the folder for settlements that the store did not take."""

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from hpp_middleware.config.sections import File
from hpp_middleware.config.values import Context

__all__ = ["journal"]

_WHO_ASKS = {"user", "username", "password", "passfile", "sslpassword"}
"""What PostgreSQL's and Redis's drivers take in the query as well."""


def journal(file: File, directory: Path, context: Context, problems: list[str]) -> Path | str:
    """
    The folder: beside the file, where the store names none of its own.

    Args:
        file: The sections.
        directory: Where the file is.
        context: The environment.
        problems: What is wrong is added here.
    """
    if file.journal.dir is None:
        own = file.store.url.startswith(("sqlite:", "memory:"))
        return "auto" if own else directory / f"hpp-settle-{_of_the_store(file.store.url, context)}"
    path = directory / file.journal.dir
    if not path.parent.is_dir():
        problems.append(f"journal.dir: there is no directory {path.parent}")
    elif path.exists() and not path.is_dir():
        problems.append(f"journal.dir: {path} is no directory")
    return path


def _of_the_store(url: str, context: Context) -> str:
    """Tells the folders of two stores apart; user and password, which may change, do not count."""
    variable = url.removeprefix("env:") if url.startswith("env:") else ""
    try:
        parts = urlsplit(context.environment.get(variable, "") if variable else url)
        port = parts.netloc.rpartition("@")[2].rpartition(":")[2]
        query = "&".join(each for each in parts.query.split("&") if each.partition("=")[0] not in _WHO_ASKS)
        place = f"{parts.scheme}:{parts.hostname}:{port}:{parts.path}?{query}"
    except ValueError:  # it is refused when the store is made
        place = ""
    return hashlib.sha256(place.encode()).hexdigest()[:8]
