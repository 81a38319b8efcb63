"""
Whether two answers to one request say the same: a model that is asked twice and contradicts itself does not know.

What an answer comes to is compared, where it says so: a short answer, a boxed one, one after the word "answer", a last
line with a number. Longer texts are only held to have words in common. Nothing is asked of a model for it.
"""

import re
from typing import Any

from hpp_middleware.core.auto.said import decoded, form, said
from hpp_middleware.types.completion import Request

__all__ = ["agree", "can_differ", "is_comparable"]

SHORT = 40
"""An answer of so many characters is compared as a whole."""

IN_COMMON = 0.3
"""Two texts agree whose shared words are at least this share of their words, on average."""

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_ANSWER = re.compile(r"\banswer(?:\s+is)?\s*:?[*\s]*([^\n]+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_OPTION = re.compile(r"\A\W*([A-J])(?:[).:\W]|\Z)")
_WORD = re.compile(r"[^\W_]+")
_ARTICLES = frozenset({"a", "an", "the", "is", "it"})


def can_differ(request: Request) -> bool:
    """Whether a model that is asked again may say something else: not at temperature 0, or with a seed of its own."""
    temperature, seed = (decoded(bytes(request.fields.get(name, b"null"))) for name in ("temperature", "seed"))
    return temperature != 0 and seed is None


def is_comparable(body: bytes, request: Request) -> bool:
    """Whether an answer is text that another one could contradict."""
    return not said(body, request.api).calls


def agree(one: bytes, other: bytes, request: Request) -> bool:
    """
    Whether two answers say the same.

    Args:
        one: A whole answer, as JSON, in the words of the request's API.
        other: Another.
        request: What was asked, as the client has written it.
    """
    first, second = said(one, request.api), said(other, request.api)
    if first.calls or second.calls:
        return first.calls and second.calls
    if form(request) is not None:
        return _alike(decoded(first.text.encode("utf-8", "replace")), decoded(second.text.encode("utf-8", "replace")))
    return _agreed(first.text, second.text)


def _agreed(one: str, other: str) -> bool:
    first, second = _conclusion(one), _conclusion(other)
    if first is not None and second is not None:
        return _same(first, second)
    return _overlap(one, other) >= IN_COMMON


def _conclusion(text: str) -> str | None:
    """What a text comes to, where it says so."""
    text = text.strip()
    boxed = _BOXED.findall(text)
    if boxed:
        return str(boxed[-1])
    named = _ANSWER.findall(text)
    if named:
        return str(named[-1])
    if len(text) <= SHORT:
        return text
    last = text.rsplit("\n", 1)[-1]
    return last if len(last) <= 2 * SHORT and _NUMBER.search(last) else None


def _same(one: str, other: str) -> bool:
    options = [_OPTION.match(each) for each in (one, other)]
    if options[0] is not None and options[1] is not None:
        return options[0].group(1) == options[1].group(1)
    numbers = [_NUMBER.findall(each) for each in (one, other)]
    if numbers[0] and numbers[1]:
        return _value(numbers[0][-1]) == _value(numbers[1][-1])
    first, second = _words(one), _words(other)
    return first <= second or second <= first


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold())) - _ARTICLES


def _overlap(one: str, other: str) -> float:
    first, second = _words(one), _words(other)
    return 2 * len(first & second) / ((len(first) + len(second)) or 1)


def _alike(one: Any, other: Any, depth: int = 0) -> bool:
    """Two values of one schema: the same members and lengths, and texts that agree."""
    if depth > 32:  # as deep as schemas are looked into
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[name], other[name], depth + 1) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_alike(a, b, depth + 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, str) and isinstance(other, str):
        return _agreed(one, other)
    return bool(one == other)
