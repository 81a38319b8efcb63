"""``hpp-router explain`` and ``hpp-router auto replay``: what a policy would do, before it does it."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from background import running_upstream
from running import command, router

from hpp_middleware.core.auto.learned import Scorer

MODELS = "".join(
    f'[models."local/{name}"]\ninput = "{price}"\noutput = "{price}"\ntool = {tool}\n'
    for name, price, tool in (("small", 1, "false"), ("t1", 10, "true"))
)
AUTO = """
[auto]
rules_version = "v7"
simple = ["local/small"]
simple_keywords = ["translate"]
simple_max_tokens = 10
[auto.tiers]
T1 = { models = ["local/t1"] }
"""
CONSUMERS = '[consumers.alice]\nmodels = ["local/t1"]\nkeys = ["a-key-of-alice-20-characters"]\nquota = "5"\n'
LOCAL = '[store]\nurl = "sqlite:///hpp.db"\n[providers.local]\nbase_url = "{url}"\n'
TEXT = "word " * 100
"""125 tokens."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "router.toml").write_text(LOCAL.format(url="http://127.0.0.1:9/v1") + MODELS + AUTO + CONSUMERS)
    return tmp_path


def request(text: str = "Hi", **fields: Any) -> str:
    return json.dumps({"model": "hpprouter/auto", "messages": [{"role": "user", "content": text}], **fields})


def test_a_request_is_explained_for_people_and_for_programs(folder: Path) -> None:
    (folder / "request.json").write_text(request())
    done = command(folder, "explain", "request.json")
    assert done.code == 0, done.err
    assert "model          local/small\n" in done.out
    assert "rule           simple-tokens\n" in done.out
    assert "answer         400 tokens, as costs are compared\n" in done.out
    assert "local/small *  yes" in done.out
    told = command(folder, "explain", "request.json", "--json").json
    assert (told["model"], told["rules_version"], told["reason"]) == ("local/small", "v7", "1 of 10 tokens")
    assert not (folder / "hpp.db").exists()


def test_whom_a_request_is_asked_of_one_after_the_other_is_told(folder: Path) -> None:
    more = '[models."local/low"]\ninput = "1"\noutput = "1"\nmax_output = 5\n[fallbacks]\n"local/t1" = ["local/low"]\n'
    (folder / "router.toml").write_text((folder / "router.toml").read_text() + more)
    (folder / "request.json").write_text(request(model="local/t1", max_tokens=9))
    done = command(folder, "explain", "request.json")
    assert done.code == 0, done.err
    assert "asks           local/t1\nthen           local/low, which is passed over: local/low: it gives 5" in done.out


def test_a_request_is_explained_as_a_consumer_would_have_it(folder: Path) -> None:
    (folder / "request.json").write_text(request())
    told = command(folder, "explain", "request.json", "--consumer", "alice", "--json").json
    assert told["model"] == "local/t1"
    assert told["candidates"][0]["why_not"] == ["this key may not use it"]
    assert "there is no consumer 'carol'" in command(folder, "explain", "request.json", "--consumer", "carol").err


def test_a_request_that_nobody_can_answer_ends_with_1(folder: Path) -> None:
    text = (folder / "router.toml").read_text().replace("tool = true", "tool = false")
    (folder / "router.toml").write_text(text)
    (folder / "request.json").write_text(request(tools=[{"type": "function", "function": {"name": "f"}}]))
    done = command(folder, "explain", "request.json")
    assert done.code == 1
    assert "it cannot call tools" in done.out


@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "The body is not valid JSON."), (request(model="no/model"), "unknown here"), (None, "cannot be read")],
)
def test_what_is_no_request_is_one_line(folder: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (folder / "request.json").write_text(text)
    done = command(folder, "explain", "request.json")
    assert (done.code, done.out) == (1, "")
    assert problem in done.err
    assert done.err.count("\n") == 1


LINES = [
    json.loads(request(TEXT)),
    {"prompt": "translate " + TEXT, "quality": {"local/small": 0.5, "local/t1": 1}},
    {"prompt": TEXT, "model": "local/t1", "quality": 0.75},
    {"prompt": TEXT, "model": "local/small", "quality": 0.1},
    {"request": json.loads(request(model="local/small")), "usage": {"input": 100, "output": 50}, "quality": 0.9},
    {"request": json.loads(request()), "usage": {"prompt_tokens": 100, "completion_tokens": 50}},
    {"request": json.loads(request()), "usage": {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}},
    {"request": json.loads(request()), "usage": {"tokens": 150}},
    {"no": "request"},
]


def test_requests_that_were_are_replayed(folder: Path) -> None:
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, LINES)) + "\n\nnone\n")
    done = command(folder, "auto", "replay", "--policy", "router.toml", "--data", "data.jsonl", "--json").json
    assert (done["requests"], done["unread"], done["unanswered"]) == (7, 3, 0)
    assert done["rules"] == {"complex-T1": 3, "simple-keyword": 1, "simple-tokens": 3}
    by_model = {each["model"]: each for each in done["models"]}
    assert by_model["local/t1"]["share"] == 3 / 7
    assert by_model["local/t1"]["cost"] == pytest.approx(3 * (125 + 400) * 10 / 10**6)
    assert by_model["local/small"]["cost"] == pytest.approx((128 + 400 + 3 * 150) / 10**6)
    assert (done["quality"], done["with_quality"]) == (pytest.approx((0.5 + 0.75 + 0.9) / 3), 3)
    assert done["actual_cost"] is None
    printed = command(folder, "auto", "replay", "--policy", "router.toml", "--data", "data.jsonl").out
    assert "local/t1     3         42.9%" in printed
    assert "0.7167 over 3 requests" in printed


BROKEN = [
    ("{", "truncated"),
    ("[]", "it is no object"),
    ('{"request": 5}', "request is no object"),
    ('{"request": {"messages": []}}', "messages"),
    ('{"prompt": "Hi", "usage": 5}', "usage is no object"),
    ('{"prompt": "Hi", "usage": {"input": -5}}', "usage is below 0"),
    ('{"prompt": "Hi", "model": "local/small", "quality": "good"}', "quality is no number"),
    ('{"prompt": "Hi", "quality": {"local/small": true}}', "quality is no number"),
    ('{"prompt": "Hi", "model": "local/small", "quality": 1' + "0" * 400 + "}", "quality is no number"),
    ('{"line": {"line": "resolution", "draft": {"routed": 5}, "report": {}, "amount": 5}}', "ledger export"),
]


def test_a_line_that_cannot_be_replayed_is_named_and_said_why(folder: Path) -> None:
    lines = ["", json.dumps({"prompt": "Hi"}), *(line for line, _ in BROKEN), "more", "of", "it"]
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    done = command(folder, "auto", "replay", "--policy", "router.toml", "--data", "data.jsonl", "--json")
    assert (done.code, done.json["requests"], done.json["unread"]) == (0, 1, len(BROKEN) + 3)
    told = done.err.splitlines()
    assert len(told) == len(BROKEN)
    for number, (line, (_, problem)) in enumerate(zip(told, BROKEN, strict=True), 3):
        assert line.startswith(f"hpp-router: line {number} is passed over: ")
        assert problem in line


@pytest.mark.parametrize("text", ["", "\n", "none\n"])
def test_a_file_without_a_request_is_none_to_replay(folder: Path, text: str) -> None:
    (folder / "data.jsonl").write_text(text)
    done = command(folder, "auto", "replay", "--policy", "router.toml", "--data", "data.jsonl")
    assert (done.code, done.out) == (1, "")
    assert "data.jsonl: has no request" in done.err


def test_a_ledger_is_replayed_under_another_policy_and_shows_how_it_was_chosen(tmp_path: Path) -> None:
    with running_upstream() as upstream:
        text = LOCAL.format(url=upstream.url) + MODELS + AUTO + CONSUMERS.replace('["local/t1"]', '["local/*"]')
        (tmp_path / "router.toml").write_text(text)
        with router(tmp_path, "serve") as running:
            for prompt in ("Hi", TEXT):
                answer = running.chat("a-key-of-alice-20-characters", json.loads(request(prompt)))
                assert answer.status_code == 200, answer.text
    exported = command(tmp_path, "ledger", "export")
    (tmp_path / "ledger.jsonl").write_text(exported.out)
    routed = [json.loads(line)["line"]["draft"]["routed"] for line in exported.out.split("\n")[:-1]]
    assert [each["rule"] for each in routed] == ["simple-tokens", "complex-T1"]
    assert routed[1]["tier"] == "T1"
    rows = list(csv.DictReader(command(tmp_path, "ledger", "export", "--format", "csv").out.split("\n")[:-1]))
    assert [(row["basket"], row["rule"], row["tier"], row["rules_version"]) for row in rows] == [
        ("simple", "simple-tokens", "", "v7"),
        ("complex", "complex-T1", "T1", "v7"),
    ]
    assert command(tmp_path, "ledger", "reconcile").code == 0
    done = command(tmp_path, "auto", "replay", "--policy", "router.toml", "--data", "ledger.jsonl", "--json").json
    # The fake reports 9 tokens in and 2 out for both, so that both are simple by their usage.
    assert done["requests"] == 2
    assert done["models"] == [{"model": "local/small", "requests": 2, "share": 1.0, "cost": pytest.approx(22e-6)}]
    assert done["actual_cost"] == pytest.approx((11 + 110) / 10**6)


def test_a_policy_that_is_none_is_said(folder: Path) -> None:
    (folder / "other.toml").write_text(LOCAL.format(url="http://127.0.0.1:9/v1"))
    (folder / "data.jsonl").write_text("")
    done = command(folder, "auto", "replay", "--policy", "other.toml", "--data", "data.jsonl")
    assert (done.code, "auto: is missing" in done.err) == (2, True)
    assert command(folder, "auto", "replay", "--policy", "router.toml", "--data", "none.jsonl").code == 1


ASKED = ("auto", "fit", "--data", "feedback.jsonl", "--strong", "a/big", "--weak", "a/small", "--out", "own.model")


def outcomes(hard: str, easy: str) -> str:
    """Two models' outcomes: what only the stronger one answers differs in its words from what both do."""
    rows = []
    for number in range(240):
        is_hard = number % 2 == 0
        prompt = (hard if is_hard else easy).format(number)
        rows.append({"prompt": prompt, "model": "a/big", "quality": 1.0})
        rows.append({"prompt": prompt, "model": "a/small", "quality": 0.0 if is_hard else 1.0})
    return "\n".join(map(json.dumps, rows)) + "\n"


def test_a_scorer_is_fitted_to_ones_own_outcomes_and_used(folder: Path) -> None:
    (folder / "feedback.jsonl").write_text(outcomes("say hello {}", "prove theorem {} of topology"))
    done = command(folder, *ASKED)
    assert done.code == 0, done.err
    assert "240 prompts that both answered" in done.out
    assert 0 < (folder / "own.model").stat().st_size <= 64 * 1024
    learned = '\n[auto.learned]\nstrong = "local/t1"\nweak = "local/small"\nfile = "own.model"\n'
    text = (folder / "router.toml").read_text().replace("[auto]", '[auto]\npolicy = "learned"')
    (folder / "router.toml").write_text(text + learned)
    (folder / "request.json").write_text(request("say hello 7"))
    explained = command(folder, "explain", "request.json")
    assert explained.code == 0, explained.err
    assert "local/t1" in explained.out


def test_how_long_the_answers_were_is_fitted_too_and_replayed(folder: Path) -> None:
    rows = outcomes("say hello {}", "prove theorem {} of topology").splitlines()
    told = [json.dumps({**json.loads(row), "tokens": 1500}) for row in rows]
    (folder / "feedback.jsonl").write_text("\n".join(told) + "\n")
    done = command(folder, *ASKED)
    assert done.code == 0, done.err
    scorer = Scorer((folder / "own.model").read_bytes())
    tokens = scorer.answer_tokens("say hello 7")
    assert tokens is not None
    assert 1450 < tokens < 1500
    assert f"plain {tokens}" in done.out
    learned = '\n[auto.learned]\nstrong = "local/t1"\nweak = "local/small"\nquality = 1\nfile = "own.model"\n'
    text = (folder / "router.toml").read_text().replace("[auto]", '[auto]\npolicy = "learned"')
    (folder / "router.toml").write_text(text + learned)
    (folder / "request.json").write_text(request("say hello 7"))
    assert f"answer         {tokens} tokens" in command(folder, "explain", "request.json").out
    (folder / "data.jsonl").write_text('{"prompt": "say hello 7"}\n')
    (replayed,) = command(folder, "auto", "replay", "--policy", "router.toml", "--data", "data.jsonl", "--json").json[
        "models"
    ]
    assert replayed["cost"] == pytest.approx((3 + tokens) * 10 / 10**6)


def test_one_that_is_no_better_is_not_written(folder: Path) -> None:
    (folder / "feedback.jsonl").write_text(outcomes("prove theorem {} of topology", "say hello {}"))
    done = command(folder, *ASKED)
    assert (done.code, "not surely better than the scorer it started from" in done.err) == (2, True)
    assert not (folder / "own.model").exists()


def test_who_insists_has_it_written_and_is_told(folder: Path) -> None:
    (folder / "feedback.jsonl").write_text(outcomes("prove theorem {} of topology", "say hello {}"))
    done = command(folder, *ASKED, "--force")
    assert done.code == 0, done.err
    assert "not surely better than the scorer it started from" in done.out
    assert "written, as --force asks: own.model" in done.out
    scorer = Scorer((folder / "own.model").read_bytes())
    assert scorer.model.about["judged"].startswith("the fitted scorer is not surely better")


def test_a_file_that_cannot_be_written_whole_leaves_what_there_was(folder: Path) -> None:
    pytest.importorskip("resource")  # which Windows has not
    (folder / "feedback.jsonl").write_text(outcomes("say hello {}", "prove theorem {} of topology"))
    (folder / "own.model").write_bytes(b"as it was")
    limited = (
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (9999, 9999)); import hpp_middleware.__main__ as m; m.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, *ASKED], cwd=folder, capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, "File too large" in done.stderr) == (1, True), done.stderr
    assert (folder / "own.model").read_bytes() == b"as it was"
    assert sorted(each.name for each in folder.iterdir()) == ["feedback.jsonl", "own.model", "router.toml"]


def test_what_is_wrong_with_a_file_is_said_with_its_name(folder: Path) -> None:
    (folder / "feedback.jsonl").write_text(outcomes("say hello {}", "prove theorem {} of topology"))
    assert "hpp-router: router.toml: this is no model file" in command(folder, *ASKED, "--start", "router.toml").err
    assert "none/own.model: is a folder, or in none" in command(folder, *ASKED[:-1], "none/own.model").err
    (folder / "feedback.jsonl").write_text("{")
    assert "hpp-router: feedback.jsonl: line 1" in command(folder, *ASKED).err


@pytest.mark.parametrize(
    ("text", "problem"), [("{", "line 1"), ('{"prompt": "a", "model": "a/big", "quality": 2}\n', "from 0 to 1")]
)
def test_outcomes_that_are_none_are_named_and_nothing_is_written(folder: Path, text: str, problem: str) -> None:
    (folder / "feedback.jsonl").write_text(text)
    done = command(folder, *ASKED)
    assert (done.code, problem in done.err) == (2, True), done.err
    assert not (folder / "own.model").exists()
