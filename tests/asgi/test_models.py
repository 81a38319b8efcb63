"""``GET /llm/v1/models``: what is listed, with what, and for whom."""

from collections.abc import Sequence
from typing import Any

import pytest
from rig import KEY, MODEL, gateway

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Declared, Model

pytestmark = pytest.mark.anyio

MODELS = "/llm/v1/models"
MEMBERS = {
    *("id", "object", "created", "owned_by", "name", "description", "pricing", "context", "max_output", "tool"),
    *("structured", "knowledge_cutoff", "input_modalities", "output_modalities"),
}


class Listed:
    """A price list of three models."""

    def find(self, provider: str, model: str) -> tuple[Price, Model] | None:
        if provider != "fake" or not model.startswith("listed-"):
            return None
        return Price(base=Rates(input=10**12, output=2 * 10**12)), Model(name="Listed", context=1000, tool=True)

    def models(self, provider: str) -> Sequence[str]:
        return ["listed-a", "listed-b", "listed-c"] if provider == "fake" else []


async def listed(found: Gateway, **headers: str) -> list[dict[str, Any]]:
    async with get(found.app, MODELS, headers=headers) as call:
        assert await call.started() == 200
        answer = await call.json()
    assert answer["object"] == "list"
    data: list[dict[str, Any]] = answer["data"]
    return data


async def one(found: Gateway, model_id: str, **headers: str) -> tuple[int, dict[str, Any]]:
    async with get(found.app, f"{MODELS}/{model_id}", headers=headers) as call:
        return await call.started(), await call.json()


async def test_a_model_has_its_price_a_token_and_what_is_known_of_it(fake_upstream: FakeUpstream) -> None:
    known = {
        "input": "0.0375",
        "output": "2",
        "cache_read": "0",
        "name": "Fake One",
        "context": 128_000,
        "max_output": 4096,
        "tool": True,
        "input_modalities": ("text", "image"),
        "created": 1_700_000_000,
    }
    async with gateway(fake_upstream, models={MODEL: known}) as found:
        (entry,) = await listed(found)
        assert set(entry) == MEMBERS
        assert entry["pricing"] == {"input": 3.75e-08, "output": 2e-06, "cache_write": None, "cache_read": 0}
        assert (entry["id"], entry["object"], entry["owned_by"]) == (MODEL, "model", "fake")
        assert (entry["name"], entry["context"], entry["tool"], entry["structured"]) == (
            "Fake One",
            128_000,
            True,
            None,
        )
        assert entry["input_modalities"] == ["text", "image"]
        assert await one(found, MODEL) == (200, entry)
        async with get(found.app, MODELS) as call:
            assert b'"input":0.0000000375' in await call.read()  # exact, as no float would say it


async def test_the_operators_models_come_first_then_those_of_the_list_that_are_let_in(
    fake_upstream: FakeUpstream,
) -> None:
    own = {MODEL: {"input": "1", "output": "2"}, "fake/listed-b": {"input": "7", "output": "8"}}
    settings: dict[str, Any] = {"models": own, "prices": Listed(), "provider": {"models": ("listed-[ab]",)}}
    async with gateway(fake_upstream, **settings) as found:
        data = await listed(found)
        assert [entry["id"] for entry in data] == [MODEL, "fake/listed-b", "fake/listed-a"]
        by_id = {entry["id"]: entry for entry in data}
        assert by_id["fake/listed-b"]["pricing"]["input"] == 7e-06
        assert by_id["fake/listed-a"]["context"] == 1000
        assert (await one(found, "fake/listed-c"))[0] == 404


async def test_what_configuration_leaves_open_is_told_from_the_catalogue(fake_upstream: FakeUpstream) -> None:
    own = {"input": "1", "output": "2"}
    settings: dict[str, Any] = {
        "provider": {"prices": "openai"},
        "models": {"fake/gpt-5": own, "fake/gpt-5-mini": {**own, "name": "Mine", "context": 5, "tool": False}},
    }
    known = {
        "name": "GPT-5",
        "context": 400_000,
        "max_output": 128_000,
        "tool": True,
        "structured": True,
        "knowledge_cutoff": "2024-09-30",
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
    }
    async with gateway(fake_upstream, **settings) as found:
        first, second = await listed(found)
        assert {name: first[name] for name in known} == known
        assert (second["name"], second["context"], second["tool"], second["structured"]) == ("Mine", 5, False, True)
        assert await one(found, "fake/gpt-5") == (200, first)
    async with gateway(fake_upstream, **settings, capabilities=None) as found:
        first, second = await listed(found)
        assert {first[name] for name in ("context", "tool", "structured", "knowledge_cutoff")} == {None}
        assert second["context"] == 5


@pytest.mark.parametrize(
    "model_id", ["nobody/knows", "fake", "fake/", "fake/unpriced", "hpprouter/auto", "%2e%2e/x", "a" * 5000, "fake/%00"]
)
async def test_a_model_that_is_not_there_is_a_404(model_id: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        status, told = await one(found, model_id)
        assert (status, told["error"]["code"], told["error"]["param"]) == (404, "not_found", "model")


async def test_an_id_with_many_slashes_and_an_alias_are_found(fake_upstream: FakeUpstream) -> None:
    name = "fake/meta-llama/llama-3:70b"
    async with gateway(fake_upstream, models={name: {"input": "0", "output": "0"}}, aliases={"llama": name}) as found:
        assert (await one(found, name))[1]["id"] == name
        assert (await one(found, "fake/meta-llama%2Fllama-3%3A70b"))[1]["id"] == name
        assert (await one(found, "llama"))[1]["id"] == name


async def test_no_key_is_needed_unless_the_operator_says_so(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        assert await listed(found) == await listed(found, apikey=KEY)
        async with get(found.app, MODELS, headers={"apikey": "a-key-that-nobody-was-given"}) as call:
            assert await call.started() == 401
    async with gateway(fake_upstream, public_models=False) as found:
        for path in (MODELS, f"{MODELS}/{MODEL}"):
            async with get(found.app, path) as call:
                assert await call.started() == 401
        assert len(await listed(found, apikey=KEY)) == 1


async def test_a_key_sees_the_models_that_it_may_use(fake_upstream: FakeUpstream) -> None:
    models = {f"fake/{name}": {"input": "1", "output": "1"} for name in ("a-1", "a-2", "b-1")}
    consumers = {"alice": Declared(keys=(KEY,), models=("fake/a-*",))}
    async with gateway(fake_upstream, models=models, consumers=consumers) as found:
        assert [entry["id"] for entry in await listed(found, apikey=KEY)] == ["fake/a-1", "fake/a-2"]
        assert len(await listed(found)) == 3
        assert (await one(found, "fake/b-1", apikey=KEY))[0] == 404
        assert (await one(found, "fake/b-1"))[0] == 200


async def test_the_list_tells_nothing_of_where_a_provider_is(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, get(found.app, MODELS) as call:
        body = await call.read()
        assert b"127.0.0.1" not in body
        assert b"canary" not in body
