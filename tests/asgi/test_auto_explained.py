"""What ``hpprouter/auto`` would choose is explained, and it is listed."""

import pytest
from rig import ALICE, check_books, gateway, read

from asgi.choosing import AUTO, CASES, NANO, TALK, TOOL, explained, routing
from hpp_middleware.testing import FakeUpstream

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


async def test_it_is_listed_first_where_it_is_configured(fake_upstream: FakeUpstream) -> None:
    async with routing(fake_upstream) as found:
        data = (await read(found, "/llm/v1/models"))["data"]
        assert [each["id"] for each in data] == [AUTO, *(f"fake/{name}" for name in NANO)]
        assert data[0]["pricing"] is None
        assert data[0].keys() == data[1].keys()
        assert await read(found, f"/llm/v1/models/{AUTO}") == data[0]
    async with gateway(fake_upstream) as found:
        assert AUTO not in {each["id"] for each in (await read(found, "/llm/v1/models"))["data"]}
