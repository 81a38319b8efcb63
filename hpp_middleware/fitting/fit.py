"""
The scorer for one pair of models, fitted to what both made of the same prompts.

A ridge regression corrects the scorer it starts from: it adds to the weights of the figures of each kind of prompt, and
to those of the words. With few outcomes it stays what it was. It is judged on prompts it was not fitted on.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np

from hpp_middleware.core.auto.features import FEATURES, KINDS, features
from hpp_middleware.core.auto.filters import EXPECTED_OUTPUT
from hpp_middleware.core.auto.learned import BUCKETS, LARGEST, LONGEST, Kind, Model, Scorer, packed, shipped
from hpp_middleware.core.auto.question import text_of
from hpp_middleware.core.auto.topics import Topics
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.fitting.curves import Array, ahead, left, recovered
from hpp_middleware.fitting.report import ABOVE_CHANCE, ABOVE_OTHERS, FitReport, Refused, Rival

__all__ = ["FEWEST", "Row", "fit", "read_rows"]

FEWEST = 100
"""Prompts that both models must have answered."""

FOLDS = 10
MOST_NAMED = 10
RIDGES = (3.0, 10.0, 30.0, 100.0, 1000.0)
WORD_SHARE = 1.0
FIGURE_SHARE = 0.3
LEAST = {"foreign": 0.3}
"""
A figure is taken to be spread by at least so much: what a few accents in English prompts seem to say must not be said,
a thousand times over, of all that is written in another script.
"""

AS_IF = 10
"""Answers that the start's usual length counts as, beside those that have one."""


class Row(msgspec.Struct, frozen=True):
    """One line of the outcomes: how good one model's answer to a prompt was; other fields are passed over."""

    prompt: str | list[dict[str, object]]
    """A text, or the request's messages."""
    model: str
    quality: float
    """0 to 1."""
    tokens: float | None = None
    """How long the answer was; where it is left out, it says nothing of how long answers are."""


def read_rows(lines: Iterable[bytes]) -> list[Row]:
    """
    Outcomes from JSON lines; empty lines are passed over.

    Raises:
        ConfigurationError: Some lines are no outcomes; the message names them, the first ten, and what is wrong.
    """
    decoder = msgspec.json.Decoder(Row)
    rows, wrong = [], []
    for number, raw in enumerate(lines, 1):
        line = raw.removeprefix(b"\xef\xbb\xbf").strip()  # which some editors begin a file with
        if not line:
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
            wrong.append(f"line {number}: {error}")
            continue
        if not 0 <= row.quality <= 1:
            wrong.append(f"line {number}: quality is to be from 0 to 1")
        if row.tokens is not None and not 0 <= row.tokens <= LONGEST:
            wrong.append(f"line {number}: tokens is to be from 0 to {LONGEST}")
        rows.append(row)
    if wrong:
        more = [f"and {len(wrong) - MOST_NAMED} more"] if len(wrong) > MOST_NAMED else []
        raise ConfigurationError("\n".join(wrong[:MOST_NAMED] + more))
    return rows


def fit(rows: Iterable[Row], strong: str, weak: str, *, start: Scorer | None = None, force: bool = False) -> FitReport:
    """
    Fit the scorer to a pair of models.

    Args:
        rows: Outcomes of any models; those of the pair are paired by prompt, of one asked twice the mean counts.
        strong: The model that is better and dearer.
        weak: The other.
        start: The scorer to start from; the shipped one unless given.
        force: Return a model that would be refused, too; its file says so.
    Returns:
        The report, whose ``data`` is the model file.
    Raises:
        Refused: Held out, the fitted scorer is not surely better than what it started from, the rules, length, or
            chance.
        ConfigurationError: Fewer than 100 prompts have both, or the strong model is no better than the weak one.
    """
    if strong == weak:
        raise ConfigurationError(f"the strong model must be another one than the weak one, {weak}")
    start, rows = start or shipped(), list(rows)
    texts, low, high, tokens = _paired(rows, strong, weak)
    if len(texts) < FEWEST:
        raise ConfigurationError(
            f"{len(texts)} prompts have outcomes of both {strong} and {weak}: at least {FEWEST} are needed"
            + _named(rows, strong, weak)
        )
    gain = high - low
    if gain.mean() <= 0:
        raise ConfigurationError(f"{strong} is no better than {weak} on these prompts: nothing is to be gained")
    design = _Design(texts, start)
    answers = _answers(tokens, design.kinds, start.model.answers)
    folds = np.array([zlib.crc32(text.encode("utf-8", "replace")) % FOLDS for text in texts])
    tried = {ridge: _held_out(design, gain, folds, ridge) for ridge in RIDGES}
    # The ridge is chosen within each fold's own training rows, so that the figure below is of unseen prompts.
    chosen = np.zeros(len(texts))
    for fold in range(FOLDS):
        rest = folds != fold
        best = max(RIDGES, key=lambda ridge: (float(left(tried[ridge][rest]) @ gain[rest]), ridge))
        chosen[~rest] = tried[best][~rest]
    ridge = max(RIDGES, key=lambda ridge: (float(left(tried[ridge]) @ gain), ridge))

    def rival(name: str, scores: Array, errors: float) -> Rival:
        return Rival(name, recovered(scores, low, high), *ahead(chosen, scores, low, high), errors)

    report = FitReport(
        strong=strong,
        weak=weak,
        prompts=len(texts),
        quality_strong=float(high.mean()),
        quality_weak=float(low.mean()),
        fitted=recovered(chosen, low, high),
        rivals=(
            rival("a random order", np.zeros(len(texts)), ABOVE_CHANCE),
            rival("the scorer it started from", design.start, ABOVE_OTHERS),
            rival("the rules", np.array([_rules(text) for text in texts]), ABOVE_OTHERS),
            rival("length alone", np.array([float(len(text)) for text in texts]), ABOVE_OTHERS),
        ),
        ridge=ridge,
        answers=dict(zip(KINDS, answers, strict=False)),
        data=b"",
    )
    if not report.better and not force:
        raise Refused(report)
    about = {"fitted": f"{strong} over {weak}, {len(texts)} prompts", "judged": report.verdict}
    weights = design.solve(gain, np.ones(len(texts)), ridge)
    return replace(report, data=design.file(weights, gain, about, answers))


def _named(rows: Sequence[Row], strong: str, weak: str) -> str:
    """Which of the two no row names, and which there are: a name is soon written otherwise."""
    there = sorted({row.model for row in rows})
    missing = " and ".join(model for model in (strong, weak) if model not in there)
    if not missing:
        return ""
    more = ", ..." if len(there) > MOST_NAMED else ""
    return f"; none is of {missing}, but of {', '.join(there[:MOST_NAMED]) or 'nobody'}{more}"


def _paired(rows: Iterable[Row], strong: str, weak: str) -> tuple[list[str], Array, Array, list[list[float]]]:
    """The prompts that both answered, how well the weaker and the stronger did, and the tokens of their answers."""
    found: dict[str, dict[str, list[float]]] = {}
    tokens: dict[str, list[float]] = {}
    for row in rows:
        if row.model in {strong, weak}:
            text = text_of(row.prompt)
            found.setdefault(text, {}).setdefault(row.model, []).append(row.quality)
            if row.tokens is not None:
                tokens.setdefault(text, []).append(row.tokens)
    both = {text: by for text, by in found.items() if len(by) == 2}
    mean: Mapping[str, Array] = {
        model: np.array([float(np.mean(by[model])) for by in both.values()]) for model in (weak, strong)
    }
    return list(both), mean[weak], mean[strong], [tokens.get(text, []) for text in both]


def _answers(tokens: Sequence[Sequence[float]], kinds: Array, start: Sequence[int]) -> list[int]:
    """The usual tokens of an answer to each kind: the mean, drawn to what the start says; all of that where none is."""
    if not any(tokens):
        return list(start)
    found = []
    for number in range(len(KINDS)):
        before = start[number] if start else EXPECTED_OUTPUT
        known = [count for row in map(int, np.flatnonzero(kinds == number)) for count in tokens[row]]
        found.append(max(1, round((sum(known) + AS_IF * before) / (len(known) + AS_IF))))
    return found


def _held_out(design: "_Design", gain: Array, folds: Array, ridge: float) -> Array:
    """What each prompt is predicted by a fit without its fold; every fold's fit has the same mean over all prompts."""
    scores = np.zeros(len(gain))
    for fold in range(FOLDS):
        weights = design.solve(gain, (folds != fold).astype(float), ridge)
        predicted = design.predict(weights)
        scores[folds == fold] = predicted[folds == fold] - predicted.mean()
    return scores


class _Design:
    """
    The prompts as a matrix: for each kind its own constant, the start's score and the figures, then words that are met
    at least thrice, by bucket.
    """

    def __init__(self, texts: Sequence[str], start: Scorer) -> None:
        seen = [features(text) for text in texts]
        self.origin = start
        self.start = np.array([start.gain(text) for text in texts])
        self.kinds = np.array([each.kind for each in seen])
        self.figures = np.array([each.figures for each in seen])
        self.means = self.figures.mean(0)
        self.spread = np.maximum(self.figures.std(0), [max(LEAST.get(name, 0.0), 1e-6) for name in FEATURES])
        scaled = FIGURE_SHARE * (self.figures - self.means) / self.spread
        self.width = 2 + len(FEATURES)
        self.level = float(self.start.mean())
        self.unit = max(float(self.start.std()), 1e-6)
        dense = np.zeros((len(texts), len(KINDS) * self.width))
        block = np.c_[np.ones(len(texts)), (self.start - self.level) / self.unit, scaled]
        for row, kind in enumerate(self.kinds):
            dense[row, kind * self.width : (kind + 1) * self.width] = block[row]
        buckets = [sorted({zlib.crc32(w.encode("utf-8", "replace")) & (BUCKETS - 1) for w in e.words}) for e in seen]
        # Each bucket of a kind has a weight as a model has it: shared by the words of a text.
        self.rows = np.array([row for row, found in enumerate(buckets) for _ in found], dtype=np.int64)
        self.columns = np.array([bucket for found in buckets for bucket in found], dtype=np.int64)
        self.size = np.array([max(len(each.words), 1) for each in seen], dtype=float)
        self.values = WORD_SHARE * 5 / self.size[self.rows] if len(self.rows) else np.zeros(0)
        self.dense = dense
        self.seen = seen

    def predict(self, weights: Array) -> Array:
        """The gain of each prompt by some weights."""
        words = weights[self.dense.shape[1] :]
        said = np.bincount(self.rows, self.values * words[self.columns], minlength=len(self.dense))
        found: Array = self.dense @ weights[: self.dense.shape[1]] + said
        return found

    def solve(self, gain: Array, use: Array, ridge: float) -> Array:
        """The weights by conjugate gradients: as deterministic as a sum, and no matrix of words is ever built."""
        width = self.dense.shape[1]
        penalty = np.full(width + BUCKETS, ridge)
        penalty[0 : width : self.width] = 1.0  # a kind's own level is told by few prompts
        penalty[1 : width : self.width] = 1.0  # and so is how much the start is to be believed

        def applied(weights: Array) -> Array:
            return self._back(use * self.predict(weights)) + penalty * weights

        middle = float(use @ gain / use.sum())
        weights = np.zeros(width + BUCKETS)
        left = self._back(use * (gain - middle))
        way, size = left.copy(), float(left @ left)
        first = size
        for _ in range(100):
            if size <= 1e-10 * first or size == 0:
                break
            moved = applied(way)
            step = size / float(way @ moved)
            weights += step * way
            left -= step * moved
            size, before = float(left @ left), size
            way = left + size / before * way
        return weights

    def _back(self, errors: Array) -> Array:
        found: Array = np.r_[
            self.dense.T @ errors, np.bincount(self.columns, self.values * errors[self.rows], minlength=BUCKETS)
        ]
        return found

    def file(self, weights: Array, gain: Array, about: Mapping[str, str], answers: Sequence[int] = ()) -> bytes:
        """The model file: the start's weights, as far as they are believed, and what was added to them."""
        # Where what is said of words does not fit in a file, it is said more coarsely.
        for units in (127, 63, 31, 15, 7):
            found = packed(msgspec.structs.replace(self._model(weights, gain, about, units), answers=list(answers)))
            if len(found) <= LARGEST:
                break
        return found

    def _model(self, weights: Array, gain: Array, about: Mapping[str, str], units: int) -> Model:
        width = self.dense.shape[1]
        more = WORD_SHARE * 5 * weights[width:]
        kinds = []
        for number, old in enumerate(self.origin.model.kinds):
            level, trust, *figures = weights[number * self.width : (number + 1) * self.width]
            trust /= self.unit
            old_words = np.frombuffer(old.words, np.int8).astype(float) * old.step
            words = trust * old_words + more
            step = float(np.abs(words).max()) / units or 1.0
            added = FIGURE_SHARE * np.array(figures) / self.spread
            new = trust * np.array(old.weights) + added
            # Figures are counted from these prompts' means, which the constant makes up for.
            shift = trust * float(np.array(old.weights) @ (self.means - np.array(old.means)))
            kinds.append(
                Kind(
                    base=float(gain.mean() + level + trust * (old.base - self.level) + shift),
                    means=[float(mean) for mean in self.means],
                    weights=[float(weight) for weight in new],
                    words=np.rint(words / step).astype(np.int8).tobytes(),
                    step=step,
                )
            )
        predicted = self.predict(weights) + gain.mean()
        middle, spread = float(np.median(predicted)), max(float(predicted.std()) / 1.7, 1e-6)
        squeezed = 1 / (1 + np.exp(np.clip((middle - predicted) / spread, -500, 500)))
        return Model(
            about={**about, "start": self.origin.model.about.get("name", "")},
            features=list(FEATURES),
            kinds=kinds,
            middle=middle,
            spread=spread,
            quantiles=[float(each) for each in np.quantile(squeezed, np.arange(1, 100) / 100)],
            topics=_believed(self.origin.model.topics, float(weights[1]) / self.unit),
        )


def _believed(topics: Topics | None, trust: float) -> Topics | None:
    """Topics are told in the first kind alone, and count as far as its start is believed."""
    if topics is None:
        return None
    return msgspec.structs.replace(topics, gains=[trust * gain for gain in topics.gains])


def _rules(text: str) -> float:
    """As the policy ``rules``: a simple word or at most a hundred tokens are for the weaker model."""
    simple = len(text) <= 400 or any(word in text.lower() for word in ("summarize", "translate", "list ", "convert"))
    return 0.0 if simple else len(text) / 4
