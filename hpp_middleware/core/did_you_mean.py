"""What a mistyped name may have meant: whoever refuses one says it, in these words."""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean"]

ALIKE = 0.6
"""How like a name must be to one that is known, for that to be meant."""


def did_you_mean(name: str, known: Iterable[str], *, alike: float = ALIKE) -> str:
    """
    The end of a refusal, as ``; did you mean base_url?``; empty where no name is like it.

    Args:
        name: What is not known.
        known: The names that are.
        alike: From 0 to 1, as :func:`difflib.get_close_matches` has it.
    """
    near = get_close_matches(name, list(known), n=1, cutoff=alike)
    return f"; did you mean {near[0]}?" if near else ""
