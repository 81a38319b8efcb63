"""Real servers that are told to stop in the middle of streams: every one of them is settled, whoever hosts it."""

import os
import signal
import sqlite3
import sys
import threading
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint
from background import BackgroundUpstream
from inflight import InFlight, account, outcomes, wait_until
from rig import gateway
from servers import serve_module

from embedding.test_hosts import KEY
from hpp_middleware import ConfigurationError
from hpp_middleware.testing import Script

HERE = Path(__file__).parent
MODULES = f"{HERE}{os.pathsep}{HERE.parent}"
CHAT = "/llm/v1/chat/completions"
ASKED = {"model": "paced/paced-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
STANDS = Script(texts=("some words of an answer",), stall_after_events=2)
STREAMS = 20

PATIENCE = {
    "uvicorn": ("--timeout-graceful-shutdown", "1"),
    "hypercorn": ("--graceful-timeout", "1"),
    "hypercorn-trio": ("--graceful-timeout", "1"),
}
"""How long a server waits for its streams before it cancels them; uvicorn, left alone, waits for ever."""

if sys.version_info >= (3, 12):  # whose Server.wait_closed, which hypercorn awaits before, waits for every connection
    del PATIENCE["hypercorn"]


def stopped(
    kind: str, app: str, folder: Path, upstream: BackgroundUpstream, *options: str, grace_s: float
) -> list[bytes]:
    """What the streams have brought when the server has been told to stop, and has."""
    settings = {
        "PYTHONPATH": MODULES,
        "HPP_DB": str(folder / "hpp.db"),
        "UPSTREAM_URL": upstream.url,
        "GRACE_S": str(grace_s),
    }
    upstream.fake.script = STANDS
    with serve_module(kind, f"{app}:app", folder, *options, **settings) as url:
        streams = [InFlight(url, CHAT, KEY, stream=True, **ASKED) for _ in range(STREAMS)]
        for each in streams:
            each.begun(b"words")
    return [each.rest() for each in streams]


def all_is_settled(folder: Path, upstream: BackgroundUpstream) -> list[str]:
    """Each request that the upstream has seen has its line, nothing is held, and nothing is owed; the outcomes."""
    found = outcomes(folder / "hpp.db")
    assert len(found) == len(upstream.log)
    held, settled, total = account(folder / "hpp.db")
    assert (held, settled) == (0, total)
    assert total > 0
    assert not (folder / "hpp.db-wal").exists()  # it was closed in good order
    return found


@pytest.mark.parametrize("kind", ["uvicorn", "granian", "hypercorn"])
def test_a_host_that_hears_the_signal_ends_its_streams_with_an_error(
    kind: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    options = () if kind != "hypercorn" else ("--graceful-timeout", "8")
    bodies = stopped(kind, "heeding", tmp_path, background_upstream, *options, grace_s=0.5)
    assert all(b"The router is about to stop" in body and b"[DONE]" not in body for body in bodies)
    assert set(all_is_settled(tmp_path, background_upstream)) == {"failed"}


@pytest.mark.parametrize("kind", PATIENCE)
def test_a_server_that_cancels_its_streams_has_them_settled(
    kind: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    bodies = stopped(kind, "hosted", tmp_path, background_upstream, *PATIENCE[kind], grace_s=600)
    assert not any(b"[DONE]" in body for body in bodies)
    if kind != "hypercorn-trio":  # which takes nothing without a wait
        assert all(b"The server has given up this answer" in body for body in bodies)
    assert set(all_is_settled(tmp_path, background_upstream)) == {"abandoned"}


def test_a_server_that_kills_its_worker_leaves_holds_that_the_next_one_settles(
    tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    options = ("--workers-kill-timeout", "1")  # without it granian waits for ever
    stopped("granian", "hosted", tmp_path, background_upstream, *options, grace_s=600)
    assert outcomes(tmp_path / "hpp.db") == []
    the_next_one_settles(tmp_path, background_upstream)
    assert set(all_is_settled(tmp_path, background_upstream)) == {"orphaned"}


def test_a_server_that_waits_for_no_lifespan_leaves_at_most_holds_that_the_next_one_settles(
    tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    bodies = stopped("uvicorn", "unopened", tmp_path, background_upstream, *PATIENCE["uvicorn"], grace_s=600)
    assert not any(b"[DONE]" in body for body in bodies)
    the_next_one_settles(tmp_path, background_upstream)
    assert set(all_is_settled(tmp_path, background_upstream)) <= {"abandoned", "orphaned"}


def the_next_one_settles(folder: Path, upstream: BackgroundUpstream) -> None:
    """Another server, half a minute later, finds what was left."""
    database = folder / "hpp.db"
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE lease SET until = 0")
    connection.close()
    settings = {
        "PYTHONPATH": MODULES,
        "HPP_DB": str(database),
        "UPSTREAM_URL": upstream.url,
    }
    with serve_module("granian", "hosted:app", folder, **settings):
        wait_until(lambda: len(outcomes(database)) == STREAMS)


def test_signals_are_heard_in_the_main_thread_only() -> None:
    raised: list[Exception] = []

    async def heed() -> None:
        async with gateway("http://127.0.0.1:9/v1").heeding(signal.SIGTERM):
            pass

    def elsewhere() -> None:
        try:
            anyio.run(heed)
        except ConfigurationError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert len(raised) == 1


@pytest.mark.anyio
async def test_a_handler_from_before_is_called_and_comes_back(
    background_upstream: BackgroundUpstream,
) -> None:
    heard: list[int] = []

    def before(number: int, _frame: object) -> None:
        heard.append(number)

    earlier = signal.signal(signal.SIGUSR1, before)
    try:
        async with gateway(background_upstream.url) as found:
            async with found.heeding(signal.SIGUSR1):
                signal.raise_signal(signal.SIGUSR1)
                while not found.here().queue.closed:
                    await checkpoint()
            assert heard == [signal.SIGUSR1]
            assert signal.getsignal(signal.SIGUSR1) is before
    finally:
        signal.signal(signal.SIGUSR1, earlier)


@pytest.mark.anyio
async def test_what_the_block_raises_leaves_it_as_it_was() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    found = gateway("http://127.0.0.1:9/v1")
    with pytest.raises(ZeroDivisionError):
        async with found.opened(), found.heeding(signal.SIGUSR1):
            raise ZeroDivisionError
    assert signal.getsignal(signal.SIGUSR1) is before
