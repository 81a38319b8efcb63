"""A forked program is as one that was started: its own folder, environment, arguments, outputs, and end."""

import os
from pathlib import Path

import pytest
from forking import FORKS, Forked, forked

pytestmark = pytest.mark.skipif(not FORKS, reason="nothing is forked in a soak, and on anything but Linux")


def run(folder: Path, text: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
    (folder / "program.py").write_text(text, "utf-8")
    with forked("program", *arguments, folder=folder, environment=environment) as program:
        said, complaints = program.communicate()
        return program.wait(), said, complaints


def test_it_has_its_own_folder_environment_and_arguments(tmp_path: Path) -> None:
    text = "import os, sys; print(__name__, os.getcwd(), dict(os.environ), sys.argv)"
    code, said, complaints = run(tmp_path, text, "one", "2 3", NAME="value")
    assert (code, complaints) == (0, "")
    program = str(tmp_path / "program.py")
    assert said == f"__main__ {tmp_path} {{'NAME': 'value'}} {[program, 'one', '2 3']}\n"


@pytest.mark.parametrize(
    ("text", "code", "complaint"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("raise ValueError('wrong')", 1, "ValueError: wrong\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import warnings; warnings.warn('careful')", 1, "UserWarning: careful\n"),
    ],
)
def test_it_ends_as_any_program_does(tmp_path: Path, text: str, code: int, complaint: str) -> None:
    found, said, complaints = run(tmp_path, text, PYTHONWARNINGS="error")
    assert (found, said) == (code, "")
    assert complaints.endswith(complaint)
    assert bool(complaints) == bool(complaint)


def test_what_it_leaves_to_its_end_is_done(tmp_path: Path) -> None:
    text = (
        "import atexit, threading, time\n"
        "atexit.register(print, 'last')\n"
        "threading.Thread(target=lambda: (time.sleep(0.01), print('thread'))).start()"
    )
    assert run(tmp_path, text)[:2] == (0, "thread\nlast\n")


def test_it_can_be_killed_and_what_it_said_is_there(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import time; print('said', flush=True); time.sleep(60)", "utf-8")
    with forked("program", folder=tmp_path, environment={}) as program:
        assert program.stdout.readline() == "said\n"
        assert program.poll() is None
        program.kill()
        assert (program.communicate(), program.poll()) == (("", ""), -9)
        program.kill()  # who has ended is left alone


def test_two_at_once_have_nothing_in_common(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, sys, uuid, random; print(os.getpid(), uuid.uuid4(), random.random())", "utf-8"
    )

    def told(program: Forked) -> set[str]:
        return set(program.communicate()[0].split())

    with (
        forked("program", folder=tmp_path, environment={}) as one,
        forked("program", folder=tmp_path, environment={}) as other,
    ):
        ours, theirs = told(one), told(other)
    assert len(ours) == len(theirs) == 3
    assert not ours & theirs
    assert str(os.getpid()) not in ours | theirs
