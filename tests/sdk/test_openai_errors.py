"""OpenAI's official SDK: each error is the exception that its users catch, and is tried again only where that helps."""

from typing import Any

import openai
import pytest
from background import BackgroundUpstream
from rig import BOB_KEY, MODEL
from rig import gateway as make_gateway

from hpp_middleware.testing import Script
from hpp_middleware.testing.script import error_body
from hpp_middleware.types.provider import Timeouts
from sdk.served import HI, POOR_KEY, Router, error_of, sdk, served


def test_a_wrong_key_is_an_authentication_error(router: Router) -> None:
    key = "nobody-shows-this-key-of-his"
    with sdk(router, key) as stranger, pytest.raises(openai.AuthenticationError) as raised:
        stranger.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (401, "unauthorized")
    assert error_of(raised)["message"] == "Invalid API key"
    assert raised.value.request_id is not None
    assert router.requests == 1
    assert router.upstream.log == []


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_request", "messages"),
        ({"messages": HI, "n": 99}, "invalid_request", "n"),
        ({"messages": HI, "extra_body": {"api_base": "http://elsewhere.example"}}, "invalid_request", "api_base"),
        ({"messages": HI, "model": "fake/unknown"}, "unsupported_model", "model"),
        ({"messages": HI, "model": "hpprouter/auto"}, "smart_routing_failed", "model"),
    ],
)
def test_a_bad_request_is_one_and_names_the_field(
    client: openai.OpenAI, router: Router, fields: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(**{"model": MODEL, **fields})
    assert (raised.value.code, raised.value.param) == (code, param)
    assert router.requests == 1
    assert router.upstream.log == []


def test_a_model_that_the_key_may_not_use_is_a_permission_error(router: Router) -> None:
    with sdk(router, BOB_KEY) as bob, pytest.raises(openai.PermissionDeniedError) as raised:
        bob.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (403, "model_not_allowed")
    assert router.upstream.log == []


def test_what_is_not_there_is_a_not_found_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("fake/unknown")
    assert raised.value.code == "not_found"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="Hi")


def test_no_money_is_a_rate_limit_error_that_is_not_tried_again(router: Router) -> None:
    with sdk(router, POOR_KEY) as carol, pytest.raises(openai.RateLimitError) as raised:
        carol.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code, raised.value.type) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
    )
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert router.requests == 1
    assert router.upstream.log == []


@pytest.mark.parametrize("status", [401, 402, 403])
def test_an_upstream_that_refuses_the_operators_key_is_a_502_that_is_not_tried_again(
    client: openai.OpenAI, router: Router, status: int
) -> None:
    router.upstream.next(Script(status=status))
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    error = error_of(raised)
    assert (raised.value.status_code, error["provider"], error["upstream_status"]) == (502, "fake", status)
    assert error["retryable"] is False
    assert (router.requests, len(router.upstream.log)) == (1, 1)


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (400, openai.BadRequestError, "invalid_request"),
        (404, openai.NotFoundError, "not_found"),
        (413, openai.APIStatusError, "payload_too_large"),
        (422, openai.UnprocessableEntityError, "unprocessable"),
    ],
)
def test_an_upstreams_refusal_of_the_request_keeps_its_status_and_its_words(
    client: openai.OpenAI, router: Router, status: int, kind: type[openai.APIStatusError], code: str
) -> None:
    router.upstream.next(Script(status=status, error=error_body(status, "The request is odd.")))
    with pytest.raises(kind) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (status, code)
    assert error_of(raised)["message"] == "The request is odd."
    assert router.requests == 1


@pytest.mark.parametrize("status", [409, 429, 500, 503, 529])
def test_what_may_pass_is_tried_again_and_then_succeeds(client: openai.OpenAI, router: Router, status: int) -> None:
    router.upstream.next(Script(status=status, headers=[("retry-after", "0.01")]))
    completion = client.chat.completions.create(model=MODEL, messages=HI)
    assert completion.choices[0].message.content == "Hello world"
    assert (router.requests, len(router.upstream.log)) == (2, 2)
    assert [exchange.status for exchange in router.upstream.log] == [status, 200]


def test_what_does_not_pass_is_raised_after_the_sdks_own_retries(client: openai.OpenAI, router: Router) -> None:
    router.upstream.next(*[Script(status=503, headers=[("retry-after", "0.01")])] * 3)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    error = error_of(raised)
    assert (raised.value.status_code, error["upstream_status"], error["code"]) == (502, 503, "provider_overloaded")
    assert (router.requests, len(router.upstream.log)) == (3, 3)


def test_an_upstreams_rate_limit_is_a_rate_limit_error(router: Router) -> None:
    router.upstream.next(Script(status=429, headers=[("retry-after", "7")]))
    with sdk(router, max_retries=0) as client, pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model=MODEL, messages=HI)
    assert raised.value.code == "rate_limit_exceeded"
    assert raised.value.response.headers["retry-after"] == "7"


def test_an_upstream_that_says_nothing_in_time_is_a_504(background_upstream: BackgroundUpstream) -> None:
    background_upstream.next(Script(delay_head_s=60))
    hasty = make_gateway(background_upstream.url, timeouts=Timeouts(connect=0.5, first_byte=0.1))
    with (
        served(background_upstream, hasty) as router,
        sdk(router, max_retries=0) as client,
        pytest.raises(openai.InternalServerError) as raised,
    ):
        client.chat.completions.create(model=MODEL, messages=HI)
    assert (raised.value.status_code, raised.value.code) == (504, "timeout")


@pytest.mark.parametrize("kind", ["breaks off", "reports an error"])
def test_a_stream_that_fails_in_the_middle_raises_after_what_came_before(
    client: openai.OpenAI, router: Router, kind: str
) -> None:
    router.upstream.next(
        Script(truncate_after_events=3) if kind == "breaks off" else Script(error_event=error_body(500))
    )
    text: list[str] = []
    with pytest.raises(openai.APIError) as raised:
        text.extend(
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        )
    assert "".join(text) == "Hello world"
    assert not isinstance(raised.value, openai.APIConnectionError)
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["provider"] == "fake"
    assert router.requests == 1
