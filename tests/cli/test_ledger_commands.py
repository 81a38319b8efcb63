"""``hpp-router ledger``: seal, verify, reconcile and export, beside a running router and without one."""

import csv
import json
import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import anyio
import pytest
from busy import ACCOUNTS, Busy
from running import command, router

from hpp_middleware import SQLiteStore
from hpp_middleware.cli.export import COLUMNS
from hpp_middleware.core import ledger
from hpp_middleware.testing.stores.bench import Clock
from hpp_middleware.types.quota import Entry

TOML = """
[store]
url = "sqlite:///hpp.db"
[providers.local]
base_url = "http://127.0.0.1:9/v1"
[models."local/m"]
input = "1"
output = "2"
"""
KEY = "a-seal-key-of-32-characters-0001"
SHORT = "must have at least 32 bytes (from the environment variable"
SECRETS = {"HPP_SEAL_KEY": KEY}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "router.toml").write_text(TOML, "utf-8")
    return tmp_path


def busy(folder: Path, seed: int = 1, steps: int = 40) -> dict[str, list[Entry]]:
    """Let the accounts be charged; what their ledgers have then."""

    async def work() -> dict[str, list[Entry]]:
        clock = Clock(time.time())
        store = SQLiteStore(folder / "hpp.db", clock=clock)
        await store.open()
        try:
            program = Busy(store, seed, clock)
            await program.begin()
            await program.run(steps)
            return {account: await store.lines(account) for account in ACCOUNTS}
        finally:
            await store.aclose()

    return anyio.run(work)


def altered(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "hpp.db")) as connection:
        connection.executescript(
            "DROP TRIGGER ledger_is_append_only_update; DROP TRIGGER ledger_is_append_only_delete;" + statement
        )


def test_what_is_sealed_is_verified_and_what_is_altered_then_is_found(folder: Path) -> None:
    lines = busy(folder)
    done = command(folder, "ledger", "seal", **SECRETS)
    assert (done.code, done.out, done.err) == (0, "sealed    2 accounts\n", "")
    assert command(folder, "ledger", "seal", "--json", **SECRETS).json == {"sealed": 0, "findings": []}
    assert command(folder, "ledger", "verify", "--json", **SECRETS).json == {
        "good": True,
        "accounts": [
            {"account": name, "lines": len(entries), "sealed": len(entries)} for name, entries in lines.items()
        ],
        "findings": [],
    }
    altered(
        folder,
        "UPDATE ledger SET entry = replace(entry, '\"fake/m\"', '\"fake/x\"') WHERE account = 'bob' AND seq = 2",
    )
    done = command(folder, "ledger", "verify", **SECRETS)
    last = len(lines["bob"])
    assert done.code == 1
    assert done.err == f"hpp-router: bob: seal: lines 1 to {last} are not what was sealed at line {last}\n"
    assert [line.split() for line in done.out.split("\n")[:3]] == [
        ["ACCOUNT", "LINES", "SEALED", "STATE"],
        ["alice", str(len(lines["alice"])), str(len(lines["alice"])), "good"],
        ["bob", str(last), "0", "1", "wrong"],
    ]
    assert command(folder, "ledger", "verify", "alice", **SECRETS).code == 0
    assert command(folder, "ledger", "verify", "bob", **SECRETS).code == 1


def test_without_a_key_the_lines_are_checked_and_the_seals_are_said_not_to_be(folder: Path) -> None:
    busy(folder)
    done = command(folder, "ledger", "verify")
    assert done.code == 0
    assert done.err == "hpp-router: no seal key is set ([ledger] seal_key): the seals, if any, were not checked\n"
    altered(folder, "DELETE FROM ledger WHERE account = 'alice' AND seq = 3")
    done = command(folder, "ledger", "verify")
    assert done.code == 1
    assert "hpp-router: alice: missing: line 3\n" in done.err


def test_heads_that_are_gone_or_unreadable_are_found(folder: Path) -> None:
    busy(folder)
    assert command(folder, "ledger", "seal", **SECRETS).code == 0
    heads = folder / "heads.jsonl"
    text = heads.read_text("utf-8")
    heads.write_text("not a record\n" + text, "utf-8")
    done = command(folder, "ledger", "verify", **SECRETS)
    assert (done.code, done.err) == (1, "hpp-router: ledger: heads: line 1 of the heads file is no record\n")
    heads.unlink()
    done = command(folder, "ledger", "verify", **SECRETS)
    assert (done.code, done.err) == (1, f"hpp-router: ledger: heads: there are seals, but no file {heads}\n")


def test_reconcile_finds_an_account_that_does_not_agree_with_its_ledger(folder: Path) -> None:
    busy(folder)
    assert command(folder, "ledger", "reconcile").code == 0
    with closing(sqlite3.connect(folder / "hpp.db")) as connection, connection:
        connection.execute("UPDATE account SET settled = settled - 1 WHERE id = 'alice'")
    done = command(folder, "ledger", "reconcile", "--json")
    assert done.code == 1
    said = json.loads(done.out)
    assert said["good"] is False
    assert [(finding["account"], finding["kind"]) for finding in said["findings"]] == [("alice", "settled")]
    assert command(folder, "ledger", "reconcile", "bob").code == 0


def test_exported_lines_are_enough_to_compute_the_chain_again(folder: Path) -> None:
    lines = busy(folder)
    assert command(folder, "ledger", "seal", **SECRETS).code == 0
    done = command(folder, "ledger", "export", "alice")
    key, rows = KEY.encode(), done.out.removesuffix("\n").split("\n")
    mac = ledger.start(key, "alice")
    for row in rows:
        line = row.removeprefix('{"line":').partition(',"seal":')[0]
        mac = ledger.extend(key, mac, (line if ',"seal":' in row else line.removesuffix("}")).encode())
    sealed = [json.loads(row) for row in rows if "seal" in json.loads(row)]
    assert [row["seal"] for row in sealed] == [{"key": ledger.key_id(key), "mac": mac.hex()}]
    assert [json.loads(row)["line"]["amount"] for row in rows] == [entry.amount for entry in lines["alice"]]


def test_csv_has_a_row_for_each_line_whose_amounts_sum_to_what_was_charged(folder: Path) -> None:
    lines = busy(folder)
    out = folder / "ledger.csv"
    assert command(folder, "ledger", "export", "--format", "csv", "--out", str(out)).code == 0
    with out.open(encoding="utf-8", newline="") as file:
        head, *rows = list(csv.reader(file))
    assert tuple(head) == COLUMNS == (
        "id", "account", "seq", "class", "created", "consumer", "key_id", "model", "requested_model", "outcome",
        "estimated", "input", "cache_read", "cache_write", "input_audio", "output", "reasoning", "output_audio",
        "cache_write_1h", "input_image", "tool_prompt", "output_image", "web_searches", "cache_read_audio",
        "amount_usd", "client_request_id", "basket", "rule", "tier", "rules_version", "score", "reason",
    )  # fmt: skip
    everybodys = [entry for account in ACCOUNTS for entry in lines[account]]
    assert [row[0] for row in rows] == [entry.id for entry in everybodys]
    total = sum(Decimal(row[head.index("amount_usd")]) for row in rows)
    assert total == Decimal(sum(entry.amount for entry in everybodys)).scaleb(-9)
    later = command(folder, "ledger", "export", "alice", "--format", "csv", "--after", "5").out
    assert [row[2] for row in csv.reader(later.split("\n")[1:-1])] == [str(e.seq) for e in lines["alice"][5:]]


def test_a_text_that_a_spreadsheet_would_run_is_disarmed(folder: Path) -> None:
    busy(folder)
    altered(folder, "UPDATE ledger SET entry = replace(entry, '\"c-1\"', '\"=HYPERLINK(1)\"')")
    done = command(folder, "ledger", "export", "--format", "csv")
    assert {row["client_request_id"] for row in csv.DictReader(done.out.split("\n")[:-1])} == {"'=HYPERLINK(1)"}


def test_sealing_needs_a_key_that_is_long_enough(folder: Path) -> None:
    done = command(folder, "ledger", "seal")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("hpp-router: ledger.seal_key: is missing")
    done = command(folder, "ledger", "seal", HPP_SEAL_KEY="")
    assert (done.code, done.err) == (2, "hpp-router: ledger.seal_key: the environment variable HPP_SEAL_KEY is empty\n")
    done = command(folder, "ledger", "seal", HPP_SEAL_KEY="x" * 31)
    assert (done.code, done.err) == (2, f"hpp-router: ledger.seal_key {SHORT} HPP_SEAL_KEY)\n")
    (folder / "router.toml").write_text(
        f'{(folder / "router.toml").read_text("utf-8")}\n[ledger]\nprevious_seal_keys = ["env:OLD"]\n', "utf-8"
    )
    done = command(folder, "ledger", "seal", HPP_SEAL_KEY=KEY, OLD="short")
    assert (done.code, done.err) == (2, f"hpp-router: ledger.previous_seal_keys[0] {SHORT} OLD)\n")


def test_a_memory_stores_ledger_is_out_of_reach(folder: Path) -> None:
    (folder / "router.toml").write_text(TOML.replace("sqlite:///hpp.db", "memory:"), "utf-8")
    done = command(folder, "ledger", "verify")
    assert done.code == 2
    assert done.err.startswith("hpp-router: store.url: ")


def test_keys_are_changed_by_naming_the_old_one(folder: Path) -> None:
    busy(folder)
    assert command(folder, "ledger", "seal", **SECRETS).code == 0
    busy(folder, seed=2)
    text = TOML + '[ledger]\nseal_key = "env:NEW"\nprevious_seal_keys = ["env:OLD"]\n'
    (folder / "router.toml").write_text(text, "utf-8")
    keys = {"NEW": KEY[::-1], "OLD": KEY}
    assert command(folder, "ledger", "verify", **keys).code == 0
    assert command(folder, "ledger", "seal", "--json", **keys).json["sealed"] == 2
    assert command(folder, "ledger", "verify", **keys).code == 0
    done = command(folder, "ledger", "verify", NEW=KEY[::-1])
    assert (done.code, done.err) == (
        2,
        "hpp-router: ledger.previous_seal_keys[0]: the environment variable OLD is not set\n",
    )


def test_a_running_router_seals_by_itself_and_is_checked_meanwhile(folder: Path) -> None:
    (folder / "router.toml").write_text(TOML + "[ledger]\nseal_every_s = 0.1\n", "utf-8")
    with router(folder, "serve", **SECRETS) as served:
        busy(folder)
        heads, polls = folder / "heads.jsonl", 0
        while not heads.exists() or not heads.stat().st_size:
            polls += 1
            assert polls < 300, "in 30 seconds nothing was sealed"
            time.sleep(0.1)
        assert command(folder, "ledger", "verify", **SECRETS).code == 0
        assert command(folder, "ledger", "reconcile").code == 0
        assert served.stop().code == 0
