"""Who else may answer: ``models`` and ``provider`` of a request, in each API, and the choices of ``hpprouter/auto``."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from chains import B_NANO, MODELS, Pair, answered, pair, the_entry
from rig import KEY, Delegate, chunks, read

from hpp_middleware.core.auto import AutoPolicy, Tier
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.health import Breaker
from hpp_middleware.types.operations import Operation, Reserve
from hpp_middleware.types.provider import Declared, Provider
from hpp_middleware.types.upstreams import Upstream

pytestmark = pytest.mark.anyio

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}
FAILING = Script(status=500)
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/llm/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}),
    "messages": ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}),
    "responses": ("/llm/v1/responses", {"input": "Hi", "max_output_tokens": 100}),
}


def call_of(found: Pair, api: str, **fields: Any) -> Call:
    path, body = ASKED[api]
    return post(found.gateway.app, path, {"model": "fake/a", **body, **fields}, headers={"apikey": KEY}, ahead=0)


async def refused(found: Pair, **fields: Any) -> tuple[int, dict[str, Any]]:
    status, _, body = await answered(found.gateway, **fields)
    return status, msgspec.json.decode(body)["error"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("api", "said"), [*((api, said) for api in ASKED for said in ("configured", "models")), ("messages", "fallbacks")]
)
async def test_each_api_falls_back_and_says_who_has_answered(api: str, said: str, *, stream: bool) -> None:
    async with pair(fallbacks={"fake/a": ["other/c"]} if said == "configured" else {}) as found:
        found.fake.script = FAILING
        more: dict[str, Any] = {} if said == "configured" else {said: ["other/c"]}
        async with call_of(found, api, stream=stream, **more) as call:
            assert await call.started() == 200, await call.read()
            body = await call.read()
            await call.returned()
        assert call.headers["x-hpp-router-resolved-model"] == "other/c"
        assert call.headers["x-hpp-router-attempts"] == "2"
        assert b"From" in body
        assert b'"other/c"' in body
        for each in (*found.fake.log, *found.other.log):
            assert not {"models", "provider", "fallbacks"} & each.json().keys()
        assert (await the_entry(found.gateway)).amount == B_NANO


async def test_one_that_is_left_alone_when_its_turn_comes_is_no_call() -> None:
    store = Delegate()
    async with pair(store=store, provider={"breaker": Breaker(failures=1)}) as found:
        health = (await found.gateway.worker()).health

        async def fail(operations: Sequence[Operation]) -> None:
            if any(isinstance(each, Reserve) for each in operations):
                health.began("fake", "a").ended(ok=False, status=500)

        store.before = fail
        status, headers, _ = await answered(found.gateway)
        assert (status, headers["resolved-model"]) == (200, "other/c")
        assert headers["attempts"] == "1"
        assert found.asked == ([], ["c"])
        assert (await the_entry(found.gateway)).amount == B_NANO


async def test_models_come_in_the_place_of_the_configured_fallbacks() -> None:
    async with pair() as found:
        found.fake.script = FAILING
        found.other.next(FAILING)
        _, headers, _ = await answered(found.gateway, models=["fake/cheap", "other/d", "other/c"])
        assert found.asked == (["a", "cheap"], ["d", "c"])
        assert (headers["resolved-model"], headers["attempts"]) == ("other/c", "4")


async def test_without_a_model_the_first_of_models_is_it() -> None:
    async with pair() as found:
        _, headers, _ = await answered(found.gateway, model=None, models=["other/d", "fake/a"])
        assert headers["resolved-model"] == "other/d"
        entry = await the_entry(found.gateway)
        assert (entry.draft.requested_model, entry.amount) == ("other/d", B_NANO)


async def test_a_model_that_cannot_be_had_is_named_by_its_place() -> None:
    only = Declared(quota=10**9, keys=(KEY,), models=("fake/*",))
    async with pair(consumers={"alice": only}) as found:
        status, error = await refused(found, models=["fake/cheap", "fake/none"])
        assert (status, error["code"], error["param"]) == (400, "unsupported_model", "models[1]")
        assert error["message"].startswith("models[1]: The model 'fake/none' is unknown")
        status, error = await refused(found, models=["other/c"])
        assert (status, error["code"], error["param"]) == (403, "model_not_allowed", "models[0]")
        status, error = await refused(found, models=["fake/cheap", "hpprouter/auto"])
        assert (status, error["param"]) == (400, "models[1]")
        assert found.asked == ([], [])


async def test_a_configured_fallback_that_the_key_may_not_use_is_passed_over() -> None:
    only = Declared(quota=10**9, keys=(KEY,), models=("fake/*",))
    async with pair(consumers={"alice": only}, fallbacks={"fake/a": ["other/c", "fake/cheap"]}) as found:
        found.fake.next(FAILING)
        assert (await answered(found.gateway))[1]["resolved-model"] == "fake/cheap"
        assert found.other.log == []


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ({"context": 50}, {"messages": [{"role": "user", "content": "x" * 400}]}),
        ({"tool": False}, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (
            {"input_modalities": ("text",)},
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}],
                    }
                ]
            },
        ),
        ({"max_output": 50}, {}),
    ],
)
async def test_a_fallback_that_cannot_answer_is_passed_over(model: dict[str, Any], more: dict[str, Any]) -> None:
    models = {**MODELS, "other/c": {**MODELS["other/c"], **model}}
    async with pair(models=models, fallbacks={"fake/a": ["other/c", "other/d"]}) as found:
        found.fake.script = FAILING
        assert (await answered(found.gateway, **more))[1]["resolved-model"] == "other/d"
        assert found.asked[1] == ["d"]


async def test_a_fallback_that_lacks_a_tag_of_the_data_policy_is_passed_over() -> None:
    models = {**MODELS, "other/d": {**MODELS["other/d"], "tags": ("eu",)}}
    strict = Declared(quota=10**9, keys=(KEY,), requires=("eu",))
    fallbacks = {"fake/a": ["other/c", "other/d"]}
    async with pair(models=models, fallbacks=fallbacks) as found:
        found.fake.script = FAILING
        _, headers, _ = await answered(found.gateway, headers={"x-hpp-router-require": "eu"})
        assert headers["resolved-model"] == "other/d"
    async with pair(models=models, fallbacks=fallbacks, consumers={"alice": strict}) as found:
        found.fake.script = FAILING
        assert (await answered(found.gateway))[1]["resolved-model"] == "other/d"


@pytest.mark.parametrize(
    ("consumer", "model"),
    [
        pytest.param({"models": ("fake/a",)}, {}, id="the key's allow-list"),
        pytest.param({"requires": ("eu",)}, {}, id="the data policy"),
        pytest.param({}, {"tool": False}, id="what it can do"),
    ],
)
@pytest.mark.parametrize(
    "provider", [{"order": ["other"]}, {"sort": "price"}, {"only": ["other"]}, {"ignore": ["fake"]}], ids=str
)
@pytest.mark.parametrize("key", [None, "k"])
async def test_preferences_lead_to_no_fallback_that_does_not_pass_the_gates(
    consumer: dict[str, Any], model: dict[str, Any], provider: dict[str, Any], key: str | None
) -> None:
    models = {**MODELS, "other/c": {"input": "0.1", "output": "0.1", **model}}
    tools = [{"type": "function", "function": {"name": "f"}}]
    headers = {"idempotency-key": key} if key is not None else {}
    async with pair(models=models, consumers={"alice": Declared(quota=10**9, keys=(KEY,), **consumer)}) as found:
        status, told, body = await answered(found.gateway, provider=provider, tools=tools, headers=headers)
        assert found.other.log == []
        if "order" in provider or "sort" in provider:
            assert (status, told["resolved-model"]) == (200, "fake/a")
        else:
            assert (status, msgspec.json.decode(body)["error"]["message"].startswith("other/c: ")) == (400, True)
            assert (await found.gateway.store.balance("alice")).held == 0


async def test_a_request_that_cannot_be_said_to_a_provider_is_asked_of_the_next() -> None:
    own = {"cost_fields": frozenset({"special"})}
    async with pair(provider=own) as found:
        assert (await refused(found, special=1))[1]["param"] == "special"
        assert found.asked == ([], [])
    async with pair() as found:
        providers = found.gateway.catalog.providers
        refusing = Provider(base_url=found.fake.url, cost_fields=frozenset({"special"}), breaker=None)
        assert isinstance(providers, dict)
        providers["fake"] = refusing
        _, headers, _ = await answered(found.gateway, special=1)
        assert (headers["resolved-model"], found.asked) == ("other/c", ([], ["c"]))


@pytest.mark.parametrize(
    ("provider", "asked"),
    [
        ({"order": ["other", "fake"]}, (["a"], ["c"])),
        ({"order": ["other/c"]}, (["a"], ["c"])),
        ({"only": ["other"]}, ([], ["c"])),
        ({"ignore": ["fake/a"]}, ([], ["c"])),
        ({"ignore": ["other"]}, (["a"], [])),
        ({"allow_fallbacks": False}, (["a"], [])),
        ({"sort": "price"}, (["a"], ["c"])),
        ({"max_price": {"prompt": 2}}, (["a"], [])),
    ],
)
async def test_preferences_apply_to_the_configured_fallbacks(
    provider: dict[str, Any], asked: tuple[list[str], list[str]]
) -> None:
    async with pair() as found:
        found.fake.script = found.other.script = FAILING
        status, headers, _ = await answered(found.gateway, provider=provider)
        assert (status, found.asked) == (502, asked)
        first = "other/c" if provider.get("order") else None
        assert first is None or headers["resolved-model"] == "fake/a"  # which came last


async def test_preferences_put_the_models_of_a_request_in_order() -> None:
    async with pair() as found:
        models = ["fake/a", "other/c", "fake/cheap"]
        for provider, model in (
            ({"order": ["other"]}, "other/c"),
            ({"sort": "price"}, "fake/cheap"),
            ({"sort": "price", "ignore": ["fake"]}, "other/c"),
            ({"max_price": {"prompt": "0.6"}}, "fake/cheap"),
            ({}, "fake/a"),
        ):
            assert (await answered(found.gateway, models=models, provider=provider))[1]["resolved-model"] == model


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("sort", "slow"),
    [
        ("latency", Script(delay_head_s=0.3)),
        ("throughput", Script(delay_between_s=0.1, chunk_size=200)),
    ],
    ids=["begins", "writes"],
)
async def test_what_is_fastest_is_asked_first(sort: str, slow: Script, *, stream: bool) -> None:
    async with pair() as found:
        found.fake.script = slow
        for model in ("fake/a", "other/c"):
            assert (await answered(found.gateway, model=model, stream=stream))[1]["resolved-model"] == model
        for provider, model in (({"sort": sort}, "other/c"), ({"sort": {"by": sort}}, "other/c"), ({}, "fake/a")):
            assert (await answered(found.gateway, provider=provider, stream=stream))[1]["resolved-model"] == model
        _, headers, _ = await answered(found.gateway, stream=stream, models=["other/d"], provider={"sort": sort})
        assert headers["resolved-model"] == "other/d"  # which nobody has measured


async def test_of_several_upstreams_those_are_asked_that_are_not_too_dear() -> None:
    async with FakeUpstream() as other:
        several = Provider(
            base_url=other.url,
            upstreams=(Upstream(name="dear", price_factor=Decimal(2), weight=1e9), Upstream(name="near", weight=1e-9)),
        )
        async with pair(providers={"other": several}, models={"other/c": MODELS["other/c"]}, fallbacks={}) as found:
            status, _, body = await answered(found.gateway, model="other/c", provider={"max_price": {"prompt": 3}})
            assert status == 200, body
            assert (await the_entry(found.gateway)).report.attempts[0].upstream == "near"
            status, _, body = await answered(found.gateway, model="other/c", provider={"max_price": {"prompt": 2}})
            assert (status, b"provider.max_price.prompt" in body) == (400, True)


async def test_where_nobody_is_left_it_says_why() -> None:
    async with pair() as found:
        status, error = await refused(found, provider={"only": ["gone"]})
        assert (status, error["code"], error["param"]) == (400, "unsupported_model", "provider")
        assert error["availability"] == {
            "fake/a": "provider.only leaves it out",
            "other/c": "provider.only leaves it out",
        }
        status, error = await refused(found, provider={"ignore": ["nobody"]})
        assert (status, error["param"]) == (400, "provider.ignore")
        assert found.asked == ([], [])


async def test_parameters_are_required_of_who_is_asked_first_too() -> None:
    models = {**MODELS, "fake/a": {**MODELS["fake/a"], "tool": False}}
    tools = [{"type": "function", "function": {"name": "f"}}]
    async with pair(models=models) as found:
        strict = {"require_parameters": True}
        assert (await answered(found.gateway, tools=tools))[1]["resolved-model"] == "fake/a"
        assert (await answered(found.gateway, tools=tools, provider=strict))[1]["resolved-model"] == "other/c"
        assert (await answered(found.gateway, provider=strict))[1]["resolved-model"] == "fake/a"


POLICY = AutoPolicy(
    rules_version="v",
    simple=("fake/a", "fake/cheap", "other/c"),
    simple_max_tokens=60,
    tiers={"T3": Tier(models=("other/d",))},
)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_other_models_of_a_choice_are_asked_where_it_does_not_answer(*, stream: bool) -> None:
    async with pair(auto=POLICY) as found:
        found.fake.script = FAILING
        _, headers, body = await answered(found.gateway, model="hpprouter/auto", stream=stream)
        assert found.asked == (["a", "cheap"], ["c"])
        assert (headers["resolved-model"], headers["attempts"]) == ("other/c", "3")
        assert (headers["basket"], headers["rules-version"]) == ("simple", "v")
        assert b"From" in body
        entry = await the_entry(found.gateway)
        assert (entry.amount, entry.draft.model, entry.draft.requested_model) == (B_NANO, "other/c", "hpprouter/auto")
        assert entry.draft.routed is not None
        assert entry.draft.routed.basket == "simple"
        audit = await read(found.gateway, f"/api/user/audit/{entry.hold}")
        assert [each["model"] for each in audit["attempts"]] == ["a", "cheap", "c"]
        assert stream is False or chunks(body)[-1] == "[DONE]"


async def test_the_rest_of_models_comes_behind_a_choice() -> None:
    async with pair(auto=POLICY) as found:
        found.fake.script = FAILING
        found.other.next(FAILING)
        _, headers, _ = await answered(found.gateway, model=None, models=["hpprouter/auto", "other/d"])
        assert (headers["resolved-model"], found.asked) == ("other/d", (["a", "cheap"], ["c", "d"]))


async def test_preferences_apply_to_a_choice() -> None:
    async with pair(auto=POLICY) as found:
        _, headers, _ = await answered(found.gateway, model="hpprouter/auto", provider={"only": ["other"]})
        assert (headers["resolved-model"], headers["basket"]) == ("other/c", "simple")
        _, headers, _ = await answered(found.gateway, model="hpprouter/auto", provider={"sort": "price"})
        assert headers["resolved-model"] == "fake/cheap"
        found.fake.script = FAILING
        status, headers, _ = await answered(found.gateway, model="hpprouter/auto", provider={"allow_fallbacks": False})
        assert (status, headers["resolved-model"]) == (502, "fake/a")
        assert found.asked[0] == ["cheap", "a"]


async def test_media_fall_back_too() -> None:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    body = msgspec.json.encode({"object": "list", "model": "c", "data": data, "usage": usage})
    async with pair() as found:
        found.fake.script = Script(status=500, raw_body=b"{}")
        found.other.script = Script(raw_body=body, content_type="application/json")
        asked = {"model": "fake/a", "input": "Hi", "models": ["other/c"]}
        async with post(found.gateway.app, "/llm/v1/embeddings", asked, headers={"apikey": KEY}, ahead=0) as call:
            assert await call.started() == 200, await call.read()
            await call.read()
            await call.returned()
        assert call.headers["x-hpp-router-resolved-model"] == "other/c"
        assert (await the_entry(found.gateway)).amount == 2 * 3_000


async def explained(found: Pair, **fields: Any) -> dict[str, Any]:
    body = {"model": "fake/a", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100, **fields}
    async with post(found.gateway.app, "/llm/v1/route", body, headers={"apikey": KEY}, ahead=0) as call:
        assert await call.started() == 200, await call.read()
        told: dict[str, Any] = await call.json()
        await call.returned()
    return told


async def test_who_would_be_asked_is_told_and_why_one_would_not() -> None:
    models = {**MODELS, "other/d": {**MODELS["other/d"], "max_output": 50}}
    async with pair(models=models, auto=POLICY, fallbacks={"fake/a": ["other/d", "other/c"]}) as found:
        told = await explained(found)
        assert told["chain"] == [
            {"model": "fake/a", "why_not": None},
            {"model": "other/d", "why_not": "other/d: it gives 50 tokens of output at most, not 100"},
            {"model": "other/c", "why_not": None},
        ]
        told = await explained(found, models=["other/c"], provider={"ignore": ["fake"]})
        assert (told["model"], told["chain"]) == (
            "other/c",
            [{"model": "other/c", "why_not": None}, {"model": "fake/a", "why_not": "provider.ignore names it"}],
        )
        told = await explained(found, model="hpprouter/auto")
        assert [each["model"] for each in told["chain"]] == ["fake/a", "fake/cheap", "other/c"]
        assert found.asked == ([], [])
