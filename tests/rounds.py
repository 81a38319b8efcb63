"""
How often what is drawn at random is tried: often enough on every commit, and far more often in ``make soak``.

``HPP_SOAK=1`` is what ``make soak`` sets.
"""

import os

__all__ = ["SOAK", "rounds"]

SOAK = os.environ.get("HPP_SOAK", "") not in {"", "0"}
"""Whether this is a soak."""


def rounds(everyday: int, *, soak: int) -> int:
    """So many times."""
    return soak if SOAK else everyday
