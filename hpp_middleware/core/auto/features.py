"""
What a prompt looks like, in figures: the features of the learned scorer. Nothing here knows a weight.

Each pattern is searched for once, in no more of the text than the caps leave. The names and their order are part of the
model's format: a model file states the ones that it was fitted with.
"""

import math
import re
from typing import NamedTuple

from hpp_middleware.core.auto.question import text_of

__all__ = ["FEATURES", "KINDS", "Features", "features", "read"]

KINDS = ("choice", "choices", "code", "maths", "plain", "formulas")
"""
What is asked for, told apart by rules: to choose from up to five options or from more, code, reckoning, the rest, and
what is written in LaTeX. Each kind has weights of its own: a long sum is a hard one, a long story is none.
"""

FEATURES = (
    "length", "length_squared", "words_per_sentence", "word_length", "long_words", "digits", "numbers", "big_numbers",
    "decimals", "latex", "operators", "code_marks", "options", "option_length", "options_numeric", "options_alike",
    "questions", "sentences", "lines", "negations", "capitals", "names", "foreign", "quotes", "brackets", "variety",
    "percent", "quantities", "ends_asking", "ends_open", "ends_at_answer",
)  # fmt: skip
"""The figures of a prompt, in the order of ``Features.figures``; counts and lengths are logarithms."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CAPITAL = re.compile(r"[A-Z]")
_FOREIGN = re.compile(r"[^\x00-\x7f]")
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"[^\W\d_]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_OPTION = re.compile(r"^\(?[A-Ja-j][.):] +(\S*)(.*)$", re.MULTILINE)
_FIRST_OPTION = re.compile(r"^\(?[A-Ja-j][.):] ", re.MULTILINE)
# But no sums of money, and not the box that an answer is to be put in: every kind of question may ask for one.
_LATEX = re.compile(r"\\(?!boxed\b)[a-zA-Z]{2,}|\\[\[(]|\$[^\s$](?:[^$\n]*[^\s$])?\$(?!\d)")
_OPERATOR = re.compile(r"[=+*/^<>≤≥√∫∑π]")
_CODE_MARK = re.compile(r"[{};]\n|==|\(\)|```")
_SENTENCE = re.compile(r"[.!?](?=\s|$)")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]")
_CODE = _words(
    "def return assert import elif lambda self const var void public println select none async await"
    " python function str int dict"
)
_ASKS_CODE = _words("python javascript typescript java rust golang sql regex bash css html def assert println")
_A_FUNCTION = frozenset({"write", "function"})
_ASKS_SUM = _words("calculate compute evaluate simplify solve")
_AMOUNT = _words("total sum area value average percent percentage number cost price probability ratio volume")
_HOW = ("how many", "how much", "how long", "how far", "how old", "how tall", "how fast", "find the", "find all")
_NEGATION = _words("not except never no none neither nor cannot incorrect false least wrong")
_QUANTITY = _words(
    "half twice third thirds quarter quarters times each every per total percent than fewer remaining left average if"
)


class Features(NamedTuple):
    """What the scorer reads in a text."""

    kind: int
    """Which of ``KINDS``."""
    figures: list[float]
    """One for each of ``FEATURES``."""
    words: list[str]
    """The different words of it, in lower case, sorted so that sums come out alike everywhere."""


def read(messages: object) -> Features:
    """What the scorer reads in chat messages or a text; what is read already stays as it is."""
    return messages if isinstance(messages, Features) else features(text_of(messages))


def features(text: str) -> Features:
    """The figures and words of a text, which is to be capped already."""
    size = len(text) + 1
    lower = text.lower()
    words = _WORD.findall(lower)
    found = set(words)
    count = len(words) or 1
    numbers = _NUMBER.findall(text)
    options = _OPTION.findall(text) if "\nC" in text or "\n(C" in text or "\nc" in text or "\n(c" in text else []
    latex = len(_LATEX.findall(text)) if "\\" in text or "$" in text else 0
    code = sum(map(_CODE.__contains__, words)) + len(_CODE_MARK.findall(text))
    sentences = len(_SENTENCE.findall(text)) or 1
    question = text
    width = numeric = alike = 0.0
    if len(options) > 2:
        first = _FIRST_OPTION.search(text)
        question = text[: first.start()] if first is not None else text
        width = math.log1p(sum(len(word) + len(rest) for word, rest in options) / len(options))
        numeric = sum(_has_digit(word) or _has_digit(rest) for word, rest in options) / len(options)
        alike = 1 - (len({word.lower() for word, _ in options}) - 1) / (len(options) - 1)
        kind = 0 if len(options) < 6 else 1
    elif code > 2 or "```" in text or not _ASKS_CODE.isdisjoint(found) or found >= _A_FUNCTION:
        kind = 2
    elif latex:
        kind = 5
    elif numbers and _asks_a_sum(lower, found):
        kind = 3
    else:
        kind = 4
    ending = question.rstrip()[-1:]
    length = math.log(size) - 5.5
    figures = [
        length,
        length * length,
        math.log(count / sentences) - 2.5,
        sum(map(len, words)) / count - 4.6,
        sum(len(word) > 8 for word in words) / count,
        sum(map(len, numbers)) / size,
        math.log1p(len(numbers)),
        float(any(len(number) > 3 for number in numbers)),
        math.log1p(sum("." in number for number in numbers)),
        math.log1p(latex),
        math.log1p(len(_OPERATOR.findall(text))),
        math.log1p(code),
        len(options) / 4 if width else 0.0,
        width,
        numeric,
        alike,
        math.log1p(text.count("?")),
        math.log1p(sentences),
        math.log1p(text.count("\n")),
        math.log1p(sum(map(_NEGATION.__contains__, words)) + lower.count("n't")),
        len(_CAPITAL.findall(text)) / size,
        math.log1p(len(_NAME.findall(question))),
        0.0 if text.isascii() else len(_FOREIGN.findall(text)) / size,
        math.log1p(text.count('"')),
        math.log1p(text.count("(")),
        len(found) / count,
        float("%" in text),
        math.log1p(sum(map(_QUANTITY.__contains__, words))),
        float(ending == "?"),
        float(ending in {":", "_"}),
        float(text[-20:].rstrip().endswith("Answer:")),
    ]
    return Features(kind, figures, sorted(found))


def _asks_a_sum(lower: str, words: set[str]) -> bool:
    if not _ASKS_SUM.isdisjoint(words) or any(map(lower.__contains__, _HOW)):
        return True
    return "what" in words and not _AMOUNT.isdisjoint(words)


def _has_digit(text: str) -> bool:
    return _DIGIT.search(text) is not None
