"""What the client is told: headers, errors in their shapes, and an upstream's errors made fit to pass on."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw
from rounds import rounds

from hpp_middleware.core import reply
from hpp_middleware.errors import ConfigurationError, GatewayError, RequestError, StoreError, UpstreamError
from hpp_middleware.types.completion import Target
from hpp_middleware.types.price import Price, Rates
from hpp_middleware.types.provider import Model, Provider

TARGET = Target(
    id="p/m",
    provider_name="p",
    model_name="m",
    provider=Provider(base_url="https://p.test"),
    model=Model(),
    price=Price(base=Rates(input=1, output=1)),
)
UNAUTHORIZED = RequestError("Invalid API key", status=401, code="unauthorized", headers={"WWW-Authenticate": "Bearer"})
OVERLOADED = UpstreamError(
    "The model is overloaded.", provider="openai", upstream_status=503, code="overloaded", retryable=True
)


def told(status: int, body: Any = b"", **more: Any) -> UpstreamError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return reply.upstream_error("openai", status, data, **more)


def test_a_completion_says_what_was_called_and_what_it_cost() -> None:
    assert reply.completion_headers(TARGET) == [("X-HPP-Router-Resolved-Model", "p/m")]
    assert reply.completion_headers(TARGET, cost=1_250_000)[1] == ("X-HPP-Router-Cost", "0.00125")
    assert reply.completion_headers(TARGET, cost=0)[1] == ("X-HPP-Router-Cost", "0")


def test_an_error_is_an_object_in_openais_shape() -> None:
    assert json.loads(reply.error_body(UNAUTHORIZED)) == {
        "error": {
            "message": "Invalid API key",
            "type": "authentication_error",
            "code": "unauthorized",
            "param": None,
            "retryable": False,
        }
    }


def test_an_error_that_speaks_of_an_upstream_says_so() -> None:
    expected = {
        "error": {
            "message": "The model is overloaded.",
            "type": "upstream_error",
            "code": "overloaded",
            "param": None,
            "provider": "openai",
            "upstream_status": 503,
            "retryable": True,
        }
    }
    assert json.loads(reply.error_body(OVERLOADED)) == expected
    assert json.loads(reply.error_body(OVERLOADED, simple=True)) == expected


def test_the_simple_form_is_flat_for_the_routers_own_verdicts() -> None:
    assert json.loads(reply.error_body(UNAUTHORIZED, simple=True)) == {
        "error": "unauthorized",
        "message": "Invalid API key",
    }
    assert json.loads(reply.error_body(StoreError("Try again."), simple=True))["error"] == "quota_unavailable"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("x"), "invalid_request_error"),
        (RequestError("x", status=401), "authentication_error"),
        (RequestError("x", status=403), "permission_error"),
        (RequestError("x", status=404), "not_found_error"),
        (RequestError("x", status=413), "invalid_request_error"),
        (RequestError("x", status=429, code="rate_limit_exceeded"), "rate_limit_error"),
        (RequestError("x", status=429, code="insufficient_quota"), "insufficient_quota"),
        (StoreError("x"), "server_error"),
        (OVERLOADED, "upstream_error"),
        (ConfigurationError("x"), "server_error"),
    ],
)
def test_the_type_follows_the_status(error: GatewayError, kind: str) -> None:
    assert reply.error_object(error)["type"] == kind


@pytest.mark.parametrize(
    ("error", "told_off"),
    [
        (RequestError("x", status=429, code="insufficient_quota"), True),
        (RequestError("x", status=429, code="rate_limit_exceeded", retryable=True), False),
        (RequestError("x", status=408, code="request_timeout"), True),
        (RequestError("x", status=400), False),
        (StoreError("x"), False),
        (told(401), True),
        (told(503), False),
        (told(409), False),
        (told(400), False),
    ],
)
def test_an_sdk_is_told_off_where_it_would_retry_in_vain(error: GatewayError, *, told_off: bool) -> None:
    assert (("x-should-retry", "false") in reply.error_headers(error)) is told_off


def test_an_errors_own_headers_are_sent() -> None:
    assert ("WWW-Authenticate", "Bearer") in reply.error_headers(UNAUTHORIZED)
    assert ("Retry-After", "7") in reply.error_headers(told(429, retry_after="7"))


# (upstream's status): ours, code, retryable
STATUSES = {
    400: (400, "invalid_request", False),
    401: (502, "provider_unavailable", False),
    402: (502, "provider_unavailable", False),
    403: (502, "provider_unavailable", False),
    404: (404, "not_found", False),
    408: (408, "timeout", True),
    409: (409, "conflict", True),
    413: (413, "payload_too_large", False),
    415: (415, "unsupported_media_type", False),
    422: (422, "unprocessable", False),
    429: (429, "rate_limit_exceeded", True),
    500: (502, "server", True),
    502: (502, "provider_unavailable", True),
    503: (502, "provider_overloaded", True),
    504: (504, "timeout", True),
    529: (502, "provider_overloaded", True),
    599: (502, "provider_unavailable", True),
    204: (502, "provider_unavailable", False),
    302: (502, "provider_unavailable", False),
    406: (502, "provider_unavailable", False),
    418: (502, "provider_unavailable", False),
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_of_an_upstream_has_its_own_answer(status: int) -> None:
    for body in (b"", b"<html>oops</html>", {"error": {"message": "said", "code": "made_up", "type": "made_up"}}):
        error = told(status, body)
        assert (error.status, error.code, error.retryable) == STATUSES[status]
        assert (error.provider, error.upstream_status, error.type) == ("openai", status, "upstream_error")
        assert error.message


@pytest.mark.parametrize("status", [*STATUSES])
def test_the_message_is_the_upstreams_only_where_the_client_can_act_on_it(status: int) -> None:
    error = told(status, {"error": {"message": "say something in messages"}})
    assert (error.message == "say something in messages") == (status in {400, 404, 413, 415, 422})


@pytest.mark.parametrize("status", [401, 402, 403])
def test_the_routers_own_credential_is_never_the_clients_fault(status: int) -> None:
    error = told(status, {"error": {"message": "Incorrect API key", "code": "invalid_request", "type": "timeout"}})
    assert (error.status, error.code) == (502, "provider_unavailable")
    assert "key" not in error.message.lower()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "context_length_exceeded"}}, "context_length_exceeded"),
        ({"error": {"type": "context_length_exceeded", "code": None}}, "context_length_exceeded"),
        ({"error": {"code": "content_policy_violation", "type": "refusal"}}, "content_policy_violation"),
        ({"error": {"code": "content_filter", "type": None}}, "content_policy_violation"),
        ({"error": {"code": 400, "type": "invalid_prompt"}}, "invalid_prompt"),
        ({"code": "string_too_long"}, "string_too_long"),
        ([{"error": {"code": "unmapped"}}], "unmapped"),
        ({"error": {"code": "authentication"}}, "invalid_request"),
        ({"error": {"code": "<script>"}}, "invalid_request"),
        ({"error": {"code": ["context_length_exceeded"], "type": {}}}, "invalid_request"),
        ({"error": {"code": [], "detail": "x"}}, "invalid_request"),
        ({"detail": "x", "code": {}, "type": []}, "invalid_request"),
        ({"error": None}, "invalid_request"),
        ([], "invalid_request"),
    ],
)
def test_a_code_comes_from_the_vocabulary_or_from_the_status(body: Any, code: str) -> None:
    assert told(400, body).code == code


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "said"}},
        {"error": "said"},
        {"message": "said"},
        {"detail": "said"},
        {"error": {"detail": "said"}},
        [{"error": {"message": "said"}}],
    ],
)
def test_a_message_is_found_wherever_upstreams_put_it(body: Any) -> None:
    assert told(400, body).message == "said"


@pytest.mark.parametrize("message", ["", None, 5, ["x"], {"a": 1}])
def test_a_message_that_says_nothing_is_replaced(message: Any) -> None:
    assert told(400, {"error": {"message": message}}).message == "The provider could not answer."


@pytest.mark.parametrize(
    ("value", "passed"),
    [
        *(("7", True), ("0.5", True), ("120.250", True), (None, False), ("", False), ("-1", False), ("7\n", False)),
        *(("1\r\nX: y", False), ("Wed, 21 Oct 2026 07:28:00 GMT", False), ("1" * 7, False), ("\u0667", False)),
    ],
)
def test_only_a_plain_number_of_seconds_is_passed_on(value: str | None, *, passed: bool) -> None:
    assert ("Retry-After" in told(429, retry_after=value).headers) is passed


SECRETS = [
    "sk-proj-abcDEF1234567890abcDEF1234567890",
    "sk-ant-api03-Zm9vYmFyYmF6cXV4",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "sk-abc*********************wxyz",
    "gsk_0123456789abcdefABCDEF",
    "xai-0123456789abcdefABCDEF",
    "hf_abcdefghijklmnopqrst",
    "pplx-0123456789abcdef",
    "nvapi-0123456789abcdef",
    "fw_0123456789abcdef",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dBjftJeZ4CVP",
    "hpp_00000000001_0123456789abcdefghijklmnopq_A1b2C3",
    "0123456789abcdefghijklmnopqrstuv",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "org-AbCdEfGhIjKlMnOp",
    "proj_AbCdEfGhIjKlMnOp",
    "http://10.0.0.7/v1",
    "https://gateway.internal.example.com/v1/chat?key=abc",
    "1http://10-0-0-7/v1",
    "grpc+tls://gateway:8443",
    "-a-b.services.ai.azure.com",
    "vault.internal.example.com.azure.com",
    "10.0.0.1.AbCdEf-vault.amazonaws.com",
    "AbCdEf.us-east-1.api.aws",
    "redis://user:hunter2@cache/0",
    "wss://stream.example.com",
    "postgres://db.example.com/x",
    "192.168.17.3",
    "10.1.2.3:8080",
    "[fe80::1ff:fe23:4567:890a]:80",
    "2001:db8:0:0:0:0:2:1",
    "::1",
    "fe80::1",
    "localhost:8000",
    "vllm-7.models.svc:8000",
    "gpu-3.internal",
    "box.local",
    "worker-3.example.com:9000",
    "ops@example.com",
    "Bearer abc123",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("around", ["{}", "Could not use {} here.", "key='{}'", "({})", "a\n{}\tb", "url={},"])
def test_keys_urls_and_addresses_are_scrubbed(secret: str, around: str) -> None:
    found = reply.scrubbed(around.format(secret))
    assert secret not in found
    assert "[removed]" in found
    for part in ("hunter2", "0123456789", "AbCdEf", "example.com", "192.168", "fe80", "Zm9v", "abc123"):
        assert part not in found


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens.",
        "The model `claude-3-5-sonnet-20241022` does not exist",
        "accounts/fireworks/models/llama-v3p1-405b-instruct not found",
        "Invalid value for 'messages[3].content[0].image_url': expected an object, but got a string instead.",
        "temperature must be <= 2.0; got 3.5",
        "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
        "Größe überschritten, bitte kürzen 😀",
    ],
)
def test_what_helps_the_client_stays(message: str) -> None:
    assert reply.scrubbed(message) == message


def test_a_message_is_cut_and_freed_of_control_characters() -> None:
    assert reply.scrubbed("word " * 1000) == ("word " * 100)[:500]
    assert reply.scrubbed("a\r\nb\x1b[31mc\u2028d\x00e\ud800f") == "a  b [31mc d e f"
    assert len(reply.scrubbed("a b" * 100_000)) == 500


def test_half_a_key_at_the_end_of_what_is_looked_at_does_not_pass() -> None:
    filler = "https://example.com/" + "x" * 76 + " "
    for length in range(60):
        message = filler * 20 + "y" * (1950 - 20 * len(filler) + length) + " 9f8e7d" + "a1" * 40
        found = reply.scrubbed(message)
        assert "9f8e7d" not in found


@pytest.mark.parametrize("key", ["short-odd/key!", "an operator's key of words", "abc123xyz"])
def test_the_operators_own_key_is_removed_whatever_it_looks_like(key: str) -> None:
    error = told(400, {"error": {"message": f"API key not valid: {key}, sorry"}}, secrets=["", key])
    assert key not in error.message
    assert "sorry" in error.message


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(
    status=st.integers(100, 999),
    shape=st.sampled_from(["message", "detail", "text", "nested", "raw"]),
    before=st.text(max_size=50),
    after=st.text(max_size=50),
)
@example(status=400, shape="message", before="", after="")
@example(status=422, shape="detail", before="", after="")
def test_no_secret_of_a_body_passes_in_any_status_or_shape(status: int, shape: str, before: str, after: str) -> None:
    canary = "sk-CANARY0123456789canary0123456789"
    message = f"{before} {canary} {after}"
    shapes: dict[str, Any] = {
        "message": {"error": {"message": message, "code": canary, "type": canary, "param": canary, "x": message}},
        "detail": {"detail": message},
        "text": {"error": message},
        "nested": {"error": {"message": {"message": message}, "metadata": {"raw": message}}},
        "raw": canary.encode(),
    }
    error = told(status, shapes[shape], retry_after=canary)
    seen = reply.error_body(error) + repr(reply.error_headers(error)).encode() + reply.error_event(error, {})
    assert b"CANARY" not in seen
    json.loads(reply.error_body(error))
    assert len(error.message) <= 500


@settings(max_examples=rounds(300, soak=1_000), deadline=None)
@given(st.integers(100, 999), st.binary(max_size=100))
def test_any_body_of_any_status_is_an_error_that_can_be_sent(status: int, body: bytes) -> None:
    error = told(status, body)
    assert 400 <= error.status < 600
    assert json.loads(reply.error_body(error))["error"]["upstream_status"] == status


def test_a_body_nested_without_end_is_no_matter() -> None:
    assert told(400, b"[" * 100_000 + b"]" * 100_000).code == "invalid_request"


@pytest.mark.parametrize(
    ("raw", "status", "code", "retryable"),
    [
        ({"code": 429, "message": "slow"}, 429, "rate_limit_exceeded", True),
        ({"code": 400, "message": "no"}, 400, "invalid_request", False),
        ({"code": 502, "message": "x"}, 502, "provider_unavailable", True),
        ({"code": "context_length_exceeded"}, None, "context_length_exceeded", False),
        ({"code": "overloaded"}, None, "overloaded", True),
        ({"status": 503}, 503, "provider_overloaded", True),
        ({"code": True}, None, "provider_unavailable", True),
        ({"code": 99999}, None, "provider_unavailable", True),
        ({"code": [], "type": {}, "detail": "x"}, None, "provider_unavailable", True),
        ("boom", None, "provider_unavailable", True),
        (5, None, "provider_unavailable", True),
        ([1], None, "provider_unavailable", True),
    ],
)
def test_an_error_in_an_answer_is_told_without_its_words(
    raw: Any, status: int | None, code: str, *, retryable: bool
) -> None:
    error = reply.streamed_error("openai", json.dumps(raw).encode())
    assert (error.status, error.upstream_status, error.code, error.retryable) == (502, status, code, retryable)
    assert not any(word in error.message for word in ("slow", "boom", "no "))


def test_the_last_event_of_a_broken_stream_is_a_chunk_with_an_error_and_no_end_mark() -> None:
    data = reply.error_event(OVERLOADED, {"id": Raw(b'"c-1"'), "created": Raw(b"5"), "model": Raw(b'"p/m"')})
    assert data.startswith(b"data: ")
    assert data.endswith(b"\n\n")
    assert data.count(b"\n") == 2
    assert json.loads(data[6:]) == {
        "id": "c-1",
        "created": 5,
        "model": "p/m",
        "error": reply.error_object(OVERLOADED),
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }


def test_words_that_look_like_events_stay_inside_theirs() -> None:
    error = told(400, {"error": {"message": 'x\n\ndata: [DONE]\r\rdata: {"a":1}'}})
    data = reply.error_event(error, {})
    assert data.count(b"\n") == 2
    assert b"\r" not in data


@pytest.mark.parametrize(
    ("message", "hidden"),
    [
        ("User: arn:aws:sts::123456789012:assumed-role/Gate/i-0abc may not", "Gate"),
        ("on arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/x", "us-gov-west-1"),
        ("The account 123456789012 has no access.", "123456789012"),
        ("Publisher Model `projects/my-own-project/locations/eu/models/x` was not found.", "my-own-project"),
        ("Quota exceeded for consumer 'project_number:883388112233'.", "883388112233"),
        ("subscription 0e3c1d2a-1111-2222-3333-444455556666 is disabled", "444455556666"),
        ("not found in my-resource.openai.azure.com", "my-resource"),
        ("no route to vpce-1.bedrock-runtime.us-east-1.amazonaws.com today", "vpce-1"),
        ("the bucket my-files.s3.eu.api.aws is gone", "my-files"),
    ],
)
def test_what_clouds_call_their_customers_by_is_not_told(message: str, hidden: str) -> None:
    assert hidden in message
    passed = told(400, {"error": {"message": message}}).message
    assert hidden not in passed
    assert "[removed]" in passed
