"""What is read in a prompt: bounded, and whatever its shape."""

import math

import pytest

from hpp_middleware.core.auto.features import FEATURES, KINDS, features


def kind(text: str) -> str:
    return KINDS[features(text).kind]


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
