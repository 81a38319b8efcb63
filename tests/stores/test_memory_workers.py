"""A memory store refuses to be one of several, unless it is told that this is meant."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import free_port

from hpp_middleware import ConfigurationError, MemoryStore
from hpp_middleware.stores.memory.workers import several

pytestmark = pytest.mark.anyio

APP = """
from hpp_middleware import Gateway, MemoryStore, provider

gateway = Gateway(providers={"fake": provider("ollama")}, store=MemoryStore(several_workers=%s))
app = gateway.app
"""


@pytest.mark.parametrize(
    ("arguments", "environment", "found"),
    [
        (["/venv/bin/uvicorn", "app:app"], {}, False),
        (["/venv/bin/uvicorn", "app:app", "--workers", "4"], {}, True),
        (["/venv/lib/uvicorn/__main__.py", "--workers=2", "app:app"], {}, True),
        (["/venv/bin/uvicorn", "app:app", "--workers", "1"], {}, False),
        (["/venv/bin/gunicorn", "-w", "4", "app:app"], {}, True),
        (["/venv/bin/granian", "app:app"], {"GRANIAN_WORKERS": "3"}, True),
        (["/venv/bin/uvicorn", "app:app"], {"WEB_CONCURRENCY": "2"}, True),
        (["/venv/bin/uvicorn", "app:app"], {"WEB_CONCURRENCY": "1"}, False),
        (["/venv/bin/uvicorn", "app:app", "--workers"], {"WEB_CONCURRENCY": "many"}, False),
        (["/venv/bin/gunicorn", "-w4", "app:app"], {}, True),
        (["/venv/bin/hypercorn", "-w1", "app:app"], {}, False),
        (["/venv/bin/hypercorn", "--worker-class", "trio", "--websocket-ping-interval", "20", "app:app"], {}, False),
        (["/venv/bin/fastapi", "run", "app.py", "--workers", "4"], {}, True),
        (["/venv/bin/uvicorn", "app:app"], {"UVICORN_WORKERS": "3"}, True),
        (["/venv/bin/gunicorn", "app:app"], {"GUNICORN_CMD_ARGS": "--bind :8000 --workers=4"}, True),
        (["/venv/bin/gunicorn", "app:app"], {"GUNICORN_CMD_ARGS": "--bind :8000 -w 1"}, False),
        (["/my/tool", "-w", "4"], {}, False),  # a word of somebody else's
        ([], {}, False),
    ],
)
def test_several_workers_are_seen(arguments: list[str], environment: dict[str, str], found: bool) -> None:  # noqa: FBT001
    assert several(arguments, environment) is found


async def test_it_is_refused_by_name_and_can_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    with pytest.raises(ConfigurationError, match="several_workers"):
        await MemoryStore().open()
    await MemoryStore(several_workers=True).open()


@pytest.mark.parametrize("meant", [False, True])
def test_a_server_with_two_workers_does_not_start_with_it(meant: bool, tmp_path: Path) -> None:  # noqa: FBT001
    (tmp_path / "hosted_app.py").write_text(APP % meant)
    command = [sys.executable, "-m", "uvicorn", "hosted_app:app", "--workers", "2", "--port", str(free_port())]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    try:
        while True:
            ended = process.poll() is not None  # asked first, so that its last words are read
            said = (tmp_path / "log").read_text()
            if "several_workers" in said or said.count("Application startup complete") == 2:
                break
            assert not ended, said
            time.sleep(0.05)
    finally:
        process.terminate()
        process.wait(30)
    assert ("several_workers" in said) is not meant
