"""What ``hpprouter/auto`` would choose is explained, and it is listed."""

from typing import Any

import pytest
from rig import ALICE, BOB_KEY, KEY, ask, check_books, gateway, read

from asgi.choosing import AUTO, CASES, NANO, TALK, TOOL, explained, routing, user
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/llm/v1/route", "/v1/route"])
async def test_what_would_be_chosen_is_told_and_nothing_is_done(fake_upstream: FakeUpstream, path: str) -> None:
    async with routing(fake_upstream, known={"t2": {"context": 5}}) as found:
        status, told = await explained(found, path=path, max_tokens=50)
        assert status == 200
        assert (told["model"], told["basket"], told["rule"]) == ("fake/small", "simple", "simple-tokens")
        by_model = {each["model"]: each for each in told["candidates"]}
        assert by_model.keys() == {f"fake/{name}" for name in NANO}
        assert by_model["fake/small"] == {
            "model": "fake/small",
            "eligible": True,
            "chosen": True,
            "why_not": [],
            "estimated_input_tokens": 1,
            "estimated_cost": pytest.approx((1 * 100 + 50 * 300) / 10**9),
        }
        assert by_model["fake/t2"]["why_not"] == ["its context of 5 tokens is too small for 1 and an answer of 50"]
        assert (await found.balance(ALICE)).requests == 0
        assert await check_books(found) == []
        assert fake_upstream.log == []


async def test_what_is_explained_is_what_is_done(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        for fields, expected in CASES:
            _, told = await explained(found, **fields)
            assert told["model"] == expected["resolved-model"]
            assert (told["basket"], told["rule"], told["tier"]) == (
                expected["basket"],
                expected["rule-id"],
                expected["tier"],
            )
        assert (await explained(found, messages=TALK))[1]["model"] == "fake/t1"  # nothing was remembered


async def test_to_explain_needs_a_key_and_a_request_and_says_where_nothing_is_left(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream, known={name: {"tool": False} for name in NANO}) as found:
        assert (await explained(found, key=None))[0] == 401
        assert (await explained(found, messages=[]))[0] == 400
        status, told = await explained(found, tools=[TOOL])
        assert (status, told["model"]) == (200, None)
        assert {each["eligible"] for each in told["candidates"]} == {False}
        assert "it cannot call tools" in told["reason"]


async def test_a_model_that_is_named_is_explained_too(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        status, told = await explained(found, model="fake/t3")
        assert (status, told["model"], told["policy"], told["rule"]) == (200, "fake/t3", "direct", "direct")
        assert (await explained(found, model="fake/none"))[1]["error"]["code"] == "unsupported_model"
    async with gateway(fake_upstream) as found:
        assert (await explained(found))[1]["error"]["code"] == "smart_routing_failed"


async def test_a_model_that_is_named_need_not_have_the_tags_that_are_asked_for(fake_upstream: FakeUpstream) -> None:
    """They are for the router's choice; a fallback behind it must have them."""
    async with routing(fake_upstream, fallbacks={"fake/t3": ["fake/t2"]}) as found:
        body = {"model": "fake/t3", "messages": user("Hi")}
        headers = {"apikey": KEY, "X-HPP-Router-Require": "eu"}
        async with post(found.app, "/llm/v1/route", body, headers=headers) as call:
            assert await call.started() == 200
            told = await call.json()
        (named,) = told["candidates"]
        assert (named["eligible"], named["why_not"]) == (True, [])
        assert [each["why_not"] for each in told["chain"]] == [None, "fake/t2: it is not tagged eu"]


async def test_a_key_hears_no_price_of_a_model_that_it_may_not_use(fake_upstream: FakeUpstream) -> None:
    consumers = {"bob": Declared(quota=10**10, keys=(BOB_KEY,), models=("fake/small",))}
    async with routing(fake_upstream, consumers=consumers) as found:
        _, told = await explained(found, key=BOB_KEY)
        others = [each for each in told["candidates"] if each["model"] != "fake/small"]
        assert len(others) == len(NANO) - 1
        for each in others:
            assert each["why_not"] == ["this key may not use it"]
            assert (each["estimated_input_tokens"], each["estimated_cost"]) == (None, None)


@pytest.mark.parametrize(
    ("fields", "escalation"),
    [({}, "fake/t3"), ({"stream": True}, None), ({"n": 2}, None)],
)
async def test_whom_a_cascade_asks_next_is_told(
    fake_upstream: FakeUpstream, fields: dict[str, Any], escalation: str | None
) -> None:
    policy = {"cascade": True, "simple": ("fake/small", "fake/t1")}
    async with routing(fake_upstream, policy) as found:
        fake_upstream.script = Script(texts=("I don't know.",))
        _, told = await explained(found, **fields)
        assert told["escalation"] == escalation
        assert [each["model"] for each in told["chain"]] == ["fake/small", escalation or "fake/t1"]
        async with ask(found, model=AUTO, **fields) as call:
            assert await call.started() == 200
            await call.read()
            await call.returned()
        assert [each.json()["model"] for each in fake_upstream.log] == ["small", "t3"][: 2 if escalation else 1]


async def test_it_is_listed_first_where_it_is_configured(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        data = (await read(found, "/llm/v1/models"))["data"]
        assert [each["id"] for each in data] == [AUTO, *(f"fake/{name}" for name in NANO)]
        assert data[0]["pricing"] is None
        assert data[0].keys() == data[1].keys()
        assert await read(found, f"/llm/v1/models/{AUTO}") == data[0]
    async with gateway(fake_upstream) as found:
        assert AUTO not in {each["id"] for each in (await read(found, "/llm/v1/models"))["data"]}
