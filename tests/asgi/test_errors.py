"""Every refusal of the contract: its status, its code, both shapes, and that nothing was forwarded or held."""

import json
import logging
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from rig import CANARY, CHAT, KEY, Delegate, ask, check_books, gateway, question, read_chat
from starlette.routing import Route

from hpp_middleware.testing import FakeUpstream, Script, get, post
from hpp_middleware.testing.asgi import Call
from hpp_middleware.types.provider import Declared, Limits

pytestmark = pytest.mark.anyio

JSON = {"content-type": "application/json"}
OURS = {**JSON, "apikey": KEY}
LOCKED = "a-key-for-one-model-only"


def body_of(**fields: Any) -> bytes:
    return json.dumps(question(**fields)).encode()


REFUSALS: dict[str, tuple[Mapping[str, str], bytes, int, str, str | None]] = {
    "no json": (OURS, b"{", 400, "invalid_request", None),
    "an array": (OURS, b"[]", 400, "invalid_request", None),
    "null": (OURS, b"null", 400, "invalid_request", None),
    "empty": (OURS, b"", 400, "invalid_request", None),
    "no utf-8": (OURS, b'{"a":"\xff"}', 400, "invalid_request", None),
    "utf-16": (OURS, body_of().decode().encode("utf-16"), 400, "invalid_request", None),
    "nan": (OURS, body_of()[:-1] + b',"x":NaN}', 400, "invalid_request", None),
    "infinity": (OURS, body_of()[:-1] + b',"x":-Infinity}', 400, "invalid_request", None),
    "deep": (OURS, body_of()[:-1] + b',"x":' + b"[" * 65 + b"]" * 65 + b"}", 400, "invalid_request", None),
    "very deep": (OURS, b"[" * 100_000, 400, "invalid_request", None),
    "no model": (OURS, b'{"messages":[]}', 400, "invalid_request", "model"),
    "model a number": (OURS, body_of(model=1), 400, "invalid_request", "model"),
    "model with a line break": (OURS, body_of(model="fake/a\r\nx: y"), 400, "invalid_request", "model"),
    "no messages": (OURS, body_of(messages=[]), 400, "invalid_request", "messages"),
    "a message without a role": (
        OURS,
        body_of(messages=[{"content": "x"}]),
        400,
        "invalid_request",
        "messages[0].role",
    ),
    "stream a string": (OURS, body_of(stream="true"), 400, "invalid_request", "stream"),
    "max_tokens 0": (OURS, body_of(max_tokens=0), 400, "invalid_request", "max_tokens"),
    "max_tokens true": (OURS, body_of(max_tokens=True), 400, "invalid_request", "max_tokens"),
    "n 17": (OURS, body_of(n=17), 400, "invalid_request", "n"),
    "steering": (OURS, body_of(api_base="http://evil"), 400, "invalid_request", "api_base"),
    "another letter case": (OURS, body_of(Max_Tokens=5), 400, "invalid_request", "Max_Tokens"),
    "unknown provider": (OURS, body_of(model="nobody/knows"), 400, "unsupported_model", "model"),
    "no provider": (OURS, body_of(model="fake-1"), 400, "unsupported_model", "model"),
    "no price": (OURS, body_of(model="fake/unpriced"), 400, "unsupported_model", "model"),
    "auto": (OURS, body_of(model="hpprouter/auto"), 400, "smart_routing_failed", "model"),
    "no key": (JSON, body_of(), 401, "unauthorized", None),
    "not allowed": ({**JSON, "apikey": LOCKED}, body_of(), 403, "model_not_allowed", "model"),
    "too much money": (OURS, body_of(max_tokens=10_000_000), 429, "insufficient_quota", None),
    "no media type": ({"apikey": KEY}, body_of(), 415, "unsupported_media_type", None),
    "a form": (
        {**OURS, "content-type": "multipart/form-data; boundary=x"},
        b"--x",
        415,
        "unsupported_media_type",
        None,
    ),
    "text": ({**OURS, "content-type": "text/json"}, body_of(), 415, "unsupported_media_type", None),
    "gzip": ({**OURS, "content-encoding": "gzip"}, b"\x1f\x8b", 415, "unsupported_media_type", None),
    "too long, it says": ({**OURS, "content-length": "1000001"}, b"{", 413, "request_too_large", None),
    "absurdly long, it says": ({**OURS, "content-length": "9" * 5000}, b"{", 413, "request_too_large", None),
    "too long": (OURS, b" " * 1_000_001, 413, "request_too_large", None),
}


@pytest.mark.parametrize("shape", ["object", "simple"])
@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_has_its_status_and_shape_and_costs_nothing(
    name: str, shape: str, fake_upstream: FakeUpstream
) -> None:
    headers, body, status, code, param = REFUSALS[name]
    consumers = {
        "alice": Declared(quota=10**9, keys=(KEY,)),
        "eve": Declared(quota=10**9, keys=(LOCKED,), models=("other/*",)),
    }
    settings: dict[str, Any] = {"limits": Limits(body_bytes=1_000_000), "consumers": consumers}
    async with gateway(fake_upstream, error_format=shape, **settings) as found:
        async with post(found.app, CHAT, body, headers=headers) as call:
            assert await call.started() == status
            told = await call.json()
            assert call.headers["content-type"] == "application/json"
            assert call.headers["x-request-id"].startswith("req_")
            if shape == "simple":
                assert set(told) == {"error", "message"}
                assert told["error"] == code
            else:
                error = told["error"]
                assert set(error) == {"message", "type", "code", "param", "retryable"}
                assert (error["code"], error["param"], error["retryable"]) == (code, param, False)
                if param is not None:
                    assert param.partition("[")[0] in error["message"] or status == 403 or code != "invalid_request"
            assert (call.headers.get("www-authenticate") == "Bearer") == (status == 401)
            assert (call.headers.get("x-should-retry") == "false") == (status == 429)
        assert await check_books(found) == []
    assert fake_upstream.log == []


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/messages"])
async def test_an_empty_quota_is_a_402_where_the_operator_says_so(path: str, fake_upstream: FakeUpstream) -> None:
    asked = {"responses": {"input": "Hello!", "max_output_tokens": 10**7}, "messages": question(max_tokens=10**7)}
    fields = asked.get(path.rpartition("/")[2], question(max_tokens=10**7))
    async with gateway(fake_upstream, quota_status=402) as found:
        body = json.dumps({**fields, "model": question()["model"]}).encode()
        async with post(found.app, path, body, headers=OURS) as call:
            assert await call.started() == 402
            error = (await call.json())["error"]
            assert error["type"] == ("billing_error" if path.endswith("messages") else "insufficient_quota")
            assert error.get("code", "insufficient_quota") == "insufficient_quota"
            assert call.headers["x-should-retry"] == "false"
        assert await check_books(found) == []
    assert fake_upstream.log == []


async def test_what_speaks_of_an_upstream_stays_an_object_in_the_simple_form(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(status=503)
    async with gateway(fake_upstream, error_format="simple") as found:
        status, body = await read_chat(found)
        assert status == 502
        error = json.loads(body)["error"]
        assert (error["type"], error["provider"], error["upstream_status"]) == ("upstream_error", "fake", 503)


async def test_a_body_that_does_not_arrive_in_time_is_a_408(fake_upstream: FakeUpstream) -> None:
    found = gateway(fake_upstream, limits=Limits(body_s=0.05))
    async with found, post(found.app, CHAT, b'{"model":', headers=OURS, unfinished=True) as call:
        with anyio.fail_after(5):
            assert await call.started() == 408
        assert (await call.json())["error"]["code"] == "request_timeout"
        assert call.headers["x-should-retry"] == "false"


async def test_a_body_without_an_end_is_not_read_past_its_bound(fake_upstream: FakeUpstream) -> None:
    pieces = [b" " * 1000] * 50
    found = gateway(fake_upstream, limits=Limits(body_bytes=10_000))
    async with found, post(found.app, CHAT, pieces, headers=OURS, unfinished=True) as call:
        assert await call.started() == 413
        assert len(call._requests) == 39  # eleven were read


async def test_a_body_of_exactly_the_bound_is_read(fake_upstream: FakeUpstream) -> None:
    body = body_of()
    found = gateway(fake_upstream, limits=Limits(body_bytes=len(body)))
    headers = {**OURS, "content-length": str(len(body))}
    async with found, post(found.app, CHAT, body, headers=headers) as call:
        assert await call.started() == 200


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", CHAT, {"POST"}),
        ("PUT", CHAT, {"POST"}),
        ("POST", "/llm/v1/models", {"GET", "HEAD"}),
        ("POST", "/llm/v1/models/fake/fake-1", {"GET", "HEAD"}),
        ("DELETE", "/api/usage", {"GET", "HEAD"}),
        ("OPTIONS", "/api/quota-check", {"GET", "HEAD"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("__class__", "/api/usage", {"GET", "HEAD"}),
    ],
)
async def test_a_wrong_method_is_a_405_that_says_which_is_right(
    method: str, path: str, allow: set[str], fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as found, Call(found.app, method, path) as call:
        assert await call.started() == 405
        assert {word.strip() for word in call.headers["allow"].split(",")} == allow
        assert (await call.json())["error"]["code"] == "method_not_allowed"
        assert "x-request-id" in call.headers


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/llm/v1", "/llm/v1/chat", "/api", "/v1", "/v2/models", "//", "/%2e%2e/api"]
)
async def test_an_unknown_path_is_a_404_in_json(path: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for method in ("GET", "POST", "HEAD"):
            async with Call(found.app, method, path) as call:
                assert await call.started() == 404
                assert (await call.json())["error"]["code"] == "not_found"
                assert "x-request-id" in call.headers


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/completions", "/v1/chat/completions"),
        ("/messages", "/v1/messages"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/openai/responses", "/v1/responses"),
        ("/embeddings/", "/v1/embeddings"),
        ("/models", "/v1/models"),
    ],
)
async def test_a_path_below_another_base_url_is_told_where_it_is(
    path: str, found: str, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as router, Call(router.app, "POST", path) as call:
        assert await call.started() == 404
        told = (await call.json())["error"]
        assert (told["code"], told["message"].split()[-6]) == ("not_found", f"{found},")
        assert found in {route.path for route in router.app.routes if isinstance(route, Route)}


@pytest.mark.parametrize("path", ["/llm/v1/models/", "/healthz/", "/healthz//", "/llm/v1/models/fake/fake-1/"])
async def test_a_trailing_slash_changes_nothing(path: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, get(found.app, path) as call:
        assert await call.started() == 200


async def test_a_completion_with_a_trailing_slash_is_no_redirect(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found, post(found.app, CHAT + "/", body_of(), headers=OURS) as call:
        assert await call.started() == 200


async def test_a_fault_of_our_own_is_a_500_that_tells_nothing(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "hpp_middleware")

    async def fault(*_: object, **__: object) -> None:
        raise KeyError(CANARY)

    async with gateway(fake_upstream) as found:
        found.authenticate = fault  # type: ignore[method-assign,assignment]  # a bug, for once on purpose
        async with ask(found) as call:
            assert await call.started() == 500
            told = await call.json()
            assert "x-request-id" in call.headers
        assert told["error"]["code"] == "internal_error"
        assert CANARY not in str(told)
        assert CANARY not in caplog.text
        assert "internal error KeyError" in caplog.text


async def test_a_quota_that_cannot_be_verified_is_a_503_on_every_endpoint_that_needs_it(
    fake_upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    store = Delegate()
    async with gateway(fake_upstream, store=store) as found:
        store.error = OSError("secret-host")
        lease = (await found.worker()).lease
        lease._swept_at = lease._calm_until = float("-inf")
        for path in ("/api/usage", "/api/quota-check", "/readyz"):
            async with get(found.app, path, headers={"apikey": KEY}) as call:
                assert await call.started() == 503
                assert b"secret" not in await call.read()
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("quota_unavailable")]
    assert len(told) == 1  # of the two in this second; /readyz has answered by itself
    assert "OSError" in told[0]
    assert "secret" not in caplog.text


async def test_an_upstreams_words_are_passed_on_scrubbed_and_for_some_statuses_only(
    fake_upstream: FakeUpstream,
) -> None:
    words = f"Your key {CANARY} at http://10.0.0.7:8000/x is too long: 4096 tokens"
    async with gateway(fake_upstream) as found:
        for status in (400, 401, 403, 404, 422, 429, 500):
            fake_upstream.script = Script(status=status, error={"error": {"message": words}})
            _, body = await read_chat(found)
            assert CANARY.encode() not in body
            assert b"10.0.0.7" not in body
            assert (b"4096 tokens" in body) == (status in {400, 404, 422})
