"""
How often `hpp-router auto fit` installs what it should: `make auto-gate DATA=folder`.

Three things: how many fits pass whose outcomes were drawn by lot, on real prompts, from which nothing can be learned;
which of the sets pass as a whole; and of fits to some of a set's prompts, judged by the rest, how many pass of those
that are better there than all that there was, and of those that are not. Beside each stands what would pass if to be
ahead were enough.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from judged import judge, pairs
from pools import Array, Row, load
from recipe import Knobs, Table
from train import vectors

from hpp_middleware.core.auto.learned import Scorer, packed, shipped
from hpp_middleware.core.auto.question import text_of
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.fitting import FitReport, fit
from hpp_middleware.fitting import Row as Outcome
from hpp_middleware.fitting.curves import recovered
from hpp_middleware.fitting.fit import _rules

SAMPLES = (200, 500, 1000)
MOST = 0.8
"""Of a set so much may be fitted on: the rest must tell what that is worth."""


def fitted(texts: Sequence[str], weak: Array, strong: Array, start: Scorer) -> FitReport | None:
    """A fit, whether it is refused or not; None where the stronger model is no better on these prompts."""
    rows = [
        Outcome(text, model, float(right))
        for model, column in (("weak", weak), ("strong", strong))
        for text, right in zip(texts, column, strict=True)
    ]
    try:
        return fit(rows, "strong", "weak", start=start, force=True)
    except ConfigurationError:
        return None


def is_ahead(report: FitReport | None) -> bool:
    """What the gate was before: ahead of everything, by however little."""
    return report is not None and all(rival.ahead > 0 for rival in report.rivals)


def passes(report: FitReport | None) -> bool:
    """Whether it is installed."""
    return report is not None and report.better


def by_lot(rows: Sequence[Row], count: int, fits: int) -> str:
    """Fits to outcomes that say nothing: one model is right on half of the prompts, the other on six in ten."""
    texts = sorted({row.prompt for row in rows})
    draw = np.random.default_rng(count)
    found = []
    for _ in range(fits):
        chosen = [texts[at] for at in map(int, draw.choice(len(texts), count, replace=False))]
        weak, strong = ((draw.random(count) < share).astype(float) for share in (0.5, 0.6))
        found.append(fitted(chosen, weak, strong, shipped()))
    return (
        f"{count:5} prompts: {sum(map(passes, found))} of {fits} pass, {sum(map(is_ahead, found))} are ahead of all;"
        f" the area's scatter is {_scatter(found):.2f} of the error that is told\n"
    )


def _scatter(found: Sequence[FitReport | None]) -> float:
    return float(np.std([each.rivals[0].ahead / each.error for each in found if each is not None]))


def is_truly_better(report: FitReport, start: Scorer, texts: Sequence[str], weak: Array, strong: Array) -> bool:
    """Whether the fitted file has a greater area than all that there was, on prompts that the fit has not seen."""
    scorer = Scorer(report.data)
    mine, *others = (
        recovered(np.array([float(score(text)) for text in texts]), weak, strong)
        for score in (scorer.gain, start.gain, _rules, len)
    )
    return mine > max(0.5, *others)


def samples(texts: Sequence[str], weak: Array, strong: Array, start: Scorer, draws: int) -> list[str]:
    """How fits to some of a set's prompts fare, by the judgement of its other prompts."""
    lines: list[str] = []
    advised: list[bool] = []
    before: list[FitReport | None] = [None] * draws
    for count in (each for each in SAMPLES if each <= MOST * len(texts)):
        better: list[FitReport | None] = []
        worse: list[FitReport | None] = []
        for number in range(draws):
            at = np.random.default_rng(number).permutation(len(texts))
            seen, rest = at[:count], at[count:]
            report = fitted([texts[i] for i in seen], weak[seen], strong[seen], start)
            unseen = [texts[i] for i in rest]
            true = report is not None and is_truly_better(report, start, unseen, weak[rest], strong[rest])
            (better if true else worse).append(report)
            advised += [passes(report) for _ in _asked_for(before[number], count)]
            before[number] = report
        lines.append(
            f"{'':27} {count:5} prompts: pass {sum(map(passes, better))} of {len(better)} that are better"
            f" (ahead {sum(map(is_ahead, better))}), {sum(map(passes, worse))} of {len(worse)} that are not"
            f" (ahead {sum(map(is_ahead, worse))})\n"
        )
    if advised:
        lines.append(f"{'':27} of {len(advised)} refused with too few prompts {sum(advised)} passed with as many\n")
    return lines


def _asked_for(report: FitReport | None, count: int) -> list[int]:
    """Whether a fit was refused that was told to come back with no more prompts than these: how many."""
    if report is None or report.better:
        return []
    needed = [rival.enough(report.prompts) for rival in report.rivals if not rival.is_beaten]
    known = [each for each in needed if each is not None]
    return [max(known)] if len(known) == len(needed) and max(known) <= count else []


def outcomes(rows: Sequence[Row], at: Any, known: tuple[Array, ...]) -> tuple[list[str], Array, Array]:
    """A set's prompts, each once, as a fit sees them, and what the weaker and the stronger model made of them."""
    found: dict[str, list[tuple[float, float]]] = {}
    for number, weak, strong in zip(map(int, at), known[0], known[1], strict=True):
        found.setdefault(text_of(rows[number].prompt), []).append((float(weak), float(strong)))
    means = np.array([np.mean(each, axis=0) for each in found.values()])
    return list(found), means[:, 0], means[:, 1]


def main() -> None:
    """Print the three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--fits", type=int, default=400, help="by lot, of 300 prompts and of 1,000")
    parser.add_argument("--draws", type=int, default=20, help="samples of each size and set")
    asked = parser.parse_args()
    rows = load(asked.data)
    sys.stdout.write("OUTCOMES DRAWN BY LOT\n")
    for count in (300, 1000) if asked.fits else ():
        sys.stdout.write(by_lot(rows, count, asked.fits))
        sys.stdout.flush()
    evaluate, table = judge(asked.data), Table(rows, vectors())
    sys.stdout.write("\nREAL SETS from a start that saw none of them, as a whole, and those that pass in samples\n")
    for name, at, known in pairs(evaluate, rows):
        texts, weak, strong = outcomes(rows, at, known)
        keys = {rows[i].key for i in map(int, at)}
        without = table.fit(np.array([float(row.key not in keys) for row in rows]), Knobs(), labels=False)
        start = Scorer(packed(without))
        report = fitted(texts, weak, strong, start)
        if report is None:
            continue
        errors = ", ".join(f"{rival.ahead / rival.error:.1f}" for rival in report.rivals)
        said = "passes" if report.better else "is refused" + (", though ahead of all" if is_ahead(report) else "")
        sys.stdout.write(f"{name:27} {report.fitted:.3f}, errors ahead: {errors}: {said}\n")
        if report.better and asked.draws:
            sys.stdout.writelines(samples(texts, weak, strong, start, asked.draws))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
