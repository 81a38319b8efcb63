"""
What the learned scorer is worth: `make bench-auto DATA=folder`.

For each set and pair of models the quality and cost at half the calls, APGR, and APGR10 of the scorer beside the rules,
length, and a random order; of fits without the prompts judged (tenfold), and apart from them of the shipped file, which
has seen all of these prompts and proves nothing by them. The folder's own evaluate.py is the judge.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from policy import unseen
from pools import Array, Row, load
from reach import cascades, known_by_others, nearly_all, pooled
from recipe import Knobs, Table
from train import finished, vectors

from hpp_middleware.core.auto.learned import Scorer, packed, shipped
from hpp_middleware.fitting import Row as Outcome
from hpp_middleware.fitting import fit

FOLDS = 10


def judge(folder: Path) -> ModuleType:
    """The folder's evaluate.py."""
    spec = importlib.util.spec_from_file_location("evaluate", folder / "evaluate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def held_out(table: Table, knobs: Knobs, *, labels: bool) -> list[Scorer]:
    """For each prompt the scorer that was fitted without its fold, by the very code that ships."""
    folds = np.array([row.fold(FOLDS, 0) for row in table.rows])
    used = [(folds != fold).astype(float) for fold in range(FOLDS)]
    scorers = [finished(table, table.fit(use, knobs, labels=labels), use) for use in used]
    return [scorers[fold] for fold in folds]


def scored(rows: Sequence[Row], scorers: Sequence[Scorer]) -> Array:
    """What each prompt is scored by its own scorer."""
    return np.array([scorer.score(row.seen) for row, scorer in zip(rows, scorers, strict=True)])


def pairs(evaluate: Any, rows: list[Row]) -> list[tuple[str, Any, tuple[Array, ...]]]:
    """Each pair's name, its rows, and the qualities and costs of the weaker and stronger model."""
    found = []
    for name, files, strong, weak in evaluate.PAIRS + evaluate.POOLS:
        models = [evaluate.ALIAS.get(model, model) for model in (weak, strong)]
        sources = [files] if isinstance(files, str) else files
        both = [row.source in sources and row.outcomes.keys() >= set(models) for row in rows]
        at = np.flatnonzero(both)
        tokens = np.array([rows[i].tokens for i in map(int, at)])
        quality = [np.array([rows[i].outcomes[model][0] for i in map(int, at)]) for model in models]
        written = [np.array([rows[i].outcomes[model][1] for i in map(int, at)]) for model in models]
        prices = [evaluate.PRICE.get(model, (1, 1)) for model in models]
        cost = [(tokens * read + wrote * write) / 1e6 for (read, write), wrote in zip(prices, written, strict=True)]
        found.append((name, at, (*quality, *cost)))
    return found


def unguessed(evaluate: Any, table: Table, scores: dict[str, Array], found: list[Any]) -> str:
    """What is left without the expert's guess of what each group of subjects gains, who had seen the labels: APGR."""
    without = [scored(table.rows, held_out(table, Knobs(guess=None), labels=labels)) for labels in (True, False)]
    lines = ["\nWITHOUT THE EXPERT'S GUESS of the subjects' gains, where there are choices: APGR"]
    for name, at, known in found:
        if not (table.kind[at] == 0).any():
            continue
        areas = [
            float(evaluate.metrics(each[at], *known)["APGR"])
            for each in (scores["held out"], without[0], scores["no labels"], without[1])
        ]
        guessed, labelled, unlabelled, nothing = areas
        lines.append(
            f"{name:27} with labels {guessed:.3f}, without the guess {labelled:.3f}"
            f"   without labels {unlabelled:.3f}, without the guess {nothing:.3f}"
        )
    return "\n".join(lines) + "\n"


def half(evaluate: Any, scores: Array, known: tuple[Array, ...]) -> tuple[float, float]:
    """Quality where half the calls go to the stronger model, and their cost as a share of what it costs for all."""
    quality, cost = evaluate.curve(scores, *known)
    return float(quality[len(scores) // 2]), float(cost[len(scores) // 2] / known[3].mean())


def speed(rows: list[Row]) -> float:
    """Microseconds a decision at about 1,000 characters: the 95th percentile of each prompt's best of nine."""
    scorer, best = shipped(), []
    for row in [row for row in rows if 900 < len(row.prompt) < 1100][:300]:
        messages = [{"role": "user", "content": row.prompt}]
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            scorer.score(messages)
            times.append(time.perf_counter() - begun)
        best.append(min(times))
    return float(np.percentile(best, 95)) * 1e6


def plot(evaluate: Any, scores: dict[str, Array], found: list[Any], path: Path) -> None:
    """Quality over cost for four pairs."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "hpp"
    from matplotlib import pyplot as plt

    shown = [
        each for each in found if each[0] in {"rl-mmlu", "rl-gsm8k", "llmrouter/51b:mistral7b", "mix/gpt4o:4o-mini"}
    ]
    figure, axes = plt.subplots(2, 2, figsize=(9, 7))
    for (name, at, known), axis in zip(shown, axes.flat, strict=True):
        for label, values in scores.items():
            quality, cost = evaluate.curve(values[at], *known)
            axis.plot(cost / known[3].mean(), quality, label=label)
        axis.set(title=name, xlabel="cost, of always the stronger model", ylabel="quality")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    evaluate = judge(asked.data)
    rows = load(asked.data)
    table = Table(rows, vectors())
    found = pairs(evaluate, rows)
    scorers = held_out(table, Knobs(), labels=True)
    scores = {
        "held out": scored(rows, scorers),
        "no labels": scored(rows, held_out(table, Knobs(), labels=False)),
        "rules": np.array([0.0 if evaluate.hpp_is_weak(row.prompt) else len(row.prompt) / 4 for row in rows]),
        "length": np.array([float(len(row.prompt)) for row in rows]),
        "random": np.random.default_rng(1).random(len(rows)),
    }
    inside = {"in sample": np.array([shipped().score(row.prompt) for row in rows])}
    for title, kinds in (
        (f"CROSS-VALIDATED: each prompt scored by a fit without it ({FOLDS} folds)", scores),
        ("IN SAMPLE, worth nothing: the shipped file on the prompts that it was fitted on", inside),
    ):
        sys.stdout.write(f"\n{title}\n{'set/pair':27}" + "".join(f"{kind:^33}" for kind in kinds) + "\n")
        sys.stdout.write(f"{'':27}" + "  APGR  APGR10 q@50% $@50% $@99% " * len(kinds) + "\n")
        for name, at, known in found:
            line = f"{name:27}"
            for values in kinds.values():
                figures = evaluate.metrics(values[at], *known)
                quality, cost = half(evaluate, values[at], known)
                line += f"{figures['APGR']:6.3f} {figures['APGR10']:6.3f} {quality:6.3f} {cost:5.2f}"
                line += f" {figures['cost99']:5.2f}  "
            sys.stdout.write(line + "\n")
    sys.stdout.write(unguessed(evaluate, table, scores, found))
    prompts = unseen(rows, scorers)
    sys.stdout.write(pooled(evaluate, scores["held out"], prompts, found))
    sys.stdout.write(nearly_all(evaluate, rows, scores["held out"], prompts, found))
    sys.stdout.write(cascades(evaluate, rows, found))
    sys.stdout.write(known_by_others(evaluate, rows, found))
    sys.stdout.write(
        "\nREFITTED by hpp_middleware.fitting.fit, cross-validated, from a start that saw none of the set\n"
    )
    for (name, at, _), (_, _, strong, weak) in zip(found, evaluate.PAIRS + evaluate.POOLS, strict=True):
        models = [evaluate.ALIAS.get(model, model) for model in (strong, weak)]
        outcomes = [
            Outcome(rows[i].prompt, model, rows[i].outcomes[model][0]) for i in map(int, at) for model in models
        ]
        keys = {rows[i].key for i in map(int, at)}
        without = table.fit(np.array([float(row.key not in keys) for row in rows]), Knobs(), labels=False)
        report = fit(outcomes, *models, start=Scorer(packed(without)), force=True)
        sys.stdout.write(
            f"{name:27} fitted {report.fitted:.3f} +- {report.error:.3f}  start {report.start:.3f}"
            f"  rules {report.rules:.3f}"
            f"  length {report.length:.3f}  {'better' if report.better else 'refused'}\n"
        )
    size = len(packed(shipped().model))
    sys.stdout.write(
        f"\n{speed(rows):.0f} us a decision (p95, 1,000 characters, best of nine); {size} bytes of model\n"
    )
    if asked.plot:
        plot(evaluate, {key: scores[key] for key in ("held out", "rules", "length")}, found, asked.plot)


if __name__ == "__main__":
    main()
