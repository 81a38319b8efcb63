"""``keys``: made, listed, revoked and rotated."""

import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from office import SECRETS, TOML
from running import SECONDS, command, environment, router

from hpp_middleware.cli.keys import expiry
from hpp_middleware.errors import ConfigurationError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "router.toml").write_text(TOML, "utf-8")
    return tmp_path


def test_a_key_is_printed_once_and_kept_nowhere(folder: Path) -> None:
    done = command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00")
    assert (done.code, done.err) == (0, "")
    key = re.search(r"^key +(hpp_\w+)$", done.out, re.MULTILINE)
    assert key is not None
    assert "quota     $5\n" in done.out
    listed = command(folder, "keys", "list")
    assert key[1] not in listed.out
    assert "alice" in listed.out
    assert all(key[1].encode() not in path.read_bytes() for path in folder.iterdir())


def test_models_that_let_nothing_in_are_told_and_the_key_is_made(folder: Path) -> None:
    wrong = {
        "acme/m": "no provider acme is configured",
        "lcal/*": "no provider lcal is configured; did you mean local?",
        "local/fre": "no model local/fre with a price is there; did you mean local/free?",
        "m": "m is no provider/model, and lets nothing in",
        "cheap": "cheap is an alias, and a key is held to what it stands for: local/free",
    }
    (folder / "router.toml").write_text(f'{TOML}\n[aliases]\ncheap = "local/free"\n', "utf-8")
    models = [*wrong, "local/m", "local/*", "*"]
    done = command(folder, "keys", "create", "--consumer", "alice", "--models", ",".join(models), "--json")
    assert done.json["models"] == models
    assert done.err.splitlines() == [f"hpp-router: --models: {said}" for said in wrong.values()]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("arguments", ["keys list", "models --json", "quota show declared", "--help"])
def test_a_command_that_nobody_reads_ends_as_it_would(folder: Path, closed: str, arguments: str) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m hpp_middleware {arguments} {closed}"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_quota_for_an_account_that_has_one_is_refused(folder: Path) -> None:
    assert command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00").code == 0
    done = command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00")
    assert done.code == 2
    assert "quota set" in done.err
    assert len(command(folder, "keys", "list", "--json").json) == 1


def test_a_quota_for_a_consumer_whose_quota_is_declared_is_refused(folder: Path) -> None:
    done = command(folder, "keys", "create", "--consumer", "declared", "--quota", "5.00")
    assert done.code == 2
    assert done.err == "hpp-router: --quota: the quota of declared is declared in the file, under [consumers]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--consumer", "alice", "--quota", "lots"], "quota"),
        (["--consumer", "alice", "--quota", "-1"], "quota"),
        (["--consumer", " "], "consumer"),
        (["--consumer", "alice", "--expires", "soon"], "--expires"),
        (["--consumer", "alice", "--expires", "2020-01-01"], "expires must be in the future"),
        (["--consumer", "alice", "--models", ","], "--models"),
    ],
)
def test_a_value_that_is_wrong_is_one_line(folder: Path, arguments: list[str], said: str) -> None:
    done = command(folder, "keys", "create", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hpp-router: ")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_the_json_of_a_key_says_all_of_it(folder: Path) -> None:
    made = command(
        folder,
        *("keys", "create", "--consumer", "alice", "--quota", "0.000000001", "--expires", "2999-01-31"),
        *("--models", "local/m", "--models", "local/*", "--json"),
    ).json
    assert made == {
        "key": made["key"],
        "id": made["key"].split("_")[1],
        "consumer": "alice",
        "quota": 1e-09,
        "models": ["local/m", "local/*"],
        "expires": "2999-01-31T00:00:00Z",
    }
    (listed,) = command(folder, "keys", "list", "--json").json
    assert listed["state"] == "active"
    assert {name: listed[name] for name in ("id", "consumer", "models", "expires")} == {
        name: made[name] for name in ("id", "consumer", "models", "expires")
    }


def test_revoking_a_key_that_is_not_there_is_an_error(folder: Path) -> None:
    done = command(folder, "keys", "revoke", "nothing")
    assert (done.code, done.out, done.err) == (1, "", "hpp-router: there is no key of this id\n")


def test_a_revoked_key_is_listed_as_such(folder: Path) -> None:
    made = command(folder, "keys", "create", "--consumer", "alice", "--quota", "1", "--json").json
    assert command(folder, "keys", "revoke", made["id"], "--json").json == {"id": made["id"], "revoked": True}
    assert [row["state"] for row in command(folder, "keys", "list", "--json").json] == ["revoked"]


def test_a_damaged_key_is_listed_as_such_and_hides_no_other(folder: Path) -> None:
    made = [command(folder, "keys", "create", "--consumer", each, "--quota", "1", "--json").json for each in ("a", "b")]
    with sqlite3.connect(folder / "hpp.db") as connection:
        connection.execute("UPDATE credential SET consumer = '[' WHERE id = ?", (made[0]["id"],))
    connection.close()
    rows = command(folder, "keys", "list", "--json").json
    assert {row["id"]: row["state"] for row in rows} == {made[0]["id"]: "damaged", made[1]["id"]: "active"}
    assert command(folder, "keys", "list").code == 0
    assert [row["consumer"] for row in command(folder, "quota", "show", "--json").json] == ["b", "declared"]
    assert command(folder, "keys", "revoke", made[0]["id"]).code == 0


def test_a_rotated_key_gives_way_to_a_new_one_in_a_running_router(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        old = command(
            folder, "keys", "create", "--consumer", "alice", "--quota", "5", "--models", "local/*", "--json"
        ).json
        assert served.get("/api/usage", old["key"]).status_code == 200
        new = command(folder, "keys", "rotate", old["id"], "--json").json
        assert new == {
            "key": new["key"],
            "id": new["key"].split("_")[1],
            "consumer": "alice",
            "quota": 5,
            "models": ["local/*"],
            "expires": None,
            "replaces": old["id"],
            "replaced_until": new["replaced_until"],
        }
        assert served.get("/api/usage", new["key"]).status_code == 200
        polls = 0
        while served.get("/api/usage", old["key"]).status_code != 401:
            polls += 1
            assert polls < 300, "30 seconds after its rotation the old key is still good"
            time.sleep(0.1)
        assert served.get("/api/usage", new["key"]).status_code == 200


def test_a_grace_lets_the_old_key_work_on_until_it_is_revoked(folder: Path) -> None:
    made = command(folder, "keys", "create", "--consumer", "alice", "--quota", "1", "--json").json
    done = command(folder, "keys", "rotate", made["id"], "--grace", "24h", "--expires", "2999-01-31")
    assert (done.code, done.err) == (0, "")
    assert re.search(rf"^replaces  {made['id']}, which works until \d{{4}}-.*Z$", done.out, re.MULTILINE)
    assert "expires   2999-01-31T00:00:00Z\n" in done.out
    rows = command(folder, "keys", "list", "--json").json
    assert [row["state"] for row in rows] == ["active", "active"]
    assert {row["id"]: row["expires"] for row in rows}[made["id"]] < "2999"
    assert command(folder, "keys", "revoke", made["id"]).code == 0
    assert sorted(row["state"] for row in command(folder, "keys", "list", "--json").json) == ["active", "revoked"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nothing"], 1, "there is no key of this id"),
        (["ID", "--grace", "soon"], 2, "--grace: must be a span such as 24h or 7d"),
        (["ID", "--grace", "2999-01-01"], 2, "--grace: must be a span such as 24h or 7d"),
        (["ID", "--expires", "2020-01-01"], 2, "expires must be in the future"),
    ],
)
def test_a_rotation_that_cannot_be_is_one_line(folder: Path, arguments: list[str], code: int, said: str) -> None:
    made = command(folder, "keys", "create", "--consumer", "alice", "--json").json
    done = command(folder, "keys", "rotate", *(made["id"] if each == "ID" else each for each in arguments))
    assert (done.code, done.out, done.err) == (code, "", f"hpp-router: {said}\n")
    assert [row["state"] for row in command(folder, "keys", "list", "--json").json] == ["active"]


def test_a_revoked_key_is_not_rotated(folder: Path) -> None:
    made = command(folder, "keys", "create", "--consumer", "alice", "--json").json
    assert command(folder, "keys", "revoke", made["id"]).code == 0
    done = command(folder, "keys", "rotate", made["id"])
    assert (done.code, done.out) == (2, "")
    assert "revoked" in done.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30d", 30 * 86_400), ("12h", 43_200), ("5m", 300), ("90s", 90), ("2w", 1_209_600)],
)
def test_a_span_is_counted_from_now(text: str, seconds: int) -> None:
    assert expiry(text, now=1000.0) == 1000.0 + seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00", 3600),
        ("1970-01-01T01:00:00Z", 3600),
        ("1970-01-01T01:00:00+01:00", 0),
    ],
)
def test_a_date_is_utc_unless_it_says_otherwise(text: str, seconds: int) -> None:
    assert expiry(text, now=1000.0) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "1.5d", "-1d", "1y", "tomorrow", "2027-13-01"])
def test_an_expiry_that_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--expires"):
        expiry(text, now=0.0)
