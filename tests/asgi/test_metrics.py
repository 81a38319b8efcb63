"""``GET /metrics``: where it is, who may read it, and what it speaks."""

import json
from importlib.resources import files
from typing import Any

import pytest
from prometheus_client.openmetrics import parser
from rig import KEY, gateway, read
from starlette.applications import Starlette
from starlette.routing import Route

from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.errors import ConfigurationError
from hpp_middleware.observers.prometheus import PrometheusObserver
from hpp_middleware.testing import FakeUpstream, get, post

pytestmark = pytest.mark.anyio

TOKEN = "prometheus-shows-this-token"


async def test_it_is_not_there_unless_it_is_asked_for(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        async with get(found.app, "/metrics", headers={"apikey": KEY}) as call:
            assert await call.started() == 404
        assert "/metrics" not in (await read(found, "/openapi.json"))["paths"]
    async with gateway(fake_upstream, metrics=Metrics(PrometheusObserver())) as found:
        document = json.loads((files("hpp_middleware.asgi") / "openapi.json").read_text("utf-8"))
        assert (await read(found, "/openapi.json"))["paths"] == document["paths"]
        async with get(found.app, "/metrics") as call:
            assert await call.started() == 200
            assert "x-request-id" in call.headers


@pytest.mark.parametrize("shown", [None, "Bearer", f"Bearer {KEY}", f"bearer {TOKEN}", f"Bearer {TOKEN} "])
async def test_only_who_shows_the_token_reads_it(shown: str | None, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream, metrics=Metrics(PrometheusObserver(), token=TOKEN)) as found:
        headers = {} if shown is None else {"authorization": shown}
        async with get(found.app, "/metrics", headers=headers) as call:
            assert await call.started() == 401
            assert call.headers["www-authenticate"] == "Bearer"
            assert (await call.json())["error"]["code"] == "unauthorized"
        async with get(found.app, "/metrics", headers={"authorization": f"Bearer {TOKEN}"}) as call:
            assert await call.started() == 200
            assert b"hpp_in_flight 0.0" in await call.read()


async def test_a_host_has_it_where_it_likes_and_openmetrics_where_that_is_asked_for() -> None:
    app = Starlette(routes=[Route("/internal/figures", Metrics(PrometheusObserver(), token=TOKEN))])
    headers = {
        "authorization": f"Bearer {TOKEN}",
        "accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
    }
    async with get(app, "/internal/figures", headers=headers) as call:
        assert await call.started() == 200
        assert call.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        families: Any = parser  # which has no types
        found = families.text_string_to_metric_families((await call.read()).decode())
        names = {family.name for family in found}
    assert {"hpp_requests", "hpp_in_flight", "hpp_request_duration_seconds"} <= names
    async with post(app, "/internal/figures", headers=headers) as call:
        assert await call.started() == 405
        assert call.headers["allow"] == "GET, HEAD"


def test_a_token_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"metrics\.token must have 20 to 256 characters"):
        Metrics(PrometheusObserver(), token="")
