"""``check_streaming`` on good hosts and on bad ones: each bad one is told what is wrong with it."""

from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from rig import ALICE, check_books, gateway
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware, GZipResponder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hpp_middleware import Gateway
from hpp_middleware.testing import FakeUpstream, check_streaming

pytestmark = pytest.mark.anyio

PATH = "/ai/llm/v1/chat/completions"
NOWHERE = "http://127.0.0.1:9/v1"


class PassesOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-host"] = "ours"
        return response


class Collects(BaseHTTPMiddleware):
    """Reads the whole body, to log it, say."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response: Any = await call_next(request)
        body = b"".join([piece async for piece in response.body_iterator])
        return Response(body, response.status_code, dict(response.headers))


class OneBehind:
    """Holds each message back until the next one comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting: list[Message] = []

        async def late(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            waiting.append(message)
            if len(waiting) > 1 or not message.get("more_body"):
                await send(waiting.pop(0))
            if not message.get("more_body") and waiting:
                await send(waiting.pop(0))

        await self._app(scope, receive, late)


class Compresses:
    """As Starlette's did before it left event streams out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        responder = GZipResponder(self._app, 10)

        async def hidden(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [h for h in message["headers"] if h[0] != b"content-type"]}
            await responder.send_with_compression(message)

        responder.send = send
        await self._app(scope, receive, hidden)


class Rewrites:
    """Changes what it has no business to change."""

    def __init__(self, app: ASGIApp, *, head: bool) -> None:
        self._app = app
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def changed(message: Message) -> None:
            if self._head and message["type"] == "http.response.start":
                kept = [(n, v) for n, v in message["headers"] if n not in {b"x-accel-buffering", b"cache-control"}]
                message = {**message, "headers": kept}
            elif not self._head and message["type"] == "http.response.body":
                message = {**message, "body": message["body"].replace(b"word 1", b"w*** 1")}
            await send(message)

        await self._app(scope, receive, changed)


class Deaf:
    """Never tells of a departure."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def without_end() -> Message:
            message = await receive()
            while message["type"] == "http.disconnect":
                message = await receive()
                await anyio.sleep(0.05)
            return message

        async def into_the_void(message: Message) -> None:
            try:
                await send(message)
            except OSError:
                return

        await self._app(scope, without_end, into_the_void)


class Guards:
    """A host's own identity, in front of all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (b"cookie", b"session=1") not in scope["headers"]:
            await JSONResponse({"error": "who are you?"}, 401)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def host(found: Gateway, *middleware: Middleware) -> Starlette:
    return Starlette(routes=[Mount("/ai", app=found.app)], middleware=middleware)


async def told(app: Any, found: Gateway | None = None, **settings: Any) -> str:
    with pytest.raises(AssertionError) as wrong:
        await check_streaming(app, found, **{"path": PATH, "wait_s": 0.5, **settings})
    return str(wrong.value)


GOOD: dict[str, list[Middleware]] = {
    "nothing": [],
    "cors": [Middleware(CORSMiddleware, allow_origins=["https://chat.example.org"])],
    "a gzip that leaves event streams out": [Middleware(GZipMiddleware, minimum_size=1)],
    "a BaseHTTPMiddleware that passes on": [Middleware(PassesOn)],
}


@pytest.mark.parametrize("middleware", GOOD.values(), ids=list(GOOD))
async def test_a_host_that_lets_streams_stream_is_good(middleware: list[Middleware]) -> None:
    await check_streaming(host(gateway(NOWHERE), *middleware), path=PATH, wait_s=20)


async def test_the_gateways_own_app_and_fastapi_are_good() -> None:
    found = gateway(NOWHERE)
    await check_streaming(found.app, wait_s=20)
    api = FastAPI(lifespan=found.lifespan)
    api.mount("/ai", found.app)
    await check_streaming(api, path=PATH, wait_s=20)


async def test_the_hosts_own_gateway_is_as_it_was(fake_upstream: FakeUpstream) -> None:
    async with gateway(fake_upstream) as found:
        app = host(found)
        before = dict(vars(found))
        await check_streaming(app, path=PATH, wait_s=20)
        assert dict(vars(found)) == before
        assert await check_books(found) == []
        reply = await found.complete(ALICE, {"model": "fake/fake-1", "messages": [{"role": "user", "content": "Hi"}]})
        assert reply.status == 200
    assert len(fake_upstream.log) == 1


BAD: dict[str, tuple[Middleware, str]] = {
    "collects": (Middleware(Collects), "Event 1 of 4 had not arrived 0.5 s after it was sent"),
    "one behind": (Middleware(OneBehind), "Event 1 of 4 had not arrived"),
    "compresses": (Middleware(Compresses), "The stream is compressed (gzip)"),
    "rewrites": (Middleware(Rewrites, head=False), "The stream is changed on the way"),
    "strips": (Middleware(Rewrites, head=True), "X-Accel-Buffering: no is taken off"),
    "deaf": (Middleware(Deaf), "A client that left in mid-stream was not noticed for 0.5 s"),
    "guards": (Middleware(Guards), "The gateway was not reached: 401"),
}


@pytest.mark.parametrize(("middleware", "words"), BAD.values(), ids=list(BAD))
async def test_a_host_that_does_not_is_told_why(middleware: Middleware, words: str) -> None:
    assert words in await told(host(gateway(NOWHERE), middleware))


async def test_what_the_hosts_middleware_wants_is_sent_along() -> None:
    app = host(gateway(NOWHERE), Middleware(Guards))
    await check_streaming(app, path=PATH, headers={"Cookie": "session=1"}, wait_s=20)


async def test_a_gateway_that_cannot_be_found_is_to_be_named() -> None:
    found = gateway(NOWHERE)
    mounted = found.app

    async def hidden(scope: Scope, receive: Receive, send: Send) -> None:
        await mounted(scope, receive, send)

    assert "check_streaming(app, gateway)" in await told(hidden)
    await check_streaming(hidden, found, wait_s=20)


async def test_an_app_that_does_not_start_says_so() -> None:
    found = gateway(NOWHERE)

    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"} if scope["type"] == "lifespan" else {})

    assert "its lifespan failed" in await told(broken, found)
