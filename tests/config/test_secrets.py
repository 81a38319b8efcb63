"""Secrets come from the environment, and are shown nowhere."""

import re
from pathlib import Path

import pytest
from reading import KEY, read, refusal

from hpp_middleware.config import load
from hpp_middleware.types.provider import Declared


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('[providers.openai]\napi_key = "env:NO_SUCH"', "providers.openai.api_key"),
        ('[providers.openai]\nheaders = { X-Org = "env:NO_SUCH" }', "providers.openai.headers.X-Org"),
        ('[consumers.alice]\nkeys = ["env:NO_SUCH"]', "consumers.alice.keys[0]"),
        ('[keys]\npepper = "env:NO_SUCH"', "keys.pepper"),
    ],
)
@pytest.mark.parametrize("environment", [{}, {"NO_SUCH": ""}])
def test_a_variable_that_is_not_set_is_named_with_the_key(
    tmp_path: Path, text: str, path: str, environment: dict[str, str]
) -> None:
    problems = refusal(tmp_path, text, OPENAI_API_KEY="sk-x", **environment)
    said = "empty" if environment else "not set"
    assert problems == [f"{path}: the environment variable NO_SUCH is {said}"]


def test_env_without_a_name_is_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[providers.openai]\napi_key = "env:"')
    assert problems == ['providers.openai.api_key: must name a variable: "env:NAME"']


def test_a_secret_that_no_header_can_carry_is_refused_and_not_repeated(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[providers.openai]\napi_key = "env:K"', K="hunter2\r\nX: y")
    assert problems == ["providers.openai.api_key: must be printable ASCII (from the environment variable K)"]


def test_secrets_are_read_from_the_environment_and_shown_nowhere(tmp_path: Path) -> None:
    text = (
        '[providers.openai]\napi_key = "env:K"\nheaders = { X-Org = "env:O", X-Plain = "plain-value" }\n'
        f'[consumers.alice]\nkeys = ["env:A", "{KEY}-2"]\n[keys]\npepper = "env:P"\n'
    )
    settings = read(tmp_path, text, K="sk-hidden", O="org-hidden", A=KEY, P="pepper-hidden-16")
    provider = settings.providers["openai"]
    assert provider.api_key == "sk-hidden"
    assert provider.headers == {"X-Org": "org-hidden", "X-Plain": "plain-value"}
    assert settings.consumers["alice"].keys == (KEY, f"{KEY}-2")
    assert settings.pepper == b"pepper-hidden-16"
    shown = repr(settings) + repr(settings.file) + str(settings.file.providers)
    assert not re.search(f"hidden|{KEY}|plain-value", shown)


def test_without_secrets_no_upstream_or_consumer_variable_is_needed(tmp_path: Path) -> None:
    text = (
        '[providers.openai]\n[providers.x]\nbase_url = "http://x"\napi_key = "env:NO"\nheaders = { A = "env:NO" }\n'
        '[consumers.alice]\nquota = "5"\nkeys = ["env:NO"]\n'
    )
    (tmp_path / "router.toml").write_text(text)
    settings = load(tmp_path / "router.toml", environment={}, secrets=False)
    assert settings.providers["openai"].api_key is None
    assert settings.providers["x"].headers == {}
    assert settings.consumers["alice"] == Declared(quota=5 * 10**9)


def test_without_secrets_a_provider_still_knows_where_it_is(tmp_path: Path) -> None:
    text = (
        '[providers.bedrock]\noptions = { region = "eu-west-1", secret_access_key = "env:NO", access_key_id = "A" }\n'
        '[providers.azure]\noptions = { resource = "env:PLACE" }\n[providers.vertex]\noptions = { project = "p" }\n'
        "[providers.anthropic]\n[providers.gemini]\n"
    )
    (tmp_path / "router.toml").write_text(text, "utf-8")
    settings = load(tmp_path / "router.toml", environment={"PLACE": "acme"}, secrets=False)
    assert settings.providers["bedrock"].base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert settings.providers["azure"].base_url == "https://acme.openai.azure.com"
    providers = {target.provider_name for target in settings.gateway().catalog.targets()}
    assert providers == {"bedrock", "azure", "vertex", "anthropic", "gemini"}
