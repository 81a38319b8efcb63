"""Which provider and model a request goes to, and at what price."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from hpp_middleware.core.route import AUTO, Catalog, resolve
from hpp_middleware.errors import ConfigurationError, RequestError
from hpp_middleware.types.completion import Drawing, Request, Target
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

OWN = Price(base=Rates(input=1, output=2))
LISTED = Price(base=Rates(input=3, output=4), source="list")
FREE = Price(base=Rates(input=0, output=0))


class List:
    """A price list of a few models; asked for anything else, it knows nothing."""

    def __init__(self, known: dict[str, dict[str, tuple[Price, Model]]]) -> None:
        self.known = known

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        return self.known.get(provider, {}).get(model)

    def models(self, provider: str) -> Sequence[str]:
        return list(self.known.get(provider, {}))


LIST = List(
    {
        "openai": {
            "gpt-5": (LISTED, Model(context=400_000, tool=True, image_tokens=700, created=7, name="GPT-5")),
            "gpt-5-mini": (LISTED, Model()),
            "o3": (LISTED, Model()),
        },
        "openrouter": {"meta-llama/llama-3": (LISTED, Model())},
        "x-ai": {"grok": (LISTED, Model())},
    }
)
OPENAI = Provider(base_url="https://o.test/v1", models=("gpt-*", "o3"), reasoning=("o3*",))
PROVIDERS = {
    "openai": OPENAI,
    "openrouter": Provider(base_url="https://r.test/v1"),
    "ollama": Provider(base_url="http://127.0.0.1:1/v1"),
    "grok": Provider(base_url="https://g.test/v1", prices="x-ai"),
}


def catalog(models: dict[str, Model] | None = None, aliases: dict[str, str] | None = None, **more: Any) -> Catalog:
    return Catalog(**{"providers": PROVIDERS, "models": models or {}, "aliases": aliases or {}, "prices": LIST, **more})


def find(found: Catalog, model_id: str) -> Target:
    target = found.find(model_id)
    assert target is not None
    return target


def going(model: str, found: Catalog, *, models: tuple[str, ...] | None = None, **fields: Any) -> Target:
    request = Request(fields={}, model=model, **fields)
    return resolve(request, Consumer(id="alice", models=models), found)


def refused(model: str, found: Catalog, *, models: tuple[str, ...] | None = None, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        going(model, found, models=models, **fields)
    return caught.value


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("ollama/gpt-oss:120b", "ollama", "gpt-oss:120b"),
        ("openrouter/meta-llama/llama-3", "openrouter", "meta-llama/llama-3"),
        ("openrouter//odd//", "openrouter", "/odd//"),
    ],
)
def test_only_the_first_slash_splits(model: str, provider: str, name: str) -> None:
    target = going(model, catalog({model: Model(price=OWN)}))
    assert (target.id, target.provider_name, target.model_name) == (model, provider, name)
    assert target.provider is PROVIDERS[provider]


def test_the_operators_price_wins_over_the_list() -> None:
    assert going("openai/gpt-5", catalog()).price is LISTED
    assert going("openai/gpt-5", catalog({"openai/gpt-5": Model(price=OWN)})).price is OWN
    assert going("openai/gpt-5", catalog({"openai/gpt-5": Model(price=FREE)})).price is FREE
    assert going("openai/gpt-5", catalog({"openai/gpt-5": Model(context=1)})).price is LISTED


def test_the_list_is_asked_by_its_own_name_for_the_provider() -> None:
    assert going("grok/grok", catalog()).price is LISTED


def test_what_configuration_says_wins_even_if_it_is_no_or_zero() -> None:
    known = find(catalog({"openai/gpt-5": Model(tool=False, image_tokens=0, context=5)}), "openai/gpt-5").model
    assert (known.tool, known.image_tokens, known.context) == (False, 0, 5)
    assert (known.name, known.created) == ("GPT-5", 7)


class Known:
    """A catalogue of capabilities, of one model."""

    def __init__(self, model: Model, provider: str = "openai", name: str = "gpt-5") -> None:
        self.known = {(provider, name): model}

    def find(self, provider: str, model: str) -> Model | None:
        return self.known.get((provider, model))


def test_what_a_model_can_do_is_told_by_configuration_then_the_catalogue_then_the_price_list() -> None:
    known = Known(Model(context=300_000, max_output=128_000, tool=False, structured=True, image_tokens=0))
    model = find(
        catalog({"openai/gpt-5": Model(context=5, structured=False)}, capabilities=known), "openai/gpt-5"
    ).model
    assert (model.context, model.structured) == (5, False)
    assert (model.max_output, model.tool, model.image_tokens) == (128_000, False, 0)
    assert (model.name, model.created) == ("GPT-5", 7)
    listed = find(catalog(capabilities=known), "openai/gpt-5")
    assert (listed.model.context, listed.model.name, listed.price) == (300_000, "GPT-5", LISTED)
    assert find(catalog(capabilities=known), "openai/o3").model == Model(reasoning=True)


def test_a_catalogue_prices_nothing_and_lets_nothing_in() -> None:
    known = Known(Model(price=FREE, context=1), "openai", "gpt-new")
    assert refused("openai/gpt-new", catalog(capabilities=known)).code == "unsupported_model"
    assert (
        refused("openai/gpt-new", catalog({"openai/gpt-new": Model()}, capabilities=known)).code == "unsupported_model"
    )
    own = find(catalog({"openai/gpt-new": Model(price=OWN)}, capabilities=known), "openai/gpt-new")
    assert (own.price, own.model.context) == (OWN, 1)


def test_the_catalogue_is_asked_by_the_price_lists_name_for_the_provider() -> None:
    assert find(catalog(capabilities=Known(Model(context=9), "x-ai", "grok")), "grok/grok").model.context == 9


def test_a_maximum_that_only_the_catalogue_tells_is_not_vouched_for() -> None:
    known = Known(Model(max_output=10))
    assert not find(catalog(capabilities=known), "openai/gpt-5").vouched
    assert not find(catalog({"openai/gpt-5": Model(price=OWN)}, capabilities=known), "openai/gpt-5").vouched
    told = find(catalog({"openai/gpt-5": Model(max_output=20)}, capabilities=known), "openai/gpt-5")
    assert (told.vouched, told.model.max_output) == (True, 20)
    assert find(catalog(capabilities=Known(Model(tool=True))), "openai/gpt-5").vouched
    assert find(catalog(), "openai/gpt-5").vouched


def test_hidden_reasoning_is_known_by_the_providers_globs_unless_told() -> None:
    assert find(catalog(), "openai/o3").model.reasoning is True
    assert find(catalog(), "openai/gpt-5").model.reasoning is None
    assert find(catalog({"openai/o3": Model(reasoning=False)}), "openai/o3").model.reasoning is False


@pytest.mark.parametrize(
    "model",
    [
        "openai/unpriced",
        "ollama/llama",
        "unknown/gpt-5",
        "gpt-5",
        "openai/",
        "openai",
        "/gpt-5",
        "OpenAI/gpt-5",
        "hpprouter/other",
        "openai/gpt-5/",
    ],
)
def test_an_unknown_or_unpriced_model_is_a_400(model: str) -> None:
    error = refused(model, catalog())
    assert (error.status, error.code, error.param) == (400, "unsupported_model", "model")
    assert model in error.message


def test_a_model_without_a_price_is_refused_even_if_it_is_configured() -> None:
    assert refused("ollama/llama", catalog({"ollama/llama": Model(context=1)})).code == "unsupported_model"
    assert refused("openai/gpt-5", catalog(prices=None)).code == "unsupported_model"
    assert going("ollama/llama", catalog({"ollama/llama": Model(price=FREE)})).price is FREE


def test_globs_let_listed_models_in_and_configured_ones_need_none() -> None:
    providers = {"openai": Provider(base_url="https://o.test", models=("gpt-5-*",))}
    assert refused("openai/gpt-5", catalog(providers=providers)).code == "unsupported_model"
    assert going("openai/gpt-5-mini", catalog(providers=providers)).id == "openai/gpt-5-mini"
    assert going("openai/gpt-5", catalog({"openai/gpt-5": Model()}, providers=providers)).id == "openai/gpt-5"


class Caseless(List):
    """A price list that takes names in any letter case, as genai-prices does."""

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        return super().find(provider, model.lower())


def test_a_model_of_the_operators_has_no_other_price_in_other_letters() -> None:
    own = {"openai/gpt-5": Model(price=OWN), "openai/O3": Model(price=OWN), "openai/o3": Model(price=FREE)}
    found = catalog(own, prices=Caseless(LIST.known), providers={"openai": Provider(base_url="https://o.test")})
    assert going("openai/gpt-5", found).price is OWN
    assert refused("openai/GPT-5", found).code == "unsupported_model"
    assert (going("openai/O3", found).price, going("openai/o3", found).price) == (OWN, FREE)
    assert going("openai/GPT-5-mini", found).price is LISTED
    listed = catalog(prices=Caseless(LIST.known), providers={"openai": replace(OPENAI, models=("*",))})
    assert find(listed, "openai/O3").model.reasoning is True


def test_auto_without_rules_is_its_own_refusal() -> None:
    error = refused(AUTO, catalog())
    assert (error.status, error.code, error.param) == (400, "smart_routing_failed", "model")


def test_an_alias_is_resolved_once_and_billed_under_its_target() -> None:
    found = catalog(aliases={"fast": "openai/gpt-5-mini", "openai/gpt-4": "openai/gpt-5"})
    assert going("fast", found).id == "openai/gpt-5-mini"
    assert going("openai/gpt-4", found).id == "openai/gpt-5"


def test_the_allow_list_is_asked_about_the_resolved_model() -> None:
    found = catalog(aliases={"fast": "openai/gpt-5-mini"})
    error = refused("fast", found, models=("fast", "openrouter/*"))
    assert (error.status, error.code, error.param, error.type) == (
        403,
        "model_not_allowed",
        "model",
        "permission_error",
    )
    assert refused("openai/gpt-5", found, models=()).status == 403
    assert going("fast", found, models=("openai/*-mini",)).id == "openai/gpt-5-mini"
    assert refused("openai/unpriced", found, models=()).code == "unsupported_model"


HEARING = Price(base=Rates(input=1, output=2, input_audio=5))
SPEAKING = Price(base=Rates(input=1, output=2, output_audio=5))
DRAWING = Price(base=Rates(input=1, output=2, output_image=5))
HALF = Price(base=HEARING.base, tiers=((100, Rates(input=1, output=2)),))


@pytest.mark.parametrize(
    ("price", "fields", "param"),
    [
        (OWN, {"audio_input": True}, "messages"),
        (SPEAKING, {"audio_input": True}, "messages"),
        (HALF, {"audio_input": True}, "messages"),
        (HEARING, {"audio_input": True}, None),
        (OWN, {"output_modalities": frozenset({"audio"})}, "modalities"),
        (HEARING, {"output_modalities": frozenset({"audio"})}, "modalities"),
        (SPEAKING, {"output_modalities": frozenset({"audio"})}, None),
        (SPEAKING, {"output_modalities": frozenset({"audio", "image"})}, "modalities"),
        (SPEAKING, {"output_modalities": frozenset({"image"})}, "modalities"),
        (DRAWING, {"output_modalities": frozenset({"image"})}, None),
        (DRAWING, {"output_modalities": frozenset({"image", "video"})}, "modalities"),
    ],
)
def test_audio_and_images_are_never_billed_as_text(price: Price, fields: dict[str, Any], param: str | None) -> None:
    found = catalog({"ollama/m": Model(price=price)})
    if param is None:
        assert going("ollama/m", found, **fields).price is price
    else:
        error = refused("ollama/m", found, **fields)
        assert (error.status, error.code, error.param) == (400, "unsupported_model", param)


def test_every_model_that_can_be_asked_for_is_listed_the_operators_first() -> None:
    found = catalog({"ollama/m": Model(price=FREE), "ollama/unpriced": Model(), "openai/gpt-5": Model(price=OWN)})
    ids = [target.id for target in found.targets()]
    assert ids == [
        "ollama/m",
        "openai/gpt-5",
        "openai/gpt-5-mini",
        "openai/o3",
        "openrouter/meta-llama/llama-3",
        "grok/grok",
    ]
    assert all(going(model, found) for model in ids)


@pytest.mark.parametrize("name", ["", "a/b", "hpprouter"])
def test_a_provider_name_that_could_not_be_asked_for_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        catalog(providers={name: Provider(base_url="https://o.test")})


@pytest.mark.parametrize(
    "model_id", ["gpt-5", "openai/", "/gpt-5", "nobody/gpt-5", "openai/gpt 5", "openai/é", "openai/a\r\nb"]
)
def test_a_configured_model_that_could_not_be_asked_for_is_refused(model_id: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        catalog({model_id: Model(price=OWN)})
    assert caught.value.param == f"models.{model_id}"


@pytest.mark.parametrize("target", ["openai/unpriced", "nobody/x", "fast", AUTO])
def test_an_alias_must_lead_somewhere(target: str) -> None:
    with pytest.raises(ConfigurationError, match=r"aliases\.fast"):
        catalog(aliases={"fast": target})


def test_who_names_a_model_that_only_a_price_list_knows_is_told_that_there_is_none() -> None:
    with pytest.raises(ConfigurationError, match=r"aliases.small: 'openai/gpt-5' is .* no price list: .*\[prices\]"):
        catalog(aliases={"small": "openai/gpt-5"}, prices=None)
    with pytest.raises(ConfigurationError, match=r"aliases.small: 'openai/gpt-9' is unknown or has no price$"):
        catalog(aliases={"small": "openai/gpt-9"})


def test_an_alias_leads_to_nothing_that_could_not_stand_in_a_header() -> None:
    with pytest.raises(ConfigurationError, match=r"aliases\.fast"):
        catalog(aliases={"fast": "openai/a b"}, prices=List({"openai": {"a b": (LISTED, Model())}}))


def test_what_is_looked_up_again_is_up_to_date() -> None:
    models = {"openai/gpt-own": Model(price=OWN)}
    providers = dict(PROVIDERS)
    prices = List({"openai": {"gpt-5": (LISTED, Model())}})
    found = catalog(models, providers=providers, prices=prices)
    assert find(found, "openai/gpt-own") is find(found, "openai/gpt-own")
    models["openai/gpt-own"] = Model(price=FREE)
    assert find(found, "openai/gpt-own").price == FREE
    providers["openai"] = Provider(base_url="https://new.test/v1")
    assert find(found, "openai/gpt-own").provider.base_url == "https://new.test/v1"
    assert find(found, "openai/gpt-5").price == LISTED
    prices.known["openai"]["gpt-5"] = (FREE, Model())
    assert find(found, "openai/gpt-5").price == FREE
    del models["openai/gpt-own"], providers["openai"]
    assert found.find("openai/gpt-own") is None
    assert found.find("openai/gpt-5") is None


EMBEDDING = Price(base=Rates(input=1, output=0), only="embeddings")
PAINTER = Price(base=Rates(input=1, output=2, output_image=3), only="images")
MEDIA = {"openai/gpt-embed": Model(price=EMBEDDING), "openai/gpt-draw": Model(price=PAINTER)}
EMBED = Request(fields={}, model="openai/gpt-embed", api="embeddings", cap=0, inputs=1)
DRAW = Request(fields={}, model="gpt-draw", api="images", output_modalities=frozenset({"image"}), drawing=Drawing())


def denied(request: Request, found: Catalog) -> tuple[str, str]:
    with pytest.raises(RequestError) as caught:
        resolve(request, Consumer(id="alice"), found)
    return caught.value.code, caught.value.message


def test_a_price_that_is_for_one_api_only_is_no_price_for_another() -> None:
    found = catalog(MEDIA)
    assert resolve(EMBED, Consumer(id="alice"), found).id == "openai/gpt-embed"
    for api in ("chat", "messages", "responses", "images"):
        code, message = denied(Request(fields={}, model="openai/gpt-embed", api=api), found)
        assert (code, message) == ("unsupported_model", "openai/gpt-embed has a price for embeddings only.")
    assert denied(Request(fields={}, model="openai/gpt-draw"), found)[0] == "unsupported_model"


def test_a_bare_name_is_the_default_image_providers_for_images_only() -> None:
    found = catalog(MEDIA)
    assert resolve(DRAW, Consumer(id="alice"), found).id == "openai/gpt-draw"
    elsewhere = catalog({**MEDIA, "grok/gpt-draw": Model(price=PAINTER)}, image_provider="grok")
    assert resolve(DRAW, Consumer(id="alice"), elsewhere).id == "grok/gpt-draw"
    aliased = catalog(MEDIA, {"gpt-draw": "openai/gpt-5"})
    assert denied(DRAW, aliased) == ("unsupported_model", "openai/gpt-5 has no price for image output.")
    assert denied(Request(fields={}, model="gpt-draw"), found)[0] == "unsupported_model"


def test_images_need_a_price_for_images_at_every_tier() -> None:
    tiers = ((10, Rates(input=1, output=2)),)
    tiered = Price(base=Rates(input=1, output=2, output_image=3), tiers=tiers)
    found = catalog({"openai/gpt-draw": Model(price=tiered)})
    assert denied(DRAW, found) == ("unsupported_model", "openai/gpt-draw has no price for image output.")


def test_a_model_is_called_what_the_operator_or_the_price_list_calls_it() -> None:
    class Calling(List):
        def called(self, provider: str, model: str) -> str | None:
            return "gpt-5" if provider == "openai" and model.startswith("gpt-5") else None

    providers = {name: Provider(base_url="http://127.0.0.1:9/v1") for name in ("openai", "own")}
    models = {"own/m": Model(price=OWN)}
    listed = Catalog(providers=providers, models=models, aliases={}, prices=LIST)
    assert [listed.called(f"openai/{name}") for name in ("gpt-5", "o3", "gpt-5-made-up")] == ["gpt-5", "o3", None]
    assert [listed.called(name) for name in ("own/m", "own/other", "gone/gpt-5", "gpt-5")] == ["m", None, None, None]
    calling = Catalog(providers=providers, models=models, aliases={}, prices=Calling(LIST.known))
    assert [calling.called(f"openai/{name}") for name in ("gpt-5-made-up", "o3")] == ["gpt-5", None]
    assert Catalog(providers=providers, models=models, aliases={}).called("openai/gpt-5") is None
