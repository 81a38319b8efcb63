"""
What of the whole suite is left to the long target, so that a commit is judged within minutes.

Of long tables whose rows are much alike, a run of everything takes a part, always the same one; ``HPP_SOAK=1`` (``make
soak``), ``make matrix`` and whoever names a folder or a file get all of it. Every test runs under asyncio; every fourth
of those that run under trio or uvloop as well does so in a run of everything.
"""

from collections.abc import Sequence
from zlib import crc32

import pytest
from rounds import SOAK

__all__ = ["WHOLE", "left_out"]

WHOLE = 5_000
"""A run of more tests than this is one of everything."""

HOSTS = ("uvicorn-fastapi", "granian-starlette", "hypercorn-litestar", "uvicorn-quart", "granian-django")
"""Of fifteen pairs of a server and a framework: each framework, and each server."""

LOOPS = ("trio", "uvloop")


def left_out(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The tests that a run of all these leaves out."""
    return [] if SOAK or len(items) < WHOLE else [item for item in items if _is_left_out(item.nodeid)]


def _is_left_out(name: str) -> bool:
    if name.startswith("tests/embedding/test_frameworks.py"):
        return not any(host in name for host in HOSTS)
    if name.startswith("tests/matrix/test_matrix.py"):
        return crc32(name.encode()) % 4 > 0
    case = name.partition("[")[2]
    return any(loop in case for loop in LOOPS) and crc32(name.encode()) % 4 > 0
