"""``[consumers.NAME]``: quotas and keys."""

from pathlib import Path

import pytest
from reading import KEY, read, refusal

from hpp_middleware.types.provider import Declared


def test_consumers_are_declared_with_quota_keys_and_models(tmp_path: Path) -> None:
    text = f'[consumers.alice]\nquota = "9000"\nkeys = ["{KEY}"]\nmodels = ["local/*"]\n[consumers.bob]\n'
    consumers = read(tmp_path, text).consumers
    assert consumers["alice"] == Declared(quota=9_000 * 10**9, keys=(KEY,), models=("local/*",))
    assert consumers["bob"] == Declared()


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("9000", 'must be in quotes, which keep it exact: "9000"'),
        ('"-1"', "must be a number of at least 0"),
        ('"0.0000000001"', "is finer than a nano-dollar (9 decimal places)"),
        ('"9000001"', "must not be above 9000000"),
    ],
)
def test_a_quota_that_is_no_exact_amount_in_quotes_is_refused(tmp_path: Path, value: str, problem: str) -> None:
    assert refusal(tmp_path, f"[consumers.alice]\nquota = {value}") == [f"consumers.alice.quota: {problem}"]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("too-short", "must have 20 to 256 characters"),
        ("x" * 257, "must have 20 to 256 characters"),
        ("has a space in its middle", "must be printable ASCII without spaces"),
        ("hpp_0123456789_0123456789_wrong", "begins with hpp_ but its checksum is wrong"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused_and_not_repeated(tmp_path: Path, key: str, problem: str) -> None:
    problems = refusal(tmp_path, '[consumers.alice]\nkeys = ["env:GOOD", "env:BAD"]', GOOD=KEY, BAD=key)
    assert problems == [f"consumers.alice.keys[1]: {problem} (from the environment variable BAD)"]
    written = refusal(tmp_path, f'[consumers.alice]\nkeys = ["{key}"]')
    assert written == [f"consumers.alice.keys[0]: {problem}"]


def test_a_variable_that_is_empty_is_said_to_be_so(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[consumers.alice]\nkeys = ["env:BAD"]', BAD="")
    assert problems == ["consumers.alice.keys[0]: the environment variable BAD is empty"]


def test_a_key_of_two_consumers_is_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, f'[consumers.alice]\nkeys = ["{KEY}"]\n[consumers.bob]\nkeys = ["env:K"]', K=KEY)
    assert problems == [
        "consumers.alice.keys[0]: is declared more than once",
        "consumers.bob.keys[0]: is declared more than once",
    ]


def test_a_consumer_without_a_printable_name_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, '[consumers."a\\u0007b"]') == [
        'consumers."a\\x07b": must be 1 to 200 printable characters'
    ]
