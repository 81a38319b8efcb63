"""
What a question is about, as far as its words tell: of which of a few topics, and what that is worth.

Each word that is known speaks for and against each topic; the sum over the words, divided by a power of their number
and squeezed into shares that add up to 1, says how likely each topic is. A sum of words alone cannot say that: once a
topic is sure, more words of it add nothing.
"""

import math
from itertools import pairwise
from zlib import crc32

import msgspec

from hpp_middleware.errors import ConfigurationError

__all__ = ["TAGS", "Reader", "Topics", "tags_packed"]

TAGS = 1 << 18
"""Words are known by their CRC-32 modulo this."""

_LONG = 255
"""A distance that says: so far, and on with the next byte."""


class Topics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The topics that a model tells apart, and the words by which it does."""

    names: list[str]
    gains: list[float]
    """What each topic adds to a prompt that is surely of it."""
    bases: list[float]
    """How far each topic is ahead before any word."""
    steps: list[float]
    """What one unit of a word's weight is worth, for each topic."""
    tags: bytes
    """The known words' tags, rising, each as its distance from the one before; see ``tags_packed``."""
    words: bytes
    """The words' weights in the order of their tags: four bits a topic, the first topic lowest, 8 for none."""
    power: float = 1.0
    """A text's words together are divided by their number to this power: by 1 for their mean."""


class Reader:
    """
    Topics that are ready to be told.

    Raises:
        ConfigurationError: Its parts do not fit each other.
    """

    def __init__(self, topics: Topics) -> None:
        count = len(topics.names)
        tags = _tags(topics.tags)
        sizes = {len(topics.gains), len(topics.bases), len(topics.steps)}
        if sizes != {count} or count % 2 or not count or len(topics.words) * 2 != len(tags) * count:
            raise ConfigurationError("this model file is for another release: fit it again")
        if not 0 <= topics.power <= 1:
            raise ConfigurationError("the power of the topics of this model file must be from 0 to 1")
        self.names = [f"topic:{name}" for name in topics.names]
        self._topics = topics
        units = [half - 8 for byte in topics.words for half in (byte & 15, byte >> 4)]
        self._known = {tag: tuple(units[at * count : (at + 1) * count]) for at, tag in enumerate(tags)}

    def shares(self, words: list[str]) -> list[float]:
        """How likely each topic is, by the different words of a text."""
        get = self._known.get
        tags = [crc32(word.encode("utf-8", "replace")) & (TAGS - 1) for word in words]
        known = [found for tag in tags if (found := get(tag)) is not None]
        topics = self._topics
        sums = map(sum, zip(*known, strict=True)) if known else [0] * len(topics.names)
        size = (len(words) or 1) ** topics.power
        ahead = [base + step * said / size for base, step, said in zip(topics.bases, topics.steps, sums, strict=True)]
        most = max(ahead)
        odds = [math.exp(each - most) for each in ahead]
        whole = sum(odds)
        return [each / whole for each in odds]

    def gains(self, words: list[str]) -> list[float]:
        """What each topic adds to the gain of a prompt of these words."""
        return [share * gain for share, gain in zip(self.shares(words), self._topics.gains, strict=True)]


def tags_packed(tags: list[int]) -> bytes:
    """Rising tags as distances, a byte each; 255 for a distance of 255 or more, which goes on with the next byte."""
    found = bytearray()
    for before, tag in pairwise([0, *tags]):
        long, rest = divmod(tag - before, _LONG)
        found += bytes([_LONG] * long + [rest])
    return bytes(found)


def _tags(packed: bytes) -> list[int]:
    found, at = [], 0
    for byte in packed:
        at += byte
        if byte != _LONG:
            found.append(at)
    return found
