"""Errors of ours as Anthropic's clients expect them."""

import json

import pytest
from anthropic.types import shared
from pydantic import TypeAdapter

from hpp_middleware.core.messages import UNTHREADED, envelope, error_event
from hpp_middleware.errors import GatewayError, RequestError, StoreError, UpstreamError

ID = "req_1"
RESPONSE = TypeAdapter(shared.ErrorResponse)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("x"), "invalid_request_error"),
        (RequestError("x", status=401, code="unauthorized"), "authentication_error"),
        (RequestError("x", status=402), "billing_error"),
        (RequestError("x", status=403), "permission_error"),
        (RequestError("x", status=404), "not_found_error"),
        (RequestError("x", status=413), "request_too_large"),
        (RequestError("x", status=429, code="insufficient_quota"), "rate_limit_error"),
        (StoreError("x"), "api_error"),
        (UpstreamError("x", provider="p", status=504), "timeout_error"),
        (UpstreamError("x", provider="p", status=502), "api_error"),
        (UpstreamError("x", provider="p", status=502, code="provider_overloaded"), "overloaded_error"),
        (GatewayError("x"), "api_error"),
        (RequestError("x", status=405), "invalid_request_error"),
        (RequestError("x", status=409), "conflict_error"),
        (RequestError("x", status=415), "invalid_request_error"),
    ],
)
def test_the_type_follows_the_status(error: GatewayError, kind: str) -> None:
    body = json.loads(envelope(error, ID))
    assert (body["type"], body["request_id"]) == ("error", ID)
    assert body["error"]["type"] == kind
    assert body["error"]["message"] == "x"
    assert body["error"]["code"] == error.code
    if kind not in {"conflict_error", "request_too_large"}:  # which Anthropic's SDK has no types for
        RESPONSE.validate_python(body)


def test_what_speaks_of_an_upstream_says_so() -> None:
    body = json.loads(envelope(UpstreamError("x", provider="p", upstream_status=503, retryable=True), ID))
    assert (body["error"]["provider"], body["error"]["upstream_status"], body["error"]["retryable"]) == ("p", 503, True)


def test_a_refused_thread_has_the_code_by_which_the_sdk_gives_threads_up() -> None:
    body = json.loads(envelope(RequestError("x", code=UNTHREADED), ID))
    assert body["error"]["details"] == {"error_code": UNTHREADED}


def test_an_event_is_the_same_with_what_it_cost() -> None:
    error, usage = RequestError("x"), {"input_tokens": 3, "cost": 1}
    name, data, *_ = error_event(error, "", usage).split(b"\n")
    assert (name, json.loads(data.removeprefix(b"data: "))) == (
        b"event: error",
        {**json.loads(envelope(error)), "usage": usage},
    )
    assert "request_id" not in json.loads(envelope(error))
