"""Header allow-lists, both ways: no client header reaches an upstream, and no upstream header a client."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rig import CANARY, CHAT, KEY, ask, gateway, question, read_chat

from hpp_middleware.testing import FakeUpstream, Script, post

pytestmark = pytest.mark.anyio

UP = {
    *("host", "content-length", "content-type", "accept", "accept-encoding", "user-agent", "x-request-id"),
    *("authorization", "connection"),
}
DOWN_JSON = {"content-type", "content-length", "x-hpp-router-resolved-model", "x-hpp-router-cost", "x-request-id"}
DOWN_STREAM = {"content-type", "cache-control", "x-accel-buffering", "x-hpp-router-resolved-model", "x-request-id"}
DOWN_ERROR = {*DOWN_JSON, "cache-control"}

SECRETS = [
    ("cookie", "session=client-secret"),
    ("x-forwarded-for", "10.9.8.7"),
    ("forwarded", "for=10.9.8.7"),
    ("x-real-ip", "10.9.8.7"),
    ("proxy-authorization", "Basic client-secret"),
    ("x-key", "client-secret"),
    ("openai-organization", "client-secret"),
    ("te", "trailers"),
    ("upgrade", "websocket"),
    ("connection", "x-secret, keep-alive"),
    ("x-secret", "client-secret"),
    ("accept-encoding", "gzip, br"),
    ("accept", "client-secret"),
    ("user-agent", "client-secret/1.0"),
    ("host", "client-secret.example"),
    ("payment-signature", "client-secret"),
    ("traceparent", "00-client-secret"),
]

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=30).filter(
    lambda name: (
        name not in {"apikey", "authorization", "content-type", "content-encoding", "content-length", "idempotency-key"}
    )
)
values = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=50)
header_lists = st.lists(st.tuples(names, values) | st.sampled_from(SECRETS), max_size=20)


@given(headers=header_lists, stream=st.booleans())
@example(headers=SECRETS, stream=True)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_header_of_the_clients_reaches_the_upstream(
    headers: list[tuple[str, str]],
    stream: bool,  # noqa: FBT001
    fake_upstream: FakeUpstream,
) -> None:
    async with gateway(fake_upstream) as found:
        own = [("apikey", KEY), ("authorization", f"Bearer {KEY}"), ("idempotency-key", "client-secret")]
        shown = [*own, *headers]
        async with post(found.app, CHAT, question(stream=stream), headers=shown) as call:
            assert await call.started() == 200
            await call.read()
            ours = call.headers["x-request-id"]
    seen = fake_upstream.log[-1].headers
    assert {name for name, _ in seen} <= UP
    by_name = dict(seen)
    assert len(by_name) == len(seen)
    assert by_name["authorization"] == f"Bearer {CANARY}"
    assert by_name["accept-encoding"] == "identity"
    assert by_name["x-request-id"] == ours
    assert "client-secret" not in str(seen)
    assert KEY not in str(seen)


async def test_a_providers_own_headers_are_sent_as_configured(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, provider={"headers": {"X-Title": "our title"}}) as found:
        await read_chat(found)
    assert fake_upstream.log[0].header("x-title") == "our title"


UPSTREAMS = [
    ("Set-Cookie", "upstream=secret"),
    ("Server", "secret-server/1.0"),
    ("Via", "1.1 secret-proxy"),
    ("OpenAI-Organization", "org-secret"),
    ("OpenAI-Processing-Ms", "12"),
    ("X-RateLimit-Remaining-Requests", "7"),
    ("X-Request-Id", "upstream-secret"),
    ("X-HPP-Router-Resolved-Model", "forged/secret"),
    ("X-HPP-Router-Cost", "0"),
    ("Location", "http://secret-host/"),
    ("Access-Control-Allow-Origin", "*"),
    ("Cache-Control", "public, max-age=9999"),
    ("Refresh", "0; url=http://secret-host/"),
    ("Link", "<http://secret-host/>"),
]


@pytest.mark.parametrize(
    ("script", "stream", "allowed"),
    [
        (Script(headers=UPSTREAMS), False, DOWN_JSON),
        (Script(headers=UPSTREAMS), True, DOWN_STREAM),
        (Script(headers=UPSTREAMS, status=500), False, DOWN_ERROR),
        (Script(headers=UPSTREAMS, status=401), True, DOWN_ERROR | {"x-should-retry"}),
        (Script(headers=[*UPSTREAMS, ("Retry-After", "7")], status=429), False, DOWN_ERROR | {"retry-after"}),
    ],
)
async def test_no_header_of_the_upstreams_reaches_the_client(
    script: Script,
    stream: bool,  # noqa: FBT001
    allowed: set[str],
    fake_upstream: FakeUpstream,
) -> None:
    fake_upstream.script = script
    async with gateway(fake_upstream) as found, ask(found, stream=stream) as call:
        await call.started()
        assert set(call.headers) == allowed
        assert "secret" not in str(call.headers)
        assert "secret" not in (await call.read()).decode()


@pytest.mark.parametrize(
    ("given_", "passed"), [("7", "7"), ("0.5", "0.5"), ("soon", None), ("7\tx", None), ("-1", None)]
)
async def test_a_retry_after_is_passed_on_if_it_is_a_number(
    given_: str, passed: str | None, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(status=503, headers=[("Retry-After", given_)])
    async with gateway(fake_upstream) as found, ask(found) as call:
        await call.started()
        assert call.headers.get("retry-after") == passed


async def test_a_cookie_that_an_upstream_sets_is_not_sent_back(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(headers=[("Set-Cookie", "session=1; Path=/")])
    async with gateway(fake_upstream) as found:
        for _ in range(2):
            await read_chat(found)
    assert [exchange.header("cookie") for exchange in fake_upstream.log] == [None, None]


async def test_the_environments_proxies_and_keys_are_not_used(
    fake_upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeUpstream() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with gateway(fake_upstream) as found:
            assert (await read_chat(found))[0] == 200
        assert proxy.log == []
    assert len(fake_upstream.log) == 1


STEERING: list[dict[str, Any]] = [
    {"api_base": "URL"},
    {"base_url": "URL"},
    {"api_key": "x"},
    {"extra_headers": {"Host": "evil"}},
    {"extra_body": {"api_base": "URL"}},
    {"headers": {"x": "y"}},
    {"API_BASE": "URL"},
    {"custom_llm_provider": "openai"},
    {"callbacks": ["URL"]},
    {"mock_response": "hi"},
    {"model": "fake/../../evil"},
    {"model": "fake/fake-1@evil.example"},
]


@pytest.mark.parametrize("fields", STEERING, ids=json.dumps)
async def test_a_client_cannot_steer_the_router_elsewhere(fields: dict[str, Any], fake_upstream: FakeUpstream) -> None:
    async with FakeUpstream() as evil, gateway(fake_upstream) as found:
        steering = json.loads(json.dumps(fields).replace("URL", evil.url))
        async with post(found.app, CHAT, {**question(), **steering}, headers={"apikey": KEY}) as call:
            assert await call.started() == 400
        assert evil._connections == 0
    assert fake_upstream.log == []
