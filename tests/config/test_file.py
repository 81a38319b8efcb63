"""The file as a whole: what an empty one comes to, and how every mistake in one is named."""

from dataclasses import fields
from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.config import load
from hpp_middleware.config.sections import (
    BoundsSection,
    TimeoutsSection,
)
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.provider import Limits, Timeouts


def test_an_empty_file_is_a_sqlite_router_with_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.places.store == "sqlite:///hpp.db"
    assert (settings.file.server.host, settings.file.server.port) == ("127.0.0.1", 8000)
    assert settings.limits == Limits()
    assert settings.providers == {}
    assert settings.pepper is None


def test_nothing_is_opened_or_written_by_loading_and_building(tmp_path: Path) -> None:
    read(tmp_path, LOCAL).gateway()
    assert [path.name for path in tmp_path.iterdir()] == ["router.toml"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("[store\n", 1), ("[store]\nurl = \n", 2), ('[store]\nurl = "a"\nurl = "b"\n', 3), ("\n\n\na = [\n\n", 4)],
)
def test_broken_toml_names_the_line(tmp_path: Path, text: str, line: int) -> None:
    (problem,) = refusal(tmp_path, text)
    assert problem.startswith(f"{tmp_path / 'router.toml'}: line {line}: is not valid TOML: ")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.toml: cannot be read \(No such file or directory\)"):
        load(tmp_path / "nowhere.toml")


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    assert set(read(tmp_path, "\ufeff" + LOCAL).providers) == {"local"}


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "router.toml").write_bytes(b'[store]\nurl = "\xff"')
    with pytest.raises(ConfigurationError, match="is not UTF-8 text"):
        load(tmp_path / "router.toml")


def test_every_problem_has_its_line(tmp_path: Path) -> None:
    problems = refusal(tmp_path, 'bogus = 1\n[server]\nport = "8000"\n[errors]\nformat = "xml"\n')
    assert sorted(problems) == [
        "bogus: unknown key",
        "errors.format: must be 'object' or 'simple'",
        "server.port: must be a whole number",
    ]


@pytest.mark.parametrize(
    ("text", "path", "near"),
    [
        ("storage = 1", "storage", "store"),
        ("[store]\npath = 1", "store.path", None),
        ('[providers.openai]\nbase_ulr = "x"', "providers.openai.base_ulr", "base_url"),
        ('[providers.openai]\nbase-url = "x"', "providers.openai.base-url", "base_url"),
        ("[providers.openai]\ntimeouts = { read = 1 }", "providers.openai.timeouts.read", None),
        ("[providers.openai]\ntimeouts = { first_bite = 1 }", "providers.openai.timeouts.first_bite", "first_byte"),
        ('[models."openai/gpt-5"]\nprompt = "1"', 'models."openai/gpt-5".prompt', None),
        ('[errors]\nstyle = "simple"', "errors.style", None),
        ('[keys]\nsalt = "x"', "keys.salt", None),
        ('[consumers.alice]\nkey = "x"', "consumers.alice.key", "keys"),
        ('[consumers."a b"]\nkey = "x"', 'consumers."a b".key', "keys"),
        ("[bounds]\nbody = 1", "bounds.body", "body_s"),
        ("[server]\nworkers = 2", "server.workers", None),
        ('[billing]\nmissing = "free"', "billing.missing", None),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(tmp_path: Path, text: str, path: str, near: str | None) -> None:
    meant = f"; did you mean {near}?" if near else ""
    assert refusal(tmp_path, text, OPENAI_API_KEY="sk-x") == [f"{path}: unknown key{meant}"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("store = 1", "store: must be a table"),
        ("providers = []", "providers: must be a table"),
        ("[store]\nurl = 1", "store.url: must be a string"),
        ('[providers.a]\nmodels = "*"', "providers.a.models: must be an array"),
        ("[providers.a]\nmodels = [1]", "providers.a.models[0]: must be a string"),
        ('[providers.a]\nmodels = [""]', "providers.a.models[0]: must not be empty"),
        ("[providers.a]\ncap_fields = []", "providers.a.cap_fields: must not be empty"),
        ("[providers.a]\nbytes_per_token = 0", "providers.a.bytes_per_token: must be greater than or equal to 1"),
        ("[providers.a]\nbytes_per_token = true", "providers.a.bytes_per_token: must be a whole number"),
        ('[providers.a]\ninclude_usage = "yes"', "providers.a.include_usage: must be true or false"),
        ("[providers.a]\ntimeouts = { idle = 0 }", "providers.a.timeouts.idle: must be greater than 0"),
        ("[providers.a]\ntimeouts = { total = inf }", "providers.a.timeouts.total: must be a finite number"),
        ('[providers.a]\non_disconnect = "wait"', "providers.a.on_disconnect: must be 'cancel' or 'drain'"),
        ("[providers.a]\ndrain_s = 0", "providers.a.drain_s: must be greater than 0"),
        ("[providers.a]\ndrain_bytes = 0", "providers.a.drain_bytes: must be greater than or equal to 1"),
        ("[aliases]\na = 1", "aliases.a: must be a string"),
        ('[responses]\ncost = "body"', "responses.cost: must be 'header' or 'usage'"),
        ("[server]\nport = 65536", "server.port: must be less than or equal to 65535"),
        ("[bounds]\nn = 0", "bounds.n: must be greater than or equal to 1"),
        ("[bounds]\nbody_s = 0", "bounds.body_s: must be greater than 0"),
        ('[billing]\norphan = "x"', "billing.orphan: must be 'estimate', 'hold' or 'free'"),
        ('[billing]\nmissing_usage = "x"', "billing.missing_usage: must be 'estimate', 'hold' or 'free'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_path(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(tmp_path, text) == [problem]


def test_what_the_sections_offer_is_what_the_gateway_knows() -> None:
    assert set(BoundsSection.model_fields) == {each.name for each in fields(Limits)}
    assert set(TimeoutsSection.model_fields) == {each.name for each in fields(Timeouts)}
