"""
Words in a text, on word boundaries and whatever their case; the text may be megabytes long, and is searched at its
speed of memory. After so many places where a word is only a part of another, it counts as not there.
"""

import re
from collections.abc import Iterable

__all__ = ["MOST_PARTS", "Keywords"]

MOST_PARTS = 1000


class Keywords:
    """
    Words to look for.

    Args:
        words: Each a word, or several in a row, with any space between them.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = []
        for word in words:
            first, *others = word.casefold().split()
            rest = re.compile("".join(rf"\s+{re.escape(other)}" for other in others)) if others else None
            self._words.append((word, first, rest))

    def find(self, text: str) -> str | None:
        """The first of the words that is in the text."""
        folded = text.casefold() if self._words else ""
        return next((word for word, first, rest in self._words if _is_in(folded, first, rest)), None)


def _is_in(text: str, first: str, rest: re.Pattern[str] | None) -> bool:
    at = -1
    for _ in range(MOST_PARTS):
        at = text.find(first, at + 1)
        if at < 0:
            return False
        end = at + len(first)
        if rest is not None:
            found = rest.match(text, end)
            if found is None:
                continue
            end = found.end()
        if not (at and _is_word(text[at - 1])) and not (end < len(text) and _is_word(text[end])):
            return True
    return False


def _is_word(character: str) -> bool:
    return character == "_" or character.isalnum()
