"""A cap that is lowered to what a grant affords is what the provider is sent, in whatever words it is said there."""

import json
from typing import Any

import msgspec
import pytest

from hpp_middleware import Consumer, RequestError
from hpp_middleware.apis.chat import CHAT
from hpp_middleware.apis.messages import MESSAGES
from hpp_middleware.apis.responses.api import RESPONSES
from hpp_middleware.core import bound, route
from hpp_middleware.dialects import known
from hpp_middleware.ports import API
from hpp_middleware.stages.attempts.plan import Plan
from hpp_middleware.stages.route import speak
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Limits, Model, Provider

ALICE = Consumer(id="alice")
PRICE = Price(base=Rates(input=10**12, output=2 * 10**12))
SAID = {
    CHAT: {"messages": [{"role": "user", "content": "Hi"}], "max_completion_tokens": 5000},
    MESSAGES: {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5000},
    RESPONSES: {"input": "Hi", "max_output_tokens": 5000},
}
PROVIDERS: dict[str, dict[str, Any]] = {
    "openai": {"native_apis": frozenset({"responses"})},
    "others": {"dialect": "openai", "native_apis": frozenset(), "cap_fields": ("max_tokens",)},
    "anthropic": {"native_apis": frozenset({"messages"})},
    "gemini": {},
    "ollama": {},
    "bedrock": {"options": {"region": "eu-central-1"}},
}
MODELS = {"bedrock": "amazon.nova-pro-v1:0", "gemini": "gemini-2.5-flash", "anthropic": "claude-sonnet-4-5"}


def planned(provider: str, api: API, *, clamp_floor: int | None = 10, **fields: Any) -> Plan:
    settings = {"dialect": provider, **PROVIDERS[provider]}
    model = f"{provider}/{MODELS.get(provider, 'model-1')}"
    catalog = route.Catalog(
        providers={provider: Provider(base_url="http://127.0.0.1:9", api_key="key", **settings)},
        models={model: Model(price=PRICE, max_output=50_000)},
        aliases={},
    )
    body = json.dumps({"model": model, **SAID[api], **fields}).encode()
    asked, target = api.request(body, Limits()), catalog.find(model)
    assert target is not None
    dialects = {name: known.find(name) for name in ("openai", "anthropic", "gemini", "ollama", "bedrock")}
    request, dialect = speak.said(api, asked, target, dialects, Limits())
    return Plan(
        request, target, dialect, request_id="req_1", limits=Limits(), orphan="estimate", clamp_floor=clamp_floor
    )


def caps(value: Any) -> set[int]:
    """Every number in a body that is a cap, whatever it is called there."""
    names = {"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens", "num_predict", "maxTokens"}
    if not isinstance(value, dict):
        return set()
    inner = set().union(*(caps(each) for each in value.values())) if value else set()
    return inner | {each for name, each in value.items() if name in names}


@pytest.mark.parametrize("api", SAID, ids=lambda api: api.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_lowered_cap_is_what_is_sent(provider: str, api: API) -> None:
    plan = planned(provider, api)
    operation = plan.reserve(ALICE, "worker", client_request_id=None)
    assert operation.rest
    assert operation.floor < operation.want
    whole = plan.job("alice", operation.want, missing_usage="estimate")
    assert caps(json.loads(whole.call.body)) == {5000}
    assert dict(whole.headers()).get("X-HPP-Router-Max-Tokens") is None
    grant = (operation.floor + operation.want) // 2
    lowered = plan.job("alice", grant, missing_usage="estimate")
    assert caps(json.loads(lowered.call.body)) == {lowered.cap}
    assert 10 < lowered.cap < 5000
    assert dict(lowered.headers())["X-HPP-Router-Max-Tokens"] == str(lowered.cap)
    again = planned(provider, api, **{_cap_field(api): lowered.cap})
    assert again.reserve(ALICE, "worker", client_request_id=None).want <= grant, "a grant covers what it affords"
    least = plan.job("alice", operation.floor, missing_usage="estimate")
    assert least.cap >= 10, "and the floor is never gone below"


def _cap_field(api: API) -> str:
    return next(name for name in SAID[api] if name.startswith("max_"))


@pytest.mark.parametrize("api", SAID, ids=lambda api: api.name)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_without_a_clamp_a_clients_cap_stands(provider: str, api: API) -> None:
    operation = planned(provider, api, clamp_floor=None).reserve(ALICE, "worker", client_request_id=None)
    assert (operation.floor, operation.rest) == (operation.want, False)


def test_what_asks_for_more_thought_than_there_is_cannot_be_clamped_to_it() -> None:
    plan = planned("anthropic", MESSAGES, thinking={"type": "enabled", "budget_tokens": 3000})
    operation = plan.reserve(ALICE, "worker", client_request_id=None)
    with pytest.raises(RequestError):
        plan.job("alice", operation.floor, missing_usage="estimate")


def test_only_caps_are_lowered_and_only_those_that_are_there() -> None:
    request = CHAT.request(
        b'{"model":"a/b","messages":[{"role":"user","content":"x"}],"max_tokens":null,"n":2}', Limits()
    )
    request = msgspec.structs.replace(request, cap=50)
    fields = bound.lowered(request, 7).fields
    assert (bytes(fields["max_tokens"]), bytes(fields["n"])) == (b"null", b"2")
    assert "max_completion_tokens" not in fields
