"""Embedded: at any depth, under a host's own middleware, with its lifespan or with none."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from rig import BOB_KEY, CHAT, KEY, USAGE_NANO, Delegate, check_books, gateway, question
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpp_middleware import Gateway
from hpp_middleware.asgi.paths import whole
from hpp_middleware.testing import FakeUpstream, Script, get, post
from hpp_middleware.types.provider import Declared

pytestmark = pytest.mark.anyio


def starlette(found: Gateway, path: str = "/ai", **settings: Any) -> ASGIApp:
    return Starlette(routes=[Mount(path, found.app)], **settings)


def fastapi(found: Gateway, path: str = "/ai", **settings: Any) -> ASGIApp:
    app = FastAPI(**settings)
    app.mount(path, found.app)
    return app


def nested(found: Gateway, path: str = "/ai", **settings: Any) -> ASGIApp:
    return Starlette(routes=[Mount("/v2", starlette(found, path, **settings))])


HOSTS: dict[str, tuple[Callable[..., ASGIApp], str]] = {
    "starlette": (starlette, "/ai"),
    "fastapi": (fastapi, "/ai"),
    "nested": (nested, "/v2/ai"),
}


@pytest.mark.parametrize("host", HOSTS)
async def test_a_mounted_gateway_that_nobody_started_serves_every_endpoint(
    host: str, fake_upstream: FakeUpstream
) -> None:
    build, root = HOSTS[host]
    found = gateway(fake_upstream)
    app = build(found)
    for stream in (False, True):
        async with post(app, root + CHAT, question(stream=stream), headers={"apikey": KEY}) as call:
            assert await call.started() == 200
            assert await call.read()
    for path in (
        "/llm/v1/models",
        "/llm/v1/models/fake/fake-1",
        "/api/usage",
        "/api/quota-check",
        "/healthz",
        "/readyz",
    ):
        async with get(app, root + path, headers={"apikey": KEY}) as call:
            assert await call.started() == 200, path
    async with get(app, f"{root}/openapi.json") as call:
        assert (await call.json())["servers"] == [{"url": root}]
    for path in ("/nothing", "/", "/api/usage/x"):
        async with get(app, root + path, headers={"apikey": KEY}) as call:
            assert await call.started() == 404
            assert (await call.json())["error"]["code"] == "not_found"
    assert len(await check_books(found)) == 2
    async with found:
        pass


@pytest.mark.parametrize("outside", ["/outside", "/a", "/outside/"])
@pytest.mark.parametrize("host", [starlette, fastapi])
async def test_a_root_path_that_the_path_lacks_changes_nothing(
    host: Callable[..., ASGIApp], outside: str, fake_upstream: FakeUpstream
) -> None:
    """As behind a proxy that cuts it off, with ``FastAPI(root_path=...)``: the host's own routes are found then."""
    async with gateway(fake_upstream) as found:
        app, scope = host(found), {"root_path": outside}
        for path in ("/ai/api/usage", "/ai/api/usage/", "/ai/llm/v1/models/fake/fake-1"):
            async with get(app, path, headers={"apikey": KEY}, scope=scope) as call:
                assert await call.started() == 200, path
        async with post(app, f"/ai{CHAT}", question(), headers={"apikey": KEY}, scope=scope) as call:
            assert await call.started() == 200
            await call.read()
        async with get(app, "/ai/openapi.json", scope=scope) as call:
            assert (await call.json())["servers"] == [{"url": f"{outside}/ai"}]
        for path in ("/ai/outside/api/usage", "/ai/ai/api/usage"):
            async with get(app, path, headers={"apikey": KEY}, scope=scope) as call:
                assert await call.started() == 404, path
        assert len(await check_books(found)) == 1


@pytest.mark.parametrize(
    ("path", "root", "outside", "expected"),
    [
        ("/out/ai/v1", "/out/ai", "/out", "/out/ai/v1"),
        ("/ai/v1", "/out/ai", "/out", "/out/ai/v1"),
        ("/v1", "/out/ai", "/out", "/v1"),
        ("/ai/v1", "/ai", "/out", "/ai/v1"),
        ("/v1", "", "", "/v1"),
    ],
    ids=["whole", "cut off", "below the mount only", "not of that app", "not mounted"],
)
def test_only_what_the_app_was_told_of_is_put_before_a_path(path: str, root: str, outside: str, expected: str) -> None:
    """Servers differ in what they leave of a path; what is found without help is left as it is."""
    assert whole({"path": path, "root_path": root, "app_root_path": outside}) == expected


async def test_a_root_path_that_a_proxy_has_cut_off_changes_nothing(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        app = starlette(found)
        scope = {"root_path": "/outside"}
        async with get(app, "/outside/ai/api/usage", headers={"apikey": KEY}, scope=scope) as call:
            assert await call.started() == 200
        async with get(app, "/outside/ai/openapi.json", scope=scope) as call:
            assert (await call.json())["servers"] == [{"url": "/outside/ai"}]


@pytest.mark.parametrize("path", ["/api/usage", "//api/usage", "/x@evil/api/usage", "/api/usage/", "/API/USAGE"])
@pytest.mark.parametrize("host", ["", "evil.example", "healthz", "a@b:c/healthz?"])
async def test_no_path_or_host_header_gets_past_the_key(path: str, host: str, fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        for app, root in ((found.app, ""), (starlette(found), "/ai")):
            async with get(app, root + path, headers={"host": host}) as call:
                assert await call.started() in {401, 404}


async def test_two_gateways_in_one_host_share_nothing(fake_upstream: FakeUpstream) -> None:
    one = gateway(fake_upstream)
    other = gateway(fake_upstream, consumers={"bob": Declared(quota=10**9, keys=(BOB_KEY,))})
    app = Starlette(routes=[Mount("/one", one.app), Mount("/other", other.app)])
    async with one, other:
        async with post(app, f"/one{CHAT}", question(), headers={"apikey": KEY}) as call:
            assert await call.started() == 200
        async with post(app, f"/other{CHAT}", question(), headers={"apikey": KEY}) as call:
            assert await call.started() == 401
        async with get(app, "/other/api/usage", headers={"apikey": BOB_KEY}) as call:
            assert (await call.json())["requests"] == 0


async def test_the_hosts_lifespan_opens_and_closes_it(fake_upstream: FakeUpstream) -> None:
    store = Delegate()
    events: list[str] = []

    async def opened() -> None:
        events.append("open")

    async def closed() -> None:
        events.append("close")

    store.open, store.aclose = opened, closed  # type: ignore[attr-defined]  # in the place of the other's
    found = gateway(fake_upstream, store=store)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with found.lifespan(app):
            yield

    for app in (starlette(found, lifespan=lifespan), fastapi(found, lifespan=found.lifespan), found.app):
        events.clear()
        async with running(app):
            assert events == ["open"]
        assert events == ["open", "close"]


async def _live(app: ASGIApp, receive: Receive, send: Send) -> None:
    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """An app between its lifespan's startup and shutdown."""
    to_app, from_host = anyio.create_memory_object_stream[Message](2)
    to_host, from_app = anyio.create_memory_object_stream[Message](2)
    with to_app, from_host, to_host, from_app:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_live, app, from_host.receive, to_host.send)
            await to_app.send({"type": "lifespan.startup"})
            assert (await from_app.receive())["type"] == "lifespan.startup.complete"
            yield
            await to_app.send({"type": "lifespan.shutdown"})
            assert (await from_app.receive())["type"] == "lifespan.shutdown.complete"


class Passing(BaseHTTPMiddleware):
    """The kind of middleware that many hosts have."""

    async def dispatch(self, request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-host"] = "was here"
        return response


WRAPPINGS = [Middleware(Passing), Middleware(GZipMiddleware, minimum_size=1)]


@pytest.mark.parametrize("wrapping", WRAPPINGS, ids=["BaseHTTPMiddleware", "GZipMiddleware"])
async def test_under_a_hosts_own_middleware_everything_is_settled(
    wrapping: Middleware, fake_upstream: FakeUpstream
) -> None:
    async with gateway(fake_upstream) as found:
        app = starlette(found, middleware=[wrapping])
        for stream in (False, True):
            async with post(app, f"/ai{CHAT}", question(stream=stream), headers={"apikey": KEY}) as call:
                assert await call.started() == 200
                await call.read()
                await call.returned()
        assert [line.amount for line in await check_books(found)] == [USAGE_NANO] * 2


@pytest.mark.parametrize("wrapping", WRAPPINGS, ids=["BaseHTTPMiddleware", "GZipMiddleware"])
async def test_under_a_hosts_own_middleware_a_departure_is_heard_and_settled(
    wrapping: Middleware, fake_upstream: FakeUpstream
) -> None:
    fake_upstream.script = Script(stall_after_events=2)
    async with gateway(fake_upstream) as found:
        app = starlette(found, middleware=[wrapping])
        async with post(app, f"/ai{CHAT}", question(stream=True), headers={"apikey": KEY}) as call:
            await call.event()
            call.disconnect()
            with anyio.fail_after(5):
                await call.returned()
                await fake_upstream.idle()
        assert fake_upstream.log[0].closed_early
        (line,) = await check_books(found)
        assert line.amount > 0
        assert line.report.outcome == "abandoned"


async def test_a_host_that_cancels_the_whole_request_still_has_it_settled(fake_upstream: FakeUpstream) -> None:
    fake_upstream.script = Script(stall_after_events=2)

    class Impatient:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            with anyio.move_on_after(0.3):
                await self.app(scope, receive, send)

    async with gateway(fake_upstream) as found:
        app = Impatient(starlette(found))
        async with post(app, f"/ai{CHAT}", question(stream=True), headers={"apikey": KEY}) as call:
            await call.event()
            with anyio.fail_after(5):
                await call.returned()
                await fake_upstream.idle()
        (line,) = await check_books(found)
        assert (line.report.outcome, line.amount > 0) == ("abandoned", True)


async def test_a_websocket_is_refused_and_nothing_breaks(fake_upstream: FakeUpstream) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/api/usage", "headers": [], "query_string": b"", "root_path": ""}
    await gateway(fake_upstream).app(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
