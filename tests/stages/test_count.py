"""Counting tokens: asked of the provider where it counts, estimated where it does not, and never charged."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from rig import BOB_KEY, CANARY, KEY, MODEL, Witness, check_books, gateway, question

from hpp_middleware import Gateway
from hpp_middleware.dialects.openai import OpenAI
from hpp_middleware.testing import FakeUpstream, Script, post
from hpp_middleware.types.completion import Request, Target
from hpp_middleware.types.http import HTTPCall
from hpp_middleware.types.provider import Declared, Provider, Timeouts

pytestmark = pytest.mark.anyio

COUNT = "/v1/messages/count_tokens"


class Native(OpenAI):
    """A provider that takes messages as they are, at ``/messages``."""

    def native(self, api: str, _provider: Provider) -> "Native | None":
        return self if api == "messages" else None

    def call(self, request: Request, target: Target, *, cap: int | None, request_id: str) -> HTTPCall:
        made = super().call(request, target, cap=cap, request_id=request_id)
        return replace(made, url=made.url.replace("/chat/completions", "/messages"))


def asked(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in question(**fields).items() if name != "max_tokens"}


async def count(found: Gateway, *, key: str = KEY, path: str = COUNT, **fields: Any) -> tuple[int, Any]:
    async with post(found.app, path, asked(**fields), headers={"x-api-key": key}, ahead=0) as call:
        status = await call.started()
        assert call.headers["request-id"] == call.headers["x-request-id"]
        return status, await call.json()


def native(upstream: FakeUpstream, **settings: Any) -> Gateway:
    return gateway(upstream, dialects={"own": Native()}, provider={"dialect": "own"}, **settings)


@pytest.mark.parametrize("path", [COUNT, f"/llm{COUNT}"])
async def test_without_a_counter_the_prompt_is_estimated(path: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, tokenizer=None) as found:
        status, body = await count(found, path=path)
        assert status == 200
        assert body["estimated"] is True
        _, longer = await count(found, path=path, system="word " * 400)
        assert (
            longer["input_tokens"] == body["input_tokens"] + len('{"role":"system","content":""},' + "word " * 400) // 4
        )
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_a_provider_that_counts_is_asked_and_nothing_is_charged(fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(raw_body=b'{"input_tokens": 17}', content_type="application/json"))
    async with native(fake_upstream) as found:
        assert await count(found, tools=[{"name": "a", "input_schema": {}}], stream=True, temperature=1) == (
            200,
            {"input_tokens": 17},
        )
        assert await check_books(found) == []
        balance = await found.store.balance("alice")
        assert (balance.held, balance.used) == (0, 0)
    (exchange,) = fake_upstream.log
    assert exchange.path == COUNT
    assert exchange.json().keys() == {"model", "messages", "tools"}
    assert exchange.header("authorization") == f"Bearer {CANARY}"
    assert exchange.header("x-api-key") is None


@pytest.mark.parametrize(
    "provider", [{"ignore": ["fake"]}, {"only": ["other/model"]}, {"max_price": {"prompt": 0}}], ids=str
)
async def test_a_provider_that_the_client_leaves_out_does_not_see_the_prompt(
    provider: dict[str, Any], fake_upstream: FakeUpstream
) -> None:
    async with native(fake_upstream) as found:
        status, body = await count(found, provider=provider)
        assert (status, body["estimated"]) == (200, True)
    assert fake_upstream.log == []


@pytest.mark.parametrize(
    "script",
    [
        Script(status=404, raw_body=b"{}"),
        Script(status=401, raw_body=b"{}"),
        Script(status=429, raw_body=b"{}"),
        Script(status=500, raw_body=b"{}"),
        Script(raw_body=b"<html>"),
        Script(raw_body=b'{"input_tokens": 17}', content_encoding="gzip"),
        Script(raw_body=b"x" * 70_000),
        Script(close_before_head=True, raw_body=b"x"),
        Script(raw_body=b'{"input_tokens": 17}', truncate_at_byte=3),
    ],
    ids=["404", "401", "429", "500", "no count", "packed", "large", "closed", "broken"],
)
async def test_a_counter_that_does_not_answer_leaves_it_to_an_estimate(
    script: Script, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.next(script)
    async with native(fake_upstream) as found:
        status, body = await count(found)
        assert (status, body["estimated"]) == (200, True)
        assert await check_books(found) == []


async def test_a_counter_that_is_silent_is_not_awaited_for_long(fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(raw_body=b"x", delay_head_s=3600))
    async with native(fake_upstream, timeouts=Timeouts(connect=1, first_byte=0.1, idle=0.1, total=1)) as found:
        assert (await count(found))[1]["estimated"] is True
    await fake_upstream.idle()
    assert fake_upstream.log[0].closed_early


async def test_what_a_counter_refuses_is_refused(fake_upstream: FakeUpstream) -> None:
    fake_upstream.next(Script(status=400, raw_body=b'{"error": {"message": "messages: too odd"}}'))
    async with native(fake_upstream) as found:
        status, body = await count(found)
        assert (status, body["type"], body["error"]["type"]) == (400, "error", "invalid_request_error")
        assert body["error"]["message"] == "messages: too odd"
        assert await check_books(found) == []


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"model": "fake/none"}, 400, "invalid_request_error"),
        ({"model": "nobody/x"}, 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        ({"speed": "fast"}, 400, "invalid_request_error"),
    ],
)
async def test_a_wrong_request_is_refused_in_anthropic_s_words(
    fields: dict[str, Any], status: int, kind: str, fake_upstream: FakeUpstream
) -> None:
    witness = Witness()
    async with gateway(fake_upstream, observers=[witness]) as found:
        got, body = await count(found, **fields)
        assert (got, body["error"]["type"]) == (status, kind)
        assert [refused.status for refused in witness.refused] == [status]
    assert fake_upstream.log == []


async def test_who_may_not_ask_may_not_count(fake_upstream: FakeUpstream) -> None:
    consumers = {"bob": Declared(quota=1, keys=(BOB_KEY,), models=("fake/another",))}
    async with gateway(fake_upstream, consumers=consumers) as found:
        status, body = await count(found, key=BOB_KEY, model=MODEL)
        assert (status, body["error"]["type"]) == (403, "permission_error")
        status, body = await count(found, key="nobody-shows-this-key")
        assert (status, body["error"]["type"]) == (401, "authentication_error")
        async with post(found.app, COUNT, b"x" * 20, headers={"x-api-key": BOB_KEY}, ahead=0) as call:
            assert await call.started() == 415
            assert json.loads(await call.read())["type"] == "error"
