"""Node.js and its packages are there for the tests, or it is said why not."""

import re
import subprocess
from pathlib import Path

import nodejs
import pytest

NOWHERE = Path("/nowhere")


@pytest.fixture
def search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Node.js is looked for again, whatever was found before."""
    monkeypatch.setattr(nodejs, "find", nodejs.find.__wrapped__)


def node(path: Path, version: str) -> None:
    """A program that says to be of a version."""
    path.write_text(f"#!/bin/sh\necho {version}\n", "utf-8")
    path.chmod(0o755)


def test_node_is_new_enough_for_every_package() -> None:
    done = subprocess.run([nodejs.require(), "--version"], capture_output=True, text=True, check=True)
    found = re.match(r"v(\d+)", done.stdout)
    assert found is not None
    assert int(found[1]) >= nodejs.OLDEST


@pytest.mark.parametrize(("version", "taken"), [("v22.1.0", True), ("v20.20.2", False), ("what?", False)])
def test_a_new_enough_node_of_the_system_is_preferred_to_the_wheels(
    search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, taken: bool
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    node(tmp_path / "node", version)
    node(tmp_path / "npm", "11.0.0")
    found = nodejs.find()
    assert found is not None
    assert (found.program == str(tmp_path / "node")) is taken


def test_a_node_without_npm_is_not_taken(search: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    node(tmp_path / "node", "v24.0.0")
    found = nodejs.find()
    assert found is not None
    assert found.program != str(tmp_path / "node")


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)], ids=["in CI", "elsewhere"]
)
def test_without_packages_a_test_fails_in_ci_and_is_skipped_elsewhere(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(nodejs, "INSTALLED", NOWHERE)
    with pytest.raises(outcome, match="packages of tests/node could not be had"):
        nodejs.require()
    monkeypatch.setattr(nodejs, "find", lambda: None)
    with pytest.raises(outcome, match=r"Node\.js 22 or newer could not be had"):
        nodejs.require()
