"""``python -m hpp_middleware`` and ``hpp-router``."""

import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from hpp_middleware import __main__ as command
from hpp_middleware.cli import app
from hpp_middleware.errors import ConfigurationError, StoreError


@pytest.mark.parametrize("missing", [["typer"], ["pydantic"], ["uvicorn"], ["typer", "pydantic", "uvicorn"]])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: Sequence[str]
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name in missing else find_spec(name))
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"hpp-router: {', '.join(missing)} missing; pip install hpp_middleware[cli]\n"


def test_the_console_script_is_the_same_program() -> None:
    script = Path(sys.executable).with_name("hpp-router")
    helps = [
        subprocess.run([*start, "--help"], capture_output=True, text=True, timeout=60, check=True).stdout
        for start in ([str(script)], [sys.executable, "-m", "hpp_middleware"])
    ]
    assert helps[0] == helps[1]
    assert helps[0].startswith("Usage: hpp-router ")
    for name in ("serve", "demo", "keys", "quota", "usage", "models"):
        assert f"\n  {name} " in helps[0]


def test_its_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        app.app(["--version"])
    assert capsys.readouterr().out == f"hpp-router {version('hpp_middleware')}\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigurationError("a: wrong\nb: wrong too"), 2, "hpp-router: a: wrong\nhpp-router: b: wrong too\n"),
        (StoreError("The store is away."), 1, "hpp-router: The store is away.\n"),
        (PermissionError(13, "Permission denied", "hpp.db"), 1, "hpp-router: hpp.db: Permission denied\n"),
    ],
)
def test_an_error_is_a_line_a_problem_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int, said: str
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    assert app.run() == code
    assert capsys.readouterr().err == said


def test_an_unexpected_error_tells_its_place_and_not_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise ValueError("hunter2")

    monkeypatch.setattr(app, "app", fail)
    assert app.run() == 1
    said = capsys.readouterr().err
    assert said.startswith(f"hpp-router: unexpected ValueError at {__file__}:")
    assert "hunter2" not in said
