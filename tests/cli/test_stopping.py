"""``hpp-router serve`` in the middle of answers: SIGTERM, a second one, and SIGKILL; every request is settled."""

import re
import signal
import sqlite3
from pathlib import Path

import pytest
from background import BackgroundUpstream
from inflight import InFlight, account, outcomes, wait_until
from running import Running, router

from hpp_middleware.testing import Script

KEY = "a-secret-of-20-characters"
CHAT = "/llm/v1/chat/completions"
PATHS = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/messages": {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 100, "store": False},
}
STANDS = Script(texts=("some words of an answer",), stall_after_events=2)
SILENT = Script(delay_head_s=600)
FOR_EVER = 3_600


def configured(folder: Path, upstream: str, *, grace_s: float) -> Path:
    (folder / "router.toml").write_text(
        f'[store]\nurl = "sqlite:///hpp.db"\n[providers.fake]\nbase_url = "{upstream}"\n[models."fake/fake-1"]\n'
        f'input = "1"\noutput = "2"\n[consumers.alice]\nquota = "5"\nkeys = ["{KEY}"]\n[load]\ngrace_s = {grace_s}\n',
        "utf-8",
    )
    return folder


def in_flight(served: Running, upstream: BackgroundUpstream) -> tuple[list[InFlight], list[InFlight]]:
    """Twenty streams that have begun, in all three APIs, and four JSON requests that the upstream has."""
    upstream.fake.script = STANDS
    streams = [
        InFlight(served.url, path, KEY, model="fake/fake-1", stream=True, **PATHS[path])
        for path in [*list(PATHS) * 6, CHAT, CHAT]
    ]
    for each in streams:
        each.begun(b"words")
    upstream.fake.script = SILENT
    whole = [InFlight(served.url, CHAT, KEY, model="fake/fake-1", **PATHS[CHAT]) for _ in range(4)]
    wait_until(lambda: len(upstream.log) == 24)
    return streams, whole


def all_is_settled(folder: Path, upstream: BackgroundUpstream, outcome: str) -> None:
    """Each request that the upstream has seen has its line, nothing is held, and nothing is owed."""
    assert outcomes(folder / "hpp.db") == [outcome] * len(upstream.log)
    held, settled, total = account(folder / "hpp.db")
    assert (held, settled) == (0, total)
    assert total > 0
    with router(folder, "serve") as again:
        assert again.get("/readyz").json()["journal"]["pending"] == 0
        assert again.get("/api/usage", KEY).json()["requests"] == len(upstream.log)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_what_does_not_end_and_settles_it(
    workers: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    configured(tmp_path, background_upstream.url, grace_s=1.5)
    with router(tmp_path, "serve", "--workers", workers) as served:
        streams, whole = in_flight(served, background_upstream)
        done = served.stop()
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
    told = [int(found) for found in re.findall(r"waits for (\d+) answers to end, 1.5 s at most", done.err)]
    assert 0 < len(told) <= int(workers)
    assert sum(told) == 24 or "an answer to end" in done.err
    for each in streams:
        body = each.rest()
        assert each.head.status == 200
        assert b"The router is about to stop" in body
        assert not any(mark in body for mark in (b"[DONE]", b"message_stop", b"response.completed"))
    for each in whole:
        assert each.head.status == 503
        assert each.head.getheader("connection") == "close"
        assert b'"overloaded"' in each.rest()
    all_is_settled(tmp_path, background_upstream, "failed")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_listens_until_then_and_tells_everybody_to_go_elsewhere(
    workers: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    configured(tmp_path, background_upstream.url, grace_s=FOR_EVER)
    with router(tmp_path, "serve", "--workers", workers) as served:
        streams, whole = in_flight(served, background_upstream)
        served._process.send_signal(signal.SIGTERM)
        wait_until(lambda: all(served.get("/readyz").status_code == 503 for _ in range(4)))
        assert served.get("/readyz").json()["status"] == "stopping"
        assert served.get("/healthz").status_code == 200
        refused = served.chat(KEY, {"model": "fake/fake-1", **PATHS[CHAT]})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert refused.headers["connection"] == "close"
        done = served.stop()  # a second time: at once
        assert done.code == 0, done.err
        for each in [*streams, *whole]:
            assert b"The router is about to stop" in each.rest()
    all_is_settled(tmp_path, background_upstream, "failed")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_answer_that_ends_in_time_is_whole(
    workers: str, tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    configured(tmp_path, background_upstream.url, grace_s=FOR_EVER)
    background_upstream.fake.script = Script(texts=["word "] * 40, delay_between_s=0.05)
    with router(tmp_path, "serve", "--workers", workers) as served:
        asked = [InFlight(served.url, CHAT, KEY, model="fake/fake-1", stream=True, **PATHS[CHAT]) for _ in range(6)]
        for each in asked:
            each.begun(b"word ")
        assert served.stop().code == 0
        for each in asked:
            assert each.rest().endswith(b"data: [DONE]\n\n")
    all_is_settled(tmp_path, background_upstream, "completed")


def test_a_router_that_is_killed_meanwhile_leaves_holds_that_the_next_one_settles(
    tmp_path: Path, background_upstream: BackgroundUpstream
) -> None:
    configured(tmp_path, background_upstream.url, grace_s=FOR_EVER)
    with router(tmp_path, "serve") as served:
        streams, whole = in_flight(served, background_upstream)
        served._process.send_signal(signal.SIGTERM)
        wait_until(lambda: served.get("/readyz").status_code == 503)
        served.stop(signal.SIGKILL)
        for each in [*streams, *whole]:
            each.close()
    database = tmp_path / "hpp.db"
    assert outcomes(database) == []
    assert account(database)[0] > 0
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE lease SET until = 0")  # half a minute later
    connection.close()
    with router(tmp_path, "serve") as again:
        wait_until(lambda: again.get("/api/quota-check", KEY).json()["held"] == 0)
    all_is_settled(tmp_path, background_upstream, "orphaned")
