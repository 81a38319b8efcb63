"""What a ranking of prompts is worth: the quality that each share of calls to the stronger model buys."""

import math
from typing import Any

import numpy as np

__all__ = ["Array", "ahead", "left", "recovered"]

Array = np.ndarray[Any, np.dtype[np.float64]]


def left(scores: Array) -> Array:
    """
    How much of all calls is left when each prompt goes to the stronger model, the highest score first.

    Args:
        scores: One a prompt. Equal ones go in the mean of all orders.
    Returns:
        Nearly 1 for the first, nearly 0 for the last: for such a share of the calls its gain is had.
    """
    order = np.argsort(-scores, kind="stable")
    starts = np.r_[0, np.flatnonzero(np.diff(scores[order])) + 1]
    sizes = np.diff(np.r_[starts, len(scores)])
    found = np.empty(len(scores))
    found[order] = np.repeat(1 - (np.cumsum(sizes) - sizes / 2) / len(scores), sizes)
    return found


def recovered(scores: Array, weak: Array, strong: Array) -> float:
    """
    APGR: the area under the share of the gap in quality recovered, over the share of calls to the stronger model.

    Args:
        scores: One a prompt; the highest go to the stronger model first. Equal ones go in the mean of all orders.
        weak: The quality of the weaker model on each prompt, 0 to 1.
        strong: That of the stronger one.
    Returns:
        0.5 for a random order; NaN where the stronger model is no better.
    """
    gain = strong - weak
    return float(left(scores) @ gain / gain.sum()) if gain.sum() > 0 else float("nan")


def ahead(scores: Array, others: Array, weak: Array, strong: Array) -> tuple[float, float]:
    """
    By how much one ranking has the greater area than another, on the same prompts, and one standard error of that.

    Each prompt counts its gain times how much earlier it goes: the error is that of their mean. What is easy or hard
    for both rankings is in neither, so that it is smaller than those of the two areas.

    Args:
        scores: The one's.
        others: The other's; all equal for a random order.
        weak: As for :func:`recovered`.
        strong: Likewise, and better.
    """
    gain = strong - weak
    each = (left(scores) - left(others)) * gain
    return float(each.mean() / gain.mean()), float(each.std() / math.sqrt(len(each)) / gain.mean())
