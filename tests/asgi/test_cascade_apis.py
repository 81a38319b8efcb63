"""The cascade judges Messages and Responses as it judges chats, said as they are or by way of chat."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from cascading import DOUBT, FINE, GOOD, MODELS, POLICY, SMALL_NANO, STRONG_NANO, cascading, the_entry
from rig import CANARY, KEY, check_books

from hpp_middleware import Gateway, Provider
from hpp_middleware.core.auto import Tier
from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

PATHS = {"messages": "/llm/v1/messages", "responses": "/llm/v1/responses"}
BODIES: dict[str, dict[str, Any]] = {
    "messages": {"max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"max_output_tokens": 100, "input": "Hi"},
}
OTHER = {"input": "20", "output": "60"}


def own(api: str, text: str, **more: Any) -> Script:
    """An answer in the API's own words, which costs what the scripts of chats do."""
    found: dict[str, Any]
    if api == "messages":
        found = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "small",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 31, "output_tokens": 7},
        }
    else:
        found = {
            "id": "resp_1",
            "object": "response",
            "model": "small",
            "status": "completed",
            "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}],
            "usage": {"input_tokens": 31, "output_tokens": 7, "total_tokens": 38},
        }
    return Script(raw_body=msgspec.json.encode({**found, **more}))


def told(api: str, body: Any) -> str:
    parts = body["content"] if api == "messages" else body["output"][0]["content"]
    return str(parts[0]["text"])


async def answered(found: Gateway, api: str, **fields: Any) -> tuple[int, dict[str, str], Any]:
    asked = {"model": "hpprouter/auto", **BODIES[api], **fields}
    async with post(found.app, PATHS[api], asked, headers={"apikey": KEY}, ahead=0) as call:
        status = await call.started()
        body = await call.json()
        await call.returned()
    return status, dict(call.headers), body


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_an_answer_said_by_way_of_chat_is_judged(fake_upstream: FakeUpstream, api: str) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT, GOOD)
        status, headers, body = await answered(found, api)
        assert (status, told(api, body), body["model"]) == (200, "It is Paris.", "fake/strong")
        assert [each.json()["model"] for each in fake_upstream.log] == ["small", "strong"]
        entry = await the_entry(found)
        assert (entry.amount, entry.draft.model) == (SMALL_NANO + STRONG_NANO, "fake/strong")
        assert round(float(headers["x-hpp-router-cost"]) * 10**9) == entry.amount
        assert entry.draft.routed is not None
        assert entry.draft.routed.reason == "the smaller model's answer was found wanting: unsure"


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_a_good_one_is_given(fake_upstream: FakeUpstream, api: str) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(FINE)
        _, _, body = await answered(found, api)
        assert (told(api, body), body["model"]) == ("Paris.", "fake/small")
        assert (await the_entry(found)).amount == SMALL_NANO


@pytest.mark.parametrize("api", ["messages", "responses"])
@pytest.mark.parametrize("to", ["native", "chat"])
async def test_an_answer_as_its_provider_gives_it_is_judged(fake_upstream: FakeUpstream, api: str, to: str) -> None:
    """From a provider of the client's own API to one that takes it too, or that is spoken to by way of chat."""
    native = Provider(base_url=fake_upstream.url, api_key=CANARY, native_apis=frozenset(PATHS))
    plain = Provider(base_url=fake_upstream.url, api_key=CANARY)
    providers = {"fake": native, "other": plain}
    strong = "fake/strong" if to == "native" else "other/strong"
    auto = replace(POLICY, tiers={"T1": POLICY.tiers["T1"], "T3": Tier(models=(strong,))})
    models = {**MODELS, "other/strong": OTHER}
    async with cascading(fake_upstream, providers=providers, models=models, auto=auto) as found:
        fake_upstream.next(own(api, "I'm not sure."), own(api, "It is Paris.") if to == "native" else GOOD)
        status, _, body = await answered(found, api)
        assert (status, told(api, body)) == (200, "It is Paris.")
        entry = await the_entry(found)
        second = 31 * 20_000 + 7 * 60_000 if to == "native" else STRONG_NANO
        assert (entry.amount, entry.draft.model) == (SMALL_NANO + second, strong)
        assert [each.path.rsplit("/v1/", 1)[-1] for each in fake_upstream.log] == [
            api,
            api if to == "native" else "chat/completions",
        ]


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_where_the_second_fails_the_first_is_given(fake_upstream: FakeUpstream, api: str) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT, Script(status=503))
        status, _, body = await answered(found, api)
        assert (status, told(api, body), body["model"]) == (200, "I'm not sure.", "fake/small")
        assert (await the_entry(found)).amount == SMALL_NANO


@pytest.mark.parametrize("api", ["messages", "responses"])
async def test_their_streams_are_answered_once(fake_upstream: FakeUpstream, api: str) -> None:
    async with cascading(fake_upstream) as found:
        fake_upstream.next(DOUBT)
        asked = {"model": "hpprouter/auto", **BODIES[api], "stream": True}
        async with post(found.app, PATHS[api], asked, headers={"apikey": KEY}, ahead=0) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        await check_books(found)
        assert len(fake_upstream.log) == 1
