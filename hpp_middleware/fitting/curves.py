"""What a ranking of prompts is worth: the quality that each share of calls to the stronger model buys."""

from typing import Any

import numpy as np

__all__ = ["Array", "recovered"]

Array = np.ndarray[Any, np.dtype[np.float64]]


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
    if gain.sum() <= 0:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, gained = scores[order], gain[order]
    starts = np.r_[0, np.flatnonzero(np.diff(ranked)) + 1]
    sizes = np.diff(np.r_[starts, len(ranked)])
    gained = np.repeat(np.add.reduceat(gained, starts) / sizes, sizes)
    curve = np.r_[0.0, np.cumsum(gained)] / gain.sum()
    return float((curve[1:] + curve[:-1]).mean() / 2)
