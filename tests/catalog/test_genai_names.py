"""genai-prices, as price list: the names that models have in it, and when it is read."""

import subprocess
import sys
from importlib.metadata import version

import pytest
from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseStartsWith,
    ModelInfo,
    ModelPrice,
)
from listed import MOMENTS, PROVIDERS, THEIRS, at, dollars, found, listing, model

from hpp_middleware.catalog import genai
from hpp_middleware.catalog.genai import GenaiPrices
from hpp_middleware.errors import ConfigurationError


def test_names_match_as_genai_prices_matches_them() -> None:
    prices = at(MOMENTS[1])
    assert prices.find("openai", "gpt-5-2025-08-07") == prices.find("openai", "gpt-5")
    assert prices.find("together", "META-LLAMA/llama-3.3-70b-instruct-turbo") is not None
    tuned = found(prices, "openai", "ft:gpt-4o-mini-2024-07-18:org::id")
    assert tuned.base.input > found(prices, "openai", "gpt-4o-mini").base.input
    assert prices.find("azure", "gpt-4.1") == prices.find("openai", "gpt-4.1")


def test_what_else_is_known_comes_along() -> None:
    listed = at(MOMENTS[1]).find("openai", "gpt-5")
    assert listed is not None
    price, known = listed
    assert price.source.startswith("genai-prices 0.")
    assert (known.name, known.context, known.price) == ("GPT-5", 400_000, None)
    assert known.description


@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_listed_name_can_be_found_and_none_is_deprecated(provider: str) -> None:
    prices = at(MOMENTS[1])
    names = prices.models(provider)
    assert len(names) == len(set(names)) >= 5
    for name in names:
        assert prices.find(provider, name) is not None, name
        info = THEIRS[provider].find_model(name)
        assert info is not None
        assert not info.deprecated


def test_a_deprecated_model_is_priced_but_not_listed() -> None:
    old = model("old", input_mtok=dollars("1"), output_mtok=dollars("1"))
    old.deprecated = True
    prices = listing(old)
    assert prices.find("own", "old") is not None
    assert prices.models("own") == []


def test_a_model_is_listed_under_a_name_that_leads_back_to_it() -> None:
    free = {"input_mtok": dollars("0"), "output_mtok": dollars("0")}
    prices = listing(
        ModelInfo(id="short", match=ClauseEquals("vendor/models/short"), prices=ModelPrice(**free)),
        ModelInfo(id="family", match=ClauseStartsWith("family-"), prices=ModelPrice(**free)),
        ModelInfo(id="x", match=ClauseOr([ClauseEquals("y"), ClauseEquals("z")]), prices=ModelPrice(**free)),
        model("y", **free),
    )
    assert prices.models("own") == ["vendor/models/short", "y"]


def test_an_unknown_provider_lists_nothing() -> None:
    assert at(MOMENTS[1]).models("nobody") == []


def test_what_is_remembered_of_clients_names_is_bounded() -> None:
    prices = listing(model(input_mtok=dollars("1"), output_mtok=dollars("1")))
    for number in range(genai._NAMES + 1000):
        assert prices.find("own", f"made-up-{number}") is None
    assert prices._lookup.cache_info().currsize == genai._NAMES


def test_loading_ahead_is_what_the_first_use_would_do() -> None:
    prices = at(MOMENTS[1])
    prices.load()
    loaded = prices._providers
    assert loaded is not None
    prices.load()
    prices.find("openai", "gpt-5")
    assert prices._providers is loaded


def test_without_the_package_the_list_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert genai.available()
    monkeypatch.setattr(genai, "find_spec", lambda name: None)
    assert not genai.available()
    with pytest.raises(ConfigurationError, match=r"hpp_middleware\[prices\]"):
        GenaiPrices()


def test_importing_the_module_reads_nothing_and_using_it_opens_no_socket_and_no_thread() -> None:
    script = """
import sys, threading
opened = []
sys.addaudithook(lambda event, args: opened.append(event) if event.startswith("socket.") else None)
from hpp_middleware.catalog.genai import GenaiPrices, available
assert available()
prices = GenaiPrices()
assert not {"genai_prices", "pydantic", "httpx2"} & set(sys.modules), "imported too early"
assert prices.find("openai", "gpt-5") is not None
assert "genai_prices.data" in sys.modules
assert threading.active_count() == 1
assert not [event for event in opened if event in {"socket.connect", "socket.getaddrinfo", "socket.bind"}], opened
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_providers_that_are_known_beforehand_are_those_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {provider.id for provider in providers}
    assert ids >= genai._PROVIDERS
    found = GenaiPrices()
    assert all(found.lists(each) for each in ids)
    if version("genai-prices") == genai._OF_RELEASE:
        assert ids == genai._PROVIDERS
        assert not found.lists("fake")
        assert found.find("fake", "gpt-5") is None
        assert found.models("fake") == []
        assert found._providers is None, "it was not read for that"
    monkeypatch.setattr(genai, "version", lambda _name: "0.2.99")
    assert GenaiPrices().lists("one that a later release may have")


@pytest.mark.parametrize(("name", "reads"), [("openai", "True"), ("fake", "False")])
def test_the_data_is_read_at_the_start_where_a_provider_is_likely_in_it(name: str, reads: str) -> None:
    program = f"""
import asyncio, sys
from hpp_middleware import Gateway, Provider
gateway = Gateway(
    providers={{"{name}": Provider(base_url="http://127.0.0.1:9/v1")}},
    models={{"{name}/a": {{"input": "1", "output": "2"}}}},
)
async def main():
    async with gateway:
        print("genai_prices" in sys.modules)
        print(gateway.catalog.find("{name}/gpt-5-mini") is not None)
asyncio.run(main())
"""
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    if reads == "True" or version("genai-prices") == genai._OF_RELEASE:
        assert found.stdout.split() == [reads, reads]


def test_all_names_that_a_pattern_takes_are_called_the_same() -> None:
    prices = GenaiPrices()
    names = ("claude-haiku-4-5", "claude-haiku-4-5-20251001", "claude-haiku-4-5-of-my-own")
    assert all(prices.find("anthropic", name) for name in names)
    assert {prices.called("anthropic", name) for name in names} == {"claude-haiku-4-5"}
    assert prices.called("anthropic", "nothing") is None
    assert prices.called("nobody", "gpt-4o") is None
