"""Browsers: off unless the operator names exact origins, and then only for what the contract exposes."""

import pytest
from rig import CHAT, KEY, ask, gateway

from hpp_middleware import ConfigurationError
from hpp_middleware.core.reply import EXPOSED
from hpp_middleware.testing import FakeUpstream, get
from hpp_middleware.testing.asgi import Call

pytestmark = pytest.mark.anyio

ORIGIN = "https://app.example"
PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "apikey, content-type"}


def allowed(call: Call) -> str | None:
    return call.headers.get("access-control-allow-origin")


async def test_it_is_off_by_default(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        async with ask(found, headers={"origin": ORIGIN}) as call:
            assert await call.started() == 200
            assert not any(name.startswith("access-control") for name in call.headers)
        async with Call(found.app, "OPTIONS", CHAT, headers={"origin": ORIGIN, **PREFLIGHT}) as call:
            assert await call.started() == 405
            assert allowed(call) is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_origin_that_is_named_may_ask_and_read_our_headers(stream: bool, fake_upstream: FakeUpstream) -> None:  # noqa: FBT001
    async with gateway(fake_upstream, cors_origins=[ORIGIN]) as found:
        async with Call(found.app, "OPTIONS", CHAT, headers={"origin": ORIGIN, **PREFLIGHT}) as call:
            assert await call.started() == 200
            assert allowed(call) == ORIGIN
            assert "POST" in call.headers["access-control-allow-methods"]
            assert "access-control-allow-credentials" not in call.headers
        async with ask(found, stream=stream, headers={"origin": ORIGIN}) as call:
            assert await call.started() == 200
            assert allowed(call) == ORIGIN
            exposed = {name.strip() for name in call.headers["access-control-expose-headers"].split(",")}
            assert exposed == set(EXPOSED)
            assert "access-control-allow-credentials" not in call.headers


async def test_a_browser_may_send_what_anthropic_s_sdk_sends(fake_upstream: FakeUpstream) -> None:
    asked = "x-api-key, anthropic-version, anthropic-beta, anthropic-dangerous-direct-browser-access, content-type"
    headers = {"origin": ORIGIN, **PREFLIGHT, "access-control-request-headers": asked}
    async with (
        gateway(fake_upstream, cors_origins=[ORIGIN]) as found,
        Call(found.app, "OPTIONS", "/v1/messages", headers=headers) as call,
    ):
        assert await call.started() == 200
        assert allowed(call) == ORIGIN


async def test_errors_can_be_read_by_a_browser_too(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, cors_origins=[ORIGIN]) as found:
        for path, status in (("/api/usage", 401), ("/nothing", 404), (CHAT, 405)):
            async with get(found.app, path, headers={"origin": ORIGIN}) as call:
                assert await call.started() == status
                assert allowed(call) == ORIGIN
                assert "x-request-id" in call.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://app.example.evil.example", "http://app.example", "*"]
)
async def test_another_origin_gets_no_leave(origin: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, cors_origins=[ORIGIN]) as found:
        async with Call(found.app, "OPTIONS", CHAT, headers={"origin": origin, **PREFLIGHT}) as call:
            assert await call.started() == 400
            assert allowed(call) is None
        async with get(found.app, "/api/usage", headers={"origin": origin, "apikey": KEY}) as call:
            assert await call.started() == 200
            assert allowed(call) is None


def test_a_star_is_refused_while_building() -> None:
    with pytest.raises(ConfigurationError, match="cors_origins"):
        gateway("http://127.0.0.1:9/v1", cors_origins=["*"])
