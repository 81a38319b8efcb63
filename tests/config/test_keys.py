"""``[keys]``: the pepper, and the one before it."""

from pathlib import Path

import pytest
from reading import read, refusal

from hpp_middleware.core import auth


def test_the_pepper_is_the_usual_variable_where_that_is_set(tmp_path: Path) -> None:
    assert read(tmp_path, "", HPP_PEPPER="sixteen-bytes-ok").pepper == b"sixteen-bytes-ok"


@pytest.mark.parametrize("text", ["", '[keys]\npepper = "env:HPP_PEPPER"', '[keys]\npepper = "short"'])
def test_a_pepper_that_is_too_short_is_refused(tmp_path: Path, text: str) -> None:
    origin = "" if "short" in text else " (from the environment variable HPP_PEPPER)"
    assert refusal(tmp_path, text, HPP_PEPPER="short") == [f"keys.pepper must have at least 16 bytes{origin}"]


def test_the_usual_variable_must_be_set_where_the_file_names_it(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[keys]\npepper = "env:HPP_PEPPER"')
    assert problems == ["keys.pepper: the environment variable HPP_PEPPER is not set"]


@pytest.mark.parametrize("name", ["pepper", "previous_pepper"])
def test_a_pepper_whose_usual_variable_is_empty_is_refused(tmp_path: Path, name: str) -> None:
    variable = f"HPP_{name.upper()}"
    empty = f"keys.{name}: the environment variable {variable} is empty"
    assert refusal(tmp_path, "", **{variable: ""}) == [empty]


@pytest.mark.parametrize("text", ["", '[keys]\nprevious_pepper = "env:HPP_PREVIOUS_PEPPER"'])
def test_while_peppers_are_rotated_there_are_two(tmp_path: Path, text: str) -> None:
    settings = read(tmp_path, text, HPP_PEPPER="sixteen-bytes-ok", HPP_PREVIOUS_PEPPER="sixteen-bytes-before")
    assert (settings.pepper, settings.previous_pepper) == (b"sixteen-bytes-ok", b"sixteen-bytes-before")
    assert "sixteen" not in repr(settings)
    assert settings.gateway().setup.peppers == auth.Peppers(b"sixteen-bytes-ok", b"sixteen-bytes-before")


@pytest.mark.parametrize(
    ("text", "previous", "problem"),
    [
        (
            "",
            "short",
            "keys.previous_pepper must have at least 16 bytes (from the environment variable HPP_PREVIOUS_PEPPER)",
        ),
        ('[keys]\nprevious_pepper = ""', "", "keys.previous_pepper must have at least 16 bytes"),
        ("", "sixteen-bytes-ok", "keys.previous_pepper must differ from keys.pepper"),
        (
            '[keys]\nprevious_pepper = "env:NO_SUCH"',
            "sixteen-bytes-before",
            "keys.previous_pepper: the environment variable NO_SUCH is not set",
        ),
    ],
)
def test_a_previous_pepper_that_is_none_is_refused(tmp_path: Path, text: str, previous: str, problem: str) -> None:
    variables = {"HPP_PREVIOUS_PEPPER": previous} if previous else {}
    assert refusal(tmp_path, text, HPP_PEPPER="sixteen-bytes-ok", **variables) == [problem]
