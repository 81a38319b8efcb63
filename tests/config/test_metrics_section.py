"""``[metrics]``."""

import sys
from pathlib import Path

import pytest
from reading import KEY, LOCAL, read, refusal

from hpp_middleware.config import load
from hpp_middleware.errors import ConfigurationError


def test_there_is_none_unless_the_file_says_so(tmp_path: Path) -> None:
    assert read(tmp_path, LOCAL).gateway().metrics is None
    found = read(tmp_path, LOCAL + "[metrics]\nprometheus = true\n").gateway()
    assert found.metrics is not None
    assert found.metrics.observer in found.setup.observers
    assert len(found.setup.observers) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('prometheus = true\ntoken = ""', "metrics.token: must not be empty"),
        ('prometheus = true\ntoken = "short"', "metrics.token: must have 20 to 256 characters"),
        ('prometheus = true\ntoken = "env:GONE"', "metrics.token: the environment variable GONE is not set"),
        (f'token = "{KEY}"', "metrics.token: is of no use without prometheus = true"),
        ("prometheus = 1", "metrics.prometheus: must be true or false"),
        ("path = 1", "metrics.path: unknown key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert refusal(tmp_path, f"{LOCAL}[metrics]\n{text}\n") == [words]


def test_a_command_that_serves_nothing_needs_no_token(tmp_path: Path) -> None:
    (tmp_path / "router.toml").write_text(f'{LOCAL}[metrics]\nprometheus = true\ntoken = "env:GONE"\n', "utf-8")
    load(tmp_path / "router.toml", environment={}, secrets=False)


def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(tmp_path, LOCAL + "[metrics]\nprometheus = true\n")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"^metrics\.prometheus: .*hpp_middleware\[prometheus\]"):
        settings.gateway()
