"""``hpprouter/auto`` over the whole path: what is called is what is billed, and how it was chosen is told and kept."""

from typing import Any

import pytest
from rig import ALICE, BOB_KEY, CHAT, KEY, ask, check_books, chunks, gateway, question, read

from asgi.choosing import AUTO, CASES, HEADERS, LONG, NANO, TOOL, answered, routing, told, user
from hpp_middleware import RequestError
from hpp_middleware.apis.responses import RESPONSES
from hpp_middleware.core.ledger import canonical
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "expected"), CASES)
async def test_what_is_chosen_is_called_told_billed_and_kept(
    fake_upstream: FakeUpstream, fields: dict[str, Any], expected: dict[str, str | None], *, stream: bool
) -> None:
    async with routing(fake_upstream) as found:
        fake_upstream.next(Script(usage={"prompt_tokens": 31, "completion_tokens": 17, "total_tokens": 48}))
        status, headers, _ = await answered(found, stream=stream, **fields)
        assert (status, headers) == (200, expected)
        (entry,) = await check_books(found)
        name = str(expected["resolved-model"]).partition("/")[2]
        assert fake_upstream.log[-1].json()["model"] == name
        assert entry.amount == 31 * NANO[name][0] + 17 * NANO[name][1]
        assert (entry.draft.model, entry.draft.requested_model) == (f"fake/{name}", AUTO)
        assert entry.draft.policy == "2026-11-01"
        audit = await read(found, f"/api/user/audit/{entry.hold}")
        assert audit["routing"] == {
            "basket": expected["basket"],
            "rule": expected["rule-id"],
            "version": "2026-11-01",
            "tier": expected["tier"],
            "score": None,
            "reason": audit["routing"]["reason"],
        }
        assert audit["routing"]["reason"]
        assert b'"routed":{"basket":' in canonical(entry)


async def test_the_answer_names_the_model_that_was_called(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        async with ask(found, model=AUTO) as call:
            assert (await call.json())["model"] == "fake/small"
        async with ask(found, model=AUTO, stream=True) as call:
            assert {each["model"] for each in chunks(await call.read())[:-1]} == {"fake/small"}


async def test_a_model_that_the_client_names_is_not_said_to_be_chosen(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        _, headers, _ = await answered(found, model="fake/t2")
        assert headers == {"resolved-model": "fake/t2", **dict.fromkeys(HEADERS[1:])}
        (entry,) = await check_books(found)
        assert entry.draft.routed is None
        assert b"routed" not in canonical(entry)
        assert (await read(found, f"/api/user/audit/{entry.hold}"))["routing"] is None


async def test_the_hold_is_by_the_price_of_the_chosen_model(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, nano=500_000) as found:
        assert (await answered(found))[0] == 200
        status, _, body = await answered(found, messages=user(LONG * 12))
        assert (status, b"insufficient_quota" in body) == (429, True)


async def test_a_provider_that_fails_is_told_with_what_was_chosen(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        fake_upstream.next(Script(status=503))
        status, headers, _ = await answered(found)
        assert (status, headers) == (502, told("small", "simple", "simple-tokens"))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/llm/v1/messages", {"max_tokens": 100, "messages": user("Hi"), "tools": [{"name": "f", "input_schema": {}}]}),
        (
            "/llm/v1/responses",
            {"input": "Hi", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
        ),
    ],
)
async def test_other_apis_are_classified_as_the_chats_that_they_are(
    fake_upstream: FakeUpstream, path: str, body: dict[str, Any], *, stream: bool
) -> None:
    async with routing(fake_upstream) as found:
        for tools, expected in ((body["tools"], "fake/tool"), ([], "fake/small")):
            asked = {**body, "model": AUTO, "tools": tools, "stream": stream}
            async with post(found.app, path, asked, headers={"apikey": KEY}, ahead=0) as call:
                assert await call.started() == 200, await call.read()
                await call.read()
                await call.returned()
            assert dict(call.headers)["x-hpp-router-resolved-model"] == expected
        assert [entry.draft.model for entry in await check_books(found)] == ["fake/tool", "fake/small"]


async def test_what_no_model_could_be_told_is_named_as_where_the_client_names_the_model(
    fake_upstream: FakeUpstream,
) -> None:
    body = {"model": AUTO, "input": "Hi", "previous_response_id": "resp_1"}
    async with routing(fake_upstream) as found:
        with pytest.raises(RequestError) as caught:
            await found.complete(ALICE, body, api=RESPONSES)
        assert (caught.value.code, caught.value.param) == ("invalid_request", "previous_response_id")


@pytest.mark.parametrize("path", ["/llm/v1/embeddings", "/llm/v1/images/generations"])
async def test_what_is_no_chat_is_not_routed(fake_upstream: FakeUpstream, path: str) -> None:
    body = {"model": AUTO, "input": "Hi", "prompt": "Hi"}
    wanted = {"model", "input"} if "embeddings" in path else {"model", "prompt"}
    async with routing(fake_upstream) as found:
        asked = {name: value for name, value in body.items() if name in wanted}
        async with post(found.app, path, asked, headers={"apikey": KEY}) as call:
            assert await call.started() == 400
            assert (await call.json())["error"]["code"] == "smart_routing_failed"


async def test_tokens_of_a_prompt_can_be_counted_for_it(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        body = {"model": AUTO, "messages": user("Hi there")}
        async with post(found.app, "/v1/messages/count_tokens", body, headers={"apikey": KEY}) as call:
            assert (await call.json())["input_tokens"] > 0


# --- nothing is left ------------------------------------------------------------------------------


async def test_nothing_configured_is_refused_as_ever(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        status, _, body = await answered(found)
        assert (status, b"smart_routing_failed" in body) == (400, True)
        assert fake_upstream.log == []


async def test_nothing_left_is_a_400_that_says_why_for_each(fake_upstream: FakeUpstream) -> None:
    known = {name: {"tool": False} for name in NANO} | {"t1": {"context": 10}}
    async with routing(fake_upstream, known=known) as found:
        async with ask(found, model=AUTO, tools=[TOOL]) as call:
            assert await call.started() == 400
            error = (await call.json())["error"]
        assert (error["code"], error["param"]) == ("smart_routing_failed", "model")
        assert error["availability"]["fake/tool"] == "it cannot call tools"
        assert "its context of 10 tokens is too small" in error["availability"]["fake/t1"]
        assert error["availability"].keys() == {f"fake/{name}" for name in NANO}
        assert "fake/t3: it cannot call tools" in error["message"]
        assert await check_books(found) == []
        assert fake_upstream.log == []


async def test_a_key_is_given_what_it_may_use_and_else_nothing(fake_upstream: FakeUpstream) -> None:
    consumers = {
        "alice": Declared(quota=10**10, keys=(KEY,), models=("fake/t?",)),
        "bob": Declared(quota=10**10, keys=(BOB_KEY,), models=("other/*",)),
    }
    async with routing(fake_upstream, consumers=consumers) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/t1"
        status, _, body = await answered(found, key=BOB_KEY)
        assert (status, b"smart_routing_failed" in body, b"this key may not use it" in body) == (400, True, True)


async def test_an_unhealthy_model_is_passed_over_until_it_is_well(fake_upstream: FakeUpstream) -> None:
    ill = {"fake/small"}
    async with routing(fake_upstream, unhealthy=ill.__contains__) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/t1"
        ill.clear()
        assert (await answered(found))[1]["resolved-model"] == "fake/small"


async def test_a_data_policy_is_kept_whoever_asks_for_it(fake_upstream: FakeUpstream) -> None:
    consumers = {
        "alice": Declared(quota=10**10, keys=(KEY,)),
        "bob": Declared(quota=10**10, keys=(BOB_KEY,), requires=("eu",)),
    }
    known = {"t2": {"tags": ("eu", "zdr")}, "t1": {"tags": ("eu",)}}
    async with routing(fake_upstream, known=known, consumers=consumers) as found:
        assert (await answered(found))[1]["resolved-model"] == "fake/small"
        assert (await answered(found, key=BOB_KEY))[1]["resolved-model"] == "fake/t1"
        require = {"X-HPP-Router-Require": "eu, zdr"}
        assert (await answered(found, headers=require))[1]["resolved-model"] == "fake/t2"
        assert (await answered(found, headers={"X-HPP-Router-Require": "moon"}))[0] == 400
        twice = [("apikey", KEY), ("X-HPP-Router-Require", "zdr"), ("X-HPP-Router-Require", "eu")]
        async with post(found.app, CHAT, question(model=AUTO), headers=twice) as call:
            assert await call.started() == 200
            assert (await call.json())["model"] == "fake/t2"
