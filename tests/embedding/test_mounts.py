"""Hosts of every shape around the sub-app: where it is mounted, how it is started, and what stands before it."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from background import BackgroundUpstream
from fastapi import FastAPI
from rig import CHAT, KEY, MODEL, USAGE_NANO, question
from rig import gateway as make_gateway
from servers import serve
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from embedding.paced import DONE, SECONDS, PacedUpstream, paced_upstream, text_event, usage_event
from hpp_middleware import Gateway, SQLiteStore
from hpp_middleware.testing import Script
from hpp_middleware.types.provider import Declared

Lifespan = Callable[[Any], Any] | None
Build = Callable[[ASGIApp, Lifespan], ASGIApp]

ORIGIN = "https://app.example"


def starlette_once(app: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    return Starlette(routes=[Route("/own", _own), Mount("/ai", app)], lifespan=lifespan)


def starlette_thrice(app: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    inner = Mount("/a", routes=[Mount("/b", routes=[Mount("/ai", app)])])
    return Starlette(routes=[Route("/own", _own), inner], lifespan=lifespan)


def fastapi_once(app: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    host = FastAPI(lifespan=lifespan)
    host.add_api_route("/own", lambda: "the host's")
    host.mount("/ai", app)
    return host


def fastapi_thrice(app: ASGIApp, lifespan: Lifespan) -> ASGIApp:
    host, middle, inner = FastAPI(lifespan=lifespan), FastAPI(), FastAPI()
    host.add_api_route("/own", lambda: "the host's")
    inner.mount("/ai", app)
    middle.mount("/b", inner)
    host.mount("/a", middle)
    return host


def _own(_request: Request) -> Response:
    return PlainTextResponse("the host's")


HOSTS: dict[str, tuple[Build, str]] = {
    "starlette": (starlette_once, "/ai"),
    "starlette, three deep": (starlette_thrice, "/a/b/ai"),
    "fastapi": (fastapi_once, "/ai"),
    "fastapi, three deep": (fastapi_thrice, "/a/b/ai"),
}


def client_of(url: str, **settings: Any) -> httpx2.Client:
    return httpx2.Client(base_url=url, headers={"apikey": KEY}, trust_env=False, timeout=SECONDS, **settings)


def keep_promises(client: Any, prefix: str) -> None:
    """What a client sees wherever the app is mounted."""
    answer = client.post(f"{prefix}{CHAT}", json=question())
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == MODEL
    streamed = client.post(f"{prefix}{CHAT}", json=question(stream=True))
    assert streamed.content.endswith(DONE)
    usage = client.get(f"{prefix}/api/usage").json()
    assert (usage["requests"], round(usage["used"] * 10**9)) == (2, 2 * USAGE_NANO)
    assert client.get(f"{prefix}/api/quota-check/").json()["held"] == 0  # with a slash, too
    assert client.get(f"{prefix}/llm/v1/models/{MODEL}").json()["id"] == MODEL
    entry = client.get(f"{prefix}/api/user/audit/{answer.headers['x-request-id']}")
    assert entry.json()["outcome"] == "completed"
    missing = client.get(f"{prefix}/api/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = client.post(f"{prefix}{CHAT}", json=question(), headers={"apikey": "nobody-shows-this-key-of-his"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "unauthorized")
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": prefix or "/"}]


@pytest.mark.parametrize("starts", ["by the host's lifespan", "at its first request"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_mounted_gateway_serves(host: str, starts: str, background_upstream: BackgroundUpstream) -> None:
    gateway = make_gateway(background_upstream.url)
    build, prefix = HOSTS[host]
    app = build(gateway.app, gateway.lifespan if starts == "by the host's lifespan" else None)
    with serve(app) as url, client_of(url) as client:
        keep_promises(client, prefix)
        assert "the host's" in client.get("/own").text


@pytest.mark.parametrize("host", HOSTS)
def test_a_test_client_that_runs_the_lifespan_is_served(host: str, background_upstream: BackgroundUpstream) -> None:
    gateway = make_gateway(background_upstream.url)
    build, prefix = HOSTS[host]
    with TestClient(build(gateway.app, gateway.lifespan), headers={"apikey": KEY}) as client:
        keep_promises(client, prefix)


@pytest.mark.parametrize("durable", [False, True], ids=["in memory", "in SQLite"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_test_client_that_runs_none_is_served_though_each_request_has_its_own_event_loop(
    host: str, backend: Any, *, durable: bool, background_upstream: BackgroundUpstream, tmp_path: Any
) -> None:
    settings: dict[str, Any] = {"store": SQLiteStore(tmp_path / "hpp.db")} if durable else {}
    gateway = make_gateway(background_upstream.url, **settings)
    build, prefix = HOSTS[host]
    client = TestClient(build(gateway.app, None), headers={"apikey": KEY}, backend=backend)
    keep_promises(client, prefix)
    client.close()
    assert len(gateway.setup._workers) == 0  # nothing is left of loops that have ended


def test_the_apps_own_lifespan_opens_it_where_it_stands_alone(background_upstream: BackgroundUpstream) -> None:
    with TestClient(make_gateway(background_upstream.url).app, headers={"apikey": KEY}) as client:
        keep_promises(client, "")


@pytest.mark.parametrize("host", HOSTS)
def test_a_servers_root_path_is_part_of_where_it_is(host: str, background_upstream: BackgroundUpstream) -> None:
    gateway = make_gateway(background_upstream.url)
    build, prefix = HOSTS[host]
    # A proxy strips /proxy; the server is told of it, and puts it before every path.
    with serve(build(gateway.app, gateway.lifespan), root_path="/proxy") as url, client_of(url) as client:
        assert client.post(f"{prefix}{CHAT}", json=question()).status_code == 200
        assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": f"/proxy{prefix}"}]
        assert client.get(f"{prefix}/api/nothing").json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("opened", [True, False], ids=["opened together", "not opened"])
def test_two_gateways_in_one_app_share_nothing(background_upstream: BackgroundUpstream, *, opened: bool) -> None:
    one, other = (
        make_gateway(background_upstream.url),
        make_gateway(background_upstream.url, consumers={"alice": Declared(quota=10**9, keys=(KEY,))}),
    )

    @asynccontextmanager
    async def both(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(one.lifespan(app))
            await stack.enter_async_context(other.lifespan(app))
            yield

    app = Starlette(routes=[Mount("/one", one.app), Mount("/other", other.app)], lifespan=both if opened else None)
    with serve(app) as url, client_of(url) as client:
        for _ in range(3):
            assert client.post(f"/one{CHAT}", json=question()).status_code == 200
        assert client.post(f"/other{CHAT}", json=question()).status_code == 200
        first, second = client.get("/one/api/usage").json(), client.get("/other/api/usage").json()
        assert (first["requests"], first["quota"]) == (3, 10)
        assert (second["requests"], second["quota"]) == (1, 1)


def test_one_gateway_mounted_twice_is_one_gateway(background_upstream: BackgroundUpstream) -> None:
    gateway = make_gateway(background_upstream.url)
    app = Starlette(routes=[Mount("/here", gateway.app), Mount("/there", gateway.app)], lifespan=gateway.lifespan)
    with serve(app) as url, client_of(url) as client:
        assert client.post(f"/here{CHAT}", json=question()).status_code == 200
        assert client.post(f"/there{CHAT}", json=question()).status_code == 200
        assert client.get("/here/api/usage").json() == client.get("/there/api/usage").json()
        assert client.get("/there/api/usage").json()["requests"] == 2


class Stamp(BaseHTTPMiddleware):
    """A host's middleware of the kind that takes responses through a queue."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-stamp"] = "seen"
        return response


class Reader(BaseHTTPMiddleware):
    """A host's middleware that has read the whole body before the app sees it."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        await request.body()
        return await call_next(request)


CORS = Middleware(
    CORSMiddleware,
    allow_origins=[ORIGIN],
    allow_methods=["POST"],
    allow_headers=["apikey"],
    expose_headers=["X-Request-Id"],
)
GZIP = Middleware(GZipMiddleware, minimum_size=10)
PARENTS = {
    "none": [],
    "BaseHTTPMiddleware": [Middleware(Stamp)],
    "two BaseHTTPMiddleware, one of which reads the body": [Middleware(Stamp), Middleware(Reader)],
    "GZip": [GZIP],
    "CORS": [CORS],
    "all of them": [CORS, GZIP, Middleware(Stamp), Middleware(Reader)],
}


@pytest.fixture(params=PARENTS)
def parents(request: pytest.FixtureRequest) -> list[Middleware]:
    found: list[Middleware] = PARENTS[request.param]
    return found


@pytest.fixture
def paced() -> Iterator[PacedUpstream]:
    with paced_upstream() as upstream:
        yield upstream


def host_of(gateway: Gateway, parents: list[Middleware]) -> Starlette:
    return Starlette(routes=[Mount("/ai", gateway.app)], middleware=parents, lifespan=gateway.lifespan)


def test_what_stands_before_the_mount_leaves_its_answers_as_they_are(
    parents: list[Middleware], background_upstream: BackgroundUpstream
) -> None:
    with serve(host_of(make_gateway(background_upstream.url), parents)) as url, client_of(url) as client:
        keep_promises(client, "/ai")


def test_a_stream_is_not_held_up_by_what_stands_before_the_mount(
    parents: list[Middleware], paced: PacedUpstream
) -> None:
    gateway = make_gateway(paced.url)
    with serve(host_of(gateway, parents)) as url, client_of(url) as client:
        with client.stream("POST", f"/ai{CHAT}", json=question(stream=True)) as response:
            received = None
            for number in range(4):
                paced.say(text_event(f"word {number}"))
                received = received or response.iter_raw()
                assert f'"word {number}"'.encode() in next(received)
            assert received is not None
            paced.say(text_event("", "stop"), usage_event(), DONE)
            paced.end()
            assert b"".join(received).endswith(DONE)
        assert "content-encoding" not in response.headers
        assert client.get("/ai/api/usage").json()["requests"] == 1


def test_a_client_that_leaves_is_heard_of_through_what_stands_before_the_mount(
    parents: list[Middleware], background_upstream: BackgroundUpstream
) -> None:
    background_upstream.next(Script(texts=("some words of an answer",), stall_after_events=2))
    with serve(host_of(make_gateway(background_upstream.url), parents)) as url, client_of(url) as client:
        with client.stream("POST", f"/ai{CHAT}", json=question(stream=True)) as response:
            pieces = response.iter_raw()
            while b"some words" not in next(pieces):
                pass
        background_upstream.wait_until_idle()
        assert background_upstream.last.closed_early
        request_id = response.headers["x-request-id"]
        entry = client.get(f"/ai/api/user/audit/{request_id}").json()
        assert (entry["outcome"], entry["estimated"]) == ("abandoned", True)
        assert client.get("/ai/api/quota-check").json()["held"] == 0


def test_a_parents_cors_answers_preflights_and_lets_the_browser_read_the_answer(
    background_upstream: BackgroundUpstream,
) -> None:
    gateway = make_gateway(background_upstream.url)
    with serve(host_of(gateway, [CORS])) as url, client_of(url) as client:
        asked = {"origin": ORIGIN, "access-control-request-method": "POST", "access-control-request-headers": "apikey"}
        assert client.options(f"/ai{CHAT}", headers=asked).status_code == 200
        answer = client.post(f"/ai{CHAT}", json=question(), headers={"origin": ORIGIN})
        assert answer.headers.get_list("access-control-allow-origin") == [ORIGIN]
    assert len(background_upstream.log) == 1  # the preflight reached no model


def test_the_gateways_own_cors_is_for_the_origins_it_names(background_upstream: BackgroundUpstream) -> None:
    gateway = make_gateway(background_upstream.url, cors_origins=(ORIGIN,))
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "apikey,content-type"}
    with serve(starlette_once(gateway.app, gateway.lifespan)) as url, client_of(url) as client:
        allowed = client.options(f"/ai{CHAT}", headers={"origin": ORIGIN, **asked})
        refused = client.options(f"/ai{CHAT}", headers={"origin": "https://other.example", **asked})
        assert (allowed.status_code, refused.status_code) == (200, 400)
        answer = client.post(f"/ai{CHAT}", json=question(), headers={"origin": ORIGIN})
        assert "X-HPP-Router-Cost" in answer.headers["access-control-expose-headers"]
        error = client.post(f"/ai{CHAT}", headers={"origin": ORIGIN})
        assert (error.status_code, error.headers["access-control-allow-origin"]) == (415, ORIGIN)
        stranger = client.post(f"/ai{CHAT}", json=question(), headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in stranger.headers
