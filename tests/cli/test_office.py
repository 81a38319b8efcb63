"""``quota``, ``usage`` and ``models``, beside a running router and without one; and keys that such a one takes."""

import re
import time
from pathlib import Path

import pytest
from office import SECRETS, TOML
from running import command, router


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
