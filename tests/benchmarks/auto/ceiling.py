"""
How far MMLU could be taken with the labels that there are: `make auto-ceiling DATA=folder`, some minutes.

Readers that no model file of ours could hold: one that is told each question's subject; one that reads by a sentence
encoder of 22 million parameters (all-MiniLM-L6-v2); and the
shipped recipe and that encoder together. All are cross-validated as the scorer is.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from encoder import Encoder
from pools import GPT4, MIXTRAL, Array, Row, load
from recipe import Knobs, Table
from train import vectors

from hpp_middleware.core.auto.learned import Scorer, packed
from hpp_middleware.fitting.curves import recovered

FOLDS, SEEDS = 10, (0, 1)


def by_subject(rows: list[Row], gain: Array, folds: Array, as_if: float) -> Array:
    """The mean gain of the question's own subject among the other folds, drawn towards that of all."""
    subjects, found = np.array([row.task for row in rows]), np.zeros(len(gain))
    for at, (subject, fold) in enumerate(zip(subjects, folds, strict=True)):
        here = gain[(subjects == subject) & (folds != fold)]
        found[at] = (here.sum() + as_if * gain[folds != fold].mean()) / (len(here) + as_if)
    return found


def by_encoder(read: Array, gain: Array, folds: Array, ridge: float) -> Array:
    """Kernel ridge regression on what the encoder has read."""
    kernel, found = np.exp(read @ read.T - 1), np.zeros(len(gain))
    for fold in range(FOLDS):
        use, mean = folds != fold, gain[folds != fold].mean()
        weights = np.linalg.solve(kernel[np.ix_(use, use)] + ridge * np.eye(use.sum()), gain[use] - mean)
        found[~use] = kernel[np.ix_(~use, use)] @ weights + mean
    return found


def by_recipe(table: Table, at: list[int], seed: int) -> Array:
    """The scorer of the shipped recipe, fitted without each fold."""
    folds, found = np.array([row.fold(FOLDS, seed) for row in table.rows]), np.zeros(len(at))
    for fold in range(FOLDS):
        scorer = Scorer(packed(table.fit((folds != fold).astype(float), Knobs())))
        for place, number in enumerate(at):
            if folds[number] == fold:
                found[place] = scorer.gain(table.rows[number].prompt)
    return found


def main() -> None:
    """Print the areas."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    table = Table(load(parser.parse_args().data), vectors())
    at = [int(number) for number in np.flatnonzero(table.mmlu)]
    rows = [table.rows[number] for number in at]
    low, high = (np.array([row.outcomes[model][0] for row in rows]) for model in (MIXTRAL, GPT4))
    read = Encoder().encode([row.prompt for row in rows])
    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        folds = np.array([row.fold(FOLDS, seed) for row in rows])
        recipe = by_recipe(table, at, seed)
        encoder = by_encoder(read, high - low, folds, 0.03)
        both = recipe / recipe.std() + encoder / encoder.std()
        for name, scores in (
            ("the subject, told", by_subject(rows, high - low, folds, 5.0)),
            ("the encoder", encoder),
            ("the recipe", recipe),
            ("recipe and encoder", both),
        ):
            found.setdefault(name, []).append(recovered(scores, low, high))
    for name, areas in found.items():
        sys.stdout.write(f"{name:22}" + "".join(f"{area:7.3f}" for area in areas) + f"   mean {np.mean(areas):.3f}\n")


if __name__ == "__main__":
    main()
