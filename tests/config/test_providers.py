"""``[providers.NAME]``: presets, and upstreams that are none."""

from decimal import Decimal
from pathlib import Path

import pytest
from reading import LOCAL, read, refusal

from hpp_middleware.dialects.presets import PRESETS
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.provider import Timeouts


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_that_is_a_preset_needs_nothing_more_than_its_variable_and_its_place(tmp_path: Path, name: str) -> None:
    preset = PRESETS[name]
    environment = {preset.key_variable: "sk-x"} if preset.key_variable else {}
    place = "" if preset.placed else '\noptions = { region = "us-east-1", resource = "acme" }'
    provider = read(tmp_path, f"[providers.{name}]{place}", **environment).providers[name]
    assert provider.base_url == preset.base_url.format(region="us-east-1", resource="acme")
    assert provider.dialect == preset.dialect
    assert provider.api_key == ("sk-x" if preset.key_variable else None)
    assert (provider.cap_fields, provider.include_usage) == (preset.cap_fields, preset.include_usage)
    assert (provider.cost_fields, provider.reasoning, provider.prices) == (
        preset.cost_fields,
        preset.reasoning,
        preset.prices,
    )


def test_fields_that_are_let_in_are_named(tmp_path: Path) -> None:
    text = '[providers.mistral]\nallow_fields = ["guardrails"]'
    assert read(tmp_path, text, MISTRAL_API_KEY="sk-x").providers["mistral"].allow_fields == {"guardrails"}
    assert refusal(tmp_path, text.replace('["guardrails"]', '"guardrails"'), MISTRAL_API_KEY="sk-x") == [
        "providers.mistral.allow_fields: must be an array"
    ]


def test_a_preset_under_another_name_keeps_what_the_preset_knows(tmp_path: Path) -> None:
    provider = read(tmp_path, '[providers.second]\npreset = "openai"', OPENAI_API_KEY="sk-x").providers["second"]
    assert (provider.base_url, provider.prices) == (PRESETS["openai"].base_url, "openai")


def test_a_presets_key_that_is_nowhere_is_named_with_its_variable(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[providers.groq]") == [
        'providers.groq.api_key: is missing; write it as "env:NAME", or set GROQ_API_KEY'
    ]


def test_a_preset_whose_place_is_not_told_names_the_option(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[providers.azure]", AZURE_OPENAI_API_KEY="sk-x") == [
        "providers.azure.options.resource: is missing, or no part of a host's name"
    ]


def test_bedrock_takes_an_account_s_keys_where_there_is_no_api_key(tmp_path: Path) -> None:
    text = '[providers.bedrock]\noptions = { region = "env:AWS_REGION" }'
    provider = read(tmp_path, text, AWS_REGION="eu-west-1").providers["bedrock"]
    assert (provider.base_url, provider.api_key) == ("https://bedrock-runtime.eu-west-1.amazonaws.com", None)


def test_a_presets_usual_key_goes_to_no_other_address(tmp_path: Path) -> None:
    text = '[providers.openai]\nbase_url = "http://127.0.0.1:9/v1"'
    assert read(tmp_path, text, OPENAI_API_KEY="sk-x").providers["openai"].api_key is None


def test_what_is_set_wins_over_the_preset(tmp_path: Path) -> None:
    text = (
        '[providers.openai]\nbase_url = "https://eu.example/v1"\napi_key = "k"\nmodels = ["gpt-5*"]\n'
        'bytes_per_token = 1\ncap_fields = ["max_tokens"]\ninclude_usage = false\n'
        "timeouts = { connect = 1, first_byte = 2.5 }\n"
    )
    provider = read(tmp_path, text).providers["openai"]
    assert (provider.base_url, provider.api_key, provider.models) == ("https://eu.example/v1", "k", ("gpt-5*",))
    assert (provider.bytes_per_token, provider.cap_fields, provider.include_usage) == (1, ("max_tokens",), False)
    assert provider.timeouts == Timeouts(connect=1.0, first_byte=2.5)
    assert provider.reasoning == PRESETS["openai"].reasoning


def test_an_unknown_preset_is_refused_and_the_presets_are_named(tmp_path: Path) -> None:
    (problem,) = refusal(tmp_path, '[providers.a]\npreset = "opanai"')
    assert problem.startswith("providers.a.preset: there is no preset 'opanai'; there are openai, ")


def test_a_provider_that_is_no_preset_needs_an_address(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[providers.acme]") == ["providers.acme.base_url: is missing, and 'acme' is no preset"]


@pytest.mark.parametrize("url", ["", "api.example/v1", "ftp://x/v1", "https://", "https://x/v1?key=1", "http://x /v1"])
def test_an_address_that_is_no_http_url_is_refused(tmp_path: Path, url: str) -> None:
    problems = refusal(tmp_path, f'[providers.acme]\nbase_url = "{url}"')
    assert problems == ["providers.acme.base_url: must be a URL that begins with http:// or https://"]


def test_a_dialect_that_is_not_spoken_is_refused(tmp_path: Path) -> None:
    (problem,) = refusal(tmp_path, LOCAL + 'dialect = "esperanto"')
    assert problem.startswith("providers.local.dialect: 'esperanto' is no dialect that is installed; there are openai")


def test_headers_that_the_router_sets_and_names_that_are_none_are_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, LOCAL + 'headers = { Host = "x", "a b" = "x", "X-Fine" = "x" }')
    assert problems == [
        "providers.local.headers.Host: is set by the router itself",
        'providers.local.headers."a b": is no header\'s name',
    ]


def test_an_output_cap_under_a_name_that_no_provider_knows_is_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, LOCAL + 'cap_fields = ["max_token"]')
    assert problems == ["providers.local.cap_fields[0]: must be 'max_tokens' or 'max_completion_tokens'"]


def test_what_becomes_of_a_stream_whose_client_left_is_the_presets_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    text = '[providers.groq]\n[providers.openai]\non_disconnect = "drain"\ndrain_s = 5.0\ndrain_bytes = 9\n' + LOCAL
    found = read(tmp_path, text, GROQ_API_KEY="gsk-x", OPENAI_API_KEY="sk-x").providers
    assert {name: provider.on_disconnect for name, provider in found.items()} == {
        "groq": "drain",
        "openai": "drain",
        "local": "cancel",
    }
    assert (found["groq"].drain_s, found["groq"].drain_bytes) == (60.0, 8 * 1024 * 1024)
    assert (found["openai"].drain_s, found["openai"].drain_bytes) == (5.0, 9)


def test_the_way_to_a_provider_is_what_the_file_says(tmp_path: Path) -> None:
    text = LOCAL + 'transport = "httpx"\nproxy = "env:PROXY"\nca_file = "own.pem"\nconnections = 7\n'
    provider = read(tmp_path, text, PROXY="http://user:secret@127.0.0.1:1").providers["local"]
    assert (provider.transport, provider.connections) == ("httpx", 7)
    assert (provider.proxy, provider.ca_file) == ("http://user:secret@127.0.0.1:1", str(tmp_path / "own.pem"))
    assert "secret" not in repr(provider)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('transport = "curl"', "transport: must be 'auto', 'native', 'aiohttp' or 'httpx'"),
        ('proxy = "socks5://127.0.0.1:1"', "proxy: must begin with http://"),
        (
            'transport = "native"\nproxy = "http://127.0.0.1:1"',
            "transport: cannot be native with a proxy: set aiohttp or httpx",
        ),
        ("connections = 0", "connections: must be greater than or equal to 1"),
    ],
)
def test_a_way_that_is_none_is_refused(tmp_path: Path, line: str, problem: str) -> None:
    assert refusal(tmp_path, LOCAL + line) == [f"providers.local.{problem}"]


def test_a_breaker_is_set_in_part_or_switched_off(tmp_path: Path) -> None:
    text = LOCAL + "breaker = { failures = 3, cooldown = 5 }"
    assert read(tmp_path, text).providers["local"].breaker == Breaker(failures=3, cooldown=5)
    assert read(tmp_path, LOCAL).providers["local"].breaker == Breaker()
    assert read(tmp_path, LOCAL + "breaker = false").providers["local"].breaker is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("true", "providers.local.breaker: must be a table, or false for none"),
        ("{ failures = 0 }", "providers.local.breaker.failures: must be greater than or equal to 1"),
        ("{ rate = 1.5 }", "providers.local.breaker.rate: must be above 0 and at most 1"),
        (
            "{ longest = 3 }",
            "providers.local.breaker.longest: must be at least breaker.cooldown, and at most a day",
        ),
        ("{ cooldwon = 3 }", "providers.local.breaker.cooldwon: unknown key; did you mean cooldown?"),
    ],
)
def test_a_breaker_that_cannot_be_is_named(tmp_path: Path, value: str, message: str) -> None:
    assert refusal(tmp_path, f"{LOCAL}breaker = {value}") == [message]


EU = '[[providers.local.upstreams]]\nname = "eu"\n'


def test_upstreams_take_what_they_leave_out_from_their_provider(tmp_path: Path) -> None:
    text = (
        LOCAL
        + 'api_key = "k"\nchoose = "least_busy"\noptions = { a = "1", b = "2" }\n'
        + EU
        + 'api_key = "env:EU_KEY"\n'
        'base_url = "https://eu.example/v1"\noptions = { b = "3" }\nweight = 2.5\nprice_factor = "1.1"\n'
        '[[providers.local.upstreams]]\nname = "us"\n'
    )
    provider = read(tmp_path, text, EU_KEY="eu-secret").providers["local"]
    assert (provider.choose, list(provider.parts)) == ("least_busy", ["eu", "us"])
    eu, us = provider.parts.values()
    assert (eu.base_url, eu.api_key, eu.options) == ("https://eu.example/v1", "eu-secret", {"a": "1", "b": "3"})
    assert (us.base_url, us.api_key, us.options) == ("http://127.0.0.1:9/v1", "k", {"a": "1", "b": "2"})
    assert [(each.weight, each.price_factor) for each in provider.upstreams] == [(2.5, Decimal("1.1")), (1, 1)]
    assert "eu-secret" not in repr(provider)


def test_a_presets_place_and_key_may_be_its_upstreams_own(tmp_path: Path) -> None:
    text = "".join(
        f'[[providers.azure.upstreams]]\nname = "{name}"\napi_key = "k-{name}"\n'
        f'options = {{ resource = "acme-{name}" }}\n'
        for name in ("eu", "us")
    )
    provider = read(tmp_path, text).providers["azure"]
    assert [part.base_url for part in provider.parts.values()] == [
        "https://acme-eu.openai.azure.com",
        "https://acme-us.openai.azure.com",
    ]
    assert [part.api_key for part in provider.parts.values()] == ["k-eu", "k-us"]


def test_one_that_is_no_preset_may_be_told_by_its_upstreams_alone(tmp_path: Path) -> None:
    provider = read(tmp_path, EU + 'base_url = "https://eu.example/v1"').providers["local"]
    assert provider.parts["eu"].base_url == "https://eu.example/v1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EU + "weight = 0.0", "providers.local.upstreams[0].weight: must be greater than 0"),
        (
            EU + 'price_factor = "x"',
            'providers.local.upstreams[0].price_factor: must be a number in quotes, such as "1.1"',
        ),
        (EU + 'price_factor = "-1"', "providers.local.upstreams[0].price_factor: must be from 0 to 1000"),
        (EU + EU, "providers.local.upstreams[1].name: is another one's, too"),
        (EU + 'region = "x"', "providers.local.upstreams[0].region: unknown key"),
        (
            '[[providers.local.upstreams]]\nname = "a b"',
            "providers.local.upstreams[0].name: must be 1 to 64 letters, digits, - and _",
        ),
        ("[[providers.local.upstreams]]", "providers.local.upstreams[0].name: is missing"),
    ],
)
def test_an_upstream_that_cannot_be_is_named_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert refusal(tmp_path, LOCAL + text) == [message]
