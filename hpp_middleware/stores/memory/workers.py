"""Whether the server that runs us was told to run several workers: each would have a memory of its own."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath

__all__ = ["several"]

_SERVERS = ("uvicorn", "gunicorn", "hypercorn", "granian")
_VARIABLES = ("WEB_CONCURRENCY", "GRANIAN_WORKERS")
_OPTIONS = ("--workers", "-w")


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
        for word, after in zip(words, [*words[1:], ""], strict=True):
            option, _, value = word.partition("=")
            if option in _OPTIONS:
                told.append(value or after)
    return any(number.isdecimal() and int(number) > 1 for number in told)
