"""Whether the server that runs us was told to run several workers: each would have a memory of its own."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath

__all__ = ["several"]

_SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian", "fastapi")
_VARIABLES = ("WEB_CONCURRENCY", "UVICORN_WORKERS", "GRANIAN_WORKERS")
_COMMAND_LINES = ("GUNICORN_CMD_ARGS",)
"""Variables that say what else is on the command line."""


def several(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> bool:
    """
    Whether there are to be more than one.

    Args:
        arguments: The command line; this process's own if None. Workers are given their server's.
        environment: The variables that servers go by; this process's own if None.
    """
    words = sys.argv if arguments is None else arguments
    variables = os.environ if environment is None else environment
    told = [variables.get(name, "") for name in _VARIABLES]
    if words and any(server in PurePath(words[0]).parts[-2:] for server in _SERVERS):
        told += _asked(words)
    for name in _COMMAND_LINES:
        told += _asked(variables.get(name, "").split())
    return any(number.isdecimal() and int(number) > 1 for number in told)


def _asked(words: Sequence[str]) -> Iterator[str]:
    """What follows the option, if anything does: ``--workers 4``, ``--workers=4``, ``-w 4``, ``-w4``."""
    for word, after in pairwise((*words, "")):
        if word in {"--workers", "-w"}:
            yield after
        elif word.startswith(("--workers=", "-w")):
            yield word.removeprefix("--workers").removeprefix("-w").removeprefix("=")
