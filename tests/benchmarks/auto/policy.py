"""
In which order the learned policy sends prompts to the stronger model, as ``quality`` rises: asked of the very code
that routes, with each prompt's score by a fit that has not seen it, and the usual length of the answers to others.
"""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from pools import Array, Row
from train import usual

from hpp_middleware.core.auto.learned import Scorer
from hpp_middleware.core.auto.ranked import Learned, rank
from hpp_middleware.types.auto import Asked, Candidate
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

STEPS, FOLDS = 20, 10


class Known:
    """A scorer that was asked already, of one prompt."""

    def __init__(self, row: Row, scorer: Scorer, answers: Sequence[int]) -> None:
        self.row, self.quantiles = row, scorer.quantiles
        self._score, self._answer = scorer.score(row.seen), answers[row.seen.kind]
        self.ordinary_answer = round(sum(answers) / len(answers))

    def score(self, _messages: Sequence[Any]) -> float:
        return self._score

    def explain(self, _messages: Sequence[Any]) -> Sequence[tuple[str, float]]:
        return ()

    def answer_tokens(self, _messages: Sequence[Any]) -> int:
        return self._answer


def unseen(rows: Sequence[Row], scorers: Sequence[Scorer]) -> list[Known]:
    """
    What is known of each prompt without its own answers.

    How long answers are is told by nine tenths of all prompts, by their ids: by how they begin, all of CRUX is in one
    fold, and nothing would tell how long its answers are.

    Args:
        rows: All prompts.
        scorers: For each the one that has not seen it.
    """
    folds = [zlib.crc32(row.id.encode()) % FOLDS for row in rows]
    answers = [usual([row for row, other in zip(rows, folds, strict=True) if other != fold]) for fold in range(FOLDS)]
    return [Known(row, scorer, answers[fold]) for row, scorer, fold in zip(rows, scorers, folds, strict=True)]


def candidate(model: str, prices: tuple[float, float], tokens: int) -> Candidate:
    """A model of this price, in dollars a million tokens in and out."""
    read, write = (round(price * 10**12) for price in prices)
    target = Target(
        id=model,
        provider_name="any",
        model_name=model,
        provider=Provider(base_url="http://any.test/v1"),
        model=Model(),
        price=Price(base=Rates(input=read, output=write)),
    )
    return Candidate(model=model, target=target, tokens=tokens)


def order(
    prompts: Sequence[Known],
    prices: tuple[tuple[float, float], tuple[float, float]],
    *,
    answer_tokens: int | None = None,
) -> Array:
    """
    How early each prompt goes to the stronger model: the higher the earlier.

    Args:
        prompts: What is known of them.
        prices: The weaker model's and the stronger one's.
        answer_tokens: What an answer is taken to have; None for what is usual for the kind of prompt.
    """
    found = []
    for each in prompts:
        asked = Asked(text_tokens=round(each.row.tokens))
        weak, strong = (
            candidate(name, price, asked.text_tokens) for name, price in zip(("weak", "strong"), prices, strict=True)
        )
        low, high = 0.0, 1.0
        for _ in range(STEPS):  # more quality never takes the stronger model away
            middle = (low + high) / 2
            learned = Learned(strong="strong", weak="weak", quality=middle, scorer=each, answer_tokens=answer_tokens)
            chosen = rank(learned, asked, weak, strong)
            low, high = (low, middle) if chosen is not None and chosen.model == "strong" else (middle, high)
        found.append(-high)
    return np.array(found)
