"""A provider's options: each dialect knows its own, and refuses any other by name."""

from typing import Any

import pytest

from hpp_middleware import ConfigurationError, Gateway, Provider
from hpp_middleware.dialects import known
from hpp_middleware.dialects.presets import PRESETS, provider

URLS = {"vertex": "https://aiplatform.googleapis.com/v1", "bedrock": "https://bedrock-runtime.eu-west-1.amazonaws.com"}
NEAR = {
    "openai": ("take", "takes"),
    "gemini": ("document-pages", "document_pages"),
    "vertex": ("Project", "project"),
    "anthropic": ("thinkng", "thinking"),
    "bedrock": ("regoin", "region"),
    "azure": ("api-version", "api_version"),
    "ollama": ("num-ctx", "num_ctx"),
}


def checked(dialect: str, options: dict[str, str]) -> ConfigurationError:
    url = URLS.get(dialect, "https://p.test")
    with pytest.raises(ConfigurationError) as caught:
        Gateway(
            providers={"acme": Provider(base_url=url, dialect=dialect, api_key="made-up", options=options)}, prices=None
        )
    return caught.value


def test_every_dialect_of_ours_is_asked() -> None:
    assert NEAR.keys() == known.OURS.keys()


@pytest.mark.parametrize("dialect", NEAR)
def test_an_option_that_is_mistyped_is_refused_with_the_nearest_that_there_is(dialect: str) -> None:
    wrong, meant = NEAR[dialect]
    error = checked(dialect, {wrong: "x"})
    assert error.param == f"providers.acme.options.{wrong}"
    assert error.message.startswith(f"providers.acme.options.{wrong} is unknown to dialect {dialect}, which knows ")
    assert error.message.endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("dialect", NEAR)
def test_one_that_is_like_none_is_refused_with_all_that_there_are(dialect: str) -> None:
    error = checked(dialect, {"zzz": "x"})
    assert f"options.zzz is unknown to dialect {dialect}, which knows " in error.message
    assert "did you mean" not in error.message
    assert NEAR[dialect][1] in error.message


@pytest.mark.parametrize("preset", [name for name, each in PRESETS.items() if each.options])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "gemini"])
def test_a_preset_that_is_asked_in_another_dialect_is_not_refused_for_its_own_options(
    preset: str, dialect: str
) -> None:
    settings: dict[str, Any] = {"api_key": "made-up", "base_url": "https://p.test", "dialect": dialect}
    Gateway(providers={"acme": provider(preset, **settings)}, prices=None)


def test_a_dialect_that_is_made_of_ours_may_have_options_of_its_own() -> None:
    class Own(known.find("openai").__class__):  # type: ignore[misc]  # found by name
        options = frozenset({"takes", "region"})

    acme = Provider(base_url="https://p.test", dialect="own", options={"region": "eu"})
    assert "acme" in Gateway(providers={"acme": acme}, dialects={"own": Own()}, prices=None).catalog.providers
