"""``hpp-router serve --workers``: several processes, one port, one store."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx2
import psutil  # type: ignore[import-untyped]  # ships no types
from background import BackgroundUpstream
from prometheus_client.parser import text_string_to_metric_families
from running import Running, command, router

KEY = "a-secret-of-20-characters"
COST = 9 * 1_000 + 2 * 2_000


def configured(folder: Path, upstream: str = "http://127.0.0.1:9/v1", store: str = "sqlite:///hpp.db") -> Path:
    (folder / "router.toml").write_text(
        f'[store]\nurl = "{store}"\n[providers.fake]\nbase_url = "{upstream}"\n[models."fake/fake-1"]\ninput = "1"\n'
        f'output = "2"\n[consumers.alice]\nquota = "5"\nkeys = ["{KEY}"]\n',
        "utf-8",
    )
    return folder


def ask(url: str) -> int:
    """One completion over a connection of its own, so that any worker may take it."""
    body = {"model": "fake/fake-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}
    with httpx2.Client(trust_env=False, timeout=30) as client:
        return client.post(f"{url}/llm/v1/chat/completions", headers={"apikey": KEY}, json=body).status_code


def workers(served: Running) -> set[int]:
    """The processes that serve."""
    children = psutil.Process(served._process.pid).children()
    return {each.pid for each in children if "spawn_main" in _command(each)}


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return ""


def once_settled(served: Running) -> Any:
    """The account when nothing is held; a worker waits for the settlements of its own requests, not for the others'."""
    until = time.monotonic() + 60
    while (quota := served.get("/api/quota-check", KEY).json())["held"] and time.monotonic() < until:
        time.sleep(0.05)
    return quota


def lines(errors: str) -> list[str]:
    """What was written, but for the warning of an old SQLite that several processes write with."""
    return [line for line in errors.split("\n") if line and "WARNING SQLite" not in line]


def test_they_share_a_port_and_a_store(tmp_path: Path, background_upstream: BackgroundUpstream) -> None:
    with router(configured(tmp_path, background_upstream.url), "serve", "--workers", "2") as served:
        assert len(workers(served)) == 2
        assert [ask(served.url) for _ in range(20)] == [200] * 20
        quota = once_settled(served)
        assert (quota["held"], round(quota["used"] * 10**9)) == (0, 20 * COST)
        pids = workers(served)
        done = served.stop()
    assert (done.code, lines(done.err)) == (0, [])
    assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_one_that_ends_is_replaced(tmp_path: Path, background_upstream: BackgroundUpstream) -> None:
    with router(configured(tmp_path, background_upstream.url), "serve", "--workers", "2") as served:
        before = workers(served)
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        until = time.monotonic() + 60
        while len(workers(served) - {killed}) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        assert len(workers(served) - before) == 1
        assert ask(served.url) == 200
        done = served.stop()
    assert done.code == 0
    assert f"worker {killed} ended with -9" in done.err


def test_they_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    with router(configured(tmp_path), "serve", "--workers", "2") as served:
        pids = workers(served)
        served.stop(signal.SIGKILL)
        until = time.monotonic() + 60
        while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.05)
        assert not [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_memory_store_is_refused(tmp_path: Path) -> None:
    done = command(configured(tmp_path, store="memory:"), "serve", "--workers", "2", "--check")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "hpp-router: store.url: memory: is one process's own; --workers needs a store that they share\n"
    )


def test_a_store_that_cannot_be_opened_is_told_and_all_end(tmp_path: Path) -> None:
    (tmp_path / "hpp.db").write_text("no database, but long enough to be taken for one that was broken" * 20)
    done = command(configured(tmp_path), "serve", "--workers", "2", "--port", "0")
    assert done.code == 1
    assert done.out == ""
    # A worker may find the other one there, and warn of this version of SQLite.
    told = [line for line in done.err.split("\n")[:-1] if " WARNING SQLite " not in line]
    assert told
    assert all(line.startswith("hpp-router: store.url") for line in told)


def test_their_figures_are_added_up_by_whichever_is_asked(
    tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    folder = configured(tmp_path, background_upstream.url)
    with (folder / "router.toml").open("a", encoding="utf-8") as file:
        file.write("[metrics]\nprometheus = true\n")
    (tmp_path / "temporary").mkdir()
    with router(folder, "serve", "--workers", "2", TMPDIR=str(tmp_path / "temporary")) as served:
        assert [ask(served.url) for _ in range(6)] == [200] * 6
        until = time.monotonic() + 60
        while figure(served.url, "hpp_attempts_total") < 6 and time.monotonic() < until:
            time.sleep(0.05)
        assert [figure(served.url, "hpp_attempts_total") for _ in range(8)] == [6] * 8
        assert figure(served.url, "hpp_charged_nanodollars_total") == 6 * COST
        assert figure(served.url, "hpp_places") == 0  # one worker's, and so left out
        done = served.stop()
    assert (done.code, lines(done.err)) == (0, [])
    assert list((tmp_path / "temporary").iterdir()) == []


def figure(url: str, metric: str) -> float:
    """A figure as a scrape over a connection of its own has it."""
    with httpx2.Client(trust_env=False, timeout=30) as client:
        families = text_string_to_metric_families(client.get(f"{url}/metrics").text)
    return float(sum(each.value for family in families for each in family.samples if each.name == metric))
