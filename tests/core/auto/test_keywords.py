"""Words are found on their boundaries, whatever their case, however long the text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpp_middleware.core.auto.keywords import MOST_PARTS, Keywords


@pytest.mark.parametrize(
    ("words", "text", "found"),
    [
        (["translate"], "Please TRANSLATE!", "translate"),
        (["translate"], "translated", None),
        (["translate"], "_translate", None),
        (["translate"], "mistranslate, then translate", "translate"),
        (["b", "a"], "a b", "b"),
        (["in short"], "so, in\n  short.", "in short"),
        (["in short"], "in, short", None),
        (["in short"], "in shortly; in short", "in short"),
        (["c++"], "I like C++.", "c++"),
        (["straße"], "STRASSE", "straße"),
        (["翻译"], "请 翻译 一下", "翻译"),
        (["翻译"], "请翻译这段话", "翻译"),
        (["翻訳"], "これを翻訳して", "翻訳"),
        (["แปล"], "ช่วยแปลให้หน่อย", "แปล"),
        (["ai"], "使用AI翻译", "ai"),
        (["ai"], "使用AIR翻译", None),
        (["번역"], "번역해 주세요; 번역", "번역"),
        (["번역"], "번역해", None),
        (["r\u00e9sum\u00e9"], "my RE\u0301SUME\u0301.", "r\u00e9sum\u00e9"),
        (["re\u0301sume\u0301"], "my R\u00c9SUM\u00c9.", "re\u0301sume\u0301"),
        (["re"], "re\u0301sume\u0301", None),
        (["हि"], "हिन्दी", None),
        (["हिन"], "हिन्दी", None),
        (["c++"], "C++11", None),
        ([], "anything", None),
        (["a"], "", None),
    ],
)
def test_a_word_is_found_or_not(words: list[str], text: str, found: str | None) -> None:
    assert Keywords(words).find(text) == found


def test_a_word_that_is_a_part_of_others_too_often_is_given_up() -> None:
    assert Keywords(["a"]).find("ab " * (MOST_PARTS - 1) + "a") == "a"
    assert Keywords(["a"]).find("ab " * MOST_PARTS + "a") is None


@given(st.text("ab_ ,", max_size=30), st.text("ab", min_size=1, max_size=3))
def test_a_plain_word_is_found_as_a_regular_expression_finds_it(text: str, word: str) -> None:
    there = re.search(rf"(?<!\w){word}(?!\w)", text) is not None
    assert (Keywords([word]).find(text) is not None) is there
