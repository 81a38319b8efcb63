"""
Which topic a question is of, from its words: how the model's topics are fitted, without a look at any outcome.

A linear discriminant on the means of the words' vectors, taught by the names of the subjects that MMLU and MMLU-Pro
give their questions, and by the words that an expert gives each group of subjects. What a vector says is linear in it,
so that each word has one weight a topic; the words that say most are kept, each weight as one of seven steps.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from pools import Array, Row

from hpp_middleware.core.auto.topics import TAGS, Reader, Topics, tags_packed

WORDS, LIMIT = 10_000, 3
"""
Words that are kept, and the largest weight: of unseen questions, 3,000 words with weights up to 7 tell the topic of
68%, these of 69%, and all that there are, in full, of 71%. More have no room in the file.
"""

RIDGE, KEYWORDS, BORROWED = 0.3, 30.0, 0.1
"""
How much spread is added in each direction; prompts that an expert's words count as; what a prompt of the other set
counts. The first two were chosen by how well the subject of unseen questions is told.
"""

POWER, USUAL = 0.75, 33
"""
How much the number of a question's words makes of what they say together: 1 would be their mean, 0 their sum; and a
usual number of different words (the median of MMLU), of which it makes as much as a mean. By nested folds.
"""


@dataclass(frozen=True)
class Lesson:
    """What topics are learned from; all that is of the prompts is of those in use only."""

    names: Sequence[str]
    gains: Array
    rows: Sequence[Row]
    means: Array
    """The mean vector of each row's words, of unit spread."""
    topic: Array
    """The number of each row's topic."""
    borrowed: Array
    """Whether a row is of another set than the one to be told apart."""
    keywords: Sequence[Array]
    """The vectors of each topic's words, of unit spread around 0."""


def discriminant(lesson: Lesson) -> tuple[Array, Array]:
    """The weight of each dimension for each topic, and how far ahead each topic is before any word."""
    counts = np.where(lesson.borrowed, BORROWED, 1.0)
    middle = counts @ lesson.means / counts.sum()
    centres = []
    for number, keywords in enumerate(lesson.keywords):
        inside = counts * (lesson.topic == number)
        centres.append((inside @ lesson.means + KEYWORDS * (middle + keywords.mean(0))) / (inside.sum() + KEYWORDS))
    own = np.array([_centre(lesson.means, counts * (lesson.topic == n), middle) for n in range(len(lesson.names))])
    away = lesson.means - own[lesson.topic]
    spread = (away * counts[:, None]).T @ away / counts.sum() + RIDGE * np.eye(len(middle))
    towards = np.array(centres)
    weights = np.linalg.solve(spread, towards.T)
    return weights, -0.5 * (towards * weights.T).sum(1)


def topics(lesson: Lesson, words: Sequence[str], worth: Array, bases: Array, judged: Sequence[Row]) -> Topics:
    """
    The topics as the model holds them.

    Args:
        lesson: What they were learned from.
        words: The words that may be kept, the most frequent one first.
        worth: One row a word: its weight for each topic.
        bases: How far each topic is ahead before any word.
        judged: The prompts whose mean gain by topic is to be 0, so that it moves no kind of prompt as a whole.
    """
    worth = worth - worth.mean(1, keepdims=True)
    met = Counter(word for row in lesson.rows for word in row.seen.words)
    often = np.array([1 / (at + 10) + 0.01 * met[word] for at, word in enumerate(words)])
    kept: dict[int, int] = {}
    for at in np.argsort(-often * (worth**2).sum(1), kind="stable"):
        kept.setdefault(zlib.crc32(words[at].encode()) & (TAGS - 1), int(at))
        if len(kept) == WORDS:
            break
    tags = sorted(kept)
    weights = worth[[kept[tag] for tag in tags]]
    steps = np.quantile(np.abs(weights), 0.998, axis=0) / LIMIT
    units = (np.clip(np.rint(weights / steps), -LIMIT, LIMIT) + 8).astype(np.uint8)
    found = Topics(
        names=list(lesson.names),
        gains=[float(gain) for gain in lesson.gains],
        bases=[float(f"{base:.5g}") for base in bases - bases.mean()],
        steps=[float(f"{step:.5g}") for step in steps * USUAL ** (POWER - 1)],
        tags=tags_packed(tags),
        words=(units[:, 0::2] | units[:, 1::2] << 4).tobytes(),
        power=POWER,
    )
    reader = Reader(found)
    usual = float(np.mean([sum(reader.gains(row.seen.words)) for row in judged]))
    return msgspec.structs.replace(found, gains=[float(f"{gain - usual:.5g}") for gain in lesson.gains])


def _centre(means: Array, counts: Array, otherwise: Array) -> Array:
    found: Array = counts @ means / counts.sum() if counts.any() else otherwise
    return found
