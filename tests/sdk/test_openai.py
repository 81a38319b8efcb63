"""OpenAI's official SDK, sync and async: completions, streams, headers and models."""

from typing import Any

import openai
import pytest
from rig import BOB_KEY, KEY, MODEL, USAGE_NANO

from hpp_middleware.testing import USAGE, Script
from sdk.served import HI, Router, sdk


def test_a_completion_is_read_as_one(client: openai.OpenAI, router: Router) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=HI, temperature=0.5, seed=7)
    assert completion.choices[0].message.content == "Hello world"
    assert completion.model == MODEL
    assert completion.usage is not None
    assert completion.usage.total_tokens == USAGE["total_tokens"]
    sent = router.upstream.last.json()
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("fake-1", 0.5, 7)


@pytest.mark.anyio
async def test_the_async_client_reads_completions_models_and_errors(async_client: openai.AsyncOpenAI) -> None:
    completion = await async_client.chat.completions.create(model=MODEL, messages=HI)
    assert completion.choices[0].message.content == "Hello world"
    assert (await async_client.models.retrieve(MODEL)).id == MODEL
    with pytest.raises(openai.BadRequestError):
        await async_client.chat.completions.create(model="fake/unknown", messages=HI)


# The SDK leaves the generators of its streams to the garbage collector, which trio reports.
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


@ON_ASYNCIO
@pytest.mark.anyio
async def test_the_async_client_reads_streams(async_client: openai.AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    text = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(text) == "Hello world"


@ON_ASYNCIO
@pytest.mark.anyio
async def test_the_async_client_may_leave_a_stream(async_client: openai.AsyncOpenAI, router: Router) -> None:
    router.upstream.next(Script(stall_after_events=2))
    stream = await async_client.chat.completions.create(model=MODEL, messages=HI, stream=True)
    async with stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    router.upstream.wait_until_idle()
    assert router.upstream.last.closed_early


def test_a_stream_brings_the_text_and_no_usage_that_was_not_asked_for(client: openai.OpenAI, router: Router) -> None:
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "Hello world"
    assert {chunk.model for chunk in chunks} == {MODEL}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)
    assert router.upstream.last.json()["stream_options"] == {"include_usage": True}


def test_a_stream_brings_the_usage_that_was_asked_for(client: openai.OpenAI) -> None:
    options: Any = {"include_usage": True}
    chunks = list(client.chat.completions.create(model=MODEL, messages=HI, stream=True, stream_options=options))
    last = chunks[-1]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == USAGE["total_tokens"]
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in chunks[:-1])


def test_the_stream_helper_puts_a_completion_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=MODEL, messages=HI) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == "Hello world"


def test_the_raw_response_carries_the_routers_headers(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
    assert raw.headers["x-hpp-router-resolved-model"] == MODEL
    assert float(raw.headers["x-hpp-router-cost"]) == pytest.approx(USAGE_NANO / 10**9)
    assert raw.request_id == raw.headers["x-request-id"]
    assert raw.parse()._request_id == raw.request_id
    streamed = client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True)
    assert streamed.headers["x-hpp-router-resolved-model"] == MODEL
    assert streamed.headers["x-request-id"] not in {None, raw.request_id}
    assert "x-hpp-router-cost" not in streamed.headers
    assert len(list(streamed.parse())) > 1


def test_nothing_of_the_sdk_but_the_body_reaches_the_upstream(client: openai.OpenAI, router: Router) -> None:
    client.chat.completions.create(model=MODEL, messages=HI, extra_headers={"x-own": "1", "cookie": "a=b"})
    names = {name for name, _ in router.upstream.last.headers}
    assert not any(name.startswith("x-stainless") for name in names)
    assert names.isdisjoint({"x-own", "cookie", "apikey"})
    assert KEY not in str(router.upstream.last.headers)


def test_the_key_may_be_shown_in_both_headers_if_it_is_the_same(router: Router) -> None:
    with sdk(router, default_headers={"apikey": KEY}) as same:
        assert same.chat.completions.create(model=MODEL, messages=HI).model == MODEL
    with sdk(router, default_headers={"apikey": BOB_KEY}) as different, pytest.raises(openai.AuthenticationError):
        different.chat.completions.create(model=MODEL, messages=HI)


def test_a_stream_that_the_sdk_closes_is_settled_and_its_upstream_closed(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(Script(stall_after_events=2))
    with client.chat.completions.create(model=MODEL, messages=HI, stream=True) as stream:
        for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    router.upstream.wait_until_idle()
    assert router.upstream.last.closed_early
    usage = client.get("../../api/usage", cast_to=object)
    assert isinstance(usage, dict)
    assert usage["requests"] == 1
    assert 0 < usage["used"] < 1e-4


def test_the_models_are_listed_with_what_is_known_of_them(client: openai.OpenAI) -> None:
    (listed,) = client.models.list()
    retrieved = client.models.retrieve(MODEL)
    assert listed == retrieved
    assert (listed.id, listed.object, listed.owned_by) == (MODEL, "model", "fake")
    extra = listed.model_extra
    assert extra is not None
    assert extra["pricing"]["input"] == 1e-06
    assert extra["pricing"]["cache_read"] is None
    assert (extra["context"], extra["max_output"], extra["tool"]) == (128_000, 4_096, True)
    assert extra["description"] == "Not a model."


def test_the_models_of_a_key_are_those_that_it_may_use(router: Router) -> None:
    with sdk(router, BOB_KEY) as bob:
        assert list(bob.models.list()) == []
