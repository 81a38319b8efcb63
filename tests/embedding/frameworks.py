"""
A host of each framework: the gateway mounted at ``/ai``, and an endpoint of the host's own that serves completions,
metered by another gateway, whose accounts are at ``/billing``. The environment says which framework, and how it begins.
"""

import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio

from hpp_middleware import Gateway, Provider, SQLiteStore
from hpp_middleware.asgi.metering import MeteringMiddleware
from hpp_middleware.types.provider import Declared

KEY = "alice-shows-this-key-of-hers"
ALICE = {"alice": Declared(quota=10**9, keys=(KEY,))}
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}

gateway = Gateway(
    store=SQLiteStore(os.environ["HPP_DB"]),
    providers={"paced": Provider(base_url=os.environ["UPSTREAM_URL"])},
    models={"paced/paced-1": {"input": "1", "output": "2"}},
    consumers=ALICE,
    prices=None,
)
metered = Gateway(
    providers={"local": Provider(base_url="http://app/v1")},
    models={"local/own": {"input": "1", "output": "2"}},
    consumers=ALICE,
    prices=None,
)


class Own:
    """The host's own model: it says one word, and the other when it is told to."""

    def __init__(self) -> None:
        self._told = anyio.Event()

    def go_on(self) -> None:
        """Say the other word."""
        self._told.set()

    async def say(self) -> AsyncIterator[bytes]:
        """A stream."""
        self._told = anyio.Event()
        yield _event(choices=[{"index": 0, "delta": {"content": "one"}, "finish_reason": None}])
        await self._told.wait()
        yield _event(choices=[{"index": 0, "delta": {"content": "other"}, "finish_reason": "stop"}])
        yield _event(choices=[], usage=USAGE)
        yield b"data: [DONE]\n\n"


def _event(**fields: Any) -> bytes:
    head = {"id": "own-1", "object": "chat.completion.chunk", "created": 1, "model": "own"}
    return b"data: " + json.dumps({**head, **fields}).encode() + b"\n\n"


own = Own()


def starlette() -> Any:
    """Starlette."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route

    async def complete(_request: Request) -> Response:
        return StreamingResponse(own.say(), media_type="text/event-stream")

    async def go_on(_request: Request) -> Response:
        own.go_on()
        return PlainTextResponse("starlette")

    return Starlette(
        routes=[
            Mount("/ai", gateway.app),
            Mount("/billing", metered.app),
            Route("/v1/chat/completions", complete, methods=["POST"]),
            Route("/go", go_on),
        ],
        middleware=[Middleware(MeteringMiddleware, gateway=metered)],
        lifespan=gateway.lifespan,
    )


def fastapi() -> Any:
    """FastAPI."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    host = FastAPI(lifespan=gateway.lifespan)
    host.mount("/ai", gateway.app)
    host.mount("/billing", metered.app)
    host.add_middleware(MeteringMiddleware, gateway=metered)

    @host.post("/v1/chat/completions")
    async def complete() -> StreamingResponse:
        return StreamingResponse(own.say(), media_type="text/event-stream")

    @host.get("/go")
    async def go_on() -> str:
        own.go_on()
        return "fastapi"

    return host


def litestar() -> Any:
    """Litestar, which hands a mount its path with a slash at the end, and without the one it is mounted at."""
    from litestar import Litestar, asgi, get, post
    from litestar.response import Stream

    @post("/v1/chat/completions", status_code=200)
    async def complete() -> Stream:
        return Stream(own.say(), media_type="text/event-stream")

    @get("/go", media_type="text/plain")
    async def go_on() -> str:
        own.go_on()
        return "litestar"

    apps = {"/ai": gateway.app, "/billing": metered.app}
    mounts = [asgi(path, is_mount=True, copy_scope=True)(app) for path, app in apps.items()]
    host: Any = Litestar([*mounts, complete, go_on], lifespan=[gateway.lifespan], openapi_config=None)
    return MeteringMiddleware(host, metered)


def quart() -> Any:
    """Quart, which has no mounts: what dispatches is its server's, and works in any."""
    from hypercorn.middleware import DispatcherMiddleware
    from quart import Quart

    quart = Quart("frameworks")

    @quart.post("/v1/chat/completions")
    async def complete() -> Any:
        return own.say(), {"content-type": "text/event-stream"}

    @quart.get("/go")
    async def go_on() -> str:
        own.go_on()
        return "quart"

    host: Any = quart
    host.asgi_app = MeteringMiddleware(host.asgi_app, metered)
    apps: dict[str, Any] = {"/ai": gateway.app, "/billing": metered.app, "": host}
    return DispatcherMiddleware(apps)


def django() -> Any:
    """Django, which has neither mounts nor a lifespan: Starlette, which comes with us, has both."""
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpResponse, StreamingHttpResponse
    from django.urls import path
    from django.views.decorators.csrf import csrf_exempt
    from starlette.applications import Starlette
    from starlette.routing import Mount

    async def complete(_request: Any) -> Any:
        return StreamingHttpResponse(own.say(), content_type="text/event-stream")

    async def go_on(_request: Any) -> Any:
        own.go_on()
        return HttpResponse("django")

    routes = (path("v1/chat/completions", csrf_exempt(complete)), path("go", go_on))
    settings.configure(SECRET_KEY="made-up", ALLOWED_HOSTS=["*"], ROOT_URLCONF=routes)
    host = MeteringMiddleware(get_asgi_application(), metered)
    return Starlette(
        routes=[Mount("/ai", gateway.app), Mount("/billing", metered.app), Mount("/", host)], lifespan=gateway.lifespan
    )


def blacksheep() -> Any:
    """BlackSheep, which mounts, and has a lifespan of its own kind."""
    from blacksheep import Application, Content, Response
    from blacksheep.contents import StreamedContent

    async def complete() -> Any:
        return Response(200, content=StreamedContent(b"text/event-stream", own.say))

    async def go_on() -> Any:
        own.go_on()
        return Response(200, content=Content(b"text/plain", b"blacksheep"))

    async def opened() -> AsyncIterator[None]:
        async with gateway.opened():
            yield

    host: Any = Application()
    host.mount("/ai", gateway.app)
    host.mount("/billing", metered.app)
    host.router.add_post("/v1/chat/completions", complete)
    host.router.add_get("/go", go_on)
    host.lifespan(opened)
    return MeteringMiddleware(host, metered)


def falcon() -> Any:
    """Falcon, which has no mounts, but hooks that a lifespan runs: what dispatches runs all lifespans."""
    from falcon.asgi import App
    from hypercorn.middleware import DispatcherMiddleware

    class Named:
        text = ""

        async def process_startup(self, _scope: Any, _event: Any) -> None:
            self.text = "falcon"

    class Complete:
        async def on_post(self, _request: Any, response: Any) -> None:
            response.content_type, response.stream = "text/event-stream", own.say()

    class GoOn:
        async def on_get(self, _request: Any, response: Any) -> None:
            own.go_on()
            response.text = named.text

    named = Named()
    falcon: Any = App(middleware=[named])
    falcon.add_route("/v1/chat/completions", Complete())
    falcon.add_route("/go", GoOn())
    host: Any = MeteringMiddleware(falcon, metered)
    apps: dict[str, Any] = {"/ai": gateway.app, "/billing": metered.app, "": host}
    return DispatcherMiddleware(apps)


HOSTS: dict[str, Callable[[], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "quart": quart,
    "django": django,
    "blacksheep": blacksheep,
    "falcon": falcon,
}

app = HOSTS[os.environ["FRAMEWORK"]]()
