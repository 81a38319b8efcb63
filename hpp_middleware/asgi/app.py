"""
The Starlette sub-app, and the gateway that has one.

Mount it anywhere: ``app.mount("/ai", gateway.app)``. Pure ASGI throughout: nothing is buffered, and nothing that must
finish is left to a background task.
"""

import inspect
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Any, Unpack

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hpp_middleware import gateway
from hpp_middleware.apis.chat import CHAT
from hpp_middleware.asgi.boundary import Boundary, Completions
from hpp_middleware.asgi.endpoints import Endpoints, respond
from hpp_middleware.asgi.metrics import Metrics
from hpp_middleware.asgi.paths import APIS, COUNTS, MODELS, ROUTES
from hpp_middleware.core import auth, deadlines, reply
from hpp_middleware.core.raised_at import raised_at, root
from hpp_middleware.errors import (
    ConfigurationError,
    GatewayError,
    NotOpenedError,
    RequestError,
    StoreError,
    UpstreamError,
    UpstreamUnavailableError,
)
from hpp_middleware.stages.setup.settings import GatewaySettings
from hpp_middleware.stages.worker.worker import Worker
from hpp_middleware.types.consumer import Consumer
from hpp_middleware.types.events import Alarm, Refused

__all__ = ["Authenticate", "Gateway"]

Authenticate = Callable[[HTTPConnection], Awaitable[Consumer | None] | Consumer | None]

_SIMPLE = frozenset({"chat", "embeddings", "images"})
"""The APIs whose errors may have the flat form."""

OUTAGE_S = 1.0
"""A store that does not answer is told to the log so often."""

_DEAF = (
    "receive() gives the same http.request again and again: a middleware before the gateway has read the body and "
    "gives it at every call, so that no client is heard leaving, and a stream goes on until its deadline. It should "
    "give the body once, and then what the server's own receive() gives."
)

_logger = logging.getLogger("hpp_middleware")

_ALLOWED = (
    "anthropic-beta",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "apikey",
    "authorization",
    "content-type",
    "idempotency-key",
    "x-api-key",
    *(name.lower() for name in deadlines.HEADERS.values()),
    "x-hpp-router-require",
    "x-request-id",
    "x-session-id",
)
"""Request headers that a browser may send, where a host switches CORS on."""


class Gateway(gateway.Gateway):
    """
    The gateway with its HTTP face: what ``hpp_middleware.Gateway`` names.

    Args:
        authenticate: A host's own identity: given the connection, the consumer, or None to refuse it.
        public_models: Whether the models list needs no key.
        cors_origins: Exact origins that browsers may call from; none by default.
        metrics: What is served at ``/metrics``; its observer need not be named among ``observers``. None by default.
        settings: See :class:`hpp_middleware.stages.setup.setup.Setup`.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    _quiet_until = -math.inf
    _is_deaf = False

    def __init__(
        self,
        *,
        authenticate: Authenticate | None = None,
        public_models: bool = True,
        cors_origins: Sequence[str] = (),
        metrics: Metrics | None = None,
        **settings: Unpack[GatewaySettings],
    ) -> None:
        if metrics is not None and not isinstance(metrics, Metrics):
            raise ConfigurationError("metrics must be Metrics(...)", param="metrics")
        observers: Any = settings.get("observers") or ()
        if metrics is not None and isinstance(observers, Collection) and metrics.observer not in observers:
            settings["observers"] = (*observers, metrics.observer)
        super().__init__(**settings)
        self.metrics = metrics
        if authenticate is not None and not callable(authenticate):
            raise ConfigurationError("authenticate must be callable, with the connection", param="authenticate")
        self._authenticate = authenticate
        self._public_models = public_models
        if isinstance(cors_origins, str) or not isinstance(cors_origins, Iterable):
            raise ConfigurationError("cors_origins must be several origins, not one text", param="cors_origins")
        self._cors_origins = tuple(cors_origins)
        if "*" in self._cors_origins:
            raise ConfigurationError("cors_origins must be exact origins, not *", param="cors_origins")

    @cached_property
    def app(self) -> Starlette:
        """The sub-app to mount; run alone, its own lifespan opens and closes the gateway."""
        endpoints = Endpoints(self, public_models=self._public_models)
        cors = Middleware(
            CORSMiddleware,
            allow_origins=self._cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=_ALLOWED,
            expose_headers=reply.EXPOSED,
        )
        return _SubApp(
            self,
            endpoints.complete,
            routes=[
                *(_route(path, endpoints.completions, "POST") for path in APIS),
                *(_route(path, endpoints.count_tokens, "POST") for path in COUNTS),
                *(_route(path, endpoints.route, "POST") for path in ROUTES),
                *(_route(path, endpoints.models) for path in MODELS),
                *(_route(f"{path}/{{id:path}}", endpoints.model) for path in MODELS),
                _route("/api/usage", endpoints.usage),
                _route("/api/quota-check", endpoints.quota_check),
                _route("/api/user/audit/{log_id}", endpoints.audit),
                _route("/healthz", endpoints.healthz),
                _route("/readyz", endpoints.readyz),
                _route("/openapi.json", endpoints.openapi),
                *([_route("/metrics", self.metrics)] if self.metrics is not None else []),
            ],
            lifespan=self.lifespan,
            middleware=[cors] if self._cors_origins else [],
        )

    @asynccontextmanager
    async def lifespan(self, _app: Any = None) -> AsyncIterator[None]:
        """A host's lifespan: ``FastAPI(lifespan=gateway.lifespan)``, or a part of one."""
        async with self.opened():
            yield

    def identify(self, scope: Scope, worker: Worker | None = None) -> Awaitable[Consumer]:
        """
        Who a request comes from, by the host's own hook or by its key.

        Args:
            scope: The request's.
            worker: This event loop's, where it is known.
        Raises:
            RequestError: 401.
            StoreError: 503: it cannot be known. Never anybody else by default.
        """
        if self._authenticate is not None:
            return self._identify(self._authenticate, scope)
        return self.authenticate(scope["headers"], worker)

    async def _identify(self, authenticate: Authenticate, scope: Scope) -> Consumer:
        """By the host's own hook."""
        try:
            found = authenticate(HTTPConnection(scope))
            consumer: Any = await found if inspect.isawaitable(found) else found
        except GatewayError:
            raise
        except Exception as error:
            if isinstance(error, HTTPException) and 400 <= error.status_code < 500:
                raise  # the host's own verdict
            self.fault(error, scope)
            raise StoreError("Identity cannot be checked at the moment.", headers={"Retry-After": "1"}) from None
        if isinstance(consumer, Consumer):
            return consumer
        if consumer is not None:
            self.fault(TypeError(), scope, f" of authenticate=, which returned {type(consumer).__name__}, no Consumer,")
        raise auth.unauthorized()

    def fault(self, error: BaseException, scope: Scope, where: str | None = None) -> None:
        """Tell the log and the observers where something failed: its type and place, never its text."""
        kind, where = type(error).__name__, raised_at(error) if where is None else where
        _logger.error("internal error %s%s in %s", kind, where, scope["hpp.request_id"])
        self.notice.alarm(Alarm(kind="internal", request_id=scope["hpp.request_id"], detail=f"{kind}{where}"))

    def outage(self, error: StoreError, scope: Scope) -> None:
        """Tell the log what a backend let us down with: once a second, since every request may meet it."""
        cause, now = root(error), time.monotonic()
        if cause is error or isinstance(error, NotOpenedError) or now < self._quiet_until:
            return  # there is nothing behind it, or it was told when it was opened
        self._quiet_until = now + OUTAGE_S
        _logger.error("%s %s%s in %s", error.code, type(cause).__name__, raised_at(cause), scope["hpp.request_id"])

    def deaf(self) -> None:
        """Tell the log, once, that a host's middleware keeps departures from us."""
        if not self._is_deaf:
            self._is_deaf = True
            _logger.warning(_DEAF)

    async def refuse(self, error: GatewayError, scope: Scope, send: Send) -> None:
        """Answer with an error, and tell the observers."""
        if error.code == "insufficient_quota" and isinstance(error, RequestError):
            error.status = self.setup.quota_status
        api = scope.get("hpp.api") or CHAT
        if api.name in _SIMPLE:
            body = reply.error_body(error, simple=self.setup.error_format == "simple")
        else:
            body = api.error(error, scope["hpp.request_id"])
        settled = isinstance(error, UpstreamError) and not isinstance(error, UpstreamUnavailableError)
        if not settled:  # else it was told as that
            self.notice.refused(Refused(request_id=scope["hpp.request_id"], status=error.status, code=error.code))
        headers = reply.error_headers(error)
        if not scope.get("http_version", "1.1").startswith("1."):  # where connections are nothing that a header closes
            headers = [each for each in headers if each[0] != "Connection"]
        await respond(send, body, status=error.status, headers=headers)


class _Endpoint:
    """An ASGI callable that Starlette's ``Route`` takes as it is, methods checked."""

    def __init__(self, call: ASGIApp) -> None:
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._call(scope, receive, send)


def _route(path: str, call: ASGIApp, method: str = "GET") -> Route:
    return Route(path, _Endpoint(call), methods=[method])


class _SubApp(Starlette):
    """A Starlette whose errors are all JSON: its own error pages and tracebacks are replaced by the boundary."""

    def __init__(self, owner: Gateway, completions: Completions, **settings: Any) -> None:
        super().__init__(**settings)
        self._owner = owner
        self._completions = completions
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        app: ASGIApp = Boundary(self.router, self._completions, self._owner)
        for cls, args, kwargs in reversed(self.user_middleware):
            app = cls(app, *args, **kwargs)
        return app
