"""``keys``, ``quota`` and ``usage`` beside a running router, on stores that several hosts share."""

import time
from pathlib import Path
from typing import Any

import pytest
from background import BackgroundUpstream
from running import command, router

PEPPER = {"HPP_PEPPER": "sixteen-bytes-ok"}
STORES = {
    "postgres": '[store]\nurl = "env:POSTGRES"\n',
    "redis": '[store]\nurl = "env:REDIS"\n',
    "split": '[store]\nurl = "env:REDIS"\n[credentials]\nurl = "env:POSTGRES"\n[ledger]\nurl = "env:POSTGRES"\n',
}
COST = "0.000013"


@pytest.fixture(params=STORES)
def folder(request: pytest.FixtureRequest, tmp_path: Path, background_upstream: BackgroundUpstream) -> Path:
    (tmp_path / "router.toml").write_text(
        f'{STORES[request.param]}[providers.fake]\nbase_url = "{background_upstream.url}"\n'
        '[models."fake/fake-1"]\ninput = "1"\noutput = "2"\n'
    )
    return tmp_path


@pytest.fixture
def variables(postgres_dsn: str, redis_url: str) -> dict[str, str]:
    return {"POSTGRES": postgres_dsn, "REDIS": redis_url, **PEPPER}


def test_keys_and_quotas_are_those_of_the_running_router(folder: Path, variables: dict[str, str]) -> None:
    def run(*arguments: str) -> Any:
        return command(folder, *arguments, "--json", **variables).json

    with router(folder, "serve", **variables) as served:
        made = run("keys", "create", "--consumer", "alice", "--quota", "5.00")
        body = {"model": "fake/fake-1", "messages": [{"role": "user", "content": "hello"}]}
        reply = served.chat(made["key"], body)
        assert (reply.status_code, reply.headers["x-hpp-router-cost"]) == (200, COST)
        assert run("quota", "add", "alice", "-1.50")["quota"] == 3.5
        assert served.get("/api/quota-check", made["key"]).json()["quota"] == 3.5
        assert [row["id"] for row in run("keys", "list")] == [made["id"]]
        assert [(row["consumer"], row["requests"]) for row in run("usage")] == [("alice", 1)]
        assert run("keys", "revoke", made["id"]) == {"id": made["id"], "revoked": True}
    assert run("usage", "alice")["used"] == float(COST)
    assert run("keys", "list")[0]["state"] == "revoked"


def test_a_rotated_key_works_on_for_its_grace_and_no_longer(folder: Path, variables: dict[str, str]) -> None:
    def run(*arguments: str) -> Any:
        return command(folder, *arguments, "--json", **variables).json

    with router(folder, "serve", **variables) as served:
        old = run("keys", "create", "--consumer", "alice", "--quota", "5.00")
        new = run("keys", "rotate", old["id"], "--grace", "24h")
        assert new["replaces"] == old["id"]
        for key in (old["key"], new["key"]):
            assert served.get("/api/quota-check", key).status_code == 200
        ends = {row["id"]: (row["state"], row["expires"]) for row in run("keys", "list")}
        assert ends == {old["id"]: ("active", new["replaced_until"]), new["id"]: ("active", None)}
        last = run("keys", "rotate", new["id"], "--grace", "1s")
        polls = 0
        while served.get("/api/quota-check", new["key"]).status_code != 401:
            polls += 1
            assert polls < 100, "the key outlives its grace"
            time.sleep(0.1)
        assert served.get("/api/quota-check", last["key"]).status_code == 200
        assert {row["id"]: row["state"] for row in run("keys", "list")}[new["id"]] == "expired"


def test_a_shared_store_without_a_pepper_is_one_line_that_names_it(folder: Path, variables: dict[str, str]) -> None:
    without = {name: value for name, value in variables.items() if name not in PEPPER}
    for arguments in (("serve", "--check"), ("keys", "list"), ("quota", "show")):
        done = command(folder, *arguments, **without)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("hpp-router: keys.pepper: is missing; set HPP_PEPPER")
        assert done.err.count("\n") == 1


@pytest.mark.parametrize("url", ["postgresql://u:hunter2@127.0.0.1:1/n", "redis://u:hunter2@127.0.0.1:1/0"])
def test_a_store_that_cannot_be_reached_is_one_line_without_its_url(tmp_path: Path, url: str) -> None:
    (tmp_path / "router.toml").write_text(f'[store]\nurl = "{url}"\n')
    done = command(tmp_path, "keys", "list", **PEPPER)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "hunter2" not in done.err
