"""
How much a request needs the stronger of two models, learned from what many models got right and wrong.

No clock is read and no number drawn: the same text has the same score in every process. A score is a sum of what the
features of the text add, squeezed into 0 to 1, so that every score can be explained by its parts.
"""

import math
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from operator import mul
from typing import Literal
from zlib import crc32

import msgspec

from hpp_middleware.core.auto.features import FEATURES, KINDS, read
from hpp_middleware.core.auto.topics import Reader, Topics
from hpp_middleware.errors import ConfigurationError

__all__ = [
    "BUCKETS",
    "LARGEST",
    "LONGEST",
    "Kind",
    "Model",
    "Scorer",
    "answer_tokens",
    "explain",
    "packed",
    "read",
    "score",
    "shipped",
]

BUCKETS = 8192
"""Words share this many weights in each kind, by their CRC-32."""

LARGEST = 64 * 1024
"""Bytes that a model file has at most."""

LONGEST = 1_000_000
"""Tokens that an answer is taken to have at most."""

_UNPACKED = 4 * LARGEST
_ZLIB = 0x78
"""What a zlib stream begins with, and no model's MessagePack does."""


class Kind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    The weights for one of ``features.KINDS``. All sums are in gains: 0.1 means that of a hundred such prompts the
    stronger model is right on ten more than the weaker one.
    """

    base: float
    """What the kind itself adds."""
    means: list[float]
    """The usual value of each figure: a figure adds ``weight * (value - mean)``."""
    weights: list[float]
    """One for each figure."""
    words: bytes
    """One signed byte for each bucket: a word adds ``byte * step`` divided by the number of different words."""
    step: float
    """What one unit of a byte is worth."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model file holds, as MessagePack, which may be compressed by zlib."""

    about: dict[str, str]
    """What it was fitted on, with origins and licences; for people."""
    features: list[str]
    """The names of the figures, in order; a model of other ones is refused."""
    kinds: list[Kind]
    """One for each of ``features.KINDS``."""
    middle: float
    """The gain that has a score of 0.5."""
    spread: float
    """How far from the middle a gain has a score of 0.73."""
    quantiles: list[float] = []
    """The scores below which each hundredth of the prompts that it was fitted on lies, rising; empty where unknown."""
    topics: Topics | None = None
    """What prompts of the kind ``choice`` are about; None where that is not told apart."""
    answers: list[int] = []
    """The usual tokens of an answer to each of ``features.KINDS``; empty where unknown."""
    format: Literal[1] = 1


class Scorer:
    """
    A model file that is ready to score.

    Args:
        data: The bytes of a model file, such as ``hpp-router auto fit`` writes.
    Raises:
        ConfigurationError: It is no model file, or one for other features.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) > LARGEST:
            raise ConfigurationError(f"a model file has at most {LARGEST} bytes, this one {len(data)}")
        try:
            model = msgspec.msgpack.decode(_unpacked(data), type=Model)
        except (msgspec.DecodeError, msgspec.ValidationError, zlib.error) as error:
            raise ConfigurationError("this is no model file of the learned policy") from error
        wrong = any(
            len(kind.words) != BUCKETS or len(kind.weights) != len(FEATURES) or len(kind.means) != len(FEATURES)
            for kind in model.kinds
        )
        if tuple(model.features) != FEATURES or len(model.kinds) != len(KINDS) or wrong:
            raise ConfigurationError("this model file is for another release: fit it again")
        if len(model.answers) not in {0, len(KINDS)}:
            raise ConfigurationError("this model file is for another release: fit it again")
        if not all(0 < tokens <= LONGEST for tokens in model.answers):
            raise ConfigurationError(f"the answers of this model file must have from 1 to {LONGEST} tokens")
        if not all(map(math.isfinite, _numbers(model))) or model.spread <= 0:
            raise ConfigurationError("this model file holds numbers that are none")
        if model.quantiles != sorted(model.quantiles):
            raise ConfigurationError("the quantiles of this model file must rise")
        self.model = model
        self._topics = Reader(model.topics) if model.topics is not None else None
        self.quantiles = tuple(model.quantiles)
        self.ordinary_answer = round(sum(model.answers) / len(KINDS)) if model.answers else None
        self._words = [memoryview(kind.words).cast("b") for kind in model.kinds]
        self._base = [
            kind.base - sum(weight * mean for weight, mean in zip(kind.weights, kind.means, strict=True))
            for kind in model.kinds
        ]

    def score(self, messages: object) -> float:
        """
        How much a request needs the stronger model.

        Args:
            messages: Chat messages, or a text; see ``question.text_of``. Or what ``read`` has made of them, for whoever
                asks several things of one request.
        Returns:
            0 to 1; 0.5 for a prompt in the middle of those that the model was fitted on.
        """
        return self._squeezed(self.gain(messages))

    def gain(self, messages: object) -> float:
        """As ``score``, before it is squeezed: the expected gain in quality, of prompts like those fitted on."""
        kind, figures, words = read(messages)
        table = self._words[kind]
        total = 0
        for word in words:
            total += table[crc32(word.encode("utf-8", "replace")) & (BUCKETS - 1)]
        found = self.model.kinds[kind]
        said = total * found.step / (len(words) or 1)
        if kind == 0 and self._topics is not None:
            said += sum(self._topics.gains(words))
        return self._base[kind] + said + float(sum(map(mul, found.weights, figures)))

    def answer_tokens(self, messages: object) -> int | None:
        """The usual tokens of an answer to prompts of this kind; None where the model does not know."""
        answers = self.model.answers
        return answers[read(messages).kind] if answers else None

    def explain(self, messages: object) -> list[tuple[str, float]]:
        """
        What each feature adds to ``gain``, the strongest first; a word is named ``word:`` and itself, a topic
        ``topic:`` and its name.

        The parts add up to ``gain``, and ``score`` is ``1 / (1 + exp((middle - gain) / spread))``.
        """
        kind, figures, words = read(messages)
        found, table = self.model.kinds[kind], self._words[kind]
        parts = [(f"kind:{KINDS[kind]}", found.base)]
        parts += [
            (name, weight * (figure - mean))
            for name, weight, figure, mean in zip(FEATURES, found.weights, figures, found.means, strict=True)
        ]
        share = found.step / (len(words) or 1)
        parts += [
            (f"word:{word}", table[crc32(word.encode("utf-8", "replace")) & (BUCKETS - 1)] * share) for word in words
        ]
        if kind == 0 and self._topics is not None:
            parts += zip(self._topics.names, self._topics.gains(words), strict=True)
        return sorted((part for part in parts if part[1]), key=lambda part: (-abs(part[1]), part[0]))

    def _squeezed(self, gain: float) -> float:
        distance = (gain - self.model.middle) / self.model.spread
        return 1 / (1 + math.exp(-max(-500.0, min(500.0, distance))))


def score(messages: object) -> float:
    """The score of a request by the shipped model: 0 to 1, higher where the stronger model is needed."""
    return shipped().score(messages)


def explain(messages: object) -> list[tuple[str, float]]:
    """What adds to the shipped model's score, the strongest first; see ``Scorer.explain``."""
    return shipped().explain(messages)


def answer_tokens(messages: object) -> int | None:
    """The usual tokens of an answer, by the shipped model; see ``Scorer.answer_tokens``."""
    return shipped().answer_tokens(messages)


def packed(model: Model) -> bytes:
    """The bytes of a model file: alike for the same model and release of zlib."""
    return zlib.compress(msgspec.msgpack.encode(model), 9)


def __getattr__(name: str) -> object:
    """What the shipped model knows, so that this module is a scorer too, and importing it reads nothing."""
    if name in {"ordinary_answer", "quantiles"}:
        return getattr(shipped(), name)
    raise AttributeError(name)


@cache
def shipped() -> Scorer:
    """The scorer of the shipped model, which is read when it is asked for first; it never changes."""
    return Scorer((resources.files("hpp_middleware.core.auto") / "model.msgpack").read_bytes())


def _unpacked(data: bytes) -> bytes:
    if data[:1] != bytes([_ZLIB]):
        return data  # as before they were compressed
    return zlib.decompressobj().decompress(data, _UNPACKED)  # what is cut off is no MessagePack


def _numbers(model: Model) -> Sequence[float]:
    topics = model.topics
    return [
        *((topics.power, *topics.gains, *topics.bases, *topics.steps) if topics is not None else ()),
        model.middle,
        model.spread,
        *model.quantiles,
        *(number for kind in model.kinds for number in (kind.base, kind.step, *kind.means, *kind.weights)),
    ]
