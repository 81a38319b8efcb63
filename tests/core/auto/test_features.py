"""What is read in a prompt: bounded, and whatever its shape."""

import math

import pytest

from hpp_middleware.core.auto.features import FEATURES, HEAD, KINDS, TAIL, features, text_of


def kind(text: str) -> str:
    return KINDS[features(text).kind]


def test_only_the_head_and_the_tail_of_a_long_text_are_read() -> None:
    text = text_of("a" * HEAD + "b" * 1_000_000 + "c" * TAIL)
    assert text == "a" * HEAD + "c" * TAIL
    assert text_of("a" * (HEAD + TAIL)) == "a" * (HEAD + TAIL)


def test_what_the_user_wrote_is_read_and_the_rest_where_there_is_none() -> None:
    system = {"role": "system", "content": "be brief"}
    tool = {"role": "tool", "content": "a result"}
    parts = [{"type": "text", "text": "one"}, {"type": "image_url", "image_url": {"url": "data:"}}, {"text": "two"}]
    assert text_of([system, {"role": "user", "content": parts}, tool, {"role": "user", "content": "three"}]) == (
        "one\ntwo\nthree"
    )
    assert text_of([system, {"role": "assistant", "content": None}, tool]) == "be brief\na result"


@pytest.mark.parametrize(
    "messages",
    [None, 3, [], {}, [None], ["text"], [{}], [{"role": "user"}], [{"role": "user", "content": [None, {"text": 3}]}]],
)
def test_what_is_no_message_has_no_text(messages: object) -> None:
    assert text_of(messages) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\ud800",
        "\0",
        "?" * 5000,
        "Δοκιμή 日本語 العربية",
        "1" * 5000,
        "\n" * 5000,
        "A. \nB. \nC. ",
        "$" * 5000,
    ],
)
def test_any_text_has_a_finite_figure_for_each_feature(text: str) -> None:
    found = features(text)
    assert len(found.figures) == len(FEATURES)
    assert all(map(math.isfinite, found.figures))


def test_kinds_are_told_apart() -> None:
    assert kind("Which?\nA. one\nB. two\nC. three\nD. four\nAnswer:") == "choice"
    assert kind("Which?\n" + "\n".join(f"{letter}. it" for letter in "ABCDEFGHIJ")) == "choices"
    assert kind("Write a function that sorts a list.") == "code"
    assert kind("Tom has 3 apples and buys 4. How many apples has he?") == "maths"
    assert kind("Find $x$ where $x^2 = 9$.") == "formulas"
    assert kind("It costs $5 on Monday and $10 later. How much is it?") == "maths"
    assert kind("Who wrote Faust?") == "plain"
