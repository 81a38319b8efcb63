"""``keys``, ``quota``, ``usage`` and ``models``, beside a running router and without one."""

import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from running import SECONDS, command, environment, router

from hpp_middleware.cli.keys import expiry
from hpp_middleware.errors import ConfigurationError

TOML = """
[providers.local]
base_url = "http://127.0.0.1:9/v1"
api_key = "env:LOCAL_KEY"
[models."local/m"]
input = "1.25"
output = "2"
cache_read = "0.125"
context = 4096
[models."local/free"]
input = "0"
output = "0"
[consumers.declared]
quota = "7"
keys = ["env:DECLARED_KEY"]
"""
SECRETS = {"LOCAL_KEY": "local-key", "DECLARED_KEY": "a-declared-key-of-20-characters"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "router.toml").write_text(TOML, "utf-8")
    return tmp_path


# --- beside a running router ---


def test_a_key_takes_effect_at_once_in_a_running_router(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        made = command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00", "--json").json
        response = served.get("/api/quota-check", made["key"])
        assert response.status_code == 200
        assert response.json()["available"] == 5


def test_a_second_key_shares_the_account(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        first = command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00", "--json").json
        second = command(folder, "keys", "create", "--consumer", "alice", "--json").json
        assert first["key"] != second["key"]
        assert second["quota"] == 5
        assert command(folder, "quota", "set", "alice", "9").code == 0
        assert {served.get("/api/usage", each["key"]).json()["quota"] for each in (first, second)} == {9}


def test_a_revoked_key_is_refused_within_seconds_and_its_sister_is_not(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        first = command(folder, "keys", "create", "--consumer", "alice", "--quota", "5", "--json").json
        second = command(folder, "keys", "create", "--consumer", "alice", "--json").json
        assert served.get("/api/usage", first["key"]).status_code == 200
        assert command(folder, "keys", "revoke", first["id"]).code == 0
        polls = 0
        while served.get("/api/usage", first["key"]).status_code != 401:
            polls += 1
            assert polls < 300, "30 seconds after its revocation the key is still good"
            time.sleep(0.1)
        assert served.get("/api/usage", second["key"]).status_code == 200


def test_a_key_that_expires_is_refused_from_then_on(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        made = command(folder, "keys", "create", "--consumer", "a", "--quota", "1", "--expires", "2s", "--json").json
        polls = 0
        while served.get("/api/usage", made["key"]).status_code != 401:
            polls += 1
            assert polls < 300, "30 seconds after its making the key is still good"
            time.sleep(0.1)
    assert command(folder, "keys", "list", "--json").json[0]["state"] == "expired"


def test_a_key_with_models_is_held_to_them(folder: Path) -> None:
    with router(folder, "serve", **SECRETS) as served:
        made = command(
            folder, "keys", "create", "--consumer", "a", "--quota", "1", "--models", "local/free,x/*", "--json"
        ).json
        assert made["models"] == ["local/free", "x/*"]
        response = served.chat(made["key"], {"model": "local/m", "messages": [{"role": "user", "content": "hi"}]})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "model_not_allowed"


# --- keys ---


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


# --- quota, usage, models ---


def test_quotas_are_set_and_added_to(folder: Path) -> None:
    assert command(folder, "keys", "create", "--consumer", "alice", "--quota", "5.00").code == 0
    assert command(folder, "quota", "add", "alice", "1.50", "--json").json["quota"] == 6.5
    assert command(folder, "quota", "add", "alice", "-0.25", "--json").json["quota"] == 6.25
    assert command(folder, "quota", "set", "alice", "9.00", "--json").json == {
        "consumer": "alice",
        "has_quota": True,
        "quota": 9,
        "used": 0,
        "held": 0,
        "remaining": 9,
        "available": 9,
    }
    assert command(folder, "quota", "show", "alice", "--json").json["quota"] == 9
    assert command(folder, "quota", "add", "alice").code == 2  # a wrong command line
    shown = command(folder, "quota", "show").out.splitlines()
    assert shown[0].split() == ["CONSUMER", "QUOTA", "USED", "HELD", "REMAINING", "AVAILABLE"]
    assert shown[1].split() == ["alice", "$9", "$0", "$0", "$9", "$9"]


@pytest.mark.parametrize("arguments", [["set", "declared", "x"], ["add", "declared", "-1"], ["set", "declared", "-1"]])
def test_a_quota_that_cannot_be_is_refused(folder: Path, arguments: list[str]) -> None:
    done = command(folder, "quota", *arguments)
    assert done.code == 2
    assert "Traceback" not in done.err


@pytest.mark.parametrize("what", ["set", "add"])
def test_a_name_that_nothing_has_gets_a_quota_only_where_that_is_meant(folder: Path, what: str) -> None:
    done = command(folder, "quota", what, "alcie", "5")
    said = "there is no account 'alcie', and no key or declared consumer of that name; --create makes it"
    assert (done.code, done.out, done.err) == (2, "", f"hpp-router: {said}\n")
    assert command(folder, "quota", "show", "alcie").code == 1
    assert command(folder, "quota", what, "alcie", "5", "--create", "--json").json["quota"] == 5
    assert command(folder, "quota", what, "alcie", "5", "--json").code == 0  # it has an account now


def test_a_key_or_a_declaration_is_a_name_that_is_known(folder: Path) -> None:
    assert command(folder, "keys", "create", "--consumer", "alice").code == 0
    assert command(folder, "quota", "set", "alice", "9.00", "--json").json["quota"] == 9
    assert command(folder, "quota", "add", "declared", "1.50", "--json").json["quota"] == 1.5


def test_an_account_that_is_not_there_is_an_error(folder: Path) -> None:
    for name in ("quota show", "usage"):
        done = command(folder, *name.split(), "nobody")
        assert (done.code, done.err) == (1, "hpp-router: there is no account 'nobody'\n")


def test_usage_lists_every_consumer_once(folder: Path) -> None:
    for _ in range(2):
        assert command(folder, "keys", "create", "--consumer", "alice").code == 0
    rows = command(folder, "usage", "--json").json
    assert [row["consumer"] for row in rows] == ["alice", "declared"]
    assert rows[0] == {
        "consumer": "alice",
        "quota": 0,
        "used": 0,
        "remaining": 0,
        "requests": 0,
        "total_tokens": 0,
        "total_cost": 0,
    }
    assert command(folder, "usage").out.splitlines()[0].split() == [
        "CONSUMER",
        "REQUESTS",
        "TOKENS",
        "COST",
        "REMAINING",
    ]


def test_models_are_listed_with_their_prices_and_without_any_secret(folder: Path) -> None:
    first, second = command(folder, "models", "--json").json
    assert first == {
        "id": "local/m",
        "name": None,
        "usd_per_million": {"input": "1.25", "output": "2", "cache_read": "0.125"},
        "price_from": "configuration",
        "context": 4096,
        "max_output": None,
        "image_tokens": None,
        "tool": None,
        "structured": None,
        "knowledge_cutoff": None,
        "input_modalities": None,
        "output_modalities": None,
    }
    assert second["usd_per_million"] == {"input": "0", "output": "0"}
    lines = command(folder, "models").out.splitlines()
    assert lines[1].split() == ["local/m", "$1.25", "$2", "4096", "-", "configuration"]


def test_models_are_listed_with_what_the_catalogue_knows(folder: Path) -> None:
    own = '[providers.openai]\napi_key = "x"\nmodels = []\n[models."openai/gpt-5"]\ninput = "1"\noutput = "1"\n'
    (folder / "router.toml").write_text(own, "utf-8")
    (row,) = command(folder, "models", "--json").json
    assert (row["context"], row["max_output"], row["tool"], row["structured"]) == (400_000, 128_000, True, True)
    assert (row["input_modalities"], row["output_modalities"]) == (["text", "image"], ["text"])
    (folder / "router.toml").write_text(own + '[capabilities]\nuse = "off"\n', "utf-8")
    (row,) = command(folder, "models", "--json").json
    assert (row["context"], row["max_output"], row["tool"]) == (None, None, None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["keys", "create", "--consumer", "alice", "--quota", "5"],
        ["keys", "list"],
        ["keys", "revoke", "x"],
        ["quota", "show"],
        ["quota", "set", "alice", "1"],
        ["quota", "add", "alice", "1"],
        ["usage"],
    ],
)
def test_a_memory_store_is_out_of_reach_and_the_other_way_is_named(folder: Path, arguments: list[str]) -> None:
    (folder / "router.toml").write_text('[store]\nurl = "memory:"\n' + TOML, "utf-8")
    done = command(folder, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hpp-router: store.url: a memory store ")
    assert "[consumers.NAME]" in done.err
    assert done.err.count("\n") == 1


def test_the_pepper_of_the_environment_is_the_routers_too(folder: Path) -> None:
    pepper = {"HPP_PEPPER": "a-pepper-of-the-environment"}
    with router(folder, "serve", **SECRETS, **pepper) as served:
        made = command(folder, "keys", "create", "--consumer", "alice", "--quota", "1", "--json", **pepper).json
        assert served.get("/api/usage", made["key"]).status_code == 200
        other = command(folder, "keys", "create", "--consumer", "alice", "--json").json
        assert served.get("/api/usage", other["key"]).status_code == 401


def test_peppers_are_rotated_while_keys_work(folder: Path) -> None:
    before = {"HPP_PEPPER": "the-pepper-that-there-was"}
    used, unused = (
        command(folder, "keys", "create", "--consumer", name, "--json", **before).json for name in ("used", "unused")
    )
    both = {"HPP_PEPPER": "the-pepper-that-there-is", "HPP_PREVIOUS_PEPPER": before["HPP_PEPPER"]}
    with router(folder, "serve", **SECRETS, **both) as served:
        assert served.get("/api/usage", used["key"]).status_code == 200
        rows = command(folder, "keys", "list", "--json", **both).json
        assert {row["id"]: row["pepper"] for row in rows} == {used["id"]: "current", unused["id"]: "previous"}
    assert "PEPPER" in command(folder, "keys", "list", **both).out.splitlines()[0]
    with router(folder, "serve", **SECRETS, HPP_PEPPER=both["HPP_PEPPER"]) as served:
        assert served.get("/api/usage", used["key"]).status_code == 200
        assert served.get("/api/usage", unused["key"]).status_code == 401


@pytest.mark.parametrize(
    ("peppers", "said"),
    [
        ({"HPP_PEPPER": ""}, "keys.pepper: the environment variable HPP_PEPPER is empty"),
        ({"HPP_PEPPER": "short"}, "keys.pepper must have at least 16 bytes (from the environment variable HPP_PEPPER)"),
        (
            {"HPP_PREVIOUS_PEPPER": "short"},
            "keys.previous_pepper must have at least 16 bytes (from the environment variable HPP_PREVIOUS_PEPPER)",
        ),
        (
            {"HPP_PEPPER": "one-pepper-for-both", "HPP_PREVIOUS_PEPPER": "one-pepper-for-both"},
            "keys.previous_pepper must differ from keys.pepper",
        ),
    ],
)
@pytest.mark.parametrize("arguments", [["serve", "--check"], ["keys", "list"]])
def test_without_two_good_peppers_nothing_starts(
    folder: Path, arguments: list[str], peppers: dict[str, str], said: str
) -> None:
    done = command(folder, *arguments, **SECRETS, **peppers)
    assert (done.code, done.out, done.err) == (2, "", f"hpp-router: {said}\n")


# --- what stands above an account ---

GROUPS = """
[consumers.erin]
quota = "5"
parent = "team"
[accounts.team]
quota = "20"
[[budgets]]
consumer = "*"
period = "month"
amount = "3"
timezone = "Europe/Berlin"
[[budgets]]
account = "team"
period = "day"
amount = "10"
model = "local/*"
"""


def test_an_account_is_shown_with_those_above_it_and_its_budgets(folder: Path) -> None:
    (folder / "router.toml").write_text(TOML + GROUPS, "utf-8")
    assert command(folder, "keys", "create", "--consumer", "carol", "--quota", "4", "--parent", "team").code == 0
    for name in ("carol", "erin"):
        shown = command(folder, "quota", "show", name, "--json").json
        assert shown["parents"] == ["team"]
        month, day = shown["budgets"]
        assert (month["of"], month["period"], month["model"], month["amount"]) == (name, "month", None, 3)
        assert month["account"].startswith(f"{name}/~month:20")
        assert (day["of"], day["period"], day["model"], day["remaining"]) == ("team", "day", "local/*", 10)
        text = command(folder, "quota", "show", name).out
        assert re.search(rf"^{name} +\$", text, re.MULTILINE)
        assert re.search(r"^team +\$", text, re.MULTILINE)
        assert re.search(rf"^{name} +month +all +\$3 +\$0 +\$0 +20", text, re.MULTILINE)
    group = command(folder, "quota", "show", "team", "--json").json
    assert (group["parents"], [each["of"] for each in group["budgets"]]) == ([], ["team"])
    everybody = command(folder, "quota", "show", "--json").json
    assert {each["consumer"] for each in everybody} == {"declared", "erin", "carol", "team"}


def test_a_consumer_is_moved_to_another_team(folder: Path) -> None:
    (folder / "router.toml").write_text(TOML + GROUPS, "utf-8")
    command(folder, "keys", "create", "--consumer", "carol", "--quota", "4")
    moved = command(folder, "keys", "move", "--consumer", "carol", "--parent", "team")
    assert (moved.code, moved.out.split()) == (0, ["moved", "1", "key", "of", "carol"])
    assert command(folder, "quota", "show", "carol", "--json").json["parents"] == ["team"]
    assert command(folder, "keys", "move", "--consumer", "nobody").code == 1
    for arguments in (
        ("keys", "move", "--consumer", "erin"),
        ("keys", "create", "--consumer", "erin", "--parent", "x"),
    ):
        refused = command(folder, *arguments)
        assert refused.code != 0
        assert "is declared in the file" in refused.err
