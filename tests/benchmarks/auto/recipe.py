"""
How the shipped scorer is fitted: what is aimed at, with which weights, and how vectors become one number a word.

For each kind of prompt a ridge regression on the figures of the text and on the mean of its words' vectors. What a
vector adds is linear in it, so that after fitting each word has one weight: the vectors themselves are not shipped.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import subjects
from guess import GROUP_OF, GUESS, SUBJECTS
from pools import GPT4, MIXTRAL, Array, Row

from hpp_middleware.core.auto.features import FEATURES, KINDS
from hpp_middleware.core.auto.learned import BUCKETS, Kind, Model
from hpp_middleware.core.auto.topics import Topics
from hpp_middleware.fitting.fit import LEAST

WEAK = frozenset(
    [
        "Mixtral-8x7B-Instruct-v0.1",
        "Mixtral-8x7B-v0.1",
        "Llama-2-70b-hf",
        "Meta-Llama-3-8B",
        "Mistral-7B-v0.1",
        "Qwen1.5-7B-Chat",
        "mistral-7b-instruct-v0.3",
        "Phi-3-mini-4k-instruct",
        "Yi-34B",
        "Meta-Llama-3-8B-Instruct",
        "gpt-3.5-turbo-0125",
        "claude-3-haiku-20240307",
        "codegemma-7b",
        "llama-3.1-8b-instruct",
        "gemma-2-9b-it",
        "Meta-Llama-3.1-8B-Instruct",
        "gpt-4o-mini-2024-07-18",
    ]
)
STRONG = frozenset(
    [
        "gemini-1.5-pro-002",
        "gemini-1.5-flash-002",
        "gpt-4o-2024-08-06",
        "gpt-4-turbo-2024-04-09",
        "claude-3-5-sonnet-20240620",
        "Meta-Llama-3.1-70B-Instruct",
        "llama-3.1-nemotron-51b-instruct",
        "llama-3.3-nemotron-super-49b-v1",
    ]
)
OFFSETS = {"choice": 0.13, "choices": 0.12, "code": 0.32, "maths": 0.2, "plain": 0.1, "formulas": 0.28}
"""What the kinds are worth against each other: the mean gains of many pairs, rounded."""

FAMILIES = dict.fromkeys(
    ("gsm8k", "llmrouter/gsm8k", "llmrouter/agentverse-mgsm", "math_l5", "llmrouter/math"), 0.24
) | {"crux": 0.32}
"""The same for tasks that several sets have, where how far apart a set's own models are says nothing of its prompts."""

LEANS: dict[str, dict[str, float]] = {
    "choice": {"length": 0.02, "negations": 0.02, "options_alike": 0.01, "options_numeric": -0.01},
    "choices": {"length": 0.02},
    "code": {"length": 0.03, "operators": 0.01, "numbers": 0.01},
    "maths": {"length": 0.03, "words_per_sentence": 0.015, "variety": -0.01, "numbers": 0.005},
    "plain": {"length": 0.01},
    "formulas": {},
}
"""
What one spread of a figure is expected to add before any label, and what the fit leans towards: longer questions,
questions turned round by a negation, and options that differ by little are harder.
"""

FIRM = {"choices": 0.1, "code": 1, "maths": 1, "formulas": 0.02}
"""Kinds with few or contradictory prompts are held to their leans, the more the higher."""

HARD = frozenset({"math_l5", "llmrouter/math"})
"""
Tasks that are too hard for the weaker model mostly: what makes a problem harder still makes both fail, so that the aim
is what many stronger models gain over many weaker ones, and not what the weaker ones fail at.
"""

MIDDLE, SPREAD = 0.15, 0.06

FINEST = 0.004
"""What one unit of a word's weight is worth at least, in gains: what is finer takes room, and orders nothing."""


@dataclass(frozen=True)
class Vectors:
    """Word vectors by word, the most frequent word first."""

    index: Mapping[str, int]
    values: Array
    """One row a word: GloVe 6B, 50 dimensions."""
    read: Array
    """
    What a sentence encoder makes of the most frequent words alone, one row a word of its 384 dimensions: of which
    subject a word is, where GloVe has what it stands beside. Rarer words are left out: with them it is worth less.
    """

    @cached_property
    def share(self) -> Array:
        """How much of each word is left: rare words count full and frequent ones less."""
        rank = np.arange(len(self.values), dtype=float)
        found: Array = 1e-3 / (1e-3 + 0.1 / (rank + 10))
        return found

    @cached_property
    def scaled(self) -> Array:
        """GloVe of unit spread, then how rare a word is."""
        spread = self.values[:20_000].std(0)
        rare = (np.log(np.arange(len(self.values)) + 10) - 7) / 2
        found: Array = np.c_[self.values / spread * self.share[:, None], rare]
        return found

    @cached_property
    def alone(self) -> Array:
        """What the encoder makes of words, from the mean of all on."""
        known = np.abs(self.read).sum(1) > 0
        away = np.where(known[:, None], self.read - self.read[known].mean(0), 0)
        found: Array = away * self.share[: len(away), None]
        return found

    def mean(self, words: Sequence[str]) -> Array:
        """The sum of the known words' vectors, GloVe's and then the encoder's, over the number of all words."""
        known = [self.index[word] for word in words if word in self.index]
        heard = [at for at in known if at < len(self.alone)]
        found: Array = np.r_[self.scaled[known].sum(0), self.alone[heard].sum(0)] / max(len(words), 1)
        return found

    def worth(self, of_vectors: Array, count: int) -> Array:
        """What each of the most frequent words is worth, by the worth of each dimension."""
        near = self.scaled.shape[1]
        found: Array = self.scaled[:count] @ of_vectors[:near]
        found[: len(self.alone)] += self.alone @ of_vectors[near:]
        return found


@dataclass(frozen=True)
class Knobs:
    """What was tried out; the defaults are what the shipped model was fitted with."""

    figures: float = 0.4
    vectors: float = 0.4
    alone: float = 1.0
    ridge: float = 5.0
    raw: float = 0.05
    difficulty: float = 0.35
    pro: float = 0.1
    guess: Mapping[str, float] | None = field(default_factory=lambda: GUESS)
    """What each group of subjects is expected to gain before any label; None to expect the same of each."""
    drawn: float = 20.0
    """Without a guess the gains of topics are the labels', drawn to the mean of all as of this many prompts."""
    keywords: float = 20.0
    lean: float = 2.0
    firm: float = 200.0
    subject: float = 60.0
    group: float = 60.0
    topics: bool = True
    beside: float = 0.5
    """What figures and words count where topics are told too, since both speak of the subject; by nested folds."""
    told: float = 0.1
    """How much is believed of what the labels alone say of the words, as the encoder reads them; and its ridge."""
    told_ridge: float = 30.0


class Table:
    """All prompts as matrices, once for all fits."""

    def __init__(self, rows: Sequence[Row], vectors: Vectors) -> None:
        self.rows, self.vectors = rows, vectors
        self.kind = np.array([row.seen.kind for row in rows])
        self.figures = np.array([row.seen.figures for row in rows])
        self.spread = self.figures.std(0)
        self.spread[self.spread < 1e-9] = 1.0
        self.spread = np.maximum(self.spread, [LEAST.get(name, 0.0) for name in FEATURES])
        self.means = np.array([vectors.mean(row.seen.words) for row in rows])
        self.across = self.means.std(0)
        near = vectors.scaled.shape[1]  # the encoder's dimensions keep their sizes among each other
        self.across[near:] = np.sqrt((self.across[near:] ** 2).mean())
        self.near_only = np.r_[np.ones(near), np.zeros(len(self.across) - near)]
        self.source = np.array([row.source for row in rows])
        self.task = np.array([row.task for row in rows])
        self.subject = np.array([row.task.split("/")[-1].replace(" ", "_") for row in rows])
        self.group = np.array([GROUP_OF.get(subject, "") for subject in self.subject])
        self.weak = np.array([_failed(row, WEAK) for row in rows])
        self.strong = np.array([_failed(row, STRONG) for row in rows])
        self.near = np.array([_gap(row) for row in rows])
        self.pair = np.isin(self.source, ["routellm_mmlu_10pct", "routellm_gsm8k_25pct"])
        self.mmlu = self.source == "routellm_mmlu_10pct"
        self.pro = self.source == "mmlu_pro_80pct"
        self.gain = np.zeros(len(rows))
        self.gain[self.pair] = [r.outcomes[GPT4][0] - r.outcomes[MIXTRAL][0] for r in rows if GPT4 in r.outcomes]
        met = Counter(word for row in rows for word in row.seen.words)
        words = list(vectors.index)[:60_000]
        often = [1 / (at + 10) + 0.01 * met[word] for at, word in enumerate(words)]
        self.often = np.array(often), np.array([_bucket(word) for word in words])
        buckets = [[_bucket(word) for word in row.seen.words] for row in rows]
        self.buckets = [np.array(found, dtype=np.int64) for found in buckets]

    def targets(self, use: Array, knobs: Knobs, *, labels: bool) -> tuple[Array, Array]:
        """What each prompt is to be scored, and how much it counts; from the rows in use only."""
        target, weight = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        for task in sorted(set(self.task)):
            inside = self.task == task
            known = inside & (use > 0)
            if not known.any():
                continue
            lost = self.weak - 0.3 * self.strong
            target[inside] = knobs.difficulty * (lost - lost[known].mean())[inside]
            if task in FAMILIES:
                target[inside] += FAMILIES[task]
            elif not self.pair[inside].any():
                target[inside] += (self.weak - self.strong)[known].mean()
        for task in sorted(HARD):
            inside = self.task == task
            known = inside & (use > 0)
            if known.any():
                many = self.weak - self.strong  # the shares that failed
                target[inside] = FAMILIES[task] + (many - many[known].mean())[inside]
        target[self.pro] = self.near[self.pro]
        weight[:] = 1.0
        weight[self.source == "llmrouter_train"] = 0.5
        weight[self.pair] = 0.5
        if labels:
            many = use * self.mmlu > 0
            guessed = self._guessed(use, knobs, labels=labels)
            for group in sorted(set(self.group[self.mmlu])):
                inside = self.mmlu & (self.group == group)
                mean = _shrunk(self.gain[inside & many], guessed[group], knobs.group)
                for subject in sorted(set(self.subject[inside])):
                    here = inside & (self.subject == subject)
                    target[here] = _shrunk(self.gain[here & many], mean, knobs.subject)
            target[self.mmlu] = (1 - knobs.raw) * target[self.mmlu] + knobs.raw * self.gain[self.mmlu]
            weight[self.mmlu] = 1.0
            grade = self.source == "routellm_gsm8k_25pct"
            lost = np.array([1 - row.outcomes[MIXTRAL][0] if MIXTRAL in row.outcomes else 0 for row in self.rows])
            target[grade] = 0.4 * self.gain[grade] + 0.3 * lost[grade]
        else:
            weight[self.pair] = 0.0
        return target, weight * use

    def fit(self, use: Array, knobs: Knobs, *, labels: bool = True) -> Model:
        """
        A model from some of the rows.

        Args:
            use: 1 for each row to fit on, else 0.
            knobs: How.
            labels: Whether the outcomes of the pair GPT-4 and Mixtral are looked at.
        """
        target, weight = self.targets(use, knobs, labels=labels)
        guessed = self._guessed(use, knobs, labels=labels)
        kinds = []
        for number, name in enumerate(KINDS):
            inside = self.kind == number
            goal, counts = target.copy(), weight * inside
            if name == "choice":
                borrowed = self.pro & (use > 0)
                goal[self.pro] = [guessed[group] for group in self.group[self.pro]]
                lost = self.weak - 0.7 * self.strong
                if borrowed.any():
                    goal[self.pro] += 0.3 * (lost - lost[borrowed].mean())[self.pro]
                counts = counts + knobs.pro * borrowed
            found = self._kind(
                name, goal, counts, knobs, self._told(use, knobs) if name == "choice" and labels else None
            )
            kinds.append(found)
        topics = self._topics(weight, self._gains(use, knobs, labels=labels)) if knobs.topics else None
        return Model(about={}, features=list(FEATURES), kinds=kinds, middle=MIDDLE, spread=SPREAD, topics=topics)

    def _guessed(self, use: Array, knobs: Knobs, *, labels: bool) -> Mapping[str, float]:
        """What each group is expected to gain before its own labels; without a guess what all labelled prompts do."""
        if knobs.guess is not None:
            return knobs.guess
        many = (use > 0) & self.mmlu
        return dict.fromkeys(SUBJECTS, float(self.gain[many].mean()) if labels and many.any() else 0.0)

    def _gains(self, use: Array, knobs: Knobs, *, labels: bool) -> Mapping[str, float]:
        """What each topic adds: what is guessed; without a guess what the labels say, and without them nothing."""
        guessed = self._guessed(use, knobs, labels=labels)
        if knobs.guess is not None or not labels:
            return guessed
        seen = {group: self.gain[(use > 0) & self.mmlu & (self.group == group)] for group in SUBJECTS}
        return {group: _shrunk(seen[group], guessed[group], knobs.drawn) for group in SUBJECTS}

    def _topics(self, used: Array, gains: Mapping[str, float]) -> Topics | None:
        """What questions are about: from the prompts in use and their subjects, and from no outcome."""
        at = np.flatnonzero((used > 0) & (self.mmlu | self.pro) & (self.group != ""))
        if not at.size:
            return None
        groups = list(SUBJECTS)
        more = [np.array([self.vectors.mean([word]) for word in words.split()]) for _, words in SUBJECTS.values()]
        every = np.concatenate(more)
        lesson = subjects.Lesson(
            names=groups,
            gains=np.array([gains[group] for group in groups]),
            rows=[self.rows[number] for number in map(int, at)],
            means=self.means[at] / self.across,
            topic=np.array([groups.index(group) for group in self.group[at]]),
            borrowed=self.pro[at],
            keywords=[0.5 * (each - every.mean(0)) / every.std(0) for each in more],
        )
        weights, bases = subjects.discriminant(lesson)
        words = list(self.vectors.index)[:60_000]
        worth = self.vectors.worth(weights / self.across[:, None], len(words))
        judged = [self.rows[number] for number in map(int, np.flatnonzero((used > 0) & (self.kind == 0)))]
        return subjects.topics(lesson, words, worth, bases, judged)

    def _kind(self, name: str, goal: Array, counts: Array, knobs: Knobs, told: Array | None) -> Kind:
        at = np.flatnonzero(counts)
        share = counts[at] / counts[at].sum()
        by_words = 0.05 if name in {"code", "maths", "formulas"} else knobs.vectors
        # Only where subjects are to be told apart is the encoder heard.
        heard = self.near_only + (name == "choice") * knobs.alone * (1 - self.near_only)
        shape = np.r_[knobs.figures / self.spread, by_words * heard / self.across]
        inputs = np.c_[self.figures[at], self.means[at]] * shape
        middle = share @ inputs
        root = np.sqrt(counts[at])[:, None]
        design = (inputs - middle) * root
        wanted = (goal[at] - share @ goal[at]) * root[:, 0]
        if name == "choice" and knobs.keywords and knobs.guess is not None:
            more, extra = self._keywords(shape, knobs.guess)
            design = np.r_[design, knobs.keywords**0.5 * more]
            wanted = np.r_[wanted, knobs.keywords**0.5 * extra]
        lean = np.zeros(len(shape))
        for figure, worth in LEANS[name].items():
            lean[FEATURES.index(figure)] = knobs.lean * worth / knobs.figures
        ridge = knobs.ridge * np.eye(len(shape)) * (FIRM[name] * knobs.firm if name in FIRM else 1)
        found = np.linalg.solve(design.T @ design + ridge, design.T @ (wanted - design @ lean)) + lean
        found *= shape * (knobs.beside if name == "choice" and knobs.topics else 1.0)
        weights, of_vectors = found[: len(FEATURES)], found[len(FEATURES) :]
        table = self._table(of_vectors if told is None else of_vectors + told)
        step = max(float(np.abs(table).max()) / 127, FINEST)
        words = np.rint(table / step).astype(np.int8)
        means = share @ self.figures[at]
        said = [int(words[self.buckets[row]].sum(dtype=np.int64)) * step / max(len(self.buckets[row]), 1) for row in at]
        return Kind(
            base=_short(OFFSETS[name] - float(share @ np.array(said))),
            means=[_short(mean) for mean in means],
            weights=[_short(number) for number in weights],
            words=words.tobytes(),
            step=_short(step),
        )

    def _told(self, use: Array, knobs: Knobs) -> Array | None:
        """The weight of each dimension by MMLU's labels themselves, whatever the subject; None where there are none."""
        at = np.flatnonzero((use > 0) & self.mmlu)
        if not at.size or not knobs.told:
            return None
        shape = (1 - self.near_only) / self.across
        inputs = self.means[at] * shape
        inputs = inputs - inputs.mean(0)
        ridge = knobs.told_ridge * np.eye(len(shape))
        found: Array = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (self.gain[at] - self.gain[at].mean()))
        found *= knobs.told * shape
        return found

    def _keywords(self, shape: Array, guess: Mapping[str, float]) -> tuple[Array, Array]:
        inputs, wanted = [], []
        for group, (_, words) in SUBJECTS.items():
            for word in words.split():
                inputs.append(self.vectors.mean([word]))
                wanted.append(guess[group] - 0.1)
        means = np.array(inputs)
        means = (means - means.mean(0)) / means.std(0) * self.across * 0.5
        return np.c_[np.zeros((len(means), len(FEATURES))), means] * shape, np.array(wanted)

    def _table(self, of_vectors: Array) -> Array:
        """The weight of each bucket: the mean of its words' weights, as often as they are met."""
        often, bucket = self.often
        worth = self.vectors.worth(of_vectors, len(often))
        total, count = np.bincount(bucket, often * worth, BUCKETS), np.bincount(bucket, often, BUCKETS)
        found: Array = total / np.maximum(count, 1e-12)
        return found


def _bucket(word: str) -> int:
    return zlib.crc32(word.encode()) & (BUCKETS - 1)


def _short(number: float) -> float:
    return float(f"{number:.5g}")


def _shrunk(seen: Array, towards: float, as_if: float) -> float:
    return float((seen.sum() + as_if * towards) / (len(seen) + as_if))


def _gap(row: Row) -> float:
    """How far apart models of one family are that differ in size: the mean of two pairs."""
    pairs = (
        ("gemini-1.5-pro-002", "gemini-1.5-flash-002"),
        ("Meta-Llama-3.1-70B-Instruct", "Meta-Llama-3.1-8B-Instruct"),
    )
    found = [row.outcomes[a][0] - row.outcomes[b][0] for a, b in pairs if a in row.outcomes and b in row.outcomes]
    return float(np.mean(found)) if found else 0.0


def _failed(row: Row, models: frozenset[str]) -> float:
    """The share of these models, or of all where none of them was asked, that were wrong."""
    scores = [score for model, (score, _) in row.outcomes.items() if model in models]
    return 1 - float(np.mean(scores or [score for score, _ in row.outcomes.values()]))
