"""``ledger move`` and ``ledger rebuild``: a Redis store whose lines are kept in SQLite or PostgreSQL."""

import time
from pathlib import Path
from typing import Any

import pytest
import redis
from background import BackgroundUpstream
from databases import emptied
from running import command, router

KEY = "alice-shows-this-key-of-hers"
COST = 0.000013
CHAT = {"model": "fake/fake-1", "messages": [{"role": "user", "content": "hello"}]}
GOOD = {"HPP_SEAL_KEY": "a-seal-key-of-32-characters-0001", "HPP_PEPPER": "sixteen-bytes-ok", "ALICE": KEY}


@pytest.fixture(params=["sqlite:///ledger.db", "env:POSTGRES"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, background_upstream: BackgroundUpstream) -> Path:
    (tmp_path / "router.toml").write_text(
        f'[store]\nurl = "env:REDIS"\n[ledger]\nurl = "{request.param}"\n'
        f'[providers.fake]\nbase_url = "{background_upstream.url}"\n'
        '[models."fake/fake-1"]\ninput = "1"\noutput = "2"\n'
        '[consumers.alice]\nquota = "5"\nkeys = ["env:ALICE"]\n'
    )
    return tmp_path


@pytest.fixture
def variables(postgres_dsn: str, redis_url: str) -> dict[str, str]:
    return {"POSTGRES": postgres_dsn, "REDIS": redis_url, **GOOD}


def audited(folder: Path, variables: dict[str, str]) -> list[dict[str, Any]]:
    """The accounts as two checks find them, which find nothing wrong."""
    reconciled = command(folder, "ledger", "reconcile", "--json", **variables).json
    assert reconciled["good"]
    verified = command(folder, "ledger", "verify", "--json", **variables).json
    assert verified["good"]
    rows: list[dict[str, Any]] = reconciled["accounts"]
    return rows


def test_lines_are_moved_while_the_router_serves_and_a_loss_is_made_good(
    folder: Path, variables: dict[str, str], background_upstream: BackgroundUpstream
) -> None:
    with router(folder, "serve", **variables) as served:
        assert command(folder, "quota", "add", "alice", "1", "--json", **variables).json["quota"] == 6
        assert [served.chat(KEY, CHAT).status_code for _ in range(3)] == [200] * 3
        polls = 0
        while audited(folder, variables) != [{"account": "alice", "lines": 3}]:
            polls += 1
            assert polls < 100, "the lines are not moved"
            time.sleep(0.1)
        assert command(folder, "ledger", "seal", "--json", **variables).json["sealed"] == 1
        before = served.get("/api/quota-check", KEY).json()
        asked = len(background_upstream.log)

        emptied(variables["REDIS"])
        assert [served.chat(KEY, CHAT).status_code for _ in range(2)] == [503] * 2
        assert served.get("/readyz").status_code == 503
        assert served.stop().code == 0
    assert len(background_upstream.log) == asked
    assert audited(folder, variables) == [{"account": "alice", "lines": 3}]  # which needs the archive only

    for arguments in (("serve", "--port", "0"), ("ledger", "move"), ("quota", "show")):
        done = command(folder, *arguments, **variables)
        assert (done.code, done.err.count("\n")) == (1, 1)
        assert "behind its archive, and refuses until it is rebuilt (hpp-router ledger rebuild)" in done.err
    done = command(folder, "ledger", "rebuild", **variables)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hpp-router: --yes: is missing; stop every router first")
    done = command(folder, "ledger", "rebuild", "--yes", **variables)
    assert (done.code, done.out, done.err) == (0, "rebuilt   1 account\n", "")

    for _ in range(2):
        with router(folder, "serve", **variables) as served:
            assert served.get("/api/quota-check", KEY).json() == before
    with router(folder, "serve", **variables) as served:
        assert served.chat(KEY, CHAT).status_code == 200
        assert served.get("/api/quota-check", KEY).json()["used"] == pytest.approx(4 * COST)
        assert served.stop().code == 0
    assert audited(folder, variables) == [{"account": "alice", "lines": 4}]
    assert command(folder, "ledger", "seal", "--json", **variables).json == {"sealed": 1, "findings": []}


def test_what_no_router_has_moved_is_moved_by_hand(folder: Path, variables: dict[str, str]) -> None:
    alone = {**variables, "REDIS": variables["REDIS"]}
    text = (folder / "router.toml").read_text("utf-8")
    ledger = text[text.index("[ledger]") : text.index("[providers.fake]")]
    (folder / "router.toml").write_text(text.replace(ledger, ""), "utf-8")
    with router(folder, "serve", **alone) as served:
        assert served.chat(KEY, CHAT).status_code == 200
    (folder / "router.toml").write_text(text, "utf-8")
    assert command(folder, "ledger", "verify", "--json", **variables).json["accounts"] == []
    done = command(folder, "ledger", "move", **variables)
    assert (done.code, done.out.split(), done.err) == (0, ["moved", "1", "line", "or", "grant"], "")
    assert command(folder, "ledger", "move", "--json", **variables).json == {"moved": 0, "unreadable": []}
    assert audited(folder, variables) == [{"account": "alice", "lines": 1}]
    done = command(folder, "ledger", "rebuild", "--yes", **variables)
    assert (done.code, done.out) == (1, "")
    assert done.err == "hpp-router: the store is not behind its archive: there is nothing to rebuild\n"


def test_a_line_that_cannot_be_moved_is_named(folder: Path, variables: dict[str, str]) -> None:
    with redis.Redis.from_url(variables["REDIS"]) as client:
        text = (folder / "router.toml").read_text("utf-8")
        ledger = text[text.index("[ledger]") : text.index("[providers.fake]")]
        (folder / "router.toml").write_text(text.replace(ledger, ""), "utf-8")
        with router(folder, "serve", **variables) as served:
            assert [served.chat(KEY, CHAT).status_code for _ in range(2)] == [200, 200]
        (folder / "router.toml").write_text(text, "utf-8")
        client.hset("hpp{hpp:0}:lines", "1:alice", "{")
    done = command(folder, "ledger", "move", **variables)
    said = "hpp-router: line 1 of alice cannot be read, and stays where it is\n"
    assert (done.code, done.out, done.err.splitlines(keepends=True)[-1]) == (1, "moved     1 line or grant\n", said)
    assert command(folder, "ledger", "move", "--json", **variables).code == 1


@pytest.mark.parametrize("url", ["sqlite:///hpp.db", "env:POSTGRES", "env:REDIS"])
@pytest.mark.parametrize("arguments", [("move",), ("rebuild", "--yes")])
def test_a_ledger_that_is_not_moved_is_one_line_that_says_so(
    tmp_path: Path, variables: dict[str, str], url: str, arguments: tuple[str, ...]
) -> None:
    (tmp_path / "router.toml").write_text(f'[store]\nurl = "{url}"\n', "utf-8")
    done = command(tmp_path, "ledger", *arguments, **variables)
    assert (done.code, done.out, done.err) == (
        2,
        "",
        "hpp-router: ledger.url: is missing; only a Redis store's ledger is moved, and to another one\n",
    )


def test_an_archive_that_cannot_be_reached_is_one_line_without_its_url(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    (tmp_path / "router.toml").write_text('[store]\nurl = "env:REDIS"\n[ledger]\nurl = "env:POSTGRES"\n', "utf-8")
    away = {**variables, "POSTGRES": "postgresql://u:hunter2@127.0.0.1:1/n"}
    for arguments in (("move",), ("rebuild", "--yes"), ("verify",)):
        done = command(tmp_path, "ledger", *arguments, **away)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "hunter2" not in done.err
