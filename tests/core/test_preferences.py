"""``models`` and ``provider`` of a request: read strictly, taken out, and applied to the targets."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hpp_middleware.apis.embeddings import EMBEDDINGS
from hpp_middleware.apis.images import IMAGES
from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.core import parse
from hpp_middleware.core.preferences import MOST_MODELS, Wanted, applied, known, taken
from hpp_middleware.errors import RequestError
from hpp_middleware.ports import API
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.preferences import Named, Preferences, Sort
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

LIMITS = Limits()
DOLLAR = 10**12
"""Of a million tokens, in atto-dollars a token."""


def fields_of(**members: Any) -> dict[str, Raw]:
    return {name: Raw(msgspec.json.encode(value)) for name, value in members.items()}


def preferences_of(**members: Any) -> Preferences:
    found = taken(fields_of(model="a/x", provider=members)).preferences
    assert found is not None
    return found


def refused(**members: Any) -> str:
    with pytest.raises(RequestError) as raised:
        taken(fields_of(**members))
    assert raised.value.status == 400
    assert raised.value.message.startswith(f"{raised.value.param} ")
    return str(raised.value.param)


def target(name: str, *, prompt: int = 1, completion: int = 2, tier: int | None = None) -> Target:
    provider, _, model = name.partition("/")
    return Target(
        id=name,
        provider_name=provider,
        model_name=model,
        provider=Provider(base_url="http://127.0.0.1:1"),
        model=Model(),
        price=Price(
            base=Rates(input=prompt * DOLLAR, output=completion * DOLLAR),
            tiers=() if tier is None else ((tier, Rates(input=9 * DOLLAR, output=9 * DOLLAR)),),
        ),
    )


def request(**fields: Any) -> Request:
    return Request(fields=fields_of(messages=[{"role": "user", "content": "x" * 4_000}]), model="a/x", **fields)


TARGETS = [target("a/x"), target("b/y", prompt=3), target("a/z", completion=1), target("c/w", prompt=7, completion=1)]
NAMED = [each.id for each in TARGETS]


def backwards(found: Sequence[Target]) -> list[Target]:
    return list(reversed(found))


def left(wanted: Preferences, named: Sequence[str] = NAMED, **fields: Any) -> list[str]:
    found, why = applied(TARGETS, wanted, request(**fields), named=named, ranked=backwards)
    assert {each.id for each in found} | why.keys() == set(NAMED)
    assert not {each.id for each in found} & why.keys()
    return [each.id for each in found]


CHAT_LIKE: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"messages": [{"role": "user", "content": "Hi"}]}),
    ("messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}),
    ("responses", {"input": "Hi"}),
    ("embeddings", {"input": "Hi"}),
    ("images", {"prompt": "A cat"}),
]
APIS: dict[str, API] = {each.name: each for each in (MESSAGES, RESPONSES, EMBEDDINGS, IMAGES)}


@pytest.mark.parametrize(("api", "asked"), CHAT_LIKE)
def test_every_api_takes_them_out_of_what_is_sent(api: str, asked: dict[str, Any]) -> None:
    body = {**asked, "models": ["a/x", "b/y"], "provider": {"order": ["b"]}}
    for more, behind in (({}, ("b/y",)), ({"model": None}, ("b/y",)), ({"model": "c/z"}, ("a/x", "b/y"))):
        encoded = msgspec.json.encode({**body, **more})
        found = parse.completion(encoded, LIMITS) if api == "chat" else APIS[api].request(encoded, LIMITS)
        assert found.model == (more.get("model") or "a/x")
        assert tuple(each.model for each in found.models) == behind
        assert found.preferences == Preferences(order=("b",))
        assert not {"models", "provider", "fallbacks"} & found.fields.keys()


@pytest.mark.parametrize(("api", "asked"), CHAT_LIKE)
@pytest.mark.parametrize("name", ["Models", "PROVIDER"])
def test_no_other_letter_case_of_them_passes(api: str, asked: dict[str, Any], name: str) -> None:
    body = msgspec.json.encode({**asked, "model": "a/x", name: []})
    with pytest.raises(RequestError, match=f"must be written '{name.lower()}'"):
        parse.completion(body, LIMITS) if api == "chat" else APIS[api].request(body, LIMITS)


def test_a_request_that_says_nothing_of_them_is_left_as_it_is() -> None:
    fields = fields_of(model="a/x", messages=[])
    assert taken(fields) == Wanted()
    assert list(fields) == ["model", "messages"]
    assert taken(fields_of(model="a/x", models=None, provider=None)) == Wanted()
    assert taken(fields_of(model="a/x", models=[])) == Wanted()


def test_anthropics_fallbacks_are_models() -> None:
    def of(value: Any, **more: Any) -> tuple[str, ...]:
        found = taken(fields_of(model="a/x", fallbacks=value, **more), also="fallbacks")
        return tuple(each.model for each in found.models)

    assert of(["b/y", {"model": "c/z"}]) == ("b/y", "c/z")
    assert of("default") == of(None) == of([]) == ()
    assert of("default", models=["b/y"]) == ("b/y",)
    for wrong in ([{"model": "b/y", "max_tokens": 5}], [1], "other", {"model": "b/y"}):
        with pytest.raises(RequestError, match=r"^fallbacks must be"):
            of(wrong)
    with pytest.raises(RequestError, match=r"^fallbacks must not stand beside models"):
        of(["b/y"], models=["c/z"])


@pytest.mark.parametrize(
    "members",
    [
        {"models": ["x" * 10_000]},
        {"provider": {"order": ["x" * 10_000]}},
        {"provider": {"only": ["x" * 10_000]}},
        {"provider": {"x" * 10_000: 1}},
        {"provider": {"sort": {"x" * 10_000: 1}}},
        {"provider": {"max_price": {"x" * 10_000: 1}}},
    ],
)
def test_no_refusal_repeats_more_than_a_name_may_have(members: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as found:
        taken(fields_of(model="a/x", **members))
    assert len(found.value.message) + len(found.value.param or "") < 800


def test_models_are_named_by_their_place_where_they_are_wrong() -> None:
    assert refused(models="a/x") == refused(models=[1]) == refused(models=["a/x"] * (MOST_MODELS + 1)) == "models"
    assert refused(models=["a/x", ""]) == "models[1]"
    assert refused(models=["a/x", "hpprouter/auto"]) == "models[1]"
    fields = fields_of(models=["hpprouter/auto", "a/x"])
    assert taken(fields).models == (Named("a/x", "models[1]"),)
    assert fields["model"] == Raw(b'"hpprouter/auto"')


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"order": "a"}, "provider.order"),
        ({"only": [1]}, "provider.only"),
        ({"ignore": ["x"] * 65}, "provider.ignore"),
        ({"allow_fallbacks": "no"}, "provider.allow_fallbacks"),
        ({"require_parameters": 1}, "provider.require_parameters"),
        ({"sort": "speed"}, "provider.sort"),
        ({"sort": {"by": "price", "partition": "model"}}, "provider.sort.partition"),
        ({"sort": {"by": "price", "then": 1}}, "provider.sort.then"),
        ({"sort": {"by": "speed"}}, "provider.sort.by"),
        ({"max_price": 3}, "provider.max_price"),
        ({"max_price": {"prompt": "x"}}, "provider.max_price.prompt"),
        ({"max_price": {"completion": -1}}, "provider.max_price.completion"),
        ({"max_price": {"request": 1}}, "provider.max_price.request"),
        ({"data_collection": "deny"}, "provider.data_collection"),
        ({"zdr": True}, "provider.zdr"),
        ({"quantizations": ["fp8"]}, "provider.quantizations"),
        ({"preferred_max_latency": 2}, "provider.preferred_max_latency"),
        ({"something": 2}, "provider.something"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    assert refused(model="a/x", provider=members) == param
    assert refused(model="a/x", provider=["a"]) == "provider"


def test_what_asks_for_nothing_is_taken() -> None:
    nothing = {
        "data_collection": "allow",
        "zdr": False,
        "quantizations": None,
        "order": [],
        "max_price": {},
        "sort": None,
    }
    assert preferences_of(**nothing) == Preferences()
    assert preferences_of(sort={"by": "price", "partition": "none"}) == preferences_of(sort="price")
    priced = preferences_of(max_price={"prompt": 0.1, "completion": "2.50"})
    assert (priced.max_prompt, priced.max_completion) == (DOLLAR // 10, 2_500_000_000_000)


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values, st.sampled_from(["models", "provider"]))
def test_whatever_is_sent_is_read_or_refused_by_its_name(value: Any, name: str) -> None:
    with suppress(RequestError):
        taken(fields_of(model="a/x", **{name: value}))
        return
    with pytest.raises(RequestError) as raised:
        taken(fields_of(model="a/x", **{name: value}))
    assert raised.value.status == 400
    assert str(raised.value.param).startswith(name)


def test_a_name_that_is_none_of_here_is_refused() -> None:
    providers, models = {"a", "b"}, {"a/x": 1}.get
    known(Preferences(order=("a", "a/x"), only=frozenset({"b"}), ignore=frozenset({"a/x"})), providers, models)
    for wrong in (Preferences(order=("c",)), Preferences(only=frozenset({"a/y"})), Preferences(ignore=frozenset({""}))):
        with pytest.raises(RequestError, match="neither a provider nor a model here"):
            known(wrong, providers, models)


def test_targets_are_left_out_and_put_in_order() -> None:
    assert left(Preferences()) == ["a/x", "b/y", "a/z", "c/w"]
    assert left(Preferences(order=("c", "a/z"))) == ["c/w", "a/z", "a/x", "b/y"]
    assert left(Preferences(only=frozenset({"a"}))) == ["a/x", "a/z"]
    assert left(Preferences(only=frozenset({"a/z", "c"}))) == ["a/z", "c/w"]
    assert left(Preferences(ignore=frozenset({"a", "c/w"}))) == ["b/y"]
    assert left(Preferences(only=frozenset())) == []


def test_without_fallbacks_only_those_are_asked_that_the_client_names() -> None:
    alone = Preferences(allow_fallbacks=False)
    assert left(alone, ["a/x"]) == ["a/x"]
    assert left(alone, ["a/x", "c/w"]) == ["a/x", "c/w"]
    assert left(Preferences(allow_fallbacks=False, order=("c", "b")), ["a/x", "b/y", "c/w"]) == ["c/w", "b/y"]


def test_prices_are_a_hard_limit_and_an_order() -> None:
    assert left(Preferences(max_prompt=DOLLAR)) == ["a/x", "a/z"]
    assert left(Preferences(max_completion=DOLLAR)) == ["a/z", "c/w"]
    assert left(Preferences(max_prompt=DOLLAR, max_completion=DOLLAR)) == ["a/z"]
    assert left(Preferences(sort="price")) == ["a/z", "a/x", "b/y", "c/w"]
    assert left(Preferences(sort="price", order=("b",))) == ["b/y", "a/z", "a/x", "c/w"]
    assert left(Preferences(sort="price"), cap=1) == ["a/z", "a/x", "b/y", "c/w"]


def test_the_price_that_counts_is_the_one_of_a_prompt_of_this_size() -> None:
    long = [target("a/x", tier=500)]
    assert applied(long, Preferences(max_prompt=DOLLAR), request(), named=["a/x"], ranked=backwards)[0] == []
    assert (
        applied(long, Preferences(max_prompt=DOLLAR), request(tokens=500), named=["a/x"], ranked=backwards)[0] == long
    )


@pytest.mark.parametrize("sort", ["latency", "throughput"])
def test_what_is_known_of_their_speed_orders_them(sort: Sort) -> None:
    assert left(Preferences(sort=sort)) == ["c/w", "a/z", "b/y", "a/x"]
    assert left(Preferences(sort=sort, order=("b",))) == ["b/y", "c/w", "a/z", "a/x"]
