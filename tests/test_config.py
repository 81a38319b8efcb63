"""The configuration file: what it comes to, and how every mistake in it is named."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from hpp_middleware.config import Settings, load
from hpp_middleware.config.sections import (
    ConsumerSection,
    File,
    LimitsSection,
    ModelSection,
    ProviderSection,
    Section,
    TimeoutsSection,
)
from hpp_middleware.dialects.presets import PRESETS
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.stores.memory import MemoryStore
from hpp_middleware.stores.sqlite import SQLiteStore
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Limits, Timeouts

EXAMPLE = Path(__file__).parent.parent / "examples" / "router.toml"
LOCAL = '[providers.local]\nbase_url = "http://127.0.0.1:9/v1"\n'
KEY = "a-secret-of-20-characters"


def read(folder: Path, text: str, **environment: str) -> Settings:
    path = folder / "router.toml"
    path.write_text(text, "utf-8")
    return load(path, environment=environment)


def refusal(folder: Path, text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text, **environment)
    return str(caught.value).split("\n")


# --- the file ---


def test_an_empty_file_is_a_sqlite_router_with_defaults(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    assert settings.database == tmp_path / "hpp.db"
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
    ("text", "path"),
    [
        ("storage = 1", "storage"),
        ("[store]\npath = 1", "store.path"),
        ('[providers.openai]\nbase_ulr = "x"', "providers.openai.base_ulr"),
        ("[providers.openai]\ntimeouts = { read = 1 }", "providers.openai.timeouts.read"),
        ('[models."openai/gpt-5"]\nprompt = "1"', 'models."openai/gpt-5".prompt'),
        ('[errors]\nstyle = "simple"', "errors.style"),
        ('[keys]\nsalt = "x"', "keys.salt"),
        ('[consumers.alice]\nkey = "x"', "consumers.alice.key"),
        ('[consumers."a b"]\nkey = "x"', 'consumers."a b".key'),
        ("[limits]\nbody = 1", "limits.body"),
        ("[server]\nworkers = 2", "server.workers"),
        ('[billing]\nmissing = "free"', "billing.missing"),
    ],
)
def test_an_unknown_key_is_refused_with_its_path(tmp_path: Path, text: str, path: str) -> None:
    assert refusal(tmp_path, text, OPENAI_API_KEY="sk-x") == [f"{path}: unknown key"]


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
        ("[aliases]\na = 1", "aliases.a: must be a string"),
        ("[server]\nport = 65536", "server.port: must be less than or equal to 65535"),
        ("[limits]\nn = 0", "limits.n: must be greater than or equal to 1"),
        ("[limits]\nbody_s = 0", "limits.body_s: must be greater than 0"),
        ('[billing]\norphan = "x"', "billing.orphan: must be 'estimate', 'hold' or 'free'"),
        ('[billing]\nmissing_usage = "x"', "billing.missing_usage: must be 'estimate', 'hold' or 'free'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_path(tmp_path: Path, text: str, problem: str) -> None:
    assert refusal(tmp_path, text) == [problem]


def test_what_the_sections_offer_is_what_the_gateway_knows() -> None:
    assert set(LimitsSection.model_fields) == {each.name for each in fields(Limits)}
    assert set(TimeoutsSection.model_fields) == {each.name for each in fields(Timeouts)}


# --- [store] ---


def test_three_slashes_are_relative_to_the_file_and_four_are_absolute(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert read(tmp_path, '[store]\nurl = "sqlite:///data/a.db"').database == tmp_path / "data" / "a.db"
    assert read(tmp_path, f'[store]\nurl = "sqlite:///{tmp_path}/b.db"').database == tmp_path / "b.db"


def test_the_stores_are_built_as_named(tmp_path: Path) -> None:
    assert isinstance(read(tmp_path, '[store]\nurl = "memory:"').store(), MemoryStore)
    store = read(tmp_path, "").store()
    assert isinstance(store, SQLiteStore)
    assert store.path == tmp_path / "hpp.db"


@pytest.mark.parametrize(
    "url",
    ["", "hpp.db", "sqlite://hpp.db", "sqlite:///", "sqlite:///:memory:", "memory", "redis://user:hunter2@host/0"],
)
def test_another_kind_of_store_is_refused_and_the_kinds_are_named(tmp_path: Path, url: str) -> None:
    (problem,) = refusal(tmp_path, f'[store]\nurl = "{url}"')
    assert problem.startswith('store.url: must be "sqlite:///FILE"')
    assert '"memory:"' in problem
    assert "hunter2" not in problem


def test_a_store_in_a_directory_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, '[store]\nurl = "sqlite:///no/hpp.db"') == [
        f"store.url: there is no directory {tmp_path / 'no'}"
    ]


def test_a_store_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "hpp.db").mkdir()
    assert refusal(tmp_path, "") == [f"store.url: {tmp_path / 'hpp.db'} is a directory"]


# --- secrets ---


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
    assert problems == [f"{path}: the environment variable NO_SUCH is not set"]


def test_env_without_a_name_is_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[providers.openai]\napi_key = "env:"')
    assert problems == ['providers.openai.api_key: must name a variable: "env:NAME"']


def test_a_secret_that_no_header_can_carry_is_refused_and_not_repeated(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[providers.openai]\napi_key = "env:K"', K="hunter2\r\nX: y")
    assert problems == ["providers.openai.api_key: must be printable ASCII"]


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


# --- [keys] ---


def test_the_pepper_is_the_usual_variable_where_that_is_set(tmp_path: Path) -> None:
    assert read(tmp_path, "", HPP_PEPPER="sixteen-bytes-ok").pepper == b"sixteen-bytes-ok"


@pytest.mark.parametrize("text", ["", '[keys]\npepper = "env:HPP_PEPPER"', '[keys]\npepper = "short"'])
def test_a_pepper_that_is_too_short_is_refused(tmp_path: Path, text: str) -> None:
    assert refusal(tmp_path, text, HPP_PEPPER="short") == ["keys.pepper must have at least 16 bytes"]


def test_the_usual_variable_must_be_set_where_the_file_names_it(tmp_path: Path) -> None:
    problems = refusal(tmp_path, '[keys]\npepper = "env:HPP_PEPPER"')
    assert problems == ["keys.pepper: the environment variable HPP_PEPPER is not set"]


# --- [providers.NAME] ---


@pytest.mark.parametrize("name", PRESETS)
def test_a_name_that_is_a_preset_needs_nothing_more_than_its_variable(tmp_path: Path, name: str) -> None:
    preset = PRESETS[name]
    environment = {preset.key_variable: "sk-x"} if preset.key_variable else {}
    provider = read(tmp_path, f"[providers.{name}]", **environment).providers[name]
    assert provider.base_url == preset.base_url
    assert provider.api_key == (None if preset.local else "sk-x")
    assert (provider.cap_fields, provider.include_usage) == (preset.cap_fields, preset.include_usage)
    assert (provider.cost_fields, provider.reasoning, provider.prices) == (
        preset.cost_fields,
        preset.reasoning,
        preset.prices,
    )


def test_a_preset_under_another_name_keeps_what_the_preset_knows(tmp_path: Path) -> None:
    provider = read(tmp_path, '[providers.second]\npreset = "openai"', OPENAI_API_KEY="sk-x").providers["second"]
    assert (provider.base_url, provider.prices) == (PRESETS["openai"].base_url, "openai")


def test_a_presets_key_that_is_nowhere_is_named_with_its_variable(tmp_path: Path) -> None:
    assert refusal(tmp_path, "[providers.groq]") == [
        'providers.groq.api_key: is missing; write it as "env:NAME", or set GROQ_API_KEY'
    ]


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
    assert refusal(tmp_path, LOCAL + 'dialect = "anthropic"') == [
        "providers.local.dialect: 'anthropic' is no dialect that this version speaks; it speaks: openai"
    ]


def test_headers_that_the_router_sets_and_names_that_are_none_are_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, LOCAL + 'headers = { Host = "x", "a b" = "x", "X-Fine" = "x" }')
    assert problems == [
        "providers.local.headers.Host: is set by the router itself",
        'providers.local.headers."a b": is no header\'s name',
    ]


def test_an_output_cap_under_a_name_that_no_provider_knows_is_refused(tmp_path: Path) -> None:
    problems = refusal(tmp_path, LOCAL + 'cap_fields = ["max_token"]')
    assert problems == ["providers.local.cap_fields[0]: must be 'max_tokens' or 'max_completion_tokens'"]


# --- [models] ---


def test_prices_are_exact_dollars_per_million_tokens(tmp_path: Path) -> None:
    text = (
        '[models."local/m"]\ninput = "1.25"\noutput = "10"\ncache_read = "0.0375"\ncache_write = "0"\n'
        'reasoning = "12"\ninput_audio = "40"\noutput_audio = "80"\n'
    )
    model = read(tmp_path, LOCAL + text).models["local/m"]
    assert model.price == Price(
        base=Rates(
            input=1_250_000_000_000,
            output=10_000_000_000_000,
            cache_read=37_500_000_000,
            cache_write=0,
            reasoning=12_000_000_000_000,
            input_audio=40_000_000_000_000,
            output_audio=80_000_000_000_000,
        )
    )


def test_a_model_carries_what_is_known_of_it(tmp_path: Path) -> None:
    text = (
        '[models."local/a/b:c"]\nname = "M"\ndescription = "d"\ncontext = 4096\nmax_output = 512\ndefault_cap = 256\n'
        "image_tokens = 100\ntool = true\nstructured = false\nreasoning_model = true\n"
        'knowledge_cutoff = "2026-01"\ninput_modalities = ["text", "image"]\noutput_modalities = ["text"]\n'
    )
    model = read(tmp_path, LOCAL + text).models["local/a/b:c"]
    assert model.price is None
    assert (model.name, model.description, model.knowledge_cutoff) == ("M", "d", "2026-01")
    assert (model.context, model.max_output, model.default_cap, model.image_tokens) == (4096, 512, 256, 100)
    assert (model.tool, model.structured, model.reasoning) == (True, False, True)
    assert (model.input_modalities, model.output_modalities) == (("text", "image"), ("text",))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("1.25", 'must be in quotes, which keep it exact: "1.25"'),
        ("1", 'must be in quotes, which keep it exact: "1"'),
        ("true", 'must be a string, such as "2.50"'),
        ('"-1"', "must be a number of at least 0"),
        ('"nan"', "must be a number of at least 0"),
        ('"one"', "is not a decimal number"),
        ('"0.0000000000001"', "has more than 12 decimal places"),
    ],
)
def test_a_price_that_is_no_exact_decimal_in_quotes_is_refused(tmp_path: Path, value: str, problem: str) -> None:
    problems = refusal(tmp_path, LOCAL + f'[models."local/m"]\ninput = {value}\noutput = "1"')
    assert problems == [f'models."local/m".input: {problem}']


@pytest.mark.parametrize(
    ("given", "missing"),
    [('input = "1"', ["output"]), ('output = "1"', ["input"]), ('cache_read = "1"', ["input", "output"])],
)
def test_half_a_price_is_refused(tmp_path: Path, given: str, missing: list[str]) -> None:
    problems = refusal(tmp_path, LOCAL + f'[models."local/m"]\n{given}')
    assert problems == [f'models."local/m".{name}: is missing; free is written "0"' for name in missing]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[models."nowhere/m"]\ninput = "1"\noutput = "1"', "nowhere"),
        ('[models."local"]\ninput = "1"\noutput = "1"', "provider/model"),
        ('[aliases]\nfast = "local/none"', "aliases.fast"),
    ],
)
def test_a_model_or_alias_of_something_that_is_not_there_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read(tmp_path, LOCAL + text).gateway()


# --- [consumers.NAME] ---


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
    assert problems == [f"consumers.alice.keys[1]: {problem}"]


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


# --- the rest ---


def test_everything_reaches_the_gateway(tmp_path: Path) -> None:
    text = (
        LOCAL
        + '[models."local/m"]\ninput = "0"\noutput = "0"\n[aliases]\nfast = "local/m"\n[errors]\nformat = "simple"\n'
        '[billing]\nmissing_usage = "hold"\norphan = "free"\n[limits]\nn = 2\nbody_s = 1.5\n'
        f'[consumers.alice]\nquota = "1"\nkeys = ["{KEY}"]\n'
    )
    gateway = read(tmp_path, text, HPP_PEPPER="sixteen-bytes-ok").gateway()
    assert [target.id for target in gateway.catalog.targets()] == ["local/m"]
    assert gateway.catalog.aliases == {"fast": "local/m"}
    assert gateway.limits == Limits(n=2, body_s=1.5)
    setup = gateway.setup
    assert (setup.error_format, setup.missing_usage, setup.orphan) == ("simple", "hold", "free")
    assert setup.pepper == b"sixteen-bytes-ok"
    assert setup.consumers == {"alice": Declared(quota=10**9, keys=(KEY,))}
    assert isinstance(setup.store, SQLiteStore)


@pytest.mark.parametrize("origin", ["*", "app.example", "https://*.example", "https://app.example/path"])
def test_an_origin_that_is_not_exact_is_refused(tmp_path: Path, origin: str) -> None:
    assert refusal(tmp_path, f'[server]\ncors_origins = ["{origin}"]') == [
        "server.cors_origins[0]: must be an exact origin, such as https://app.example.org"
    ]


# --- the example ---


def documented() -> dict[str, str]:
    """The variables that the example's own head names, with a value each."""
    (line,) = [line for line in EXAMPLE.read_text("utf-8").split("\n") if line.startswith("#     export ")]
    return {name: f"{name}-of-an-example" for name in re.findall(r"([A-Z_]+)=", line)}


def test_the_example_is_good_with_only_the_variables_that_it_documents() -> None:
    settings = load(EXAMPLE, environment=documented())
    gateway = settings.gateway()
    assert set(settings.providers) == {"openai", "research", "acme"}
    assert gateway.catalog.find("acme/acme-large") is not None
    assert settings.consumers["alice"].quota == 9_000 * 10**9


@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "ACME_API_KEY", "ALICE_KEY"])
def test_the_example_names_each_variable_that_it_needs(variable: str) -> None:
    environment = {name: value for name, value in documented().items() if name != variable}
    with pytest.raises(ConfigurationError, match=f"the environment variable {variable} is not set"):
        load(EXAMPLE, environment=environment)


def test_the_example_shows_every_key_of_every_section() -> None:
    text = EXAMPLE.read_text("utf-8")
    sections: list[type[Section]] = [ProviderSection, ModelSection, ConsumerSection, TimeoutsSection]
    sections += [
        field.annotation
        for field in File.model_fields.values()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    ]
    assert len(sections) == 10
    missing = [
        f"{section.__name__}.{key}"
        for section in sections
        for key in section.model_fields
        if not re.search(rf"(^|[{{,] ?|^# ){key} = ", text, re.MULTILINE)
    ]
    assert missing == []
    assert [name for name in File.model_fields if not re.search(rf"^\[{name}[\].]", text, re.MULTILINE)] == []


def test_the_examples_defaults_are_the_defaults() -> None:
    settings = load(EXAMPLE, environment=documented())
    assert settings.limits == Limits()
    for name in ("store", "errors", "server", "billing"):
        assert getattr(settings.file, name) == File.model_fields[name].default
    assert settings.providers["openai"].timeouts == Timeouts()
