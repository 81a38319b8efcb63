"""The well-known providers: every preset builds a provider that can be called."""

import json
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

import pytest

from hpp_middleware.core import parse
from hpp_middleware.core.route import Catalog, resolve
from hpp_middleware.dialects import known
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.dialects.presets import PRESETS, provider
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

LOCAL = {"ollama", "vllm", "llamacpp", "lmstudio"}
HOSTED = {
    "openai",
    "gemini",
    "anthropic",
    "moonshot",
    "mistral",
    "groq",
    "deepseek",
    "xai",
    "openrouter",
    "together",
    "fireworks",
}
PLACES = {"region": "us-east-1", "resource": "acme"}
every = pytest.mark.parametrize("name", sorted(PRESETS))
OPENAIS = sorted(name for name, preset in PRESETS.items() if preset.dialect == "openai")


def test_the_well_known_providers_are_there() -> None:
    assert set(PRESETS) >= LOCAL | HOSTED
    assert {name for name, preset in PRESETS.items() if preset.local} == LOCAL


def made(name: str, **settings: Any) -> Provider:
    """A preset, with the options that its address lacks."""
    return provider(name, **settings) if PRESETS[name].placed else provider(name, options=PLACES, **settings)


@every
def test_a_preset_builds_a_provider_that_knows_where_it_is(name: str) -> None:
    found = made(name, api_key=None if name in LOCAL else "sk-made-up")
    place = urlsplit(found.base_url)
    assert not found.base_url.endswith("/")
    if name in LOCAL:
        assert (place.scheme, place.hostname, found.api_key) == ("http", "127.0.0.1", None)
    else:
        assert (place.scheme, found.api_key) == ("https", "sk-made-up")
        assert PRESETS[name].key_optional or (PRESETS[name].key_variable or "").endswith("_API_KEY")
    assert found.prices == PRESETS[name].prices


@pytest.mark.parametrize("name", OPENAIS)
def test_a_preset_can_be_routed_to_and_called(name: str) -> None:
    price = Price(base=Rates(input=1, output=1))
    catalog = Catalog(
        providers={name: provider(name, api_key="sk-made-up")}, models={f"{name}/m:1/x": Model(price=price)}, aliases={}
    )
    text = {"model": f"{name}/m:1/x", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    request = parse.completion(json.dumps(text).encode(), Limits())
    target = resolve(request, Consumer(id="alice"), catalog)
    call = OpenAI().call(request, target, cap=50, request_id="r")
    sent = json.loads(call.body)
    assert call.url == f"{PRESETS[name].base_url}/chat/completions"
    assert sent["model"] == "m:1/x"
    assert sent[PRESETS[name].cap_fields[0]] == 50
    assert ("stream_options" in sent) is PRESETS[name].include_usage
    assert ("Authorization", "Bearer sk-made-up") in call.headers


def test_a_preset_may_speak_another_dialect() -> None:
    found = provider("anthropic", api_key="sk-made-up")
    known.find(found.dialect).check(found)
    assert (found.dialect, found.prices, found.on_disconnect) == ("anthropic", "anthropic", "cancel")
    assert is_hidden(found, "claude-sonnet-5")
    assert not is_hidden(found, "claude-opus-4-8")


def is_hidden(found: Provider, model: str) -> bool:
    return any(fnmatchcase(model, glob) for glob in found.reasoning)


@pytest.mark.parametrize("name", sorted(HOSTED))
def test_a_hosted_provider_needs_a_key_unless_it_is_put_elsewhere(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        provider(name)
    assert caught.value.param == f"providers.{name}.api_key"
    assert provider(name, base_url="http://127.0.0.1:9/v1").api_key is None


def test_a_stream_is_drained_where_it_is_billed_to_its_end_anyhow_or_that_is_not_known() -> None:
    assert {name for name, preset in PRESETS.items() if preset.on_disconnect == "drain"} == {
        "gemini",
        "bedrock",
        "groq",
        "mistral",
        "moonshot",
        "openrouter",
        "vertex",
    }
    for name, preset in PRESETS.items():
        assert made(name, api_key="sk-made-up").on_disconnect == preset.on_disconnect
    assert provider("groq", api_key="sk-x", on_disconnect="cancel").on_disconnect == "cancel"
    assert Provider(base_url="https://llm.acme.example/v1").on_disconnect == "cancel"


@pytest.mark.parametrize(
    "wrong", [{"on_disconnect": "wait"}, {"drain_s": 0}, {"drain_s": float("nan")}, {"drain_bytes": 0}]
)
def test_a_drain_without_a_bound_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        provider("openai", api_key="sk-x", **wrong)
    assert caught.value.param == next(iter(wrong))


@pytest.mark.parametrize("name", sorted(name for name in PRESETS if not PRESETS[name].placed))
def test_a_preset_of_many_places_needs_to_be_told_which(name: str) -> None:
    wrong: list[dict[str, str]] = [{}, dict.fromkeys(PLACES, "a.example/x"), dict.fromkeys(PLACES, "-a")]
    for options in wrong:
        with pytest.raises(ConfigurationError) as caught:
            provider(name, api_key="sk-x", options=options)
        assert (caught.value.param or "").startswith("options.")
    assert provider(name, api_key="sk-x", base_url="http://127.0.0.1:9").base_url == "http://127.0.0.1:9"


def test_bedrock_needs_no_key_of_its_own() -> None:
    assert provider("bedrock", options=PLACES).api_key is None


def test_settings_win_over_the_preset() -> None:
    found = provider("openai", api_key="sk-x", models=("gpt-5",), cap_fields=("max_tokens",), reasoning=())
    assert (found.models, found.cap_fields, found.reasoning) == (("gpt-5",), ("max_tokens",), ())


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="there is no preset 'opanai'"):
        provider("opanai", api_key="sk-x")


def test_a_key_is_never_shown() -> None:
    assert "sk-made-up" not in repr(provider("openai", api_key="sk-made-up", headers={"X-Also": "sk-made-up"}))


@pytest.mark.parametrize("key", ["", "a\r\nb", "schlüssel", "nul\x00"])
def test_a_key_that_could_not_be_sent_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="api_key"):
        provider("openai", api_key=key)
