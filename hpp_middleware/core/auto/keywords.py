"""
Words in a text, on word boundaries and whatever their case; the text may be megabytes long, and is searched at its
speed of memory. After so many places where a word is only a part of another, it counts as not there.

Chinese, Japanese, Thai and the like are written without spaces: there a word is found wherever it stands.
"""

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["MOST_PARTS", "Keywords"]

MOST_PARTS = 1000

_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3005-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # kana
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # Han
)


class Keywords:
    """
    Words to look for.

    Args:
        words: Each a word, or several in a row, with any space between them.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = []
        for word in words:
            # An accent may be a character of its own, as macOS writes it. Texts stay as they are: to compose what
            # somebody sends takes the square of its length at worst.
            for folded in {unicodedata.normalize(form, word.casefold()): None for form in ("NFC", "NFD")}:
                first, *others = folded.split()
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
        begins = not at or not _lengthens(text[at], text[at - 1])
        if begins and (end == len(text) or not _lengthens(text[end - 1], text[end])):
            return True
    return False


def _lengthens(edge: str, beside: str) -> bool:
    """Whether a word that ends, or begins, with one character is part of a longer one by that beside it."""
    is_of_a_word = beside == "_" or beside.isalnum() or unicodedata.category(beside).startswith("M")  # an accent
    return is_of_a_word and not (_UNSPACED.match(edge) or _UNSPACED.match(beside))
